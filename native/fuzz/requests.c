/* Fuzz the lane: the input is a list of requests, each an opcode, an object, a length, and its octets. */
#include "lane_rig.h"

#include <sys/stat.h>

#define OPCODES 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1)
        return 0;
    rig_careful = *data >> 1 & 1;
    struct rig *r = rig_new(rig_writing, *data & 1);
    uint64_t fh, file = rig_create(r, FUSE_ROOT_ID, "file", &fh);
    EXPECT(mkdirat(r->root, rig_lower(r, "d"), 0700) == 0, "mkdir");
    const uint64_t nodes[] = {FUSE_ROOT_ID, file, rig_lookup(r, FUSE_ROOT_ID, "d").nodeid, 0, UINT64_MAX};
    if (*data >> 2 & 1)
        rig_leave(r, nodes[2], "d");
    for (data++, n--; n >= 3;) {
        uint32_t opcode = data[0] % OPCODES;
        uint64_t node = nodes[data[1] % (sizeof nodes / sizeof nodes[0])];
        size_t length = data[2] < n - 3 ? data[2] : n - 3;
        rig_add(r, data + 3, length);
        enum rig_end end = rig_send(r, opcode, node);
        EXPECT(end != RIG_SILENT || opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET, "opcode %u",
               opcode);
        data += 3 + length;
        n -= 3 + length;
    }
    rig_free(r);
    return 0;
}
