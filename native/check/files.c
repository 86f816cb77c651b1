/* Requests on lower files, against a model: an array of octets. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER 8192
#define LARGEST (6 * FC_EXTENT)
#define WINDOW ((size_t)FC_WINDOW * FC_EXTENT)

/* A lower file and what it should hold. */
struct model {
    fc_file_key *key;
    fc_lower lower;
    uint8_t octets[LARGEST];
};

static struct model
start(struct pair pair)
{
    struct model m = {.key = check_key(pair, 20), .lower = {.fd = check_file(), .data_offset = HEADER}};
    return m;
}

static void
finish(struct model *m)
{
    close(m->lower.fd);
    fc_file_key_free(m->key);
}

static off_t
lower_size(const struct model *m)
{
    struct stat st;
    EXPECT(fstat(m->lower.fd, &st) == 0, "fstat");
    return st.st_size;
}

/* Everything reads as the model says, padding included. */
static void
compare(const struct model *m)
{
    static uint8_t raw[LARGEST];
    size_t size = (size_t)m->lower.size, extents = (size + FC_EXTENT - 1) / FC_EXTENT;
    EXPECT(lower_size(m) >= (off_t)(HEADER + extents * FC_EXTENT) || extents == 0, "size %zu", size);
    EXPECT(pread(m->lower.fd, raw, extents * FC_EXTENT, HEADER) == (ssize_t)(extents * FC_EXTENT), "pread");
    EXPECT(fc_extents_decrypt(m->key, 0, raw, raw, extents) == 0, "decrypt");
    EXPECT(memcmp(raw, m->octets, size) == 0, "size %zu", size);
    for (size_t i = size; i < extents * FC_EXTENT; i++)
        EXPECT(raw[i] == 0, "size %zu, padding at %zu is %d", size, i, raw[i]);
}

static void
write_to(struct model *m, size_t offset, size_t n, uint32_t seed)
{
    static uint8_t data[LARGEST];
    size_t size = (size_t)m->lower.size;
    check_random(seed, data, n);
    ssize_t got = fc_write(m->key, &m->lower, offset, data, n);
    EXPECT(got == (ssize_t)n, "%zu at %zu of %zu: %zd", n, offset, size, got);
    if (offset > size)
        memset(m->octets + size, 0, offset - size);
    memcpy(m->octets + offset, data, n);
    if (n && offset + n > size)
        m->lower.size = offset + n;
}

static void
read_from(const struct model *m, size_t offset, size_t n)
{
    static uint8_t out[2 * LARGEST];
    size_t size = (size_t)m->lower.size;
    size_t expected = offset >= size ? 0 : n < size - offset ? n : size - offset;
    out[n] = 0xaa;
    ssize_t got = fc_read(m->key, &m->lower, offset, out, n, 0);
    EXPECT(got == (ssize_t)expected, "%zu at %zu of %zu: %zd", n, offset, size, got);
    EXPECT(memcmp(out, m->octets + offset, expected) == 0, "%zu at %zu of %zu", n, offset, size);
    EXPECT(out[n] == 0xaa, "%zu at %zu of %zu: past the end", n, offset, size);
}

static void
fill_to(struct model *m, size_t until, uint64_t budget)
{
    while (m->lower.size < until) {
        int64_t got = fc_fill(m->key, &m->lower, until, budget);
        EXPECT(got > (int64_t)m->lower.size && got <= (int64_t)until, "%lld of %zu", (long long)got, until);
        memset(m->octets + m->lower.size, 0, (size_t)got - (size_t)m->lower.size);
        m->lower.size = (uint64_t)got;
        compare(m);
    }
}

static void
cut_to(struct model *m, size_t size)
{
    EXPECT(fc_zero_tail(m->key, &m->lower, size) == 0, "to %zu", size);
    m->lower.size = size;
    off_t extents = (off_t)((size + FC_EXTENT - 1) / FC_EXTENT);
    EXPECT(ftruncate(m->lower.fd, HEADER + extents * FC_EXTENT) == 0, "ftruncate");
}

