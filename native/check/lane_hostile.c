/* The express lane against requests that no kernel would make, and against long random conversations. */
#include "lane_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPCODES 64 /* more than there are */
#define LONGEST_ARGUMENT 128

/* ---- Damaged requests ---------------------------------------------------------------------------- */

/* One request of every opcode with an argument of every length, with these octets in it. */
static void
every_length(struct rig *r, const uint64_t *nodes, size_t count, const uint8_t *octets)
{
    for (uint32_t opcode = 0; opcode < OPCODES; opcode++) {
        for (size_t n = 0; n <= LONGEST_ARGUMENT; n++) {
            rig_add(r, octets, n);
            enum rig_end end = rig_send(r, opcode, nodes[n % count]);
            EXPECT(end != RIG_SILENT || opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET,
                   "opcode %u, %zu octets: no answer", opcode, n);
        }
    }
}

static void
damaged(int encrypted_names)
{
    struct rig *r = rig_new(rig_writing, encrypted_names);
    uint8_t octets[LONGEST_ARGUMENT];
    uint64_t fh, file = rig_create(r, FUSE_ROOT_ID, "file", &fh);
    EXPECT(mkdirat(r->root, rig_lower(r, "d"), 0700) == 0, "mkdir");
    for (uint32_t round = 0; round < 6; round++) {
        const uint64_t nodes[] = {FUSE_ROOT_ID, file, rig_lookup(r, FUSE_ROOT_ID, "d").nodeid, 0, UINT64_MAX};
        check_random(300 + round, octets, sizeof octets);
        if (round == 0)
            memset(octets, 0, sizeof octets);
        if (round == 1)
            memset(octets, 0xff, sizeof octets);
        if (round == 2)
            memset(octets, 'x', sizeof octets); /* names that do not end */
        if (round > 3)
            memcpy(octets, &fh, sizeof fh);
        every_length(r, nodes, sizeof nodes / sizeof nodes[0], octets);
    }
    rig_free(r);
}

/* Sizes, offsets and handles at all edges, in requests that are otherwise whole. */
static void
edges(void)
{
    struct rig *r = rig_new(rig_writing, 0);
    uint64_t fh, file = rig_create(r, FUSE_ROOT_ID, "file", &fh);
    rig_write(r, file, fh, 0, "0123456789", 10);
    EXPECT(rig_ask(r, FUSE_OPENDIR, FUSE_ROOT_ID, NULL, 0, NULL) == RIG_ANSWERED, "opendir");
    uint64_t listing;
    memcpy(&listing, r->reply, sizeof listing);
    const uint64_t handles[] = {0, fh, fh + 1, 64, 65, listing, listing + 1, listing + 16, UINT64_MAX};
    const uint64_t offsets[] = {0, 9, 10, 4095, INT32_MAX, INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX};
    const uint32_t sizes[] = {0, 1, 10, 4096, 65536, 1U << 20, (1U << 20) + 4096, INT32_MAX, UINT32_MAX};
    const uint32_t opcodes[] = {FUSE_READ, FUSE_WRITE, FUSE_READDIRPLUS, FUSE_READDIR};
    for (size_t h = 0; h < sizeof handles / sizeof handles[0]; h++) {
        for (size_t o = 0; o < sizeof offsets / sizeof offsets[0]; o++) {
            for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
                for (size_t i = 0; i < sizeof opcodes / sizeof opcodes[0]; i++) {
                    const struct fuse_read_in in = {.fh = handles[h], .offset = offsets[o], .size = sizes[s]};
                    enum rig_end end = rig_ask(r, opcodes[i], file, &in, sizeof in, "data");
                    EXPECT(end != RIG_SILENT, "handle %zu, offset %zu, size %zu", h, o, s);
                    int passed = opcodes[i] == FUSE_READDIR || (opcodes[i] == FUSE_WRITE && sizes[s] > 5);
                    EXPECT(!passed || end == RIG_PASSED, "handle %zu, offset %zu, size %zu", h, o, s);
                }
            }
        }
    }
    rig_free(r);
}

