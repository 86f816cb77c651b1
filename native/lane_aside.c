/*
 * Requests that would wait for a disk or a network. Those that need what is not in memory are put aside;
 * a thread waits for it, and then they are answered like all others. Nothing of a lane is used by the
 * thread: it has descriptors and paths of its own, and leaves what it finds in the kernel's caches.
 */
#include "internal.h"
#include "lane.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SLOW_FOR ((int64_t)1000000000) /* ns for which a disk counts as slow */
#define SIGKILL_BIT 0x100u
#define STAT_ROOM 1024
#define PENDING 31 /* the field of /proc/PID/stat with the signals that wait for the thread */
#define MOST 512   /* requests that are aside at a time */

struct fc_aside {
    struct fc_aside *next;
    uint64_t unique;
    uint32_t pid;
    _Atomic int given_up; /* its caller was killed, and has been answered */
    int64_t taken;        /* ns of waiting */
    int64_t position;     /* of the directory in the first place: fetch what follows; -1: no listing */
    int entries;          /* of those that follow this many themselves */
    int either;           /* the places are spellings of one name: the first that is there is enough */
    size_t count;
    struct lane_place *places; /* with descriptors of their own */
    size_t n;
    uint8_t request[];
};

static int64_t
monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return fc_nanoseconds(now.tv_sec, now.tv_nsec);
}

/* A disk that made somebody wait will do so again. */
static void
note_time(fc_lane *lane, int64_t taken)
{
    if (lane->config.slow_ns > 0 && taken > lane->config.slow_ns)
        lane->slow_until = monotonic_ns() + SLOW_FOR;
}

/* ---- Aside ------------------------------------------------------------------------------------------- */

static void
free_aside(struct fc_aside *aside)
{
    for (size_t i = 0; i < aside->count; i++) {
        if (aside->places[i].fd >= 0)
            close(aside->places[i].fd);
    }
    free(aside->places);
    free(aside);
}

/* A copy of a request; NULL without memory. */
static struct fc_aside *
copy_of(const struct lane_request *q)
{
    const size_t n = sizeof *q->in + q->n, most = lane_most_places(q->lane);
    struct fc_aside *aside = malloc(sizeof *aside + n);
    struct lane_place *places = aside ? malloc(most * sizeof *places) : NULL;
    if (!places) {
        free(aside);
        return NULL;
    }
    *aside = (struct fc_aside){
        .unique = q->in->unique,
        .pid = q->in->pid,
        .position = -1,
        .either = lane_spellings(q->lane) > 1,
        .places = places,
        .n = n,
    };
    memcpy(aside->request, q->in, n);
    return aside;
}

/* Find its places, and give them descriptors of their own; 0, or -1 without descriptors. */
static int
take_places(struct fc_aside *aside, struct lane_request *q)
{
    const int described = q->in->opcode == FUSE_READDIRPLUS;
    lane_find_places(q, aside->places);
    if (described || q->in->opcode == FUSE_READDIR)
        aside->places[0].fd = lane_listing_place(q, &aside->position);
    aside->entries = described && q->lane->config.simple ? LANE_ENTRIES : 0;
    for (; aside->count < lane_most_places(q->lane); aside->count++) {
        int *fd = &aside->places[aside->count].fd;
        if (*fd >= 0 && (*fd = fcntl(*fd, F_DUPFD_CLOEXEC, 0)) < 0)
            return -1;
    }
    return 0;
}

/* 0, or -1 if that is not possible. */
static int
put_aside(struct lane_request *q)
{
    struct fc_aside *aside = q->lane->aside_count < MOST ? copy_of(q) : NULL;
    if (!aside)
        return -1;
    if (take_places(aside, q) < 0) {
        free_aside(aside);
        return -1;
    }
    aside->next = q->lane->asides;
    q->lane->asides = aside;
    q->lane->aside_count++;
    return 0;
}

