/*
 * Whole requests on a lower file: one system call for each run of extents, none for each extent.
 * Whole extents go straight between the file and the caller's memory or the scratch; the extents at
 * the two ends of a request, which may be partial, take a detour.
 */
#include "internal.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* Where plaintext of partial extents is put together: the last two extents of the scratch. */
static uint8_t *
merge_buffer(uint8_t *scratch, size_t which)
{
    return scratch + (FC_WINDOW + which) * FC_EXTENT;
}

static uint64_t
least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The number of extents that hold `size` octets. */
static uint64_t
extents_of(uint64_t size)
{
    return size / FC_EXTENT + (size % FC_EXTENT != 0);
}

/* 0 if the extents up to upper octet `end` have offsets in the lower file. */
static int
check_end(const fc_lower *lower, uint64_t end)
{
    if (lower->data_offset > INT64_MAX || end > INT64_MAX - (FC_EXTENT - 1))
        return -EFBIG;
    if (extents_of(end) * FC_EXTENT > INT64_MAX - lower->data_offset)
        return -EFBIG;
    return 0;
}

static off_t
position_of(const fc_lower *lower, uint64_t extent)
{
    return (off_t)(lower->data_offset + extent * FC_EXTENT);
}

/* Take n octets off the front of a vector. */
static void
advance(struct iovec *vector, size_t count, size_t n)
{
    for (size_t i = 0; i < count && n; i++) {
        size_t part = n < vector[i].iov_len ? n : vector[i].iov_len;
        vector[i].iov_base = (uint8_t *)vector[i].iov_base + part;
        vector[i].iov_len -= part;
        n -= part;
    }
}

/* Fill the vector; returns octets, fewer only at the end of the file. The vector is used up. */
static ssize_t
read_vector(int fd, struct iovec *vector, size_t count, off_t position, int flags)
{
    size_t wanted = 0, done = 0;
    for (size_t i = 0; i < count; i++)
        wanted += vector[i].iov_len;
    while (done < wanted) {
        ssize_t got = preadv2(fd, vector, (int)count, position + (off_t)done, flags);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        advance(vector, count, (size_t)got);
        done += (size_t)got;
    }
    return (ssize_t)done;
}

/* Write whole extents; returns how many of them, and in *error why not all. */
static size_t
write_extents(int fd, const uint8_t *in, size_t count, off_t position, int *error)
{
    size_t n = count * FC_EXTENT, done = 0;
    *error = 0;
    while (done < n && !*error) {
        ssize_t put = pwrite(fd, in + done, n - done, position + (off_t)done);
        if (put > 0)
            done += (size_t)put;
        else if (put == 0)
            *error = -EIO;
        else if (errno != EINTR)
            *error = -errno;
    }
    return done / FC_EXTENT;
}

/*
 * How a read is laid out: a head extent of which only the end is wanted, extents that fit in the
 * caller's memory, and a tail extent that does not. Either end may be missing.
 */
struct layout {
    uint64_t first;            /* extent */
    size_t head, direct, tail; /* extents; head and tail are 0 or 1 */
    size_t skip;               /* octets of the head that are not wanted */
    size_t shift;              /* octets of the caller's memory that the head fills */
};

/* Upper octets [offset, end), with room for `room` octets at the caller's. */
static struct layout
lay_out(uint64_t offset, uint64_t end, size_t room)
{
    struct layout l = {.first = offset / FC_EXTENT, .skip = offset % FC_EXTENT};
    size_t all = (size_t)(extents_of(end) - l.first);
    l.head = l.skip != 0;
    l.shift = l.head ? FC_EXTENT - l.skip : 0;
    size_t fit = room > l.shift ? (room - l.shift) / FC_EXTENT : 0;
    l.direct = (size_t)least(all - l.head, fit);
    l.tail = all - l.head - l.direct;
    return l;
}

