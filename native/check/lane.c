/* The express lane at work on contents, and what keeps it from that. */
#include "lane_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXTENT ((size_t)FC_EXTENT)

static const fc_lane_config reading = {.simple = 1, .read_only = 1, .quiet = 1, .valid_ns = 1000000000};

/* ---- Data --------------------------------------------------------------------------------------- */

/* Everything that the file holds, also as the format has it below. */
static void
compare(struct rig *r, uint64_t node, uint64_t fh, const char *name, const uint8_t *model, size_t n)
{
    static uint8_t below[RIG_ROOM];
    size_t whole = (n + EXTENT - 1) / EXTENT * EXTENT;
    EXPECT(rig_read(r, node, fh, 0, n + 10) == RIG_ANSWERED && r->n == n, "%zu of %zu", r->n, n);
    EXPECT(memcmp(r->reply, model, n) == 0, "%zu octets", n);
    EXPECT(rig_getattr(r, node).size == n, "%zu octets", n);
    int fd = openat(r->root, rig_lower(r, name), O_RDONLY | O_CLOEXEC);
    ssize_t got = pread(fd, below, sizeof below, 0);
    close(fd);
    EXPECT(got == (ssize_t)(RIG_HEADER + whole), "%zd octets below", got);
    EXPECT(below[7] == (n & 0xff) && below[6] == (n >> 8 & 0xff) && below[4] == 0, "the size field");
    EXPECT(memcmp(below + 16, r->form + 16, 60 - 16) == 0, "the header");
    EXPECT(memcmp(below + 92, r->form + 92, 200 - 92) == 0, "the header");
    EXPECT(memcmp(below + 60, below + 200, 32) == 0, "one FEK for two packets");
    fc_file_key *key;
    EXPECT(fc_file_key_unwrap(FC_AES_256, 32, r->fekek, below + 60, 32, &key) == 0, "unwrap");
    uint8_t *data = below + RIG_HEADER;
    EXPECT(fc_extents_decrypt(key, 0, data, data, whole / EXTENT) == 0, "decrypt");
    EXPECT(memcmp(data, model, n) == 0, "below");
    fc_file_key_free(key);
}

static void
put(struct rig *r, uint64_t node, uint64_t fh, uint8_t *model, size_t *size, size_t offset, size_t n)
{
    static uint32_t seed = 1000;
    check_random(seed++, model + offset, n);
    rig_write(r, node, fh, offset, model + offset, n);
    if (offset + n > *size)
        *size = offset + n;
}

static void
contents(int encrypted_names)
{
    static uint8_t model[RIG_ROOM];
    struct rig *r = rig_new(rig_writing, encrypted_names);
    size_t n = 0;
    uint64_t fh;
    EXPECT(rig_lookup(r, FUSE_ROOT_ID, "file").nodeid == 0, "not there yet");
    uint64_t node = rig_create(r, FUSE_ROOT_ID, "file", &fh);
    EXPECT(rig_read(r, node, fh, 0, 10) == RIG_ANSWERED && r->n == 0, "empty");
    put(r, node, fh, model, &n, 0, 10);
    compare(r, node, fh, "file", model, n);
    put(r, node, fh, model, &n, 10, 5000);
    put(r, node, fh, model, &n, 4094, 3);
    put(r, node, fh, model, &n, n, 30000);
    put(r, node, fh, model, &n, 0, 4096);
    compare(r, node, fh, "file", model, n);
    EXPECT(rig_read(r, node, fh, 5000, 1) == RIG_ANSWERED && r->reply[0] == model[5000], "one octet");
    EXPECT(rig_read(r, node, fh, n, 10) == RIG_ANSWERED && r->n == 0, "the end");
    EXPECT(rig_read(r, node, fh, UINT64_MAX, 10) == RIG_ANSWERED && r->n == 0, "past the end");
    EXPECT(rig_read(r, node, fh + 1, 0, 10) == RIG_PASSED, "no such handle");
    EXPECT(rig_try_write(r, node, fh, n + 1, model, 1) == RIG_PASSED, "a gap");
    EXPECT(rig_try_write(r, node, fh, n, model, 0) == RIG_PASSED, "nothing");
    EXPECT(rig_try_write(r, node, fh, INT64_MAX, model, 10) == RIG_PASSED, "far away");
    rig_release(r, node, fh);
    EXPECT(rig_getattr(r, node).size == n, "closed");

    fh = rig_open(r, node, O_RDONLY);
    uint64_t other = rig_open(r, node, O_RDWR);
    EXPECT(other != fh, "two handles");
    put(r, node, other, model, &n, n, 1);
    compare(r, node, fh, "file", model, n);
    rig_release(r, node, fh);
    compare(r, node, other, "file", model, n);
    rig_release(r, node, other);

    fh = rig_open(r, node, O_WRONLY | O_TRUNC);
    compare(r, node, fh, "file", model, 0);
    rig_release(r, node, fh);
    EXPECT(rig_try_open(r, FUSE_ROOT_ID, O_RDONLY) == RIG_PASSED, "a directory");
    rig_free(r);
}

