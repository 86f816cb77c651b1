/* Where libfuse gets its requests from: the lane, in its place. */
#include "lane.h"
#include "libfuse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The lane that serves this process's mount. */
static fc_lane *attached;
static uint64_t received;

int
fc_lane_attach(fc_lane *lane, int fd)
{
    lane->fd = fd;
    attached = lane;
    return 0;
}

void
lane_detach(const fc_lane *lane)
{
    if (attached == lane)
        attached = NULL;
}

static int
receive(void *mem)
{
    fc_lane *lane = attached;
    size_t n = lane->waiting;
    if (n) {
        memcpy(mem, lane->request, n);
        lane->waiting = 0;
        return (int)n;
    }
    ssize_t got = read(lane->fd, mem, LANE_BUFFER);
    return got < 0 ? (errno == ENODEV ? 0 : -errno) : (int)got;
}

/*
 * What pyfuse3 calls for its next request. This module is loaded where the linker looks before it looks
 * into libfuse (see fusecrypt/mount/__init__.py), so the call arrives here.
 */
__attribute__((visibility("default"))) int
fuse_session_receive_buf(struct fuse_session *session, struct fuse_buf *buf)
{
    (void)session;
    if (!attached)
        return -EBADF;
    if (!buf->mem)
        buf->mem = malloc(LANE_BUFFER); /* pyfuse3 gives it back with free() */
    if (!buf->mem)
        return -ENOMEM;
    int got = receive(buf->mem);
    if (got > 0) {
        buf->size = (size_t)got;
        buf->flags = 0;
        received++;
    }
    return got;
}

uint64_t
fc_lane_received(void)
{
    return received;
}
