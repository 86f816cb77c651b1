/* Directory batches, and system calls that Python lacks. */
#include "internal.h"
#include "octets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SECOND 1000000000

/* The beginning of a header: the upper size, 8 octets, and the marker in two halves. */
#define PEEK 16
#define MARKER 0x3c81b7f5

static int64_t
nanoseconds(struct timespec t)
{
    return fc_nanoseconds(t.tv_sec, t.tv_nsec);
}

static void
copy_stat(const struct stat *st, fc_stat *out)
{
    *out = (fc_stat){
        .ino = st->st_ino,
        .dev = st->st_dev,
        .size = (uint64_t)st->st_size,
        .blocks = (uint64_t)st->st_blocks,
        .rdev = st->st_rdev,
        .atime_ns = nanoseconds(st->st_atim),
        .mtime_ns = nanoseconds(st->st_mtim),
        .ctime_ns = nanoseconds(st->st_ctim),
        .mode = st->st_mode,
        .nlink = (uint32_t)st->st_nlink,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .blksize = (uint32_t)st->st_blksize,
    };
}

static void
peek_failed(fc_stat *out, int error)
{
    out->peek = FC_PEEK_ERROR;
    out->error = error;
}

/* What the first octets of an open regular file say. */
static void
peek_header(int fd, int look, fc_stat *out)
{
    uint8_t h[PEEK];
    const struct iovec part = {h, sizeof h};
    ssize_t got;
    do
        got = preadv2(fd, &part, 1, 0, look == FC_LOOK_NOW ? RWF_NOWAIT : 0);
    while (got < 0 && errno == EINTR);
    if (got < 0) {
        peek_failed(out, errno);
    } else if (got == 0) {
        out->peek = FC_PEEK_EMPTY;
    } else if (got < PEEK || (fc_load_be(h + 8) ^ MARKER) != fc_load_be(h + 12)) {
        out->peek = FC_PEEK_FOREIGN;
    } else {
        out->peek = FC_PEEK_HEADER;
        out->upper_size = (uint64_t)fc_load_be(h) << 32 | fc_load_be(h + 4);
    }
}

int
fc_stat_fd(int fd, int look, fc_stat *out)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        *out = (fc_stat){.error = errno};
        return 0;
    }
    copy_stat(&st, out);
    if (look && S_ISREG(st.st_mode))
        peek_header(fd, look, out);
    return 0;
}

int
fc_open_quietly(int dirfd, const char *name, int flags)
{
    int fd = openat(dirfd, name, flags | O_NOATIME);
    if (fd < 0 && errno == EPERM) /* O_NOATIME is for the owner */
        fd = openat(dirfd, name, flags);
    return fd;
}

static void
stat_one(int dirfd, const char *name, int look, fc_stat *out)
{
    struct stat st;
    if (*name == '\0') {
        fc_stat_fd(dirfd, look, out);
        return;
    }
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        *out = (fc_stat){.error = errno};
        return;
    }
    copy_stat(&st, out);
    if (!look || !S_ISREG(st.st_mode))
        return;
    if (st.st_size == 0) {
        out->peek = FC_PEEK_EMPTY;
        return;
    }
    /* Not through a link, not waiting for a writer. */
    int fd = fc_open_quietly(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        peek_failed(out, errno);
        return;
    }
    fc_stat_fd(fd, look, out);
    close(fd);
}

int
fc_stat_many(int dirfd, const char *names, size_t n, size_t count, int look, fc_stat *out)
{
    const char *end = names + n;
    for (size_t i = 0; i < count; i++) {
        const char *nul = memchr(names, '\0', (size_t)(end - names));
        if (!nul)
            return -EINVAL;
        stat_one(dirfd, names, look, &out[i]);
        names = nul + 1;
    }
    return names == end ? 0 : -EINVAL;
}

int
fc_renameat2(int olddirfd, const char *oldname, int newdirfd, const char *newname, unsigned flags)
{
    return renameat2(olddirfd, oldname, newdirfd, newname, flags) < 0 ? -errno : 0;
}

/* utimensat's form of "leave alone", "this time" and "now". */
static int
set_time(struct timespec *t, int how, int64_t ns)
{
    switch (how) {
    case 0:
        *t = (struct timespec){.tv_nsec = UTIME_OMIT};
        return 0;
    case 1:
        /* Times before 1970: nanoseconds count forwards from the second below. */
        t->tv_sec = (time_t)(ns / SECOND - (ns % SECOND < 0));
        t->tv_nsec = (long)((ns % SECOND + SECOND) % SECOND);
        return 0;
    case 2:
        *t = (struct timespec){.tv_nsec = UTIME_NOW};
        return 0;
    default:
        return -EINVAL;
    }
}

int
fc_utimens(int dirfd, const char *name, int set_atime, int64_t atime_ns, int set_mtime, int64_t mtime_ns)
{
    struct timespec times[2];
    if (set_time(&times[0], set_atime, atime_ns) || set_time(&times[1], set_mtime, mtime_ns))
        return -EINVAL;
    int flags = AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH);
    return utimensat(dirfd, name, times, flags) < 0 ? -errno : 0;
}

int
fc_harden_process(void)
{
    struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return -errno;
    return 0;
}
