/* The express lane: read requests from the device, answer the plain ones, leave the others. */
#include "lane.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The heads of a request for a write: what stands before its data. */
#define WRITE_HEADS (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))

/* ---- Replies ----------------------------------------------------------------------------------- */

/* Octets of a reply that are put together first: cheaper than a vector, of which each part is mapped. */
#define SMALL_REPLY 256

static int
send_reply(struct lane_request *q, int error, const struct iovec *parts, size_t count)
{
    struct fuse_out_header head = {.error = error, .unique = q->in->unique};
    struct iovec vector[3] = {{&head, sizeof head}};
    size_t n = sizeof head;
    for (size_t i = 0; i < count; i++) {
        vector[i + 1] = parts[i];
        n += parts[i].iov_len;
    }
    head.len = (uint32_t)n;
    _Alignas(SMALL_REPLY) uint8_t small[SMALL_REPLY]; /* on one page */
    if (n <= sizeof small) {
        uint8_t *to = small;
        for (size_t i = 0; i <= count; to += vector[i++].iov_len)
            memcpy(to, vector[i].iov_base, vector[i].iov_len);
        vector[0] = (struct iovec){small, n};
        count = 0;
    }
    /* A failure says that the kernel no longer waits for it: nobody is left to be told. */
    while (writev(q->lane->fd, vector, (int)count + 1) < 0 && errno == EINTR)
        ;
    return LANE_DONE;
}

/* writev() takes no const, but leaves the octets alone. */
static struct iovec
part_of(const void *data, size_t n)
{
    struct iovec part = {.iov_len = n};
    memcpy(&part.iov_base, &data, sizeof part.iov_base);
    return part;
}

int
lane_reply(struct lane_request *q, const void *data, size_t n)
{
    const struct iovec part = part_of(data, n);
    return send_reply(q, 0, &part, 1);
}

int
lane_reply_two(struct lane_request *q, const void *head, size_t h, const void *data, size_t n)
{
    const struct iovec parts[2] = {part_of(head, h), part_of(data, n)};
    return send_reply(q, 0, parts, 2);
}

int
lane_refuse(struct lane_request *q, int error)
{
    return send_reply(q, -error, NULL, 0);
}

const char *
lane_name(struct lane_request *q, size_t from)
{
    const char *name = (const char *)q->arg + from;
    if (q->n <= from || !memchr(name, '\0', q->n - from) || !*name)
        return NULL;
    return name;
}

/* ---- Requests ---------------------------------------------------------------------------------- */

static int
answer(struct lane_request *q)
{
    switch (q->in->opcode) {
    case FUSE_LOOKUP:
        return lane_lookup(q);
    case FUSE_FORGET:
        return lane_forget(q);
    case FUSE_BATCH_FORGET:
        return lane_batch_forget(q);
    case FUSE_GETATTR:
        return lane_getattr(q);
    case FUSE_SETATTR:
        return lane_setattr(q);
    case FUSE_GETXATTR:
        return lane_getxattr(q);
    case FUSE_UNLINK:
        return lane_unlink(q);
    case FUSE_MKDIR:
        return lane_mkdir(q);
    case FUSE_RMDIR:
        return lane_rmdir(q);
    case FUSE_OPENDIR:
        return lane_opendir(q);
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
        return lane_readdir(q);
    case FUSE_RELEASEDIR:
        return lane_releasedir(q);
    case FUSE_OPEN:
        return lane_open(q);
    case FUSE_CREATE:
        return lane_create(q);
    case FUSE_RELEASE:
        return lane_release(q);
    case FUSE_READ:
        return lane_read(q);
    case FUSE_WRITE:
        return lane_write(q);
    default:
        return LANE_PASS;
    }
}

/*
 * Where answers are the caller's: what is in directories is listed here while requests may have to wait,
 * by names alone, so that a lookup of each tells what it waits for.
 */