/* Names around the longest that there can be, and with all octets. */
static void
long_names(int encrypted_names)
{
    struct rig *r = rig_new(rig_writing, encrypted_names);
    static char name[5000];
    size_t longest = encrypted_names ? fc_name_longest(r->names, NAME_MAX) : NAME_MAX;
    for (size_t n = 1; n < sizeof name - 1; n += n < 300 ? 1 : 97) {
        memset(name, 'n', n);
        name[n] = '\0';
        enum rig_end end = rig_ask(r, FUSE_LOOKUP, FUSE_ROOT_ID, NULL, 0, name);
        EXPECT(end == (n <= longest ? RIG_ANSWERED : RIG_PASSED), "%zu octets", n);
    }
    for (int octet = 1; octet < 256; octet++) {
        const char short_name[2] = {(char)octet};
        if (octet == '.' || octet == '/')
            continue;
        uint64_t node = rig_file(r, FUSE_ROOT_ID, short_name, NULL, 0);
        EXPECT(rig_lookup(r, FUSE_ROOT_ID, short_name).nodeid == node, "octet %d", octet);
    }
    rig_free(r);
}

/* ---- Conversations -------------------------------------------------------------------------------- */

#define FEW 12 /* names, objects and handles at a time: they meet again often */

/* What the caller has taken, with the handles that it has to see closed. */
struct taken {
    fc_record record;
    char name[256];
    fc_file *file;
};

struct talk {
    struct rig *r;
    uint32_t state;
    uint64_t nodes[FEW];
    struct {
        uint64_t node, fh;
    } handles[FEW];
    struct taken taken[FEW];
};

static uint32_t
any(struct talk *t, uint32_t limit)
{
    return check_next(&t->state) / 7 % limit;
}

static const char *
any_name(struct talk *t)
{
    static const char *const names[FEW] = {"a", "b", "c", "d", "e", "f", "g", "h", "sub", "sub", "i", "j"};
    return names[any(t, FEW)];
}

static struct taken *
taken_of(struct talk *t, uint64_t number)
{
    for (size_t i = 0; i < FEW; i++)
        if (t->taken[i].record.number == number)
            return &t->taken[i];
    return NULL;
}

/* Make an object the caller's, with whatever belongs to it. */
static void
take_one(struct talk *t, uint64_t number)
{
    struct taken *place = taken_of(t, 0);
    if (!place || !number || fc_lane_take(t->r->lane, number, &place->record, place->name) < 0) {
        if (place)
            place->record.number = 0;
        return;
    }
    EXPECT(place->record.number == number, "another one");
    if (place->record.fd < 0)
        return;
    place->file = calloc(1, sizeof *place->file); /* to be used after it is freed, if there is a way */
    EXPECT(place->file, "memory");
    place->file->direct = 1;
    place->file->lower.fd = place->record.fd;
    fc_lane_file(t->r->lane, number, place->file);
}

static void
close_file(struct talk *t, struct taken *taken)
{
    fc_lane_file(t->r->lane, taken->record.number, NULL);
    close(taken->record.fd);
    taken->record.fd = -1;
    free(taken->file);
    taken->file = NULL;
}

/* The caller is done with an object: it is the lane's again, or nobody's. */
static void
give_one(struct talk *t, struct taken *taken)
{
    if (taken->file || !taken->record.number)
        return;
    if (taken->record.pin >= 0) {
        close(taken->record.pin);
        fc_lane_unmark(t->r->lane, taken->record.number);
    } else {
        EXPECT(fc_lane_give(t->r->lane, &taken->record, taken->name) == 0, "give");
    }
    taken->record.number = 0;
}

static void
release(struct talk *t, size_t i)
{
    const struct fuse_release_in in = {.fh = t->handles[i].fh};
    if (!in.fh)
        return;
    if (rig_ask(t->r, FUSE_RELEASE, t->handles[i].node, &in, sizeof in, NULL) == RIG_PASSED) {
        struct taken *taken = taken_of(t, t->handles[i].node);
        EXPECT(taken && taken->file, "nobody has this handle's file");
        fc_lane_close(t->r->lane, in.fh);
        if (--taken->record.opens == 0)
            close_file(t, taken);
    }
    t->handles[i].fh = 0;
}

/* An object by its name, perhaps a new one, perhaps with a handle. */
static void
meet(struct talk *t, uint64_t parent)
{
    const struct fuse_create_in in = {.flags = O_RDWR, .mode = S_IFREG | 0600};
    size_t i = any(t, FEW), h = any(t, FEW);
    int create = any(t, 2) && !t->handles[h].fh;
    enum rig_end end = create ? rig_ask(t->r, FUSE_CREATE, parent, &in, sizeof in, any_name(t))
                              : rig_ask(t->r, FUSE_LOOKUP, parent, NULL, 0, any_name(t));
    if (end != RIG_ANSWERED || t->r->n < sizeof(struct fuse_entry_out))
        return;
    memcpy(&t->nodes[i], t->r->reply, sizeof t->nodes[i]);
    if (create) {
        t->handles[h].node = t->nodes[i];
        memcpy(&t->handles[h].fh, t->r->reply + sizeof(struct fuse_entry_out), sizeof t->handles[h].fh);
    }
}

