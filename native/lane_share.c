/* What the caller tells the lane: which objects are its own, its open files, and their handles. */
#include "lane.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- What the caller tells ---------------------------------------------------------------------- */

static struct lane_node *
add_mark(fc_lane *lane, const fc_record *of, const char *name)
{
    const fc_record mark = {
        .number = of->number,
        .dev = of->dev,
        .ino = of->ino,
        .parent = of->parent,
        .kind = of->kind,
        .pin = -1,
        .fd = -1,
    };
    struct lane_node *node = lane_add(&lane->nodes, &mark, name, strlen(name));
    if (!node)
        return NULL;
    node->theirs = 1;
    lane->nodes.ours--;
    return node;
}

static struct lane_node *
find_theirs(fc_lane *lane, uint64_t number)
{
    struct lane_node *node = lane_by_number(&lane->nodes, number);
    return node && node->theirs ? node : NULL;
}

int
fc_lane_mark(fc_lane *lane, uint64_t number, uint64_t dev, uint64_t ino, uint32_t kind, uint64_t parent,
             const char *name)
{
    const fc_record of = {.number = number, .dev = dev, .ino = ino, .kind = kind, .parent = parent};
    struct lane_node *before = find_theirs(lane, number);
    struct lane_node *mark = add_mark(lane, &of, name);
    if (!mark && before)
        *before->name = '\0'; /* it is found without its way being fetched */
    if (!mark)
        return before ? 0 : -ENOMEM;
    if (before) {
        mark->dir_fd = before->dir_fd;
        mark->file = before->file;
        lane_drop(&lane->nodes, before);
    }
    return 0;
}

void
fc_lane_unmark(fc_lane *lane, uint64_t number)
{
    struct lane_node *node = find_theirs(lane, number);
    if (node)
        lane_drop(&lane->nodes, node);
}

void
fc_lane_directory(fc_lane *lane, uint64_t number, int fd)
{
    struct lane_node *node = find_theirs(lane, number);
    if (node)
        node->dir_fd = fd;
}

/* Let all handles of an object lead to a file, or for the time being to none. */
static void
point_handles(fc_lane *lane, uint64_t number, fc_file *file)
{
    for (size_t i = 0; i < lane->handle_count; i++) {
        if (lane->handles[i].number == number)
            lane->handles[i].file = file;
    }
}

void
fc_lane_file(fc_lane *lane, uint64_t number, fc_file *file)
{
    struct lane_node *node = find_theirs(lane, number);
    if (!node)
        return;
    node->file = file;
    point_handles(lane, number, file); /* also those that were given out here */
}

/* What the caller needs to go on with an open file of ours; its handles wait for fc_lane_file(). */
static void
hand_over(fc_lane *lane, struct lane_node *node, fc_record *out)
{
    struct lane_open *open = (struct lane_open *)node->file;
    out->fd = open->file.lower.fd;
    out->opens = (int32_t)open->opens;
    out->writable = open->writable;
    out->born_ns = open->file.born_ns;
    open->file.lower.fd = -1; /* the caller's now */
    point_handles(lane, node->r.number, NULL);
}

int
fc_lane_take(fc_lane *lane, uint64_t number, fc_record *out, char *name)
{
    struct lane_node *node = lane_by_number(&lane->nodes, number);
    if (!node || node->theirs)
        return -ENOENT;
    *out = node->r;
    memcpy(name, node->name, strlen(node->name) + 1);
    if (!add_mark(lane, out, node->r.pin < 0 ? node->name : ""))
        return -ENOMEM;
    node->r.pin = -1; /* the caller's now */
    if (node->file)
        hand_over(lane, node, out);
    if (node->dir_fd >= 0)
        out->fd = node->dir_fd;
    node->dir_fd = -1; /* the caller's too */
    lane_drop(&lane->nodes, node);
    return 0;
}

uint64_t
fc_lane_find(const fc_lane *lane, uint64_t dev, uint64_t ino)
{
    const struct lane_node *node = lane_by_identity(&lane->nodes, dev, ino);
    return node && !node->theirs ? node->r.number : 0;
}

int
fc_lane_give(fc_lane *lane, const fc_record *record, const char *name)
{
    struct lane_node *mark = find_theirs(lane, record->number);
    if (!mark)
        return -ENOENT;
    if (strlen(name) > NAME_MAX)
        return -ENAMETOOLONG;
    if (!lane_add(&lane->nodes, record, name, strlen(name)))
        return -ENOMEM;
    lane_drop(&lane->nodes, mark);
    return 0;
}

uint64_t
fc_lane_count(const fc_lane *lane)
{
    return lane->nodes.ours;
}

/* ---- Handles ------------------------------------------------------------------------------------ */

int64_t
fc_lane_open(fc_lane *lane, uint64_t number, fc_file *file, int by_root)
{
    size_t i = lane->first_free;
    while (i < lane->handle_count && lane->handles[i].number)
        i++;
    if (i == lane->handle_count) {
        size_t more = lane->handle_count ? 2 * lane->handle_count : 64;
        struct lane_handle *grown = realloc(lane->handles, more * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        memset(grown + i, 0, (more - i) * sizeof *grown);
        lane->handles = grown;
        lane->handle_count = more;
    }
    lane->handles[i] = (struct lane_handle){file, number, by_root};
    lane->first_free = i + 1;
    return (int64_t)i + 1;
}

void
fc_lane_close(fc_lane *lane, uint64_t handle)
{
    if (handle < 1 || handle > lane->handle_count)
        return;
    lane->handles[handle - 1] = (struct lane_handle){0};
    if (handle - 1 < lane->first_free)
        lane->first_free = handle - 1;
}

uint64_t
fc_lane_handle(const fc_lane *lane, uint64_t handle, int *by_root)
{
    if (handle < 1 || handle > lane->handle_count)
        return 0;
    *by_root = lane->handles[handle - 1].by_root;
    return lane->handles[handle - 1].number;
}