/* Read and decrypt the layout's extents; returns how many were there, or -errno. */
static ssize_t
read_layout(const fc_file_key *key, const fc_lower *lower, const struct layout *l, uint8_t *out,
            uint8_t *const ends[2], int flags)
{
    const struct fc_piece whole[3] = {
        {ends[0], ends[0], l->head},
        {out + l->shift, out + l->shift, l->direct},
        {ends[1], ends[1], l->tail},
    };
    struct fc_piece pieces[3];
    struct iovec vector[3];
    size_t n = 0;
    for (size_t i = 0; i < 3; i++) {
        if (whole[i].count == 0)
            continue;
        pieces[n] = whole[i];
        vector[n++] = (struct iovec){whole[i].out, whole[i].count * FC_EXTENT};
    }
    ssize_t got =
        read_vector(lower->fd, vector, n, position_of(lower, l->first), flags & FC_NOWAIT ? RWF_NOWAIT : 0);
    if (got < 0)
        return got;
    size_t extents = (size_t)got / FC_EXTENT, left = extents;
    for (size_t i = 0; i < n; i++) {
        pieces[i].count = (size_t)least(pieces[i].count, left);
        left -= pieces[i].count;
    }
    int error = fc_pieces(key, FC_DECRYPT, l->first, pieces, n);
    return error ? error : (ssize_t)extents;
}

ssize_t
fc_read(const fc_file_key *key, const fc_lower *lower, uint64_t offset, uint8_t *out, size_t n, int flags)
{
    if (offset >= lower->size || n == 0)
        return 0;
    uint64_t end = n < lower->size - offset ? offset + n : lower->size;
    if (n > SSIZE_MAX - (size_t)2 * FC_EXTENT)
        return -EINVAL;
    int error = check_end(lower, end);
    if (error)
        return error;
    struct layout l = lay_out(offset, end, n);
    uint8_t *scratch = fc_scratch();
    if (!scratch)
        return -ENOMEM;
    uint8_t *const ends[2] = {merge_buffer(scratch, 0), merge_buffer(scratch, 1)};
    ssize_t got = read_layout(key, lower, &l, out, ends, flags);
    if (got < 0)
        return got;
    if (got == 0)
        return -EIO;
    end = least(end, (l.first + (size_t)got) * FC_EXTENT);
    size_t length = (size_t)(end - offset);
    if (l.head)
        memcpy(out, ends[0] + l.skip, least(length, l.shift));
    size_t before_tail = l.shift + l.direct * FC_EXTENT;
    if (l.tail && length > before_tail)
        memcpy(out + before_tail, ends[1], length - before_tail);
    return (ssize_t)length;
}

/* The plaintext of one extent that exists, cut at size and filled up with zeros. */
static int
read_extent(const fc_file_key *key, const fc_lower *lower, uint64_t extent, uint8_t *out)
{
    struct iovec vector = {out, FC_EXTENT};
    ssize_t got = read_vector(lower->fd, &vector, 1, position_of(lower, extent), 0);
    if (got < 0)
        return (int)got;
    if (got < FC_EXTENT)
        return -EIO;
    int error = fc_extents_decrypt(key, extent, out, out, 1);
    size_t valid = (size_t)least(lower->size - extent * FC_EXTENT, FC_EXTENT);
    memset(out + valid, 0, FC_EXTENT - valid);
    return error;
}

/* One extent's plaintext with n octets of `in` at octet `from` of it; the rest as it was, or zeros. */
static int
merge(const fc_file_key *key, const fc_lower *lower, uint64_t extent, size_t from, const uint8_t *in,
      size_t n, uint8_t *out)
{
    uint64_t start = extent * FC_EXTENT;
    size_t old = lower->size > start ? (size_t)least(lower->size - start, FC_EXTENT) : 0;
    if (old && (from > 0 || from + n < old)) {
        int error = read_extent(key, lower, extent, out);
        if (error)
            return error;
    } else {
        memset(out, 0, FC_EXTENT);
    }
    memcpy(out + from, in, n);
    return 0;
}

/*
 * Encrypt the extents that hold [offset, offset + n) into the scratch. n is at least 1 and touches
 * no more than FC_WINDOW extents; `extents` of them.
 */
static int
encrypt_window(const fc_file_key *key, const fc_lower *lower, uint64_t offset, const uint8_t *in, size_t n,
               size_t extents, uint8_t *scratch)
{
    uint64_t first = offset / FC_EXTENT;
    size_t skip = offset % FC_EXTENT;
    size_t past = (skip + n) % FC_EXTENT; /* octets of the last extent, 0: all */
    size_t head = skip != 0 || (extents == 1 && past != 0);
    size_t tail = extents > 1 && past != 0;
    size_t head_octets = head ? (size_t)least(n, FC_EXTENT - skip) : 0;
    uint8_t *ends[2] = {merge_buffer(scratch, 0), merge_buffer(scratch, 1)};
    int error = 0;
    if (head)
        error = merge(key, lower, first, skip, in, head_octets, ends[0]);
    if (tail && !error)
        error = merge(key, lower, first + extents - 1, 0, in + n - past, past, ends[1]);
    if (error)
        return error;
    const struct fc_piece pieces[3] = {
        {ends[0], scratch, head},
        {in + head_octets, scratch + head * FC_EXTENT, extents - head - tail},
        {ends[1], scratch + (extents - 1) * FC_EXTENT, tail},
    };
    return fc_pieces(key, FC_ENCRYPT, first, pieces, 3);
}