/* What others do to a lower file, the caller has to see to. */
static void
damage(void)
{
    static const uint8_t data[3 * FC_EXTENT], zeros[8];
    struct rig *r = rig_new(rig_writing, 0);
    uint64_t node = rig_file(r, FUSE_ROOT_ID, "file", data, sizeof data), fh = rig_open(r, node, O_RDWR);
    int fd = openat(r->root, "file", O_RDWR | O_CLOEXEC);
    EXPECT(ftruncate(fd, RIG_HEADER + 2 * FC_EXTENT) == 0, "ftruncate");
    EXPECT(rig_read(r, node, fh, 0, sizeof data) == RIG_PASSED, "cut short while open");
    EXPECT(rig_read(r, node, fh, 0, EXTENT) == RIG_ANSWERED && r->n == EXTENT, "what is there");
    rig_release(r, node, fh);
    EXPECT(rig_try_open(r, node, O_RDONLY) == RIG_PASSED, "cut short");
    EXPECT(ftruncate(fd, RIG_HEADER + 3 * FC_EXTENT) == 0, "ftruncate");
    rig_release(r, node, rig_open(r, node, O_RDONLY));
    EXPECT(pwrite(fd, "\x7f\xff", 2, 0) == 2, "pwrite");
    EXPECT(rig_ask(r, FUSE_GETATTR, node, NULL, 0, NULL) == RIG_PASSED, "an impossible size");
    EXPECT(pwrite(fd, zeros, 8, 0) == 8, "pwrite");
    EXPECT(rig_try_open(r, node, O_RDONLY) == RIG_PASSED, "not the size that was shown");
    EXPECT(rig_lookup(r, FUSE_ROOT_ID, "file").generation == 1, "the kernel learns the size");
    rig_release(r, node, rig_open(r, node, O_RDONLY));
    EXPECT(pwrite(fd, "x", 1, RIG_FORM) == 1, "pwrite");
    EXPECT(rig_try_open(r, node, O_RDONLY) == RIG_PASSED, "one more packet");
    EXPECT(pwrite(fd, zeros, 1, RIG_FORM) == 1 && pwrite(fd, zeros, 8, 150) == 8, "pwrite");
    EXPECT(rig_try_open(r, node, O_RDONLY) == RIG_PASSED, "another form");
    EXPECT(pwrite(fd, zeros, 8, 8) == 8, "pwrite");
    EXPECT(rig_ask(r, FUSE_LOOKUP, FUSE_ROOT_ID, NULL, 0, "file") == RIG_PASSED, "no header");
    for (off_t n = RIG_HEADER; n >= 0; n -= 37) {
        EXPECT(ftruncate(fd, n) == 0, "ftruncate");
        EXPECT(rig_try_open(r, node, O_RDONLY) == RIG_PASSED, "cut to %lld", (long long)n);
    }
    close(fd);
    rig_free(r);
}

/* ---- Modes ---------------------------------------------------------------------------------------- */

static int64_t
access_time(const struct rig *r, const char *name)
{
    struct stat st;
    EXPECT(fstatat(r->root, name, &st, 0) == 0, "%s", name);
    return st.st_atim.tv_sec;
}

