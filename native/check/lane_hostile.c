/* The express lane against requests that no kernel would make. */
#include "lane_rig.h"

#include <limits.h>
#include <sys/stat.h>

#define OPCODES 64 /* more than there are */
#define LONGEST_ARGUMENT 128

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

/* Before the last two rounds all becomes the caller's. */
static void
damaged(int encrypted_names)
{
    struct rig *r = rig_new(rig_writing, encrypted_names);
    uint8_t octets[LONGEST_ARGUMENT];
    uint64_t fh, file = rig_create(r, FUSE_ROOT_ID, "file", &fh), directory = 0;
    EXPECT(mkdirat(r->root, rig_lower(r, "d"), 0700) == 0, "mkdir");
    for (uint32_t round = 0; round < 8; round++) {
        if (round < 6)
            directory = rig_lookup(r, FUSE_ROOT_ID, "d").nodeid;
        if (round == 6)
            rig_leave(r, directory, "d");
        const uint64_t nodes[] = {FUSE_ROOT_ID, file, directory, 0, UINT64_MAX};
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
                    int passed = opcodes[i] == FUSE_WRITE && sizes[s] > 5;
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

void
check_lane_hostile(void)
{
    for (int encrypted_names = 0; encrypted_names < 2; encrypted_names++) {
        damaged(encrypted_names);
        long_names(encrypted_names);
    }
    edges();
}
