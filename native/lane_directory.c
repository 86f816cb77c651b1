/* Directories in the lane: their descriptors, and what is in them. */
#include "internal.h"
#include "lane.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIRST_LISTING ((uint64_t)1 << 31) /* the number of the first handle of a directory */
#define BATCH 32768                       /* octets of lower entries that are read at a time */
#define DEEPEST 128                       /* directories that are opened on the way to one */

/* An open directory. Positions are those of the lower directory. */
struct lane_listing {
    int fd;
    uint64_t parent; /* the directory's number */
    int64_t given;   /* the position after the last entry that was given away */
    size_t at, end;  /* what is left of the batch */
    char batch[BATCH] __attribute__((aligned(8)));
};

/* What getdents64(2) gives. */
struct lower_entry {
    uint64_t ino;
    int64_t next; /* the position after this entry */
    unsigned short size;
    unsigned char type;
    char name[];
};

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

/* ---- Handles -------------------------------------------------------------------------------------- */

static struct lane_listing *
listing_of(const fc_lane *lane, uint64_t handle)
{
    if (handle < FIRST_LISTING || handle - FIRST_LISTING >= lane->listing_count)
        return NULL;
    return lane->listings[handle - FIRST_LISTING];
}

/* A place for one more listing; its index, or -1 without memory. */
static ssize_t
free_place(fc_lane *lane)
{
    size_t i = 0;
    while (i < lane->listing_count && lane->listings[i])
        i++;
    if (i == lane->listing_count) {
        size_t more = i ? 2 * i : 16;
        struct lane_listing **grown = realloc((void *)lane->listings, more * sizeof(void *));
        if (!grown)
            return -1;
        memset((void *)(grown + i), 0, (more - i) * sizeof(void *));
        lane->listings = grown;
        lane->listing_count = more;
    }
    return (ssize_t)i;
}

static void
close_listing(fc_lane *lane, size_t i)
{
    close(lane->listings[i]->fd);
    free(lane->listings[i]);
    lane->listings[i] = NULL;
}

void
lane_listings_free(fc_lane *lane)
{
    for (size_t i = 0; i < lane->listing_count; i++) {
        if (lane->listings[i])
            close_listing(lane, i);
    }
    free((void *)lane->listings);
}

int
fc_lane_listing_fd(const fc_lane *lane, uint64_t handle)
{
    const struct lane_listing *listing = listing_of(lane, handle);
    return listing ? listing->fd : -EBADF;
}

int
lane_opendir(struct lane_request *q)
{
    fc_lane *lane = q->lane;
    int above = lane_directory_fd(lane, q->in->nodeid);
    if (above < 0)
        return LANE_PASS;
    int fd = lane_open_lower(lane, above, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return LANE_PASS;
    ssize_t place = free_place(lane);
    struct lane_listing *listing = place < 0 ? NULL : malloc(sizeof *listing);
    if (!listing) {
        close(fd);
        return LANE_PASS;
    }
    listing->fd = fd;
    listing->parent = q->in->nodeid;
    listing->given = 0;
    listing->at = listing->end = 0;
    lane->listings[place] = listing;
    const struct fuse_open_out out = {.fh = FIRST_LISTING + (uint64_t)place};
    return lane_reply(q, &out, sizeof out);
}

int
lane_releasedir(struct lane_request *q)
{
    const struct fuse_release_in *in = q->arg;
    if (q->n < sizeof *in || !listing_of(q->lane, in->fh))
        return LANE_PASS;
    close_listing(q->lane, (size_t)(in->fh - FIRST_LISTING));
    return lane_refuse(q, 0);
}

/* ---- Entries -------------------------------------------------------------------------------------- */

/* The next lower entry, left in place; NULL at the end or, with an errno, where it cannot be read. */
static const struct lower_entry *
next_entry(struct lane_listing *listing, int *error)
{
    *error = 0;
    if (listing->at >= listing->end) {
        long got = syscall(SYS_getdents64, listing->fd, listing->batch, sizeof listing->batch);
        if (got <= 0) {
            *error = got < 0 ? errno : 0;
            return NULL;
        }
        listing->at = 0;
        listing->end = (size_t)got;
    }
    return (const struct lower_entry *)(listing->batch + listing->at);
}

static int
is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/*
 * Describe an entry. What takes more than a look is only named: the kernel asks for it when somebody
 * wants to know more. Returns 0 if the entry is gone.
 */
static int
describe(fc_lane *lane, const struct lane_listing *listing, const struct lower_entry *lower,
         struct fuse_direntplus *out)
{
    memset(out, 0, sizeof *out);
    out->dirent.ino = lower->ino;
    out->dirent.type = lower->type;
    if (is_dot(lower->name)) {
        const struct lane_node *root = lane_by_number(&lane->nodes, FUSE_ROOT_ID);
        if (listing->parent == FUSE_ROOT_ID && root)
            out->dirent.ino = root->r.ino;
        return 1;
    }
    int error = lane_enter(lane, listing->parent, listing->fd, lower->name, &out->entry_out);
    if (error == ENOENT)
        return 0;
    if (error) {
        memset(&out->entry_out, 0, sizeof out->entry_out);
        return 1;
    }
    out->dirent.ino = out->entry_out.attr.ino;
    out->dirent.type = (out->entry_out.attr.mode & S_IFMT) >> 12;
    return 1;
}

/* Put entries into the reply until it is full; octets, or -errno. */
static ssize_t
fill(fc_lane *lane, struct lane_listing *listing, size_t room)
{
    size_t used = 0;
    const struct lower_entry *lower;
    int error;
    while ((lower = next_entry(listing, &error))) {
        uint8_t decoded[NAME_MAX + 1];
        const void *name = lower->name;
        ssize_t n = (ssize_t)strlen(lower->name);
        if (lane->config.names && !is_dot(lower->name)) {
            name = decoded;
            n = fc_entry_decode(lane->config.names, (const uint8_t *)lower->name, (size_t)n, decoded,
                                NAME_MAX);
        }
        if (n > 0) {
            struct fuse_direntplus *out = (void *)(lane->data + used);
            size_t size = FUSE_NAME_OFFSET_DIRENTPLUS + (size_t)n, padded = FUSE_DIRENT_ALIGN(size);
            if (padded > room - used)
                break;
            if (describe(lane, listing, lower, out)) {
                out->dirent.off = (uint64_t)lower->next;
                out->dirent.namelen = (uint32_t)n;
                memcpy(out->dirent.name, name, (size_t)n);
                memset((uint8_t *)out + size, 0, padded - size);
                used += padded;
                listing->given = lower->next;
            }
        }
        listing->at += lower->size;
    }
    return used || !error ? (ssize_t)used : -error;
}

int
lane_readdirplus(struct lane_request *q)
{
    const struct fuse_read_in *in = q->arg;
    struct lane_listing *listing = q->n < sizeof *in ? NULL : listing_of(q->lane, in->fh);
    if (!listing)
        return LANE_PASS;
    if ((int64_t)in->offset != listing->given || in->offset == 0) {
        if (lseek(listing->fd, (off_t)in->offset, SEEK_SET) < 0)
            return lane_refuse(q, errno);
        listing->given = (int64_t)in->offset;
        listing->at = listing->end = 0;
    }
    ssize_t n = fill(q->lane, listing, in->size < LANE_BUFFER ? in->size : LANE_BUFFER);
    return n < 0 ? lane_refuse(q, (int)-n) : lane_reply(q, q->lane->data, (size_t)n);
}
