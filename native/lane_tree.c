/* The lane's answers about names and attributes. */
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
#define OWN_XATTR "user.ecryptfs"
#define MOST_XATTR 65536 /* octets that a value can have */

/* ---- Attributes --------------------------------------------------------------------------------- */

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

static int
reply_attributes(struct lane_request *q, const struct lane_node *node, const fc_stat *st, uint64_t size)
{
    const uint64_t valid = q->lane->config.valid_ns;
    const struct fuse_attr_out out = {
        .attr_valid = valid / SECOND,
        .attr_valid_nsec = (uint32_t)(valid % SECOND),
        .attr = attributes(node->r.number, st, size),
    };
    return lane_reply(q, &out, sizeof out);
}

/* An entry; without a node it says that there is no such name. */
struct fuse_entry_out
lane_entry_of(const fc_lane *lane, const struct lane_node *node, const fc_stat *st, uint64_t size)
{
    const uint64_t valid = lane->config.valid_ns;
    struct fuse_entry_out out = {
        .entry_valid = valid / SECOND,
        .entry_valid_nsec = (uint32_t)(valid % SECOND),
    };
    if (node) {
        out.nodeid = node->r.number;
        out.generation = node->r.generation;
        out.attr_valid = out.entry_valid;
        out.attr_valid_nsec = out.entry_valid_nsec;
        out.attr = attributes(node->r.number, st, size);
    }
    return out;
}

/* ---- Looking below ------------------------------------------------------------------------------ */

ssize_t
lane_lower_name(const fc_lane *lane, const char *name, char lower[NAME_MAX + 1])
{
    size_t n = strlen(name);
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strchr(name, '/'))
        return -1;
    ssize_t length = (ssize_t)n;
    if (lane->config.names)
        length = fc_name_encode(lane->config.names, (const uint8_t *)name, n, (uint8_t *)lower, NAME_MAX);
    else if (n <= NAME_MAX)
        memcpy(lower, name, n);
    else
        return -1;
    if (length > 0)
        lower[length] = '\0';
    return length;
}

/* The upper size of what fc_stat_many() saw, or -1 where that takes more than a look. */
static int64_t
upper_size(const fc_lane *lane, int dir_fd, const char *lower, const fc_stat *st)
{
    if (S_ISREG(st->mode))
        return st->peek == FC_PEEK_HEADER && st->upper_size <= LANE_MAX_SIZE ? (int64_t)st->upper_size : -1;
    if (!S_ISLNK(st->mode) || !lane->config.names)
        return (int64_t)st->size;
    uint8_t target[PATH_MAX], decoded[PATH_MAX];
    ssize_t n = readlinkat(dir_fd, lower, (char *)target, sizeof target);
    return n < 0 ? -1 : fc_name_decode(lane->config.names, target, (size_t)n, decoded, sizeof decoded);
}

