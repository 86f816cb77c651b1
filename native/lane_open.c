/* Files of ours while they are open. */
#include "internal.h"
#include "lane.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXTENT ((uint64_t)FC_EXTENT)

static struct lane_open *
opened(const struct lane_node *node)
{
    return (struct lane_open *)node->file;
}

static int64_t
nanoseconds(struct timespec t)
{
    return fc_nanoseconds(t.tv_sec, t.tv_nsec);
}

/* A node of ours that may be opened, or NULL. */
static struct lane_node *
file_node(const fc_lane *lane, uint64_t number)
{
    struct lane_node *node = lane_by_number(&lane->nodes, number);
    return node && !node->theirs && S_ISREG(node->r.kind) && node->r.pin < 0 ? node : NULL;
}

static int
open_lower(fc_lane *lane, const struct lane_node *node, int writing, struct stat *st)
{
    int flags = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | (writing ? O_RDWR : O_RDONLY);
    int dir_fd = lane_directory_fd(lane, node->r.parent);
    int fd = dir_fd < 0 ? -1 : lane_open_lower(lane, dir_fd, node->name, flags);
    if (fd >= 0 && (fstat(fd, st) < 0 || !lane_is(node, st->st_dev, st->st_ino, st->st_mode))) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Whether the lower file has all extents of its size. */
static int
is_whole(const fc_file *file, const struct stat *st)
{
    uint64_t size = file->lower.size;
    if (size > LANE_MAX_SIZE)
        return 0;
    uint64_t extents = size / EXTENT + (size % EXTENT != 0);
    return (uint64_t)st->st_size >= file->lower.data_offset + extents * EXTENT;
}

/* Read the header of an open lower file, and hold it open; 0, or -1 where that is not for the lane. */
static int
hold(fc_lane *lane, struct lane_node *node, int fd, int writing, const struct stat *st)
{
    struct lane_open *made = calloc(1, sizeof *made);
    ssize_t n = made ? pread(fd, lane->data, FC_EXTENT, 0) : -1;
    if (n > 0)
        made->key = lane_unlock(lane, lane->data, (size_t)n, &made->file);
    if (!made || !made->key || !is_whole(&made->file, st)) {
        if (made)
            fc_file_key_free(made->key);
        free(made);
        return -1;
    }
    made->file.key = made->key;
    made->file.lower.fd = fd;
    made->file.shared = !lane->config.owns_sizes;
    made->writable = writing;
    node->file = &made->file;
    return 0;
}

void
lane_close_file(struct lane_node *node)
{
    struct lane_open *file = opened(node);
    if (file->file.lower.fd >= 0)
        close(file->file.lower.fd);
    fc_file_key_free(file->key);
    free(file);
    node->file = NULL;
}

/* Open a node's file if it is not, and for writing if that is wanted. 0, or -1. */
static int
open_node(fc_lane *lane, struct lane_node *node, int writing)
{
    struct stat st;
    if (node->file && (opened(node)->writable || !writing))
        return 0;
    int fd = open_lower(lane, node, writing, &st);
    if (fd < 0)
        return -1;
    if (node->file) {
        close(node->file->lower.fd);
        node->file->lower.fd = fd;
        opened(node)->writable = 1;
        return 0;
    }
    if (hold(lane, node, fd, writing, &st) < 0) {
        close(fd);
        return -1;
    }
    /* It changed below a moment ago: the caller lets the kernel look again. */
    if (lane->config.owns_sizes && node->r.shown >= 0 && (uint64_t)node->r.shown != node->file->lower.size) {
        lane_close_file(node);
        return -1;
    }
    return 0;
}

/* Give up a file that nobody has got a handle of. */
static void
close_unused(struct lane_node *node)
{
    if (opened(node)->opens == 0)
        lane_close_file(node);
}

/* Whether what the kernel has cached still holds. */
static int
keeps_cache(const struct lane_node *node)
{
    struct stat st;
    if (opened(node)->opens > 0)
        return 1;
    return fstat(node->file->lower.fd, &st) == 0 && node->r.stamp_size == st.st_size &&
           node->r.stamp_mtime == nanoseconds(st.st_mtim) && node->r.stamp_ctime == nanoseconds(st.st_ctim);
}

/* Cut an open file to nothing; 0, or -1 where the caller has to do it. */
static int
empty(struct lane_node *node, int by_root)
{
    struct stat st;
    fc_file *file = node->file;
    if (file->shared || fstat(file->lower.fd, &st) < 0 || (!by_root && st.st_mode & (S_ISUID | S_ISGID)))
        return -1;
    if (file->lower.size > 0 &&
        (lane_store_size(file, 0) < 0 || ftruncate(file->lower.fd, (off_t)file->lower.data_offset) < 0))
        return -1;
    node->r.shown = 0;
    return 0;
}

int
lane_open(struct lane_request *q)
{
    fc_lane *lane = q->lane;
    const struct fuse_open_in *in = q->arg;
    struct lane_node *node = q->n < sizeof *in ? NULL : file_node(lane, q->in->nodeid);
    if (!node)
        return LANE_PASS;
    int writing = (in->flags & O_ACCMODE) != O_RDONLY || in->flags & O_TRUNC;
    if (!(lane->config.owns_sizes || lane->config.read_only) || (writing && lane->config.read_only))
        return LANE_PASS;
    /* Over a network writes are the caller's, who then need not look for the header. */
    if (writing && lane->config.remote)
        return LANE_PASS;
    if (open_node(lane, node, writing) < 0)
        return LANE_PASS;
    if (in->flags & O_TRUNC && empty(node, q->in->uid == 0) < 0) {
        close_unused(node);
        return LANE_PASS;
    }
    struct fuse_open_out out = {.open_flags = keeps_cache(node) ? FOPEN_KEEP_CACHE : 0};
    int64_t handle = fc_lane_open(lane, node->r.number, node->file, q->in->uid == 0);
    if (handle < 0) {
        close_unused(node);
        return LANE_PASS;
    }
    opened(node)->opens++;
    out.fh = (uint64_t)handle;
    return lane_reply(q, &out, sizeof out);
}

/*
 * Remember what the kernel's cached contents belong to. Writes in the same tick of the kernel's clock leave
 * the modification time of a new file as the kernel was told it; below they get later ones.
 */
static void
note_close(struct lane_node *node)
{
    struct stat st;
    struct lane_open *file = opened(node);
    int fd = file->file.lower.fd;
    int64_t believed = file->file.born_ns;
    file->file.born_ns = -1;
    if (fstat(fd, &st) < 0)
        return;
    if (believed >= 0 && file->writable && nanoseconds(st.st_mtim) != believed) {
        fc_utimens(fd, "", 0, 0, 1, believed);
        if (fstat(fd, &st) < 0)
            return;
    }
    node->r.stamp_mtime = nanoseconds(st.st_mtim);
    node->r.stamp_ctime = nanoseconds(st.st_ctim);
    node->r.stamp_size = st.st_size;
    node->r.shown = (int64_t)file->file.lower.size;
}

int
lane_release(struct lane_request *q)
{
    fc_lane *lane = q->lane;
    const struct fuse_release_in *in = q->arg;
    int by_root;
    uint64_t number = q->n < sizeof *in ? 0 : fc_lane_handle(lane, in->fh, &by_root);
    struct lane_node *node = number ? lane_by_number(&lane->nodes, number) : NULL;
    if (!node || node->theirs || !node->file || lane->handles[in->fh - 1].file != node->file)
        return LANE_PASS;
    note_close(node);
    fc_lane_close(lane, in->fh);
    if (--opened(node)->opens == 0)
        lane_close_file(node);
    if (!node->file && node->r.lookups == 0)
        lane_drop(&lane->nodes, node);
    return lane_refuse(q, 0);
}