/* A position that is often a boundary, or next to one. */
static size_t
somewhere(uint32_t *state, size_t limit)
{
    size_t edge = check_next(state) % (limit / FC_EXTENT + 1) * FC_EXTENT;
    switch (check_next(state) % 4) {
    case 0:
        return edge;
    case 1:
        return edge + 1 <= limit ? edge + 1 : limit;
    case 2:
        return edge ? edge - 1 : 0;
    default:
        return check_next(state) % (limit + 1);
    }
}

static void
random_requests(struct pair pair, int steps)
{
    struct model m = start(pair);
    uint32_t state = 21;
    for (int i = 0; i < steps; i++) {
        size_t size = (size_t)m.lower.size, end = (size + FC_EXTENT - 1) / FC_EXTENT * FC_EXTENT;
        size_t at = somewhere(&state, end < LARGEST ? end : LARGEST);
        switch (check_next(&state) % 5) {
        case 0:
        case 1:
            write_to(&m, at, somewhere(&state, LARGEST - at), check_next(&state));
            break;
        case 2:
            read_from(&m, somewhere(&state, LARGEST), somewhere(&state, LARGEST));
            break;
        case 3:
            fill_to(&m, somewhere(&state, LARGEST), check_next(&state) % 9000);
            break;
        default:
            cut_to(&m, at < size ? at : size);
        }
        compare(&m);
    }
    finish(&m);
}

static void
gaps(void)
{
    struct model m = start((struct pair){FC_AES_256, 32});
    EXPECT(fc_write(m.key, &m.lower, 1, m.octets, 1) == -EINVAL, "past an empty file");
    EXPECT(fc_write(m.key, &m.lower, FC_EXTENT, m.octets, 1) == -EINVAL, "past an empty file");
    EXPECT(fc_write(m.key, &m.lower, FC_EXTENT, m.octets, 0) == 0, "nothing");
    write_to(&m, 0, 10, 1);
    EXPECT(fc_write(m.key, &m.lower, FC_EXTENT + 1, m.octets, 1) == -EINVAL, "past the last extent");
    write_to(&m, 20, 10, 2);
    compare(&m);
    write_to(&m, FC_EXTENT, 10, 3);
    memset(m.octets + 30, 0, FC_EXTENT - 30);
    compare(&m);
    EXPECT(lower_size(&m) == HEADER + 2 * FC_EXTENT, "whole extents");
    EXPECT(fc_zero_tail(m.key, &m.lower, m.lower.size + 1) == -EINVAL, "longer");
    EXPECT(fc_fill(m.key, &m.lower, 5, 1) == (int64_t)m.lower.size, "shorter");
    finish(&m);
}

/* Octets past the size, of a write whose size never reached the header, must not come back. */
static void
leftovers(void)
{
    for (int i = 0; i < 2; i++) {
        struct model m = start((struct pair){FC_AES_256, 32});
        write_to(&m, 0, 3000, 9);
        m.lower.size = 10;
        if (i == 0)
            write_to(&m, 2000, 5, 10);
        else
            fill_to(&m, 2500, 1);
        compare(&m);
        finish(&m);
    }
}

