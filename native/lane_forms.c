/* Headers of known forms: told once by the caller, who knows the format, and compared octet by octet. */
#include "internal.h"
#include "lane.h"
#include "octets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define MOST_FORMS 8
#define REGION ((size_t)8192) /* octets of a header in front of its data */
#define LONGEST ((size_t)4096)
#define SIZE_AT 0
#define MARKER_AT 8
#define HEAD 16 /* octets of size and marker */
#define MARKER 0x3c81b7f5

struct hole {
    size_t at, n;
    uint8_t *fekek; /* from fc_alloc(), or NULL */
};

struct form {
    uint8_t octets[LONGEST];
    size_t n;
    struct hole holes[FC_FORM_PACKETS];
    size_t count, which;
    int code;
    size_t key_bytes;
};

/* They may be told while other threads unlock by them (copy.c): a form is whole once it is counted. */
struct lane_forms {
    struct form forms[MOST_FORMS];
    size_t count;
};

/* The forms, or NULL, and how many there are. */
static const struct lane_forms *
told(const fc_lane *lane, size_t *count)
{
    const struct lane_forms *forms = __atomic_load_n(&lane->forms, __ATOMIC_ACQUIRE);
    *count = forms ? __atomic_load_n(&forms->count, __ATOMIC_ACQUIRE) : 0;
    return forms;
}

static void
forget_keys(struct form *form)
{
    for (size_t i = 0; i < form->count; i++)
        fc_free(form->holes[i].fekek);
    form->count = 0;
}

void
lane_forms_free(fc_lane *lane)
{
    for (size_t i = 0; lane->forms && i < lane->forms->count; i++)
        forget_keys(&lane->forms->forms[i]);
    free(lane->forms);
    lane->forms = NULL;
}

/* Holes come in their order, and do not overlap. */
static int
add_hole(struct form *form, const fc_hole *hole)
{
    struct hole *added = &form->holes[form->count];
    size_t from = form->count ? added[-1].at + added[-1].n : HEAD;
    if (hole->at < from || (size_t)hole->at + hole->n > form->n)
        return -EINVAL;
    *added = (struct hole){.at = hole->at, .n = hole->n};
    form->count++;
    if (!hole->fekek)
        return 0;
    added->fekek = fc_alloc(FC_KEY);
    if (!added->fekek)
        return -ENOMEM;
    memcpy(added->fekek, hole->fekek, FC_KEY);
    return 0;
}

int
fc_lane_form(fc_lane *lane, const uint8_t *octets, size_t n, const fc_hole *holes, size_t count, size_t which,
             int code, size_t key_bytes)
{
    if (n >= LONGEST || count > FC_FORM_PACKETS)
        return -ENOSPC;
    if (n < HEAD || which >= count || !holes[which].fekek)
        return -EINVAL;
    if (!lane->forms) {
        struct lane_forms *none = calloc(1, sizeof *none);
        if (!none)
            return -ENOMEM;
        __atomic_store_n(&lane->forms, none, __ATOMIC_RELEASE);
    }
    if (lane->forms->count == MOST_FORMS)
        return -ENOSPC;
    struct form *form = &lane->forms->forms[lane->forms->count];
    *form = (struct form){.n = n, .which = which, .code = code, .key_bytes = key_bytes};
    memcpy(form->octets, octets, n);
    int error = 0;
    for (size_t i = 0; i < count && !error; i++)
        error = add_hole(form, &holes[i]);
    if (error)
        forget_keys(form);
    else
        __atomic_store_n(&lane->forms->count, lane->forms->count + 1, __ATOMIC_RELEASE);
    return error;
}

void
fc_lane_may_create(fc_lane *lane)
{
    lane->may_create = !lane->config.read_only && lane->forms && lane->forms->count > 0;
}

/* Whether a header is of a form: the same octets between the holes, and no packet behind. */
static int
is_of(const struct form *form, const uint8_t *header, size_t n)
{
    if (n <= form->n || header[form->n] != 0)
        return 0;
    size_t from = HEAD;
    for (size_t i = 0; i < form->count; i++) {
        if (memcmp(header + from, form->octets + from, form->holes[i].at - from) != 0)
            return 0;
        from = form->holes[i].at + form->holes[i].n;
    }
    return memcmp(header + from, form->octets + from, form->n - from) == 0;
}

/* What is known of a file with this header. */
static void
describe(const uint8_t *header, fc_file *file)
{
    memset(file, 0, sizeof *file);
    file->lower.data_offset = REGION;
    file->lower.size = (uint64_t)fc_load_be(header + SIZE_AT) << 32 | fc_load_be(header + SIZE_AT + 4);
    memcpy(file->marker, header + MARKER_AT, sizeof file->marker);
    file->born_ns = -1;
    file->direct = 1;
}

fc_file_key *
lane_unlock(const fc_lane *lane, const uint8_t *header, size_t n, fc_file *file)
{
    if (n < HEAD || (fc_load_be(header + MARKER_AT) ^ MARKER) != fc_load_be(header + MARKER_AT + 4))
        return NULL;
    size_t count;
    const struct lane_forms *forms = told(lane, &count);
    for (size_t i = 0; i < count; i++) {
        const struct form *form = &forms->forms[i];
        const struct hole *hole = &form->holes[form->which];
        if (!is_of(form, header, n))
            continue;
        fc_file_key *key;
        int error =
            fc_file_key_unwrap(form->code, form->key_bytes, hole->fekek, header + hole->at, hole->n, &key);
        if (error)
            return NULL;
        describe(header, file);
        return key;
    }
    return NULL;
}

/* Fill the holes of a new header, in the lane's buffer; 0, or -errno. */
static int
fill_form(const struct form *form, const fc_file_key *key, uint8_t *region)
{
    uint32_t marker;
    memset(region, 0, REGION);
    memcpy(region, form->octets, form->n);
    memset(region + SIZE_AT, 0, 8);
    if (getrandom(&marker, sizeof marker, 0) != sizeof marker)
        return -EIO;
    fc_store_be(region + MARKER_AT, marker);
    fc_store_be(region + MARKER_AT + 4, marker ^ MARKER);
    int error = 0;
    for (size_t i = 0; i < form->count && !error; i++) {
        const struct hole *hole = &form->holes[i];
        error = hole->fekek ? fc_file_key_wrap(key, hole->fekek, region + hole->at, hole->n) : -ENOKEY;
    }
    return error;
}

fc_file_key *
lane_initialise(fc_lane *lane, int fd, fc_file *file)
{
    const struct form *form = &lane->forms->forms[0];
    fc_file_key *key;
    if (fc_file_key_random(form->code, form->key_bytes, &key) < 0)
        return NULL;
    if (fill_form(form, key, lane->data) < 0 || pwrite(fd, lane->data, REGION, 0) != (ssize_t)REGION) {
        fc_file_key_free(key);
        return NULL;
    }
    describe(lane->data, file);
    return key;
}