int
lane_with_care(struct lane_request *q, int (*answer)(struct lane_request *))
{
    fc_lane *lane = q->lane;
    if (lane->config.slow_ns < 0)
        return answer(q);
    const int64_t begun = monotonic_ns();
    lane->wary = lane->config.slow_ns == 0 || begun < lane->slow_until;
    lane->careful = lane->wary && !lane->fetched;
    int how = lane->careful && lane_would_wait(q) ? LANE_ASIDE : answer(q);
    if (how == LANE_ASIDE && (lane->fetched || put_aside(q) < 0)) {
        if (lane->config.remote && !lane->fetched)
            return lane_refuse(q, EAGAIN); /* too many wait already: the rest shall go on */
        lane->careful = lane->wary = 0;    /* then everybody waits */
        how = answer(q) == LANE_DONE ? LANE_DONE : LANE_PASS;
    }
    if (how == LANE_PASS)
        lane->left = begun;
    else
        note_time(lane, monotonic_ns() - begun);
    return how;
}

void
lane_note_caller(fc_lane *lane)
{
    if (lane->left)
        note_time(lane, monotonic_ns() - lane->left);
    lane->left = 0;
}

fc_aside *
fc_lane_aside(const fc_lane *lane)
{
    return lane->asides;
}

void
fc_lane_resume(fc_lane *lane, fc_aside *aside)
{
    struct fc_aside **at = &lane->asides;
    while (*at != aside)
        at = &(*at)->next;
    *at = aside->next;
    lane->aside_count--;
    note_time(lane, aside->taken);
    if (aside->given_up) {
        free_aside(aside);
        return;
    }
    aside->next = NULL;
    for (at = &lane->fetched_asides; *at; at = &(*at)->next)
        ;
    *at = aside;
}

size_t
lane_next_fetched(fc_lane *lane)
{
    struct fc_aside *aside = lane->fetched_asides;
    lane->fetched = aside != NULL;
    if (!aside)
        return 0;
    size_t n = aside->n;
    lane->fetched_asides = aside->next;
    memcpy(lane->request, aside->request, n);
    free_aside(aside);
    return n;
}

void
lane_asides_free(fc_lane *lane)
{
    for (struct fc_aside *aside = lane->fetched_asides, *next; aside; aside = next) {
        next = aside->next;
        free_aside(aside);
    }
    /* Others may still be in threads: they are left to the end of the process. */
}

/* ---- Callers that are killed -------------------------------------------------------------------------- */

/* Whether a thread is being killed: it waits for an answer that it will not use. */
static int
is_dying(uint32_t pid)
{
    char path[64], stat[STAT_ROOM];
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, stat, sizeof stat - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return 0;
    stat[n] = '\0';
    const char *field = strrchr(stat, ')'); /* the end of the name, which may hold anything */
    for (int i = 2; field && i < PENDING; i++)
        field = strchr(field + 1, ' ');
    return field && strtoull(field, NULL, 10) & SIGKILL_BIT;
}

void
fc_lane_give_up(fc_lane *lane)
{
    for (struct fc_aside *aside = lane->asides; aside; aside = aside->next) {
        if (aside->given_up || !aside->pid || !is_dying(aside->pid))
            continue;
        struct fuse_in_header in = {.unique = aside->unique};
        struct lane_request q = {.lane = lane, .in = &in};
        lane_refuse(&q, EINTR);
        aside->given_up = 1;
    }
}

/* ---- In a thread -------------------------------------------------------------------------------------- */

void
fc_aside_fetch(fc_aside *aside)
{
    const int64_t begun = monotonic_ns();
    if (aside->given_up)
        return;
    for (size_t i = 0; i < aside->count && aside->position < 0; i++) {
        const struct lane_place *place = &aside->places[i];
        if (place->fd >= 0 && lane_fetch(place->fd, lane_path(place)) && aside->either)
            break;
    }
    if (aside->position >= 0)
        lane_fetch_entries(aside->places[0].fd, aside->position, aside->entries);
    aside->taken = monotonic_ns() - begun;
}
