/* Plain files of a tree, copied decrypted into a directory by the dozen, and given their names. */
#include "internal.h"
#include "lane.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define REGION ((size_t)8192)     /* octets of a header in front of its data, in every known form */
#define PIECE ((size_t)256 << 10) /* octets of contents that are copied at a time */
#define NFS4_ACL "system.nfs4_acl"
#define LONGEST_ACL 512
#define XFS_MAGIC 0x58465342
#define NAME 24 /* octets of the number that is a temporary name */

struct copy {
    const fc_lane *forms;
    int work_fd, flush;
    uint8_t *buffer; /* REGION + PIECE octets */
};

static void
number_name(uint64_t number, char name[NAME])
{
    snprintf(name, NAME, "%" PRIu64, number);
}

static ssize_t
read_some(int fd, uint8_t *to, size_t n)
{
    ssize_t got;
    do
        got = pread(fd, to, n, 0);
    while (got < 0 && errno == EINTR);
    return got;
}

static int
write_all(int fd, const uint8_t *from, size_t n, uint64_t at)
{
    while (n > 0) {
        ssize_t put = pwrite(fd, from, n, (off_t)at);
        if (put <= 0 && errno != EINTR)
            return -1;
        if (put > 0) {
            from += put;
            n -= (size_t)put;
            at += (uint64_t)put;
        }
    }
    return 0;
}

/* Whether no copy gets an attribute: a header of eCryptfs, or an ACL that the mode says too. */
static int
stays(int fd, const char *name)
{
    uint8_t acl[LONGEST_ACL];
    if (strcmp(name, FC_HEADER_ATTRIBUTE) == 0)
        return 1;
    if (strcmp(name, NFS4_ACL) != 0)
        return 0;
    ssize_t n = fgetxattr(fd, name, acl, sizeof acl);
    return n >= 0 && fc_nfs4_acl_is_mode(acl, (size_t)n);
}

/* Whether a lower file has no attributes but such. */
static int
has_no_attributes(int fd)
{
    char names[sizeof FC_HEADER_ATTRIBUTE + sizeof NFS4_ACL];
    ssize_t n = flistxattr(fd, names, sizeof names);
    if (n < 0)
        return errno == EOPNOTSUPP;
    for (const char *name = names; name < names + n; name += strlen(name) + 1)
        if (!stays(fd, name))
            return 0;
    return 1;
}

/* Whether this is a file of which nothing but contents, owner, mode and times is to be copied. */
static int
is_plain(int fd, const struct stat *st)
{
    return S_ISREG(st->st_mode) && st->st_nlink == 1 && !(st->st_mode & (S_ISUID | S_ISGID)) &&
           has_no_attributes(fd);
}

/* Whether the lower file has all extents of its size. */
static int
is_whole(uint64_t size, const struct stat *st)
{
    if (size > LANE_MAX_SIZE)
        return 0;
    uint64_t extents = size / FC_EXTENT + (size % FC_EXTENT != 0);
    return (uint64_t)st->st_size >= REGION + extents * FC_EXTENT;
}

/* Decrypt and write all; `got` octets of the lower file are in the buffer. 0, or -1. */
static int
copy_contents(const struct copy *c, const fc_file_key *key, const fc_lower *lower, size_t got, int out)
{
    uint8_t *data = c->buffer + REGION;
    size_t extents = got > REGION ? (got - REGION) / FC_EXTENT : 0;
    uint64_t n = (uint64_t)extents * FC_EXTENT, done = 0;
    if (extents && fc_extents_decrypt(key, 0, data, data, extents) < 0)
        return -1;
    n = n < lower->size ? n : lower->size;
    while (n > 0) {
        if (write_all(out, data, (size_t)n, done) < 0)
            return -1;
        done += n;
        ssize_t more = fc_read(key, lower, done, data, PIECE, 0);
        if (more < 0)
            return -1;
        n = (uint64_t)more;
    }
    return done == lower->size ? 0 : -1;
}

