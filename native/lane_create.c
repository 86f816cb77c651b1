/* New files in the lane. */
#include "lane.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A new lower file; the lower file system lets a default ACL take the umask's place. */
static int
create_lower(const fc_lane *lane, int dir_fd, const char *lower, const struct fuse_create_in *in)
{
    mode_t before = umask(in->umask & 0777);
    int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(dir_fd, lower, flags, in->mode & 07777);
    umask(before);
    if (fd >= 0 && lane->config.quiet)
        fcntl(fd, F_SETFL, O_NOATIME); /* not on opening, which would leave the file where it is refused */
    return fd;
}

/* The node of a file that was made just now, open, with its attributes; NULL if it is not for the lane. */
static struct lane_node *
adopt(fc_lane *lane, uint64_t parent, const char *lower, int fd, fc_stat *st)
{
    fc_stat_fd(fd, 0, st);
    /* With this number known, another object went behind our back. */
    if (st->error || lane_by_number(&lane->nodes, st->ino) ||
        lane_by_identity(&lane->nodes, st->dev, st->ino))
        return NULL;
    struct lane_open *made = calloc(1, sizeof *made);
    if (!made)
        return NULL;
    made->key = lane_initialise(lane, fd, &made->file);
    fc_stat_fd(fd, 0, st);
    struct lane_node *node = made->key && !st->error ? lane_add_found(lane, parent, lower, st, 1) : NULL;
    if (!node) {
        fc_file_key_free(made->key);
        free(made);
        return NULL;
    }
    made->file.key = made->key;
    made->file.lower.fd = fd;
    made->file.born_ns = st->mtime_ns;
    made->opens = 1;
    made->writable = 1;
    node->file = &made->file;
    return node;
}

int
lane_stays_ours(const struct lane_request *q)
{
    return geteuid() != 0 || (q->in->uid == 0 && q->in->gid == getegid());
}

int
lane_create(struct lane_request *q)
{
    fc_lane *lane = q->lane;
    const struct fuse_create_in *in = q->arg;
    const char *name = lane_name(q, sizeof *in);
    char lower[NAME_MAX + 1];
    if (!name || !lane->may_create || lane->config.remote || !lane_stays_ours(q) ||
        lane_lower_name(lane, name, lower) < 0)
        return LANE_PASS;
    int dir_fd = lane_directory_fd(lane, q->in->nodeid);
    int fd = dir_fd < 0 ? -1 : create_lower(lane, dir_fd, lower, in);
    if (fd < 0)
        return LANE_PASS;
    fc_stat st;
    struct lane_node *node = adopt(lane, q->in->nodeid, lower, fd, &st);
    int64_t handle = node ? fc_lane_open(lane, node->r.number, node->file, q->in->uid == 0) : -1;
    if (handle < 0) {
        if (node)
            lane_drop(&lane->nodes, node);
        else
            close(fd);
        unlinkat(dir_fd, lower, 0); /* the caller begins again, and tells what is wrong */
        return LANE_PASS;
    }
    const struct fuse_entry_out entry = lane_entry_of(lane, node, &st, 0);
    const struct fuse_open_out out = {.fh = (uint64_t)handle};
    return lane_reply_two(q, &entry, sizeof entry, &out, sizeof out);
}
