/* The lane's answers about names. */
#include "lane.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Looking below ------------------------------------------------------------------------------ */

size_t
lane_spellings(const fc_lane *lane)
{
    return 1 + lane->config.other_count;
}

static const fc_names *
names_of(const fc_lane *lane, size_t which)
{
    return which ? lane->config.other_names[which - 1] : lane->config.names;
}

ssize_t
lane_spell(const fc_lane *lane, size_t which, const char *name, char lower[NAME_MAX + 1])
{
    size_t n = strlen(name);
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strchr(name, '/'))
        return -1;
    ssize_t length = (ssize_t)n;
    const fc_names *names = names_of(lane, which);
    if (names)
        length = fc_name_encode(names, (const uint8_t *)name, n, (uint8_t *)lower, NAME_MAX);
    else if (n <= NAME_MAX)
        memcpy(lower, name, n);
    else
        return -1;
    if (length > 0)
        lower[length] = '\0';
    return length;
}

ssize_t
lane_lower_name(const fc_lane *lane, const char *name, char lower[NAME_MAX + 1])
{
    return lane_spell(lane, 0, name, lower);
}

ssize_t
lane_upper_name(const fc_lane *lane, const char *lower, uint8_t name[NAME_MAX + 1])
{
    const size_t n = strlen(lower);
    ssize_t length = -1;
    for (size_t i = 0; i < lane_spellings(lane) && length <= 0; i++)
        length = fc_entry_decode(names_of(lane, i), (const uint8_t *)lower, n, name, NAME_MAX);
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

int
lane_look(fc_lane *lane, int dir_fd, const char *lower, fc_stat *st, int64_t *size)
{
    const size_t n = strlen(lower) + 1;
    if (lane->careful && !lane->blind) {
        fc_stat_many(dir_fd, lower, n, 1, FC_LOOK_NOW, st);
        lane->blind = st->error == EOPNOTSUPP && !lane->config.remote;
        if (st->error == EAGAIN || (st->error == EOPNOTSUPP && !lane->blind))
            return EAGAIN;
    }
    if (!lane->careful || lane->blind)
        fc_stat_many(dir_fd, lower, n, 1, FC_LOOK_HEADER, st);
    if (st->error)
        return st->peek == FC_PEEK_ERROR ? -1 : st->error;
    *size = upper_size(lane, dir_fd, lower, st);
    return *size < 0 ? -1 : 0;
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
        if (st->ino <= FUSE_ROOT_ID || lane_by_number(&lane->nodes, st->ino))
            return NULL;
        node = lane_add_found(lane, parent, lower, st, 0);
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
    int error = lane_look(lane, dir_fd, lower, &st, &size);
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
        return error == EAGAIN ? LANE_ASIDE : LANE_PASS;
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
