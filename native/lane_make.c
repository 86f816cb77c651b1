/* Directories in the lane: making and removing them. */
#include "lane.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The node of a directory that was made just now; NULL if it is not for the lane. */
static struct lane_node *
adopt(fc_lane *lane, uint64_t parent, int dir_fd, const char *lower, fc_stat *st)
{
    if (fc_stat_many(dir_fd, lower, strlen(lower) + 1, 1, 0, st) < 0 || st->error || !S_ISDIR(st->mode))
        return NULL;
    /* With this number known, another object went behind our back. */
    if (lane_by_number(&lane->nodes, st->ino) || lane_by_identity(&lane->nodes, st->dev, st->ino))
        return NULL;
    return lane_add_found(lane, parent, lower, st, 1);
}

int
lane_mkdir(struct lane_request *q)
{
    fc_lane *lane = q->lane;
    const struct fuse_mkdir_in *in = q->arg;
    const char *name = lane_name(q, sizeof *in);
    char lower[NAME_MAX + 1];
    if (!name || lane->config.read_only || !lane_stays_ours(q) || lane_lower_name(lane, name, lower) < 0)
        return LANE_PASS;
    int dir_fd = lane_directory_fd(lane, q->in->nodeid);
    if (dir_fd < 0)
        return LANE_PASS;
    mode_t before = umask(in->umask & 0777); /* a default ACL takes its place */
    int failed = mkdirat(dir_fd, lower, in->mode & 07777);
    umask(before);
    if (failed)
        return LANE_PASS;
    fc_stat st;
    const struct lane_node *node = adopt(lane, q->in->nodeid, dir_fd, lower, &st);
    if (!node) {
        unlinkat(dir_fd, lower, AT_REMOVEDIR); /* the caller begins again */
        return LANE_PASS;
    }
    const struct fuse_entry_out out = lane_entry_of(lane, node, &st, st.size);
    return lane_reply(q, &out, sizeof out);
}

int
lane_rmdir(struct lane_request *q)
{
    fc_lane *lane = q->lane;
    const char *name = lane_name(q, 0);
    char lower[NAME_MAX + 1];
    if (!name || lane->config.read_only || lane_lower_name(lane, name, lower) < 0)
        return LANE_PASS;
    int dir_fd = lane_directory_fd(lane, q->in->nodeid);
    struct stat st;
    if (dir_fd < 0 || fstatat(dir_fd, lower, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return LANE_PASS;
    struct lane_node *node = lane_by_identity(&lane->nodes, st.st_dev, st.st_ino);
    if (!node || node->theirs || node->r.pin >= 0 || !lane_is(node, st.st_dev, st.st_ino, st.st_mode) ||
        node->r.parent != q->in->nodeid || strcmp(node->name, lower) != 0)
        return LANE_PASS;
    int fd = openat(dir_fd, lower, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return LANE_PASS;
    if (fstat(fd, &st) < 0 || !lane_is(node, st.st_dev, st.st_ino, st.st_mode) ||
        unlinkat(dir_fd, lower, AT_REMOVEDIR) < 0) {
        close(fd);
        return LANE_PASS;
    }
    if (node->dir_fd >= 0)
        close(node->dir_fd);
    node->dir_fd = -1;
    node->r.pin = fd; /* it lives on for those who hold it */
    return lane_refuse(q, 0);
}
