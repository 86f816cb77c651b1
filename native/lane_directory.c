/* Directories in the lane: their descriptors. */
#include "internal.h"
#include "lane.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEEPEST 128 /* directories that are opened on the way to one */

/* ---- Descriptors --------------------------------------------------------------------------------- */

int
lane_is(const struct lane_node *node, uint64_t dev, uint64_t ino, uint32_t mode)
{
    return node->r.dev == dev && node->r.ino == ino && node->r.kind == (mode & S_IFMT);
}

int
lane_open_lower(const fc_lane *lane, int dir_fd, const char *name, int flags)
{
    return lane->config.quiet ? fc_open_quietly(dir_fd, name, flags) : openat(dir_fd, name, flags);
}

/* Remember an open directory of ours; the one that was opened longest ago is closed for it. */
static void
keep_open(fc_lane *lane, struct lane_node *node, int fd)
{
    uint64_t *place = &lane->open_directories[lane->oldest_directory];
    struct lane_node *oldest = *place ? lane_by_number(&lane->nodes, *place) : NULL;
    if (oldest && !oldest->theirs && oldest->dir_fd >= 0) {
        close(oldest->dir_fd);
        oldest->dir_fd = -1;
    }
    *place = node->r.number;
    lane->oldest_directory = (lane->oldest_directory + 1) % LANE_DIRECTORIES;
    node->dir_fd = fd;
}

static int
is_behind(const struct lane_node *node, int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && lane_is(node, st.st_dev, st.st_ino, st.st_mode);
}

/* Open a directory of ours below one that is open; its descriptor, or -1. */
static int
step_down(fc_lane *lane, struct lane_node *node, int above)
{
    int fd = openat(above, node->name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && !is_behind(node, fd)) {
        close(fd);
        return -1;
    }
    if (fd >= 0)
        keep_open(lane, node, fd);
    return fd;
}

int
lane_directory_fd(fc_lane *lane, uint64_t number)
{
    struct lane_node *way[DEEPEST], *node;
    size_t depth = 0;
    /* Up to one that is open ... */
    while ((node = lane_by_number(&lane->nodes, number)) && node->dir_fd < 0) {
        if (node->theirs || !S_ISDIR(node->r.kind) || node->r.pin >= 0 || depth == DEEPEST)
            return -1;
        way[depth++] = node;
        number = node->r.parent;
    }
    /* ... and down again. */
    int fd = node ? node->dir_fd : -1;
    while (fd >= 0 && depth > 0)
        fd = step_down(lane, way[--depth], fd);
    return fd;
}
