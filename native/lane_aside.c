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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SLOW_FOR ((int64_t)1000000000) /* ns for which a disk counts as slow */
#define BATCH 32768                    /* octets of lower entries */
#define SIGKILL_BIT 0x100u
#define STAT_ROOM 1024
#define PENDING 31 /* the field of /proc/PID/stat with the signals that wait for the thread */
#define MOST 512   /* requests that are aside at a time */

struct fc_aside {
    struct fc_aside *next;
    uint64_t unique;
    uint32_t pid;
    _Atomic int given_up;        /* its caller was killed, and has been answered */
    int64_t taken;               /* ns of waiting */
    int64_t position;            /* of the directory in the first place: fetch what follows; -1: no listing */
    struct lane_place places[2]; /* with descriptors of their own */
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
    for (int i = 0; i < 2; i++) {
        if (aside->places[i].fd >= 0)
            close(aside->places[i].fd);
    }
    free(aside);
}

/* 0, or -1 if that is not possible. */
static int
put_aside(struct lane_request *q)
{
    const size_t n = sizeof *q->in + q->n;
    struct fc_aside *aside = q->lane->aside_count < MOST ? malloc(sizeof *aside + n) : NULL;
    if (!aside)
        return -1;
    aside->unique = q->in->unique;
    aside->pid = q->in->pid;
    aside->given_up = 0;
    aside->taken = 0;
    aside->position = -1;
    aside->n = n;
    memcpy(aside->request, q->in, n);
    lane_find_places(q, aside->places);
    if (q->in->opcode == FUSE_READDIR || q->in->opcode == FUSE_READDIRPLUS)
        aside->places[0].fd = lane_listing_place(q, &aside->position);
    for (int i = 0; i < 2; i++) {
        int fd = aside->places[i].fd;
        if (fd >= 0 && (aside->places[i].fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)) < 0) {
            aside->places[1].fd = i ? aside->places[1].fd : -1;
            free_aside(aside);
            return -1;
        }
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
    note_time(lane, monotonic_ns() - begun);
    return how;
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

/* The attributes of an object, and the header of a regular file. */
static void
fetch(int dir_fd, const char *path)
{
    char again[64], header[FC_EXTENT];
    struct stat st;
    int fd = *path ? lane_open_path(dir_fd, path, 0) : fcntl(dir_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 && *path) {
        snprintf(again, sizeof again, "/proc/self/fd/%d", fd); /* the same object in any case */
        int reading = fc_open_quietly(AT_FDCWD, again, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (reading >= 0) {
            while (pread(reading, header, sizeof header, 0) < 0 && errno == EINTR)
                ;
            close(reading);
        }
    }
    close(fd);
}

static void
fetch_entries(int dir_fd, int64_t position)
{
    _Alignas(struct lane_entry) char batch[BATCH];
    int fd = fc_open_quietly(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    long got =
        lseek(fd, (off_t)position, SEEK_SET) < 0 ? -1 : syscall(SYS_getdents64, fd, batch, sizeof batch);
    for (long at = 0, i = 0; at < got && i < LANE_ENTRIES; i++) {
        const struct lane_entry *entry = (const void *)(batch + at);
        fetch(fd, entry->name);
        at += entry->size;
    }
    close(fd);
}

void
fc_aside_fetch(fc_aside *aside)
{
    const int64_t begun = monotonic_ns();
    if (aside->given_up)
        return;
    for (int i = 0; i < 2 && aside->position < 0; i++) {
        if (aside->places[i].fd >= 0)
            fetch(aside->places[i].fd, lane_path(&aside->places[i]));
    }
    if (aside->position >= 0)
        fetch_entries(aside->places[0].fd, aside->position);
    aside->taken = monotonic_ns() - begun;
}
