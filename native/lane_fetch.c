/* Waiting for what requests need: what is found is left in the kernel's caches. */
#include "internal.h"
#include "lane.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define BATCH 32768 /* octets of lower entries */

/* The header of a regular file, in its contents or else in an attribute. */
static void
fetch_header(int fd)
{
    char header[FC_EXTENT];
    fc_stat st;
    int contents = lane_open_contents(fd);
    if (contents < 0)
        return;
    fc_stat_fd(contents, FC_LOOK_HEADER, &st);
    if (st.peek == FC_PEEK_FOREIGN || st.peek == FC_PEEK_EMPTY)
        fgetxattr(contents, FC_HEADER_ATTRIBUTE, header, sizeof header);
    close(contents);
}

int
lane_fetch(int dir_fd, const char *path)
{
    char target[PATH_MAX];
    struct stat st;
    int fd = *path ? lane_open_path(dir_fd, path, 0) : fcntl(dir_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    const uint32_t kind = fstat(fd, &st) < 0 ? 0 : st.st_mode & S_IFMT;
    if (*path && kind == S_IFREG)
        fetch_header(fd);
    if (*path && kind == S_IFLNK)
        (void)!readlinkat(fd, "", target, sizeof target);
    close(fd);
    return 1;
}

void
lane_fetch_entries(int dir_fd, int64_t position, int most)
{
    _Alignas(struct lane_entry) char batch[BATCH];
    int fd = fc_open_quietly(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    long got =
        lseek(fd, (off_t)position, SEEK_SET) < 0 ? -1 : syscall(SYS_getdents64, fd, batch, sizeof batch);
    for (long at = 0, i = 0; at < got && i < most; i++) {
        const struct lane_entry *entry = (const void *)(batch + at);
        lane_fetch(fd, entry->name);
        at += entry->size;
    }
    close(fd);
}
