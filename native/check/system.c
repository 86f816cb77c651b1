/* Directory batches and the other system calls. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void
put(int dir, const char *name, const void *data, size_t n)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    EXPECT(fd >= 0 && write(fd, data, n) == (ssize_t)n, "%s", name);
    close(fd);
}

static const uint8_t header[24] = {0, 0, 0, 1, 0, 0, 0, 5, 0x6f, 0xc3, 0x57, 0x3b, 0x53, 0x42, 0xe0, 0xce};

static void
batches(int dir)
{
    static const char names[] = "header\0short\0foreign\0empty\0link\0directory\0pipe\0absent\0";
    const struct {
        int error, peek;
    } expected[] = {
        {0, FC_PEEK_HEADER}, {0, FC_PEEK_FOREIGN}, {0, FC_PEEK_FOREIGN}, {0, FC_PEEK_EMPTY},
        {0, FC_PEEK_NONE},   {0, FC_PEEK_NONE},    {0, FC_PEEK_NONE},    {ENOENT, FC_PEEK_NONE},
    };
    enum { COUNT = sizeof expected / sizeof expected[0] };
    fc_stat out[COUNT];
    EXPECT(fc_stat_many(dir, names, sizeof names - 1, COUNT, 1, out) == 0, "all");
    for (size_t i = 0; i < COUNT; i++)
        EXPECT(out[i].error == expected[i].error && out[i].peek == expected[i].peek, "name %zu: %d, %d", i,
               out[i].error, out[i].peek);
    EXPECT(out[0].upper_size == 0x100000005 && out[0].size == sizeof header, "sizes");
    EXPECT(S_ISLNK(out[4].mode) && S_ISDIR(out[5].mode) && S_ISFIFO(out[6].mode), "kinds");
    EXPECT(fc_stat_many(dir, names, sizeof names - 1, COUNT, 0, out) == 0 && out[0].peek == FC_PEEK_NONE,
           "no peek");
    EXPECT(fc_stat_many(dir, names, sizeof names - 1, COUNT - 1, 0, out) == -EINVAL, "a name too many");
    EXPECT(fc_stat_many(dir, names, sizeof names - 2, COUNT, 0, out) == -EINVAL, "no end");
    EXPECT(fc_stat_many(dir, "", 1, 1, 1, out) == 0 && S_ISDIR(out[0].mode), "the directory itself");
    EXPECT(fc_stat_many(-1, "x", 2, 1, 1, out) == 0 && out[0].error == EBADF, "closed");
    EXPECT(fc_stat_many(dir, NULL, 0, 0, 1, out) == 0, "nothing");
}

static void
descriptors(int dir)
{
    fc_stat out;
    int fd = openat(dir, "header", O_RDONLY | O_CLOEXEC);
    EXPECT(fc_stat_fd(fd, 1, &out) == 0 && out.peek == FC_PEEK_HEADER, "readable");
    close(fd);
    fd = openat(dir, "header", O_WRONLY | O_CLOEXEC);
    EXPECT(fc_stat_fd(fd, 1, &out) == 0 && out.peek == FC_PEEK_ERROR && out.error == EBADF, "write only");
    close(fd);
    EXPECT(fc_stat_fd(fd, 1, &out) == 0 && out.error == EBADF && out.ino == 0, "closed");
}

static void
times(int dir)
{
    fc_stat out, link;
    EXPECT(fc_utimens(dir, "header", 1, -1, 1, 1500000000123456789) == 0, "times");
    EXPECT(fc_stat_many(dir, "header", 7, 1, 0, &out) == 0, "times");
    EXPECT(out.atime_ns == -1 && out.mtime_ns == 1500000000123456789, "%lld", (long long)out.atime_ns);
    EXPECT(fc_utimens(dir, "link", 0, 0, 1, 5) == 0, "of a link");
    EXPECT(fc_stat_many(dir, "link", 5, 1, 0, &link) == 0 && link.mtime_ns == 5, "of a link");
    EXPECT(fc_utimens(dir, "header", 0, 0, 2, 0) == 0, "now");
    EXPECT(fc_stat_many(dir, "header", 7, 1, 0, &out) == 0, "now");
    EXPECT(out.atime_ns == -1 && out.mtime_ns > 1500000000123456789, "now");
    EXPECT(fc_utimens(dir, "", 1, 7, 0, 0) == 0, "of the directory");
    EXPECT(fc_stat_many(dir, "", 1, 1, 0, &out) == 0 && out.atime_ns == 7, "of the directory");
    EXPECT(fc_utimens(dir, "header", 3, 0, 0, 0) == -EINVAL, "no such choice");
    EXPECT(fc_utimens(dir, "absent", 2, 0, 2, 0) == -ENOENT, "absent");
}

static void
renames(int dir)
{
    enum { NOREPLACE = 1, EXCHANGE = 2 };
    fc_stat before[2], after[2];
    EXPECT(fc_renameat2(dir, "header", dir, "empty", NOREPLACE) == -EEXIST, "taken");
    EXPECT(fc_stat_many(dir, "header\0empty", 13, 2, 0, before) == 0, "before");
    EXPECT(fc_renameat2(dir, "header", dir, "empty", EXCHANGE) == 0, "exchange");
    EXPECT(fc_stat_many(dir, "header\0empty", 13, 2, 0, after) == 0, "after");
    EXPECT(before[0].ino == after[1].ino && before[1].ino == after[0].ino, "exchange");
}

void
check_system(void)
{
    char path[] = "/tmp/fusecrypt-check-XXXXXX";
    EXPECT(mkdtemp(path), "%s", path);
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    EXPECT(dir >= 0, "%s", path);
    put(dir, "header", header, sizeof header);
    put(dir, "short", header, 15);
    put(dir, "foreign", "not a header, but long enough", 29);
    put(dir, "empty", "", 0);
    EXPECT(symlinkat("header", dir, "link") == 0, "link");
    EXPECT(mkdirat(dir, "directory", 0700) == 0 && mkfifoat(dir, "pipe", 0600) == 0, "objects");
    batches(dir);
    descriptors(dir);
    times(dir);
    renames(dir);
    const char *const made[] = {"header", "short", "foreign", "empty", "link", "pipe"};
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++)
        unlinkat(dir, made[i], 0);
    unlinkat(dir, "directory", AT_REMOVEDIR);
    close(dir);
    EXPECT(rmdir(path) == 0, "%s", path);
}