/* Give a copy owner, mode and times: FC_COPIED, FC_COPIED_AS_OURS where only root could, or FC_COPY_ASIDE. */
static int
dress(int fd, const struct stat *st)
{
    int result = FC_COPIED;
    struct stat now;
    if (fstat(fd, &now) < 0)
        return FC_COPY_ASIDE;
    if (now.st_uid != st->st_uid || now.st_gid != st->st_gid) {
        if (fchown(fd, st->st_uid, st->st_gid) < 0) {
            result = FC_COPIED_AS_OURS;
            if (errno != EPERM || (fchown(fd, (uid_t)-1, st->st_gid) < 0 && errno != EPERM))
                return FC_COPY_ASIDE;
        }
    }
    if ((now.st_mode & 07777) != (st->st_mode & 07777) && fchmod(fd, st->st_mode & 07777) < 0)
        return FC_COPY_ASIDE;
    const struct timespec times[2] = {st->st_atim, st->st_mtim};
    return futimens(fd, times) < 0 ? FC_COPY_ASIDE : result;
}

/* Copy an open lower file, whose beginning is in the buffer, to a file of that name. */
static int
copy_to(const struct copy *c, const fc_file_key *key, const fc_lower *lower, size_t got,
        const struct stat *st, const char *name)
{
    int out =
        openat(c->work_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, st->st_mode & 0777);
    if (out < 0)
        return FC_COPY_ASIDE;
    int result = copy_contents(c, key, lower, got, out) < 0 ? FC_COPY_ASIDE : dress(out, st);
    if (result != FC_COPY_ASIDE && c->flush && fsync(out) < 0)
        result = FC_COPY_ASIDE;
    if (close(out) < 0)
        result = FC_COPY_ASIDE;
    if (result == FC_COPY_ASIDE)
        unlinkat(c->work_fd, name, 0);
    return result;
}

static int
copy_open(const struct copy *c, int fd, const char *name)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !is_plain(fd, &st))
        return FC_COPY_ASIDE;
    ssize_t got = read_some(fd, c->buffer, REGION + PIECE);
    if (got < 0)
        return FC_COPY_ASIDE;
    fc_file file;
    fc_file_key *key = lane_unlock(c->forms, c->buffer, (size_t)got, &file);
    if (!key)
        return FC_COPY_ASIDE;
    file.lower.fd = fd;
    int result = FC_COPY_ASIDE;
    if (is_whole(file.lower.size, &st))
        result = copy_to(c, key, &file.lower, (size_t)got, &st, name);
    fc_file_key_free(key);
    return result;
}

static int
copy_one(const struct copy *c, int dir_fd, const char *lower, const char *name)
{
    int fd = fc_open_quietly(dir_fd, lower, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return FC_COPY_ASIDE;
    int result = copy_open(c, fd, name);
    close(fd);
    return result;
}

int
fc_copy_many(const fc_lane *forms, const int *dir_fds, const char *lowers, size_t n, size_t count,
             int work_fd, uint64_t first, int flush, uint8_t *results)
{
    const char *end = lowers + n;
    struct copy c = {.forms = forms, .work_fd = work_fd, .flush = flush};
    c.buffer = aligned_alloc(FC_EXTENT, REGION + PIECE);
    int error = c.buffer ? 0 : -ENOMEM;
    for (size_t i = 0; i < count && !error; i++) {
        char name[NAME];
        const char *nul = memchr(lowers, '\0', (size_t)(end - lowers));
        if (!nul) {
            error = -EINVAL;
            break;
        }
        number_name(first + i, name);
        results[i] = (uint8_t)copy_one(&c, dir_fds[i], lowers, name);
        lowers = nul + 1;
    }
    free(c.buffer);
    return error;
}

int
fc_rename_many(int work_fd, const uint64_t *numbers, int dir_fd, const char *names, size_t n, size_t count,
               unsigned flags, int32_t *errors)
{
    const char *end = names + n;
    for (size_t i = 0; i < count; i++) {
        char name[NAME];
        const char *nul = memchr(names, '\0', (size_t)(end - names));
        if (!nul)
            return -EINVAL;
        number_name(numbers[i], name);
        errors[i] = renameat2(work_fd, name, dir_fd, names, flags) < 0 ? errno : 0;
        names = nul + 1;
    }
    return 0;
}

int
fc_flushes_together(int fd)
{
    struct statfs figures;
    if (fstatfs(fd, &figures) < 0)
        return 0;
    switch ((unsigned long)figures.f_type) {
    case EXT4_SUPER_MAGIC: /* and ext2, ext3 */
    case XFS_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case TMPFS_MAGIC:
        return 1;
    default:
        return 0;
    }
}

int
fc_flush_all(int fd)
{
    return syncfs(fd) < 0 ? -errno : 0;
}
