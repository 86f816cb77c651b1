/* libfuse's names that we take the place of; of its session only the buffer matters. */
#ifndef FUSECRYPT_LIBFUSE_H
#define FUSECRYPT_LIBFUSE_H

#include <sys/types.h>

struct fuse_session;
struct fuse_buf {
    size_t size;
    int flags;
    void *mem;
    int fd;
    off_t pos;
    size_t mem_size; /* since 3.17; never read here */
};
int fuse_session_receive_buf(struct fuse_session *, struct fuse_buf *);

#endif
