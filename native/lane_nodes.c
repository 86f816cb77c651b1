/* What the kernel knows by a number, found by number and by identity. */
#include "lane.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FEWEST ((size_t)1024)

static size_t
bucket_of(const struct lane_nodes *t, uint64_t key)
{
    key *= 0x9e3779b97f4a7c15u; /* inode numbers come in runs: spread them */
    return (size_t)(key >> 32) & (t->buckets - 1);
}

static void
insert(struct lane_nodes *t, struct lane_node *node)
{
    struct lane_node **number = &t->by_number[bucket_of(t, node->r.number)];
    struct lane_node **ino = &t->by_ino[bucket_of(t, node->r.ino)];
    node->next_number = *number;
    *number = node;
    node->next_ino = *ino;
    *ino = node;
}

/* Another number of buckets; 0, or -ENOMEM and everything as it was. */
static int
resize(struct lane_nodes *t, size_t buckets)
{
    struct lane_nodes old = *t;
    struct lane_node **both = calloc(2 * buckets, sizeof(void *));
    if (!both)
        return -ENOMEM;
    t->by_number = both;
    t->by_ino = both + buckets;
    t->buckets = buckets;
    for (size_t i = 0; i < old.buckets; i++) {
        for (struct lane_node *node = old.by_number[i], *next; node; node = next) {
            next = node->next_number;
            insert(t, node);
        }
    }
    free(old.by_number);
    if (buckets < old.buckets)
        malloc_trim(0); /* what a walk over the whole tree took is given back */
    return 0;
}

struct lane_node *
lane_by_number(const struct lane_nodes *t, uint64_t number)
{
    if (!t->buckets)
        return NULL;
    struct lane_node *node = t->by_number[bucket_of(t, number)];
    while (node && node->r.number != number)
        node = node->next_number;
    return node;
}

struct lane_node *
lane_by_identity(const struct lane_nodes *t, uint64_t dev, uint64_t ino)
{
    if (!t->buckets)
        return NULL;
    struct lane_node *node = t->by_ino[bucket_of(t, ino)];
    while (node && (node->r.ino != ino || node->r.dev != dev))
        node = node->next_ino;
    return node;
}

struct lane_node *
lane_add(struct lane_nodes *t, const fc_record *record, const char *name, size_t n)
{
    if (t->count >= t->buckets && resize(t, t->buckets ? 2 * t->buckets : FEWEST) < 0 && !t->buckets)
        return NULL;
    struct lane_node *node = malloc(sizeof *node + n + 1);
    if (!node)
        return NULL;
    *node = (struct lane_node){.r = *record, .dir_fd = -1};
    memcpy(node->name, name, n);
    node->name[n] = '\0';
    insert(t, node);
    t->count++;
    t->ours++;
    return node;
}

struct lane_node *
lane_add_found(fc_lane *lane, uint64_t parent, const char *lower, const fc_stat *st, uint64_t lookups)
{
    const fc_record found = {
        .number = st->ino,
        .dev = st->dev,
        .ino = st->ino,
        .parent = parent,
        .lookups = lookups,
        .shown = -1,
        .stamp_size = -1,
        .kind = st->mode & S_IFMT,
        .pin = -1,
        .fd = -1,
    };
    return lane_add(&lane->nodes, &found, lower, strlen(lower));
}

static void
take_out(struct lane_nodes *t, struct lane_node *node)
{
    struct lane_node **at = &t->by_number[bucket_of(t, node->r.number)];
    while (*at != node)
        at = &(*at)->next_number;
    *at = node->next_number;
    at = &t->by_ino[bucket_of(t, node->r.ino)];
    while (*at != node)
        at = &(*at)->next_ino;
    *at = node->next_ino;
}

/* What a node of ours holds open. */
static void
close_descriptors(struct lane_node *node)
{
    if (node->r.pin >= 0)
        close(node->r.pin);
    if (node->dir_fd >= 0 && !node->theirs)
        close(node->dir_fd);
    if (node->file && !node->theirs)
        lane_close_file(node);
}

void
lane_drop(struct lane_nodes *t, struct lane_node *node)
{
    take_out(t, node);
    t->count--;
    if (!node->theirs)
        t->ours--;
    close_descriptors(node);
    free(node);
    if (t->buckets > FEWEST && t->count < t->buckets / 8)
        resize(t, t->buckets / 4);
}

void
lane_drop_all(struct lane_nodes *t)
{
    for (size_t i = 0; i < t->buckets; i++) {
        for (struct lane_node *node = t->by_number[i], *next; node; node = next) {
            next = node->next_number;
            close_descriptors(node);
            free(node);
        }
    }
    free(t->by_number);
    *t = (struct lane_nodes){0};
}
