/* What is in directories, in the lane. */
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

/* An open directory. Positions are those of the lower directory. */
struct lane_listing {
    int fd;
    uint64_t parent; /* the directory's number */
    int64_t given;   /* the position after the last entry that was given away */
    size_t at, end;  /* what is left of the batch */
    char batch[BATCH] __attribute__((aligned(8)));
};

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
lane_listing_place(const struct lane_request *q, int64_t *position)
{
    const struct fuse_read_in *in = q->arg;
    const struct lane_listing *listing = q->n < sizeof *in ? NULL : listing_of(q->lane, in->fh);
    if (!listing)
        return -1;
    *position = listing->given;
    return listing->fd;
}

/* Open a directory to read it, also one of the caller's that is not open there; or -1. */
static int
open_listing(struct lane_request *q)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    int above = lane_directory_fd(q->lane, q->in->nodeid);
    if (above >= 0)
        return lane_open_lower(q->lane, above, ".", flags);
    above = lane_open_object(q->lane, q->in->nodeid);
    int fd = above < 0 ? -1 : lane_open_lower(q->lane, above, ".", flags);
    if (above >= 0)
        close(above);
    return fd;
}

int
lane_opendir(struct lane_request *q)
{
    fc_lane *lane = q->lane;
    int fd = open_listing(q);
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
static const struct lane_entry *
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
    return (const struct lane_entry *)(listing->batch + listing->at);
}

static int
is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* What the lower directory itself says of an entry. */
static void
put_name(const fc_lane *lane, const struct lane_listing *listing, const struct lane_entry *lower,
         struct fuse_dirent *out)
{
    const struct lane_node *root = lane_by_number(&lane->nodes, FUSE_ROOT_ID);
    const int above = is_dot(lower->name) && listing->parent == FUSE_ROOT_ID && root;
    out->ino = above ? root->r.ino : lower->ino;
    out->off = (uint64_t)lower->next;
    out->type = lower->type;
}

/*
 * Describe an entry. What takes more than a look, or is the caller's, is only named: the kernel asks for it
 * when somebody wants to know more. Returns 0 if the entry is gone, -1 if that would wait.
 */
static int
describe(fc_lane *lane, const struct lane_listing *listing, const struct lane_entry *lower,
         struct fuse_direntplus *out)
{
    memset(&out->entry_out, 0, sizeof out->entry_out);
    if (is_dot(lower->name) || !lane->config.simple)
        return 1;
    if (lane->careful && !lane_knows(listing->fd, lower->name))
        return -1;
    int error = lane_enter(lane, listing->parent, listing->fd, lower->name, &out->entry_out);
    if (error == EAGAIN)
        return -1;
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

/* Whether the next entry takes a look into the directory itself, for which a server is asked. */
static int
asks_again(const fc_lane *lane, const struct lane_listing *listing)
{
    return lane->wary && lane->config.remote && listing->at >= listing->end;
}

/*
 * Put entries into the reply, described or only named, until it is full or the next one would wait; octets,
 * or -errno.
 */
static ssize_t
fill(fc_lane *lane, struct lane_listing *listing, size_t room, int described)
{
    const size_t before = described ? offsetof(struct fuse_direntplus, dirent) : 0;
    size_t used = 0;
    const struct lane_entry *lower;
    int error = 0, left = lane->fetched ? LANE_ENTRIES : 0;
    while (!(used && asks_again(lane, listing)) && (lower = next_entry(listing, &error))) {
        lane->careful = lane->wary && left-- <= 0; /* no more than these were fetched */
        uint8_t decoded[NAME_MAX + 1];
        const void *name = lower->name;
        ssize_t n = (ssize_t)strlen(lower->name);
        if (lane->config.names && !is_dot(lower->name)) {
            name = decoded;
            n = lane_upper_name(lane, lower->name, decoded);
        }
        if (n > 0) {
            uint8_t *out = lane->data + used;
            struct fuse_dirent *entry = (void *)(out + before);
            size_t size = before + FUSE_NAME_OFFSET + (size_t)n, padded = FUSE_DIRENT_ALIGN(size);
            if (padded > room - used)
                break;
            put_name(lane, listing, lower, entry);
            int there = described ? describe(lane, listing, lower, (void *)out) : 1;
            if (there < 0)
                return used ? (ssize_t)used : -EAGAIN;
            if (there) {
                entry->namelen = (uint32_t)n;
                memcpy(entry->name, name, (size_t)n);
                memset(out + size, 0, padded - size);
                used += padded;
                listing->given = lower->next;
            }
        }
        listing->at += lower->size;
    }
    return used || !error ? (ssize_t)used : -error;
}

int
lane_readdir(struct lane_request *q)
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
    if (q->lane->careful && asks_again(q->lane, listing))
        return LANE_ASIDE;
    const size_t room = in->size < LANE_BUFFER ? in->size : LANE_BUFFER;
    ssize_t n = fill(q->lane, listing, room, q->in->opcode == FUSE_READDIRPLUS);
    if (n == -EAGAIN)
        return LANE_ASIDE;
    return n < 0 ? lane_refuse(q, (int)-n) : lane_reply(q, q->lane->data, (size_t)n);
}
