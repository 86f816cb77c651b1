/* What requests need of the lower tree, and whether that is in memory. */
#include "internal.h"
#include "lane.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
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
find_spelling(const fc_lane *lane, uint64_t directory, size_t which, const char *name, struct lane_place *out)
{
    char lower[NAME_MAX + 1];
    out->fd = -1;
    if (name && lane_spell(lane, which, name, lower) >= 0)
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
    case FUSE_ACCESS:
        return 1;
    default:
        return 0;
    }
}

/* What a request needs besides a name in a directory. */
static void
find_other(struct lane_request *q, size_t from, const char *name, struct lane_place *out)
{
    uint64_t other; /* the first field of these */
    const uint32_t opcode = q->in->opcode;
    if (opcode != FUSE_LINK && opcode != FUSE_RENAME && opcode != FUSE_RENAME2)
        return;
    memcpy(&other, q->arg, sizeof other);
    if (opcode == FUSE_LINK)
        find_object(q->lane, other, out);
    else
        find_spelling(q->lane, other, 0, lane_name(q, from + strlen(name) + 1), out);
}

size_t
lane_most_places(const fc_lane *lane)
{
    return lane_spellings(lane) < 2 ? 2 : lane_spellings(lane);
}

/* Who has names by several keys only reads: nothing else is needed beside them. */
void
lane_find_places(struct lane_request *q, struct lane_place *places)
{
    const size_t count = lane_spellings(q->lane);
    const ssize_t from = name_from(q->in->opcode);
    const char *name = from < 0 ? NULL : lane_name(q, (size_t)from);
    for (size_t i = 0; i < lane_most_places(q->lane); i++)
        places[i].fd = -1;
    for (size_t i = 0; name && i < count; i++)
        find_spelling(q->lane, q->in->nodeid, i, name, &places[i]);
    if (name && count == 1)
        find_other(q, (size_t)from, name, &places[1]);
    if (!name && is_about_object(q->in->opcode))
        find_object(q->lane, q->in->nodeid, &places[0]);
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

/* The same without waiting; *known: whether the kernel can tell. */
static int
open_known(int dir_fd, const char *path, int *known)
{
    int fd = lane_open_path(dir_fd, path, RESOLVE_CACHED);
    *known = fd >= 0 || (errno != EAGAIN && errno != EMFILE && errno != ENFILE);
    return fd;
}

int
lane_knows(int dir_fd, const char *path)
{
    int known, fd = open_known(dir_fd, path, &known);
    if (fd >= 0)
        close(fd);
    return known;
}

int
lane_open_contents(int fd)
{
    char again[64];
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return -1;
    snprintf(again, sizeof again, "/proc/self/fd/%d", fd); /* the same object in any case */
    return fc_open_quietly(AT_FDCWD, again, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/* The same as lane_knows(), and of a regular file its header, as far as that can be told. */
static int
knows_header(int dir_fd, const char *path)
{
    fc_stat st = {0};
    int known, fd = open_known(dir_fd, path, &known);
    if (fd < 0)
        return known;
    int contents = lane_open_contents(fd);
    close(fd);
    if (contents >= 0) {
        fc_stat_fd(contents, FC_LOOK_NOW, &st);
        close(contents);
    }
    return st.error != EAGAIN;
}

static int
is_cold(const struct lane_request *q, const struct lane_place *place)
{
    const fc_lane_config *config = &q->lane->config;
    if (place->fd < 0)
        return 0;
    /* A network asks its server about what is open, or is about to be, as the caller opens all it looks at.
     */
    if (config->remote && (!*lane_path(place) || q->in->opcode == FUSE_OPEN || !config->simple))
        return 1;
    if (!*lane_path(place))
        return 0;
    return !(config->simple ? lane_knows : knows_header)(place->fd, lane_path(place));
}

int
lane_would_wait(struct lane_request *q)
{
    lane_find_places(q, q->lane->places);
    for (size_t i = 0; i < lane_most_places(q->lane); i++) {
        if (is_cold(q, &q->lane->places[i]))
            return 1;
    }
    return 0;
}