/* Nothing changes below a read-only mount, access times included. */
static void
read_only(void)
{
    static const uint8_t data[100];
    struct rig *r = rig_new(rig_writing, 0);
    rig_file(r, FUSE_ROOT_ID, "file", data, sizeof data);
    EXPECT(mkdirat(r->root, "directory", 0700) == 0, "mkdir");
    const struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};
    EXPECT(utimensat(r->root, "file", old, 0) == 0 && utimensat(r->root, "directory", old, 0) == 0, "old");
    rig_again(r, reading);
    uint64_t node = rig_lookup(r, FUSE_ROOT_ID, "file").nodeid, fh = rig_open(r, node, O_RDONLY);
    EXPECT(rig_read(r, node, fh, 0, 200) == RIG_ANSWERED && r->n == sizeof data, "read");
    uint64_t directory = rig_lookup(r, FUSE_ROOT_ID, "directory").nodeid;
    struct fuse_read_in in = {.size = 4096};
    EXPECT(rig_ask(r, FUSE_OPENDIR, directory, NULL, 0, NULL) == RIG_ANSWERED, "opendir");
    memcpy(&in.fh, r->reply, sizeof in.fh);
    EXPECT(rig_ask(r, FUSE_READDIRPLUS, directory, &in, sizeof in, NULL) == RIG_ANSWERED && r->n > 0, "read");
    EXPECT(access_time(r, "file") == 1000, "the file's access time");
    EXPECT(access_time(r, "directory") == 1000, "the directory's access time");

    const struct fuse_create_in create = {.flags = O_RDWR, .mode = S_IFREG | 0600};
    const struct fuse_setattr_in times = {.valid = FATTR_MTIME};
    EXPECT(rig_ask(r, FUSE_CREATE, 1, &create, sizeof create, "new") == RIG_PASSED, "create");
    EXPECT(rig_ask(r, FUSE_UNLINK, 1, NULL, 0, "file") == RIG_PASSED, "unlink");
    EXPECT(rig_ask(r, FUSE_SETATTR, node, &times, sizeof times, NULL) == RIG_PASSED, "setattr");
    EXPECT(rig_try_open(r, node, O_RDWR) == RIG_PASSED, "to write");
    EXPECT(rig_try_open(r, node, O_RDONLY | O_TRUNC) == RIG_PASSED, "to cut");
    EXPECT(rig_try_write(r, node, fh, 0, data, 1) == RIG_PASSED, "write");

    int fd = openat(r->root, "file", O_RDWR | O_CLOEXEC);
    EXPECT(pwrite(fd, "\0\0\0\0\0\0\0\5", 8, 0) == 8, "others write it");
    EXPECT(rig_read(r, node, fh, 0, 200) == RIG_PASSED, "others have written it");
    EXPECT(pwrite(fd, "\0\0\0\0\0\0\0\144", 8, 0) == 8, "others write it");
    close(fd);
    EXPECT(rig_read(r, node, fh, 0, 200) == RIG_ANSWERED && r->n == sizeof data, "it is as it was");
    rig_free(r);
}

static void
set_id_bits(void)
{
    struct rig *r = rig_new(rig_writing, 0);
    uint64_t root_fh, node = rig_create(r, FUSE_ROOT_ID, "file", &root_fh);
    r->uid = 1000;
    uint64_t fh = rig_open(r, node, O_RDWR);
    EXPECT(fchmodat(r->root, "file", 04755, 0) == 0, "chmod");
    EXPECT(rig_try_write(r, node, fh, 0, "x", 1) == RIG_PASSED, "set-id bits are to be cleared");
    EXPECT(rig_try_open(r, node, O_WRONLY | O_TRUNC) == RIG_PASSED, "set-id bits are to be cleared");
    rig_write(r, node, root_fh, 0, "x", 1);
    EXPECT(fchmodat(r->root, "file", 0755, 0) == 0, "chmod");
    rig_write(r, node, fh, 1, "x", 1);
    const struct fuse_create_in in = {.flags = O_RDWR, .mode = S_IFREG | 0600};
    enum rig_end end = rig_ask(r, FUSE_CREATE, 1, &in, sizeof in, "new");
    EXPECT(end == (geteuid() == 0 ? RIG_PASSED : RIG_ANSWERED), "a file for somebody else");
    rig_free(r);
}

/* The kernel keeps what it has cached unless the lower file has changed since. */
static void
caches(void)
{
    struct rig *r = rig_new(rig_writing, 0);
    uint64_t node = rig_file(r, FUSE_ROOT_ID, "file", "x", 1);
    struct fuse_open_out out;
    for (uint32_t changed = 0; changed < 2; changed++) {
        if (changed)
            EXPECT(fchmodat(r->root, "file", 0604, 0) == 0, "chmod");
        EXPECT(rig_try_open(r, node, O_RDONLY) == RIG_ANSWERED, "open");
        memcpy(&out, r->reply, sizeof out);
        EXPECT(out.open_flags == (changed ? 0 : FOPEN_KEEP_CACHE), "changed: %u", changed);
        rig_release(r, node, out.fh);
    }
    rig_free(r);
}

void
check_lane(void)
{
    contents(0);
    contents(1);
    damage();
    read_only();
    set_id_bits();
    caches();
}