/* A header may promise more than the lower file has. */
static void
short_lower(void)
{
    static uint8_t out[LARGEST];
    struct model m = start((struct pair){FC_AES_128, 16});
    write_to(&m, 0, 3 * FC_EXTENT, 4);
    m.lower.size = 5 * FC_EXTENT - 10;
    for (size_t skip = 0; skip < 2; skip++) {
        ssize_t expected = (ssize_t)(3 * FC_EXTENT - skip);
        EXPECT(fc_read(m.key, &m.lower, skip, out, sizeof out, 0) == expected, "whole extents");
        EXPECT(memcmp(out, m.octets + skip, (size_t)expected) == 0, "whole extents");
    }
    EXPECT(fc_read(m.key, &m.lower, 3 * FC_EXTENT, out, 10, 0) == -EIO, "nothing there");
    EXPECT(fc_write(m.key, &m.lower, 4 * FC_EXTENT + 5, out, 1) == -EIO, "nothing to merge with");
    EXPECT(fc_zero_tail(m.key, &m.lower, 4 * FC_EXTENT + 5) == -EIO, "nothing there");
    EXPECT(fc_fill(m.key, &m.lower, 6 * FC_EXTENT, 1) == -EIO, "nothing there");
    EXPECT(ftruncate(m.lower.fd, HEADER + 2 * FC_EXTENT + 100) == 0, "ftruncate");
    EXPECT(fc_read(m.key, &m.lower, 0, out, sizeof out, 0) == 2 * FC_EXTENT, "part of an extent");
    EXPECT(fc_read(m.key, &m.lower, 2 * FC_EXTENT + 1, out, 1, 0) == -EIO, "part of an extent");
    EXPECT(ftruncate(m.lower.fd, 100) == 0, "ftruncate");
    EXPECT(fc_read(m.key, &m.lower, 0, out, 1, 0) == -EIO, "part of the header");
    finish(&m);
}

static void
near_the_limit(void)
{
    static uint8_t out[2 * FC_EXTENT], data[2 * FC_EXTENT];
    struct model m = start((struct pair){FC_AES_256, 32});
    fc_lower *l = &m.lower;
    check_random(5, data, sizeof data);
    /* The last offsets that a file can have: the model's memory is in one page there. */
    l->size = (uint64_t)INT64_MAX - HEADER - 2 * FC_EXTENT + 1;
    l->size -= l->size % FC_EXTENT;
    EXPECT(fc_write(m.key, l, l->size, data, 100) == 100, "high up");
    l->size += 100;
    EXPECT(fc_read(m.key, l, l->size - 100, out, sizeof out, 0) == 100, "high up");
    EXPECT(memcmp(out, data, 100) == 0, "high up");
    EXPECT(fc_read(m.key, l, UINT64_MAX, out, 10, 0) == 0, "past the end");
    EXPECT(fc_write(m.key, l, l->size, data, 2 * FC_EXTENT) == -EFBIG, "over the limit");
    EXPECT(fc_fill(m.key, l, INT64_MAX, 1) == -EFBIG, "over the limit");
    EXPECT(fc_fill(m.key, l, UINT64_MAX, 1) == -EFBIG, "over the limit");
    l->size = UINT64_MAX;
    EXPECT(fc_read(m.key, l, UINT64_MAX - 1, out, 1, 0) == -EFBIG, "a size from a bad header");
    EXPECT(fc_write(m.key, l, 0, data, 1) == -EFBIG, "a size from a bad header");
    EXPECT(fc_zero_tail(m.key, l, UINT64_MAX - 1) == -EFBIG, "a size from a bad header");
    EXPECT(fc_write(m.key, l, UINT64_MAX, data, 2) == -EFBIG, "wraps");
    *l = (fc_lower){.fd = l->fd, .data_offset = UINT64_MAX, .size = 100};
    EXPECT(fc_read(m.key, l, 0, out, 1, 0) == -EFBIG, "a header from a bad header");
    EXPECT(fc_write(m.key, l, 0, data, 1) == -EFBIG, "a header from a bad header");
    l->data_offset = INT64_MAX;
    EXPECT(fc_read(m.key, l, 0, out, 1, 0) == -EFBIG, "a header from a bad header");
    finish(&m);
}

