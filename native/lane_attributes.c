/* The lane's answers about attributes of what is known. */
#include "internal.h"
#include "lane.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SECOND 1000000000
#define MOST_XATTR 65536 /* octets that a value can have */

/* ---- As FUSE has them --------------------------------------------------------------------------- */

static uint64_t
seconds(int64_t ns)
{
    return (uint64_t)(ns / SECOND - (ns % SECOND < 0));
}

static uint32_t
nanoseconds(int64_t ns)
{
    return (uint32_t)((ns % SECOND + SECOND) % SECOND);
}

static struct fuse_attr
attributes(uint64_t number, const fc_stat *st, uint64_t size)
{
    return (struct fuse_attr){
        .ino = number == FUSE_ROOT_ID ? st->ino : number,
        .size = size,
        .blocks = st->blocks,
        .atime = seconds(st->atime_ns),
        .mtime = seconds(st->mtime_ns),
        .ctime = seconds(st->ctime_ns),
        .atimensec = nanoseconds(st->atime_ns),
        .mtimensec = nanoseconds(st->mtime_ns),
        .ctimensec = nanoseconds(st->ctime_ns),
        .mode = st->mode,
        .nlink = st->nlink,
        .uid = st->uid,
        .gid = st->gid,
        .rdev = (uint32_t)st->rdev,
        .blksize = st->blksize,
    };
}

/* How long the kernel may keep attributes: with an old size it would read another file in part. */
static uint64_t
lifetime(const fc_lane *lane, uint32_t mode)
{
    return lane->config.shared && S_ISREG(mode) ? 0 : lane->config.valid_ns;
}

static int
reply_attributes(struct lane_request *q, const struct lane_node *node, const fc_stat *st, uint64_t size)
{
    const uint64_t valid = lifetime(q->lane, st->mode);
    const struct fuse_attr_out out = {
        .attr_valid = valid / SECOND,
        .attr_valid_nsec = (uint32_t)(valid % SECOND),
        .attr = attributes(node->r.number, st, size),
    };
    return lane_reply(q, &out, sizeof out);
}

struct fuse_entry_out
lane_entry_of(const fc_lane *lane, const struct lane_node *node, const fc_stat *st, uint64_t size)
{
    const uint64_t valid = lane->config.valid_ns;
    struct fuse_entry_out out = {
        .entry_valid = valid / SECOND,
        .entry_valid_nsec = (uint32_t)(valid % SECOND),
    };
    if (node) {
        const uint64_t kept = lifetime(lane, st->mode);
        out.nodeid = node->r.number;
        out.generation = node->r.generation;
        out.attr_valid = kept / SECOND;
        out.attr_valid_nsec = (uint32_t)(kept % SECOND);
        out.attr = attributes(node->r.number, st, size);
    }
    return out;
}

/* ---- Attributes of what is known ----------------------------------------------------------------- */

/* Attributes and upper size of any object; 0, EAGAIN where that would wait, or -1. */
static int
attributes_of(fc_lane *lane, const struct lane_node *node, fc_stat *st, int64_t *size)
{
    const fc_file *file = lane_usable(node->file);
    if (node->file && !file)
        return -1;
    if (!file && !node->theirs) {
        int dir_fd = node->r.pin < 0 ? lane_directory_fd(lane, node->r.parent) : -1;
        int error = dir_fd < 0 ? -1 : lane_look(lane, dir_fd, node->name, st, size);
        if (error)
            return error == EAGAIN ? EAGAIN : -1;
        return lane_is(node, st->dev, st->ino, st->mode) ? 0 : -1;
    }
    if (!file && node->dir_fd < 0)
        return -1;
    fc_stat_fd(file ? file->lower.fd : node->dir_fd, 0, st);
    *size = (int64_t)(file ? file->lower.size : st->size);
    return st->error ? -1 : 0;
}

int
lane_getattr(struct lane_request *q)
{
    const struct lane_node *node = lane_by_number(&q->lane->nodes, q->in->nodeid);
    fc_stat st;
    int64_t size;
    int error = node ? attributes_of(q->lane, node, &st, &size) : -1;
    if (error)
        return error == EAGAIN ? LANE_ASIDE : LANE_PASS;
    return reply_attributes(q, node, &st, (uint64_t)size);
}

/* How a request sets a time: utimensat's leave alone, this one, or now, as fc_utimens() takes it. */
static int
how(uint32_t valid, uint32_t set, uint32_t now)
{
    return valid & now ? 2 : (valid & set) != 0;
}

