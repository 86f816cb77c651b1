/* The express lane at work on names and attributes. */
#include "lane_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* ---- Attributes ----------------------------------------------------------------------------------- */

static struct fuse_attr
set(struct rig *r, uint64_t node, const struct fuse_setattr_in *in)
{
    struct fuse_attr_out out;
    EXPECT(rig_ask(r, FUSE_SETATTR, node, in, sizeof *in, NULL) == RIG_ANSWERED, "valid %x", in->valid);
    EXPECT(r->head->error == 0 && r->n == sizeof out, "valid %x", in->valid);
    memcpy(&out, r->reply, sizeof out);
    return out.attr;
}

static void
change_times(struct rig *r, uint64_t node, int64_t sec, uint32_t nsec)
{
    const struct fuse_setattr_in in = {
        .valid = FATTR_ATIME | FATTR_MTIME | FATTR_CTIME,
        .atime = (uint64_t)sec,
        .mtime = (uint64_t)sec,
        .atimensec = nsec,
        .mtimensec = nsec,
    };
    struct fuse_attr attr = set(r, node, &in);
    EXPECT((int64_t)attr.mtime == sec && attr.mtimensec == nsec, "%lld is %lld", (long long)sec,
           (long long)attr.mtime);
    EXPECT((int64_t)attr.atime == sec && attr.atimensec == nsec, "%lld", (long long)sec);
    attr = rig_getattr(r, node);
    EXPECT((int64_t)attr.mtime == sec && attr.mtimensec == nsec, "%lld", (long long)sec);
}

static void
attributes(int encrypted_names)
{
    struct rig *r = rig_new(rig_writing, encrypted_names);
    uint64_t fh, file = rig_create(r, FUSE_ROOT_ID, "file", &fh);
    EXPECT(mkdirat(r->root, rig_lower(r, "directory"), 0700) == 0, "mkdir");
    uint64_t directory = rig_lookup(r, FUSE_ROOT_ID, "directory").nodeid;
    EXPECT(rig_getattr(r, file).mode == (S_IFREG | 0640), "umask");
    for (int open = 1; open >= 0; open--) {
        change_times(r, file, 1500000000, 123456789);
        change_times(r, file, -1, 999999999);
        change_times(r, directory, -5, 1);
        change_times(r, FUSE_ROOT_ID, 5, 1);
        struct fuse_setattr_in in = {.valid = FATTR_MODE, .mode = S_IFREG | 0604};
        EXPECT(set(r, file, &in).mode == (S_IFREG | 0604), "mode");
        in = (struct fuse_setattr_in){.valid = FATTR_GID, .gid = getegid()};
        EXPECT(set(r, file, &in).gid == getegid(), "group");
        in = (struct fuse_setattr_in){.valid = FATTR_MTIME | FATTR_MTIME_NOW};
        EXPECT((int64_t)set(r, file, &in).mtime > 1500000000, "now");
        in.valid = FATTR_SIZE;
        EXPECT(rig_ask(r, FUSE_SETATTR, file, &in, sizeof in, NULL) == RIG_PASSED, "size");
        in.valid = FATTR_KILL_SUIDGID;
        EXPECT(rig_ask(r, FUSE_SETATTR, file, &in, sizeof in, NULL) == RIG_PASSED, "what is not known");
        if (open)
            rig_release(r, file, fh);
    }
    EXPECT(rig_getattr(r, FUSE_ROOT_ID).ino > FUSE_ROOT_ID, "the root");
    rig_free(r);
}

/* Times that 64 bits of nanoseconds cannot hold end at the last that they can. */
static void
far_times(void)
{
    struct rig *r = rig_new(rig_writing, 0);
    uint64_t node = rig_file(r, FUSE_ROOT_ID, "file", NULL, 0);
    const int64_t far[] = {9300000000, INT64_MAX, INT64_MIN, -9300000000};
    for (size_t i = 0; i < sizeof far / sizeof far[0]; i++) {
        const struct fuse_setattr_in in = {.valid = FATTR_MTIME, .mtime = (uint64_t)far[i]};
        struct fuse_attr attr = set(r, node, &in);
        EXPECT(((int64_t)attr.mtime > 0) == (far[i] > 0), "%lld is %lld", (long long)far[i],
               (long long)attr.mtime);
    }
    const struct timespec times[2] = {{.tv_sec = 9300000000}, {.tv_sec = 9300000000}};
    EXPECT(utimensat(r->root, "file", times, 0) == 0, "utimensat");
    EXPECT((int64_t)rig_getattr(r, node).mtime > 9000000000, "the year 2264");
    rig_free(r);
}