/* Requests of more than one window, aligned and not. */
static void
large(void)
{
    size_t n = 2 * WINDOW + 777;
    uint8_t *data = malloc(n), *out = malloc(n);
    EXPECT(data && out, "memory");
    check_random(6, data, n);
    for (size_t offset = 0; offset < 200; offset += 100) {
        struct model m = start((struct pair){FC_AES_256, 32});
        EXPECT(fc_fill(m.key, &m.lower, offset, 1) == (int64_t)offset, "fill");
        m.lower.size = offset;
        EXPECT(fc_write(m.key, &m.lower, offset, data, n) == (ssize_t)n, "at %zu", offset);
        m.lower.size = offset + n;
        EXPECT(fc_read(m.key, &m.lower, offset, out, n, 0) == (ssize_t)n, "at %zu", offset);
        EXPECT(memcmp(data, out, n) == 0, "at %zu", offset);
        int64_t filled = fc_fill(m.key, &m.lower, 5 * WINDOW, WINDOW + 1);
        EXPECT(filled > (int64_t)(3 * WINDOW) && filled < (int64_t)(4 * WINDOW), "%lld", (long long)filled);
        finish(&m);
    }
    free(data);
    free(out);
}

/* The lower file takes only part of a request: the file size limit stands for a full disk. */
static void
full_disk(void)
{
    static uint8_t data[LARGEST];
    struct rlimit old, tight = {HEADER + 2 * FC_EXTENT + 50, RLIM_INFINITY};
    EXPECT(getrlimit(RLIMIT_FSIZE, &old) == 0, "getrlimit");
    tight.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    struct model m = start((struct pair){FC_AES_256, 32});
    check_random(7, data, sizeof data);
    EXPECT(setrlimit(RLIMIT_FSIZE, &tight) == 0, "setrlimit");
    EXPECT(fc_write(m.key, &m.lower, 0, data, LARGEST) == 2 * FC_EXTENT, "whole extents only");
    m.lower.size = 2 * FC_EXTENT;
    memcpy(m.octets, data, 2 * FC_EXTENT);
    compare(&m);
    EXPECT(fc_write(m.key, &m.lower, 2 * FC_EXTENT, data, 10) == -EFBIG, "nothing whole");
    EXPECT(fc_write(m.key, &m.lower, FC_EXTENT + 9, data, FC_EXTENT) == FC_EXTENT - 9,
           "up to the extent's end");
    EXPECT(fc_fill(m.key, &m.lower, LARGEST, LARGEST) == -EFBIG, "nothing whole");
    m.lower.size = FC_EXTENT;
    EXPECT(fc_fill(m.key, &m.lower, LARGEST, LARGEST) == 2 * FC_EXTENT, "what there is");
    EXPECT(setrlimit(RLIMIT_FSIZE, &old) == 0, "setrlimit");
    signal(SIGXFSZ, SIG_DFL);
    finish(&m);
}

static void
descriptors(void)
{
    uint8_t out[10];
    struct model m = start((struct pair){FC_AES_256, 32});
    write_to(&m, 0, 10, 8);
    ssize_t got = fc_read(m.key, &m.lower, 0, out, 10, FC_NOWAIT);
    EXPECT((got == 10 && memcmp(out, m.octets, 10) == 0) || got == -EOPNOTSUPP || got == -EAGAIN, "%zd", got);
    int fd = m.lower.fd;
    m.lower.fd = -1;
    EXPECT(fc_read(m.key, &m.lower, 0, out, 10, 0) == -EBADF, "closed");
    EXPECT(fc_write(m.key, &m.lower, 0, out, 10) == -EBADF, "closed");
    EXPECT(fc_fill(m.key, &m.lower, 5000, 1) == -EBADF, "closed");
    m.lower.fd = fd;
    finish(&m);
}

void
check_files(void)
{
    random_requests((struct pair){FC_AES_256, 32}, 3000);
    random_requests((struct pair){FC_BLOWFISH, 16}, 300);
    random_requests((struct pair){FC_CAST6, 32}, 300);
    gaps();
    leftovers();
    short_lower();
    near_the_limit();
    large();
    full_disk();
    descriptors();
}