/* Attributes and upper size of a child; 0, an errno, or -1 where that takes more than a look. */
static int
look(const fc_lane *lane, int dir_fd, const char *lower, fc_stat *st, int64_t *size)
{
    if (fc_stat_many(dir_fd, lower, strlen(lower) + 1, 1, 1, st) < 0)
        return -1;
    if (st->error)
        return st->peek == FC_PEEK_ERROR ? -1 : st->error;
    *size = upper_size(lane, dir_fd, lower, st);
    return *size < 0 ? -1 : 0;
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

/* ---- Lookup and forget -------------------------------------------------------------------------- */

/*
 * The node of what was found under a name, with one more lookup: one of ours that has this very link,
 * or a new one. NULL: more than one link, a number that is taken, one of the caller's.
 */
static struct lane_node *
enter(fc_lane *lane, uint64_t parent, const char *lower, const fc_stat *st, int64_t size)
{
    struct lane_node *node = lane_by_identity(&lane->nodes, st->dev, st->ino);
    if (node) {
        if (node->theirs || node->r.pin >= 0 || !lane_is(node, st->dev, st->ino, st->mode))
            return NULL;
        if (node->r.parent != parent || strcmp(node->name, lower) != 0)
            return NULL;
    } else {
        const fc_record made = {
            .number = st->ino,
            .dev = st->dev,
            .ino = st->ino,
            .parent = parent,
            .shown = -1,
            .stamp_size = -1,
            .kind = st->mode & S_IFMT,
            .fd = -1,
            .pin = -1,
        };
        if (st->ino <= FUSE_ROOT_ID || lane_by_number(&lane->nodes, st->ino))
            return NULL;
        node = lane_add(&lane->nodes, &made, lower, strlen(lower));
        if (!node)
            return NULL;
    }
    node->r.lookups++;
    if (S_ISREG(st->mode) && !node->file) {
        /* While it knows an inode, the kernel believes no size but its own: this is another one. */
        if (lane->config.owns_sizes && node->r.shown >= 0 && node->r.shown != size)
            node->r.generation++;
        node->r.shown = size;
    }
    return node;
}

int
lane_enter(fc_lane *lane, uint64_t parent, int dir_fd, const char *lower, struct fuse_entry_out *out)
{
    fc_stat st;
    int64_t size;
    int error = look(lane, dir_fd, lower, &st, &size);
    if (error)
        return error;
    const struct lane_node *node = enter(lane, parent, lower, &st, size);
    if (!node)
        return -1;
    *out = lane_entry_of(lane, node, &st, (uint64_t)size);
    return 0;
}

int
lane_lookup(struct lane_request *q)
{
    fc_lane *lane = q->lane;
    const char *name = lane_name(q, 0);
    int dir_fd = lane_directory_fd(lane, q->in->nodeid);
    char lower[NAME_MAX + 1];
    if (!name || dir_fd < 0 || lane_lower_name(lane, name, lower) < 0)
        return LANE_PASS;
    struct fuse_entry_out out;
    int error = lane_enter(lane, q->in->nodeid, dir_fd, lower, &out);
    if (error == ENOENT)
        out = lane_entry_of(lane, NULL, NULL, 0);
    else if (error)
        return LANE_PASS;
    return lane_reply(q, &out, sizeof out);
}

/* Whether the kernel's lookups were of one of ours. */
static int
forget(fc_lane *lane, uint64_t number, uint64_t lookups)
{
    struct lane_node *node = lane_by_number(&lane->nodes, number);
    if (node && node->theirs)
        return 0;
    if (node && node->r.lookups > lookups)
        node->r.lookups -= lookups;
    else if (node && node->file)
        node->r.lookups = 0; /* it goes with its last handle */
    else if (node)
        lane_drop(&lane->nodes, node);
    return 1;
}

int
lane_forget(struct lane_request *q)
{
    const struct fuse_forget_in *in = q->arg;
    if (q->n < sizeof *in)
        return LANE_PASS;
    return forget(q->lane, q->in->nodeid, in->nlookup) ? LANE_DONE : LANE_PASS;
}

int
lane_batch_forget(struct lane_request *q)
{
    struct fuse_batch_forget_in *in = q->arg;
    struct fuse_forget_one *each = (void *)(in + 1);
    if (q->n < sizeof *in || (q->n - sizeof *in) / sizeof *each < in->count)
        return LANE_PASS;
    uint32_t theirs = 0;
    for (uint32_t i = 0; i < in->count; i++) {
        if (!forget(q->lane, each[i].nodeid, each[i].nlookup))
            each[theirs++] = each[i];
    }
    if (!theirs)
        return LANE_DONE;
    in->count = theirs; /* the rest of it is for the caller */
    q->n = sizeof *in + theirs * sizeof *each;
    q->in->len = (uint32_t)(sizeof *q->in + q->n);
    return LANE_PASS;
}

/* ---- Attributes of what is known ----------------------------------------------------------------- */

/* Attributes and upper size of any object; 0, or -1. */
static int
attributes_of(fc_lane *lane, const struct lane_node *node, fc_stat *st, int64_t *size)
{
    const fc_file *file = lane_usable(node->file);
    if (node->file && !file)
        return -1;
    if (!file && !node->theirs) {
        int dir_fd = node->r.pin < 0 ? lane_directory_fd(lane, node->r.parent) : -1;
        if (dir_fd < 0 || look(lane, dir_fd, node->name, st, size))
            return -1;
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
    if (!node || attributes_of(q->lane, node, &st, &size))
        return LANE_PASS;
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
    int64_t atime = (int64_t)in->atime * SECOND + in->atimensec;
    int64_t mtime = (int64_t)in->mtime * SECOND + in->mtimensec;
    return fc_utimens(fd, "", how(in->valid, FATTR_ATIME, FATTR_ATIME_NOW), atime,
                      how(in->valid, FATTR_MTIME, FATTR_MTIME_NOW), mtime);
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
    if ((node->r.pin < 0 || node->file) && attributes_of(q->lane, node, &st, &size))
        return LANE_PASS;
    int held, fd = descriptor_of(q->lane, node, &held);
    if (fd < 0 || size < 0)
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

/* A value into the lane's buffer; octets, or -errno. -ESTALE where the object is not at hand. */
static ssize_t
read_xattr(fc_lane *lane, const struct lane_node *node, const char *name)
{
    char path[64];
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
    if (!name || !node || strcmp(name, OWN_XATTR) == 0 || (node->file && !lane_usable(node->file)))
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

/* ---- Unlink ---------------------------------------------------------------------------------------- */

int
lane_unlink(struct lane_request *q)
{
    fc_lane *lane = q->lane;
    const char *name = lane_name(q, 0);
    int dir_fd = lane_directory_fd(lane, q->in->nodeid);
    char lower[NAME_MAX + 1];
    if (!name || dir_fd < 0 || lane->config.read_only || lane_lower_name(lane, name, lower) < 0)
        return LANE_PASS;
    int fd = openat(dir_fd, lower, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return LANE_PASS;
    struct stat st;
    int plain = fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode) && st.st_nlink == 1;
    struct lane_node *node = plain ? lane_by_identity(&lane->nodes, st.st_dev, st.st_ino) : NULL;
    if (node)
        plain = !node->theirs && node->r.pin < 0 && lane_is(node, st.st_dev, st.st_ino, st.st_mode) &&
                node->r.parent == q->in->nodeid && strcmp(node->name, lower) == 0;
    if (!plain || unlinkat(dir_fd, lower, 0) < 0) {
        close(fd);
        return LANE_PASS;
    }
    if (node)
        node->r.pin = fd; /* it lives on for those who hold it, and its number stays its own */
    else
        close(fd);
    return lane_refuse(q, 0);
}