/* Owner first (it clears set-id bits), then mode, then times, of what is behind a descriptor. 0, or -1. */
static int
change(int fd, const struct fuse_setattr_in *in)
{
    char path[64];
    uid_t uid = in->valid & FATTR_UID ? in->uid : (uid_t)-1;
    gid_t gid = in->valid & FATTR_GID ? in->gid : (gid_t)-1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd); /* it may be O_PATH */
    if (in->valid & (FATTR_UID | FATTR_GID) && chown(path, uid, gid) < 0)
        return -1;
    if (in->valid & FATTR_MODE && chmod(path, in->mode & 07777) < 0)
        return -1;
    if (!(in->valid & (FATTR_ATIME | FATTR_MTIME)))
        return 0;
    int64_t atime = fc_nanoseconds((int64_t)in->atime, in->atimensec);
    int64_t mtime = fc_nanoseconds((int64_t)in->mtime, in->mtimensec);
    return fc_utimens(fd, "", how(in->valid, FATTR_ATIME, FATTR_ATIME_NOW), atime,
                      how(in->valid, FATTR_MTIME, FATTR_MTIME_NOW), mtime);
}

/* A descriptor (O_PATH) of one of our objects, checked to be it, or -1. */
static int
open_ours(fc_lane *lane, const struct lane_node *node)
{
    struct stat st;
    int fd = openat(lane_directory_fd(lane, node->r.parent), node->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && (fstat(fd, &st) < 0 || !lane_is(node, st.st_dev, st.st_ino, st.st_mode))) {
        close(fd);
        return -1;
    }
    return fd;
}

/* A descriptor of an object, *held where it is not to be closed; or -1. */
static int
descriptor_of(fc_lane *lane, const struct lane_node *node, int *held)
{
    *held = node->r.pin;
    if (node->file)
        *held = node->file->lower.fd;
    else if (node->theirs)
        *held = node->dir_fd;
    return *held >= 0 || node->theirs ? *held : open_ours(lane, node);
}

/* All but sizes. What fails here is done again by the caller, who tells why. */
int
lane_setattr(struct lane_request *q)
{
    const uint32_t known = FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW |
                           FATTR_MTIME_NOW | FATTR_CTIME | FATTR_FH | FATTR_LOCKOWNER;
    const struct fuse_setattr_in *in = q->arg;
    struct lane_node *node = lane_by_number(&q->lane->nodes, q->in->nodeid);
    fc_stat st;
    if (q->n < sizeof *in || !node || in->valid & ~known || q->lane->config.read_only)
        return LANE_PASS;
    /* Nothing that is done here changes the size; one without a link has the size that was seen last. */
    int64_t size = node->r.shown;
    int error = node->r.pin < 0 || node->file ? attributes_of(q->lane, node, &st, &size) : 0;
    if (error)
        return error == EAGAIN ? LANE_ASIDE : LANE_PASS;
    int held, fd = descriptor_of(q->lane, node, &held);
    if (fd < 0 || size < 0 || (uint64_t)size > LANE_MAX_SIZE)
        return LANE_PASS;
    int failed = change(fd, in);
    if (!failed)
        fc_stat_fd(fd, 0, &st);
    if (fd != held)
        close(fd);
    if (failed || st.error)
        return LANE_PASS;
    if (node->file && in->valid & FATTR_MTIME)
        node->file->born_ns = -1;
    return reply_attributes(q, node, &st, (uint64_t)size);
}

/* ---- Extended attributes -------------------------------------------------------------------------- */

/* Whether a lower name has no such attribute: most are asked for in vain, and that is found out at once. */
static int
lacks_xattr(fc_lane *lane, const struct lane_node *node, const char *name)
{
    char path[64 + NAME_MAX];
    const int by_name = !node->theirs && node->r.pin < 0 && !node->file;
    int dir_fd = by_name ? lane_directory_fd(lane, node->r.parent) : -1;
    if (dir_fd < 0)
        return 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dir_fd, node->name);
    return lgetxattr(path, name, NULL, 0) < 0 && errno == ENODATA;
}

/* A value into the lane's buffer; octets, or -errno. -ESTALE where the object is not at hand. */
static ssize_t
read_xattr(fc_lane *lane, const struct lane_node *node, const char *name)
{
    char path[64];
    if (lacks_xattr(lane, node, name))
        return -ENODATA;
    int held, fd = descriptor_of(lane, node, &held);
    if (fd < 0)
        return -ESTALE;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t got = getxattr(path, name, lane->data, MOST_XATTR);
    int error = errno;
    if (fd != held)
        close(fd);
    return got < 0 ? -error : got;
}

int
lane_getxattr(struct lane_request *q)
{
    const struct fuse_getxattr_in *in = q->arg;
    const char *name = lane_name(q, sizeof *in);
    const struct lane_node *node = lane_by_number(&q->lane->nodes, q->in->nodeid);
    if (!name || !node || strcmp(name, FC_HEADER_ATTRIBUTE) == 0 || (node->file && !lane_usable(node->file)))
        return LANE_PASS;
    ssize_t got = read_xattr(q->lane, node, name);
    if (got == -ENODATA || got == -EOPNOTSUPP)
        return lane_refuse(q, (int)-got);
    if (got < 0)
        return LANE_PASS;
    if (in->size == 0) {
        const struct fuse_getxattr_out out = {.size = (uint32_t)got};
        return lane_reply(q, &out, sizeof out);
    }
    if ((size_t)got > in->size)
        return lane_refuse(q, ERANGE);
    return lane_reply(q, q->lane->data, (size_t)got);
}