static void
open_one(struct talk *t, uint64_t node)
{
    size_t h = any(t, FEW);
    if (t->handles[h].fh || rig_try_open(t->r, node, any(t, 4) ? O_RDWR : O_RDWR | O_TRUNC) != RIG_ANSWERED)
        return;
    t->handles[h].node = node;
    memcpy(&t->handles[h].fh, t->r->reply, sizeof t->handles[h].fh);
}

/* What others do below. */
static void
interfere(struct talk *t)
{
    const char *a = rig_lower(t->r, any_name(t)), *b = rig_lower(t->r, any_name(t));
    int fd;
    switch (any(t, 5)) {
    case 0:
        mkdirat(t->r->root, a, 0700);
        break;
    case 1:
        renameat(t->r->root, a, t->r->root, b);
        break;
    case 2:
        linkat(t->r->root, a, t->r->root, b, 0);
        break;
    case 3:
        unlinkat(t->r->root, a, any(t, 2) ? AT_REMOVEDIR : 0);
        break;
    default:
        fd = openat(t->r->root, a, O_RDWR | O_CLOEXEC);
        if (fd >= 0) {
            EXPECT(ftruncate(fd, (off_t)any(t, 3) * 6000) == 0, "ftruncate");
            close(fd);
        }
    }
}

static void
say_something(struct talk *t)
{
    static uint8_t data[9000];
    struct rig *r = t->r;
    uint64_t node = t->nodes[any(t, FEW)], parent = any(t, 3) ? FUSE_ROOT_ID : node;
    size_t h = any(t, FEW);
    const struct fuse_forget_in forget = {.nlookup = any(t, 4)};
    struct fuse_setattr_in times = {
        .valid = FATTR_MTIME | FATTR_MODE, .mode = 0600, .mtime = any(t, 1U << 30)};
    const struct fuse_mkdir_in mkdir = {.mode = 0700};
    switch (any(t, 16)) {
    case 0:
    case 1:
        meet(t, parent);
        break;
    case 2:
        open_one(t, node);
        break;
    case 3:
        release(t, h);
        break;
    case 4:
    case 5:
        rig_try_write(r, node, t->handles[h].fh, any(t, 12000), data, any(t, sizeof data));
        break;
    case 6:
        rig_read(r, node, t->handles[h].fh, any(t, 12000), any(t, 20000));
        break;
    case 7:
        rig_ask(r, FUSE_GETATTR, node, NULL, 0, NULL);
        break;
    case 8:
        rig_ask(r, FUSE_SETATTR, node, &times, sizeof times, NULL);
        break;
    case 9:
        rig_ask(r, FUSE_UNLINK, parent, NULL, 0, any_name(t));
        break;
    case 10:
        rig_ask(r, FUSE_FORGET, node, &forget, sizeof forget, NULL);
        break;
    case 11:
        take_one(t, node);
        break;
    case 12:
        give_one(t, &t->taken[h]);
        break;
    case 13:
        rig_ask(r, FUSE_MKDIR, parent, &mkdir, sizeof mkdir, any_name(t));
        break;
    case 14:
        rig_ask(r, FUSE_RMDIR, parent, NULL, 0, any_name(t));
        break;
    default:
        if (any(t, 4) == 0)
            interfere(t);
    }
}

static void
conversation(uint32_t seed, int steps, int encrypted_names)
{
    struct talk t = {.r = rig_new(rig_writing, encrypted_names), .state = seed};
    for (int i = 0; i < steps; i++)
        say_something(&t);
    for (size_t i = 0; i < FEW; i++)
        release(&t, i);
    for (size_t i = 0; i < FEW; i++)
        give_one(&t, &t.taken[i]);
    rig_free(t.r);
}

void
check_lane_hostile(void)
{
    for (int encrypted_names = 0; encrypted_names < 2; encrypted_names++) {
        damaged(encrypted_names);
        long_names(encrypted_names);
    }
    edges();
    for (uint32_t seed = 1; seed <= 20; seed++)
        conversation(seed, 1500, (int)(seed % 2));
}