static enum rig_end
getxattr_of(struct rig *r, uint64_t node, const char *name, uint32_t size)
{
    const struct fuse_getxattr_in in = {.size = size};
    return rig_ask(r, FUSE_GETXATTR, node, &in, sizeof in, name);
}

static void
xattrs(void)
{
    struct rig *r = rig_new(rig_writing, 0);
    uint64_t node = rig_file(r, FUSE_ROOT_ID, "file", NULL, 0);
    int fd = openat(r->root, "file", O_RDONLY | O_CLOEXEC);
    EXPECT(fsetxattr(fd, "user.check", "value", 5, 0) == 0, "user xattrs are needed");
    close(fd);
    EXPECT(getxattr_of(r, node, "user.absent", 0) == RIG_ANSWERED && r->head->error == -ENODATA, "absent");
    EXPECT(getxattr_of(r, node, "user.check", 0) == RIG_ANSWERED && r->n == 8 && r->reply[0] == 5, "size");
    EXPECT(getxattr_of(r, node, "user.check", 4) == RIG_ANSWERED && r->head->error == -ERANGE, "small");
    EXPECT(getxattr_of(r, node, "user.check", 5) == RIG_ANSWERED && r->n == 5, "value");
    EXPECT(memcmp(r->reply, "value", 5) == 0, "value");
    EXPECT(getxattr_of(r, FUSE_ROOT_ID, "user.absent", 0) == RIG_ANSWERED, "of a directory");
    EXPECT(getxattr_of(r, node, "user.ecryptfs", 0) == RIG_PASSED, "the header");
    EXPECT(getxattr_of(r, node + 1000, "user.check", 0) == RIG_PASSED, "of nothing");
    rig_free(r);
}

/* ---- Names ---------------------------------------------------------------------------------------- */

static void
names_and_lookups(int encrypted_names)
{
    struct rig *r = rig_new(rig_writing, encrypted_names);
    static const uint8_t data[100];
    uint64_t node = rig_file(r, FUSE_ROOT_ID, "file", data, sizeof data), fh;
    EXPECT(rig_lookup(r, FUSE_ROOT_ID, "file").nodeid == node, "again");
    EXPECT(rig_lookup(r, FUSE_ROOT_ID, "file").attr.size == sizeof data, "again");
    rig_forget(r, node, 1);
    EXPECT(rig_getattr(r, node).size == sizeof data && fc_lane_count(r->lane) == 1, "two lookups are left");

    fh = rig_open(r, node, O_RDWR);
    rig_unlink(r, FUSE_ROOT_ID, "file");
    EXPECT(rig_lookup(r, FUSE_ROOT_ID, "file").nodeid == 0, "gone");
    EXPECT(rig_getattr(r, node).nlink == 0 && rig_getattr(r, node).size == sizeof data, "open");
    rig_write(r, node, fh, 50, data, 100);
    change_times(r, node, 7, 8);
    rig_forget(r, node, 2);
    EXPECT(rig_read(r, node, fh, 0, 200) == RIG_ANSWERED && r->n == 150, "open");
    rig_release(r, node, fh);
    EXPECT(fc_lane_count(r->lane) == 0, "nobody knows it");

    node = rig_file(r, FUSE_ROOT_ID, "other", data, sizeof data);
    rig_unlink(r, FUSE_ROOT_ID, "other");
    change_times(r, FUSE_ROOT_ID, 7, 8);
    const struct fuse_setattr_in in = {.valid = FATTR_MODE, .mode = 0600};
    EXPECT(set(r, node, &in).size == sizeof data, "without a link");
    EXPECT(rig_ask(r, FUSE_GETATTR, node, NULL, 0, NULL) == RIG_PASSED, "without a link");
    EXPECT(rig_try_open(r, node, O_RDONLY) == RIG_PASSED, "without a link");
    rig_forget(r, node, 1);
    EXPECT(fc_lane_count(r->lane) == 0, "nobody knows it");
    EXPECT(rig_ask(r, FUSE_UNLINK, FUSE_ROOT_ID, NULL, 0, "other") == RIG_PASSED, "absent");

    /* One file by two names is not plain. */
    node = rig_file(r, FUSE_ROOT_ID, "one", data, sizeof data);
    const char *one = rig_lower(r, "one");
    EXPECT(linkat(r->root, one, r->root, rig_lower(r, "two"), 0) == 0, "link");
    EXPECT(rig_ask(r, FUSE_LOOKUP, FUSE_ROOT_ID, NULL, 0, "two") == RIG_PASSED, "two");
    EXPECT(rig_ask(r, FUSE_UNLINK, FUSE_ROOT_ID, NULL, 0, "one") == RIG_PASSED, "one of two");
    EXPECT(rig_lookup(r, FUSE_ROOT_ID, "one").nodeid == node, "one");
    EXPECT(mkdirat(r->root, rig_lower(r, "directory"), 0700) == 0, "mkdir");
    EXPECT(rig_ask(r, FUSE_UNLINK, FUSE_ROOT_ID, NULL, 0, "directory") == RIG_PASSED, "a directory");
    const char *const bad[] = {".", "..", "a/b", ""};
    for (size_t i = 0; i < 4; i++)
        EXPECT(rig_ask(r, FUSE_LOOKUP, FUSE_ROOT_ID, NULL, 0, bad[i]) == RIG_PASSED, "%s", bad[i]);
    rig_free(r);
}