static int
leave(struct lane_request *q)
{
    switch (q->in->opcode) {
    case FUSE_OPENDIR:
        return q->lane->wary ? lane_opendir(q) : LANE_PASS;
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
        return lane_readdir(q);
    case FUSE_RELEASEDIR:
        return lane_releasedir(q);
    default:
        return LANE_PASS;
    }
}

/*
 * Octets of the next request, 0 if there is none now, or -errno. After looking for it in vain this sleeps
 * for a moment, which is cheaper than the caller's way of sleeping.
 */
static ssize_t
next_request(fc_lane *lane, unsigned spins, int sleep_ms)
{
    for (unsigned i = 0; i <= spins; i++) {
        if (i == spins && sleep_ms > 0) {
            struct pollfd device = {.fd = lane->fd, .events = POLLIN};
            poll(&device, 1, sleep_ms);
        }
        ssize_t got = read(lane->fd, lane->request, LANE_BUFFER);
        if (got >= 0)
            return got;
        if (errno == EINTR)
            return 0;                           /* a signal is for the caller to see */
        if (errno != EAGAIN && errno != ENOENT) /* ENOENT: its sender gave it up just now */
            return -errno;
    }
    return 0;
}

int
fc_lane_run(fc_lane *lane, unsigned spins, int sleep_ms, unsigned budget)
{
    lane_note_caller(lane);
    while (budget-- > 0) {
        ssize_t got = (ssize_t)lane_next_fetched(lane);
        if (got == 0)
            got = next_request(lane, spins, sleep_ms);
        if (got < 0)
            return got == -ENODEV ? FC_LANE_GONE : (int)got;
        if (got == 0)
            return FC_LANE_IDLE;
        if ((size_t)got < sizeof(struct fuse_in_header))
            return -EIO;
        struct lane_request q = {.lane = lane, .in = (void *)lane->request};
        q.arg = q.in + 1;
        q.n = (size_t)got - sizeof *q.in;
        int how = lane_with_care(&q, lane->config.simple ? answer : leave);
        if (how == LANE_PASS) {
            lane->waiting = q.n + sizeof *q.in;
            return FC_LANE_REQUEST;
        }
        if (how == LANE_ASIDE)
            return FC_LANE_ASIDE;
        lane->answered++;
    }
    return FC_LANE_BUSY;
}

uint64_t
fc_lane_answered(const fc_lane *lane)
{
    return lane->answered;
}

/* ---- Life -------------------------------------------------------------------------------------- */

static void *
map_buffer(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    madvise(p, n, MADV_DONTDUMP); /* plaintext passes through */
    return p;
}

int
fc_lane_new(const fc_lane_config *config, fc_lane **out)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    fc_lane *lane = calloc(1, sizeof *lane);
    if (!lane)
        return -ENOMEM;
    lane->config = *config;
    if (config->slow_ns >= 0 && !lane_can_ask())
        lane->config.slow_ns = -1;
    lane->fd = -1;
    uint8_t *base = map_buffer(page + LANE_BUFFER);
    lane->data = map_buffer(LANE_BUFFER);
    lane->places = calloc(lane_most_places(lane), sizeof *lane->places);
    if (!base || !lane->data || !lane->places) {
        lane->request = base ? base + page - WRITE_HEADS : NULL;
        fc_lane_free(lane);
        return -ENOMEM;
    }
    lane->request = base + page - WRITE_HEADS;
    *out = lane;
    return 0;
}

void
fc_lane_free(fc_lane *lane)
{
    if (!lane)
        return;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    lane_detach(lane);
    if (lane->request)
        munmap(lane->request + WRITE_HEADS - page, page + LANE_BUFFER);
    if (lane->data)
        munmap(lane->data, LANE_BUFFER);
    lane_listings_free(lane);
    lane_asides_free(lane);
    lane_drop_all(&lane->nodes);
    lane_forms_free(lane);
    free(lane->handles);
    free(lane->places);
    free(lane);
}
