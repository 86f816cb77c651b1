/* The lane's reads and writes: within the file and one extent past its end, without waiting. */
#include "lane.h"
#include "octets.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whether the header in front of a file still says what is known of it. */
static int
is_unchanged(const fc_file *file)
{
    uint8_t now[16], known[16];
    fc_store_be(known, (uint32_t)(file->lower.size >> 32));
    fc_store_be(known + 4, (uint32_t)file->lower.size);
    memcpy(known + 8, file->marker, sizeof file->marker);
    return pread(file->lower.fd, now, sizeof now, 0) == sizeof now && memcmp(now, known, sizeof now) == 0;
}

fc_file *
lane_usable(fc_file *file)
{
    if (!file || !file->direct || file->busy)
        return NULL;
    return file->shared && !is_unchanged(file) ? NULL : file;
}

/* The handle's file, if the lane may use it now. */
static fc_file *
file_of(const fc_lane *lane, uint64_t handle)
{
    if (handle < 1 || handle > lane->handle_count)
        return NULL;
    return lane_usable(lane->handles[handle - 1].file);
}

static ssize_t
read_now(const fc_lane *lane, fc_file *file, uint64_t offset, size_t n)
{
    if (!file->no_nowait) {
        ssize_t got = fc_read(file->key, &file->lower, offset, lane->data, n, FC_NOWAIT);
        if (got != -EOPNOTSUPP)
            return got;
        file->no_nowait = 1;
    }
    if (lane->config.remote)
        return -EAGAIN;
    return fc_read(file->key, &file->lower, offset, lane->data, n, 0);
}

int
lane_read(struct lane_request *q)
{
    const struct fuse_read_in *in = q->arg;
    if (q->n < sizeof *in || in->size > LANE_BUFFER)
        return LANE_PASS;
    fc_file *file = file_of(q->lane, in->fh);
    if (!file)
        return LANE_PASS;
    uint64_t there = file->lower.size > in->offset ? file->lower.size - in->offset : 0;
    ssize_t got = read_now(q->lane, file, in->offset, in->size);
    /* Anything shorter than the file would be taken for its end. */
    if (got < 0 || (uint64_t)got < (there < in->size ? there : in->size))
        return LANE_PASS;
    return lane_reply(q, q->lane->data, (size_t)got);
}

/* Whether a write takes more than writing: it clears set-id bits. */
static int
clears_set_id(const fc_lane *lane, uint64_t handle, const fc_file *file)
{
    struct stat st;
    if (lane->handles[handle - 1].by_root)
        return 0;
    return fstat(file->lower.fd, &st) < 0 || st.st_mode & (S_ISUID | S_ISGID);
}

int
lane_store_size(fc_file *file, uint64_t size)
{
    uint8_t field[8];
    fc_store_be(field, (uint32_t)(size >> 32));
    fc_store_be(field + 4, (uint32_t)size);
    if (pwrite(file->lower.fd, field, sizeof field, 0) != sizeof field)
        return -1;
    file->lower.size = size;
    return 0;
}

/* What is written here in part is written again by the caller, who tells of errors. */
int
lane_write(struct lane_request *q)
{
    const struct fuse_write_in *in = q->arg;
    if (q->n < sizeof *in || q->n - sizeof *in < in->size)
        return LANE_PASS;
    if (q->lane->config.read_only || q->lane->config.remote) /* writes that may wait are for threads */
        return LANE_PASS;
    fc_file *file = file_of(q->lane, in->fh);
    if (!file || file->shared || in->size == 0 || in->offset > file->lower.size ||
        in->offset > LANE_MAX_SIZE - in->size)
        return LANE_PASS;
    if (clears_set_id(q->lane, in->fh, file))
        return LANE_PASS;
    const uint8_t *data = (const uint8_t *)(in + 1);
    if (fc_write(file->key, &file->lower, in->offset, data, in->size) != (ssize_t)in->size)
        return LANE_PASS;
    uint64_t end = in->offset + in->size;
    if (end > file->lower.size && lane_store_size(file, end) < 0)
        return LANE_PASS;
    const struct fuse_write_out out = {.size = in->size};
    return lane_reply(q, &out, sizeof out);
}