static void
symlinks(int encrypted_names)
{
    struct rig *r = rig_new(rig_writing, encrypted_names);
    const char *target = rig_lower(r, "the target");
    EXPECT(symlinkat(target, r->root, rig_lower(r, "link")) == 0, "symlink");
    struct fuse_entry_out entry = rig_lookup(r, FUSE_ROOT_ID, "link");
    EXPECT(S_ISLNK(entry.attr.mode) && entry.attr.size == strlen("the target"), "%llu",
           (unsigned long long)entry.attr.size);
    EXPECT(rig_getattr(r, entry.nodeid).size == entry.attr.size, "getattr");
    const struct fuse_setattr_in in = {.valid = FATTR_MTIME, .mtime = 5};
    EXPECT(set(r, entry.nodeid, &in).mtime == 5, "not of the target");
    EXPECT(symlinkat("elsewhere", r->root, rig_lower(r, "foreign")) == 0, "symlink");
    enum rig_end end = rig_ask(r, FUSE_LOOKUP, FUSE_ROOT_ID, NULL, 0, "foreign");
    EXPECT(end == (encrypted_names ? RIG_PASSED : RIG_ANSWERED), "a target that does not decode");
    rig_unlink(r, FUSE_ROOT_ID, "link");
    rig_free(r);
}

static void
batches(void)
{
    struct rig *r = rig_new(rig_writing, 0);
    uint64_t a = rig_file(r, FUSE_ROOT_ID, "a", NULL, 0), b = rig_file(r, FUSE_ROOT_ID, "b", NULL, 0);
    struct {
        struct fuse_batch_forget_in in;
        struct fuse_forget_one each[5];
    } all = {{.count = 5}, {{a, 1}, {FUSE_ROOT_ID, 3}, {b, 1}, {77, 1}, {900, 2}}};
    EXPECT(fc_lane_mark(r->lane, 900, 1, 900, S_IFREG, 0, "") == 0, "mark");
    EXPECT(rig_ask(r, FUSE_BATCH_FORGET, 0, &all, sizeof all, NULL) == RIG_PASSED, "two are the caller's");
    EXPECT(r->n == sizeof all.in + 2 * sizeof all.each[0], "%zu octets", r->n);
    memcpy(&all, r->reply, r->n);
    EXPECT(all.in.count == 2 && all.each[0].nodeid == FUSE_ROOT_ID && all.each[0].nlookup == 3, "the root");
    EXPECT(all.each[1].nodeid == 900 && all.each[1].nlookup == 2, "the other");
    EXPECT(fc_lane_count(r->lane) == 0, "ours are forgotten");
    all.in.count = 6;
    EXPECT(rig_ask(r, FUSE_BATCH_FORGET, 0, &all, sizeof all, NULL) == RIG_PASSED && r->n == sizeof all,
           "it counts more than there are");
    all.in.count = UINT32_MAX;
    EXPECT(rig_ask(r, FUSE_BATCH_FORGET, 0, &all, sizeof all, NULL) == RIG_PASSED && r->n == sizeof all,
           "it counts more than there are");
    rig_free(r);
}

void
check_lane_names(void)
{
    for (int encrypted_names = 0; encrypted_names < 2; encrypted_names++) {
        attributes(encrypted_names);
        names_and_lookups(encrypted_names);
        symlinks(encrypted_names);
    }
    far_times();
    xattrs();
    batches();
}
