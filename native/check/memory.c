/* fc_alloc and its relatives. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int
all_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return 0;
    return 1;
}

/* Blocks of many sizes: zeroed, apart from each other, and zeroed again when they come back. */
static void
blocks(void)
{
    enum { COUNT = 600 };
    static uint8_t *block[COUNT];
    static size_t size[COUNT];
    uint32_t state = 7;
    for (int round = 0; round < 4; round++) {
        for (size_t i = 0; i < COUNT; i++) {
            size[i] = i % 50 == 0 ? 5000 + check_next(&state) % 200000 : check_next(&state) % 700;
            block[i] = fc_alloc(size[i]);
            EXPECT(block[i], "%zu octets", size[i]);
            EXPECT((uintptr_t)block[i] % 16 == 0, "alignment of %zu octets", size[i]);
            EXPECT(all_zero(block[i], size[i]), "%zu octets", size[i]);
            memset(block[i], (int)(i % 255) + 1, size[i]);
        }
        for (size_t i = 0; i < COUNT; i++) {
            for (size_t j = 0; j < size[i]; j++)
                EXPECT(block[i][j] == i % 255 + 1, "block %zu of %zu octets", i, size[i]);
            fc_free(block[i]);
        }
    }
    EXPECT(fc_alloc(SIZE_MAX) == NULL, "too much");
    EXPECT(fc_alloc(SIZE_MAX / 8) == NULL, "too much to map");
    fc_free(NULL);
}

/* A child has zeros, may release the parent's blocks, cannot use its keys, and makes its own. */
static void
in_child(uint8_t *secret, fc_file_key *key)
{
    static uint8_t extent[FC_EXTENT];
    int failed = !all_zero(secret, 100);
    secret[0] = 1;
    fc_wipe(secret, 100);
    fc_free(secret);
    failed |= fc_extents_encrypt(key, 0, extent, extent, 1) != -ENOKEY;
    fc_file_key_free(key);
    fc_file_key *own = check_key((struct pair){FC_AES_256, 32}, 5);
    failed |= fc_extents_encrypt(own, 0, extent, extent, 1) != 0;
    failed |= extent[0] == 0 && all_zero(extent, FC_EXTENT);
    fc_file_key_free(own);
    _exit(failed);
}

static void
forked(void)
{
    static uint8_t extent[FC_EXTENT];
    uint8_t *secret = fc_alloc(100);
    fc_file_key *key = check_key((struct pair){FC_AES_256, 32}, 5);
    EXPECT(fc_extents_encrypt(key, 0, extent, extent, 1) == 0, "before the fork");
    memset(secret, 0x55, 100);
    pid_t child = fork();
    if (child == 0)
        in_child(secret, key);
    int status = -1;
    EXPECT(waitpid(child, &status, 0) == child && status == 0, "status %d", status);
    for (size_t i = 0; i < 100; i++)
        EXPECT(secret[i] == 0x55, "the parent's octet %zu", i);
    EXPECT(fc_extents_decrypt(key, 0, extent, extent, 1) == 0 && all_zero(extent, FC_EXTENT), "the parent");
    fc_free(secret);
    fc_file_key_free(key);
}

static void
comparison(void)
{
    const uint8_t a[3] = {1, 2, 3}, b[3] = {1, 2, 4};
    EXPECT(fc_equal(a, a, 3) == 1, "same");
    EXPECT(fc_equal(a, b, 3) == 0, "different at the end");
    EXPECT(fc_equal(a, b, 2) == 1, "same beginning");
}

static void
handed_over(void)
{
    uint8_t data[300], back[300];
    check_random(1, data, sizeof data);
    int fd = fc_memory_export(data, sizeof data);
    EXPECT(fd >= 0, "%s", strerror(-fd));
    EXPECT(fcntl(fd, F_GETFD) & FD_CLOEXEC, "inherited by accident");
    EXPECT(fc_memory_import(fd, back, 299) == 0 && memcmp(data, back, 299) == 0, "not the same");
    EXPECT(fc_memory_import(fd, back, 300) == 0 && all_zero(back, 299) && back[299] == data[299],
           "not wiped");
    EXPECT(fc_memory_import(fd, back, 301) == -EINVAL, "more than there is");
    EXPECT(fc_memory_import(fd, back, 0) == -EINVAL, "nothing");
    close(fd);
    EXPECT(fc_memory_import(fd, back, 1) == -EBADF, "closed");
    EXPECT(fc_memory_export(data, 0) == -EINVAL, "nothing");
    int ends[2];
    EXPECT(pipe(ends) == 0, "pipe");
    EXPECT(fc_memory_import(ends[0], back, 1) == -EINVAL, "a pipe");
    close(ends[0]);
    close(ends[1]);
}

void
check_memory(void)
{
    blocks();
    comparison();
    handed_over();
    forked();
    int locked = fc_memory_locked();
    EXPECT(locked == 0 || locked == 1, "%d", locked);
}