/* Write the beginning of a request; returns octets of `in`, and in *error why it stopped there. */
static size_t
write_window(const fc_file_key *key, const fc_lower *lower, uint64_t offset, const uint8_t *in, size_t n,
             int *error)
{
    uint8_t *scratch = fc_scratch();
    if (!scratch) {
        *error = -ENOMEM;
        return 0;
    }
    size_t skip = offset % FC_EXTENT;
    n = (size_t)least(n, (uint64_t)FC_WINDOW * FC_EXTENT - skip);
    size_t extents = (size_t)extents_of(skip + n);
    *error = encrypt_window(key, lower, offset, in, n, extents, scratch);
    if (*error)
        return 0;
    off_t position = position_of(lower, offset / FC_EXTENT);
    size_t whole = write_extents(lower->fd, scratch, extents, position, error);
    if (whole == extents)
        return n;
    return whole ? whole * FC_EXTENT - skip : 0;
}

ssize_t
fc_write(const fc_file_key *key, const fc_lower *lower, uint64_t offset, const uint8_t *in, size_t n)
{
    if (n == 0)
        return 0;
    if (n > INT64_MAX || offset > INT64_MAX - n || lower->size > INT64_MAX)
        return -EFBIG;
    int error = check_end(lower, offset + n);
    if (error)
        return error;
    if (offset > extents_of(lower->size) * FC_EXTENT)
        return -EINVAL;
    size_t done = 0;
    while (done < n && !error)
        done += write_window(key, lower, offset + done, in + done, n - done, &error);
    return done ? (ssize_t)done : error;
}

/* Make the octets of size's extent from `from` on zero, in the extent that holds it. */
static int
zero_rest(const fc_file_key *key, const fc_lower *lower, uint64_t from)
{
    uint8_t *scratch = fc_scratch();
    if (!scratch)
        return -ENOMEM;
    uint8_t *plain = merge_buffer(scratch, 0);
    uint64_t extent = from / FC_EXTENT;
    int error = read_extent(key, lower, extent, plain);
    if (error)
        return error;
    memset(plain + from % FC_EXTENT, 0, FC_EXTENT - from % FC_EXTENT);
    error = fc_extents_encrypt(key, extent, plain, scratch, 1);
    if (error)
        return error;
    write_extents(lower->fd, scratch, 1, position_of(lower, extent), &error);
    return error;
}

/* Write encrypted zeros; returns the number of extents, and in *error why not all. */
static size_t
write_zeros(const fc_file_key *key, const fc_lower *lower, uint64_t first, size_t count, int *error)
{
    uint8_t *scratch = fc_scratch();
    if (!scratch) {
        *error = -ENOMEM;
        return 0;
    }
    memset(scratch, 0, count * FC_EXTENT);
    *error = fc_extents_encrypt(key, first, scratch, scratch, count);
    return *error ? 0 : write_extents(lower->fd, scratch, count, position_of(lower, first), error);
}

int64_t
fc_fill(const fc_file_key *key, const fc_lower *lower, uint64_t until, uint64_t budget)
{
    int error = check_end(lower, until > lower->size ? until : lower->size);
    if (error)
        return error;
    if (until <= lower->size)
        return (int64_t)lower->size;
    if (lower->size % FC_EXTENT != 0) {
        error = zero_rest(key, lower, lower->size);
        if (error)
            return error;
    }
    uint64_t next = extents_of(lower->size), last = extents_of(until);
    uint64_t stop = next + least(last - next, extents_of(budget > FC_EXTENT ? budget : FC_EXTENT));
    while (next < stop && !error)
        next += write_zeros(key, lower, next, (size_t)least(stop - next, FC_WINDOW), &error);
    uint64_t reached = least(next * FC_EXTENT, until);
    return reached > lower->size ? (int64_t)reached : error;
}

int
fc_zero_tail(const fc_file_key *key, const fc_lower *lower, uint64_t size)
{
    if (size > lower->size)
        return -EINVAL;
    if (size % FC_EXTENT == 0)
        return 0;
    int error = check_end(lower, size);
    return error ? error : zero_rest(key, lower, size);
}
