/* What requests need of the lower tree, and whether that is in memory. */
#include "lane.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- What a request needs --------------------------------------------------------------------------- */

const char *
lane_path(const struct lane_place *place)
{
    return place->room + place->from;
}

/* Put a name in front of the path; 0, or -1 if it becomes too long. */
static int
prepend(struct lane_place *place, const char *name)
{
    size_t n = strlen(name), slash = *lane_path(place) != '\0';
    if (n + slash > place->from)
        return -1;
    if (slash)
        place->room[--place->from] = '/';
    place->from -= n;
    memcpy(place->room + place->from, name, n);
    return 0;
}

/* The way to a name in a directory, from the next one above that is open; its fd is -1 if none is. */
static void
find_name(const fc_lane *lane, uint64_t directory, const char *name, struct lane_place *out)
{
    const struct lane_node *node;
    out->fd = -1;
    out->from = sizeof out->room - 1;
    out->room[out->from] = '\0';
    while (prepend(out, name) == 0 && (node = lane_by_number(&lane->nodes, directory))) {
        if (node->dir_fd >= 0)
            out->fd = node->dir_fd;
        if (node->dir_fd >= 0 || !*node->name || !S_ISDIR(node->r.kind) || node->r.pin >= 0)
            return;
        name = node->name;
        directory = node->r.parent;
    }
}

static void
find_upper_name(const fc_lane *lane, uint64_t directory, const char *name, struct lane_place *out)
{
    char lower[NAME_MAX + 1];
    out->fd = -1;
    if (name && lane_lower_name(lane, name, lower) >= 0)
        find_name(lane, directory, lower, out);
}

/* The object that a request is about. What is open is asked for anew where a network is in between. */
static void
find_object(const fc_lane *lane, uint64_t number, struct lane_place *out)
{
    const struct lane_node *node = lane_by_number(&lane->nodes, number);
    out->fd = -1;
    out->from = sizeof out->room - 1;
    out->room[out->from] = '\0';
    if (!node)
        return;
    if (node->file || node->dir_fd >= 0)
        out->fd = node->file ? node->file->lower.fd : node->dir_fd;
    else if (*node->name && node->r.pin < 0)
        find_name(lane, node->r.parent, node->name, out);
}

int
lane_open_object(const fc_lane *lane, uint64_t number)
{
    struct lane_place place;
    struct stat st;
    const struct lane_node *node = lane_by_number(&lane->nodes, number);
    find_object(lane, number, &place);
    int fd = place.fd < 0 || !*lane_path(&place) ? -1 : lane_open_path(place.fd, lane_path(&place), 0);
    if (fd >= 0 && (fstat(fd, &st) < 0 || !lane_is(node, st.st_dev, st.st_ino, st.st_mode))) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Where the name begins in the argument of a request about a name in a directory, or -1. */
static ssize_t
name_from(uint32_t opcode)
{
    switch (opcode) {
    case FUSE_LOOKUP:
    case FUSE_UNLINK:
    case FUSE_RMDIR:
    case FUSE_SYMLINK:
        return 0;
    case FUSE_MKDIR:
        return sizeof(struct fuse_mkdir_in);
    case FUSE_MKNOD:
        return sizeof(struct fuse_mknod_in);
    case FUSE_CREATE:
        return sizeof(struct fuse_create_in);
    case FUSE_LINK:
        return sizeof(struct fuse_link_in);
    case FUSE_RENAME:
        return sizeof(struct fuse_rename_in);
    case FUSE_RENAME2:
        return sizeof(struct fuse_rename2_in);
    default:
        return -1;
    }
}

static int
is_about_object(uint32_t opcode)
{
    switch (opcode) {
    case FUSE_GETATTR:
    case FUSE_SETATTR:
    case FUSE_READLINK:
    case FUSE_OPEN:
    case FUSE_OPENDIR:
    case FUSE_GETXATTR:
    case FUSE_SETXATTR:
    case FUSE_LISTXATTR:
    case FUSE_REMOVEXATTR:
        return 1;
    default:
        return 0;
    }
}

void
lane_find_places(struct lane_request *q, struct lane_place places[2])
{
    const ssize_t from = name_from(q->in->opcode);
    const char *name = from < 0 ? NULL : lane_name(q, (size_t)from);
    places[0].fd = places[1].fd = -1;
    if (name)
        find_upper_name(q->lane, q->in->nodeid, name, &places[0]);
    else if (is_about_object(q->in->opcode))
        find_object(q->lane, q->in->nodeid, &places[0]);
    uint64_t other = 0; /* the first field of these */
    if (name && from > 0)
        memcpy(&other, q->arg, sizeof other);
    if (name && q->in->opcode == FUSE_LINK)
        find_object(q->lane, other, &places[1]);
    else if (name && (q->in->opcode == FUSE_RENAME || q->in->opcode == FUSE_RENAME2))
        find_upper_name(q->lane, other, lane_name(q, (size_t)from + strlen(name) + 1), &places[1]);
}

/* ---- What is in memory ------------------------------------------------------------------------------- */

int
lane_open_path(int dir_fd, const char *path, uint64_t resolve)
{
    const struct open_how how = {
        .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | resolve,
    };
    return (int)syscall(SYS_openat2, dir_fd, path, &how, sizeof how);
}

int
lane_can_ask(void)
{
    int fd = lane_open_path(AT_FDCWD, ".", RESOLVE_CACHED);
    if (fd >= 0)
        close(fd);
    return fd >= 0 || errno == EAGAIN;
}

int
lane_knows(int dir_fd, const char *path)
{
    int fd = lane_open_path(dir_fd, path, RESOLVE_CACHED);
    if (fd >= 0)
        close(fd);
    return fd >= 0 || (errno != EAGAIN && errno != EMFILE && errno != ENFILE);
}

static int
is_cold(const struct lane_request *q, const struct lane_place *place)
{
    if (place->fd < 0)
        return 0;
    /* A network asks its server about what is open, or is about to be. */
    if (q->lane->config.remote && (!*lane_path(place) || q->in->opcode == FUSE_OPEN))
        return 1;
    return *lane_path(place) && !lane_knows(place->fd, lane_path(place));
}

int
lane_would_wait(struct lane_request *q)
{
    struct lane_place places[2];
    lane_find_places(q, places);
    return is_cold(q, &places[0]) || is_cold(q, &places[1]);
}
