/* Memory for keys: locked, left out of core dumps and of forked children, wiped when released. */
#include "fusecrypt.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * Blocks are multiples of GRAIN octets, each with a header in front, carved from chunks. Released
 * blocks wait in one list a size; chunks are kept for the life of the process. Blocks above LARGEST
 * get a chunk of their own, which is unmapped again.
 */
#define GRAIN 64
#define LARGEST 4096
#define CHUNK ((size_t)64 * 1024)

/* Ahead of the caller's octets, so those are aligned to 16. All zero in a forked child. */
struct block {
    size_t size; /* octets of the block, header included; 0: lost in a fork */
    size_t unused;
};

/* The caller's octets of a released block. */
struct released {
    struct block head;
    struct released *next;
};

struct chunk {
    struct chunk *next;
    uint8_t *base;
    size_t size;
    size_t used;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct chunk *chunks; /* the newest first; small blocks come from it */
static struct released *released[LARGEST / GRAIN + 1];
static int all_locked = 1;

void
fc_wipe(void *p, size_t n)
{
    if (n)
        explicit_bzero(p, n);
}

int
fc_equal(const uint8_t *a, const uint8_t *b, size_t n)
{
    volatile uint8_t difference = 0;
    for (size_t i = 0; i < n; i++)
        difference = (uint8_t)(difference | (a[i] ^ b[i]));
    return difference == 0;
}

static int
secret_descriptor(size_t n)
{
    int fd = (int)syscall(SYS_memfd_secret, O_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, (off_t)n) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Pages that even the kernel has no other mapping of; MAP_FAILED before Linux 5.14 or if refused. */
static void *
map_secret(size_t n)
{
    int fd = secret_descriptor(n);
    if (fd < 0)
        return MAP_FAILED;
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return p;
}

/* The fallback. Sets *locked to 0 where RLIMIT_MEMLOCK does not allow more. */
static void *
map_locked(size_t n, int *locked)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return p;
    if (mlock(p, n) < 0)
        *locked = 0;
    madvise(p, n, MADV_DONTDUMP);
    return p;
}

/* Add a chunk in front; its first `used` octets are taken. */
static struct chunk *
add_chunk(size_t n, size_t used)
{
    struct chunk *c = malloc(sizeof *c);
    if (!c)
        return NULL;
    void *p = map_secret(n);
    if (p == MAP_FAILED)
        p = map_locked(n, &all_locked);
    if (p == MAP_FAILED) {
        free(c);
        return NULL;
    }
    /* Secret pages are a shared mapping: a child that wiped its copy would wipe ours. */
    madvise(p, n, MADV_DONTFORK);
    *c = (struct chunk){.next = chunks, .base = p, .size = n, .used = used};
    chunks = c;
    return c;
}

static void
before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void
after_fork_in_parent(void)
{
    pthread_mutex_unlock(&lock);
}

/* Zero pages stand where the keys were, so that objects of the parent can be touched and released. */
static void
after_fork_in_child(void)
{
    for (struct chunk *c = chunks; c; c = c->next) {
        int kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
        if (mmap(c->base, c->size, PROT_READ | PROT_WRITE, kind, -1, 0) == MAP_FAILED)
            abort(); /* a use of these addresses would end the child later */
        c->used = c->size;
    }
    memset(released, 0, sizeof released);
    pthread_mutex_unlock(&lock);
}

static void
initialise(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* A chunk with at least n octets free; what is left of the previous one goes to the lists. */
static struct chunk *
chunk_with(size_t n)
{
    struct chunk *c = chunks;
    if (c && c->size - c->used >= n)
        return c;
    if (c && c->size - c->used >= GRAIN) {
        struct released *rest = (void *)(c->base + c->used);
        size_t size = c->size - c->used;
        rest->head.size = size;
        rest->next = released[size / GRAIN];
        released[size / GRAIN] = rest;
        c->used = c->size;
    }
    return add_chunk(CHUNK, 0);
}

static struct block *
small_block(size_t size)
{
    struct released *again = released[size / GRAIN];
    if (again) {
        released[size / GRAIN] = again->next;
        again->next = NULL;
        return &again->head;
    }
    struct chunk *c = chunk_with(size);
    if (!c)
        return NULL;
    struct block *b = (void *)(c->base + c->used);
    c->used += size;
    b->size = size;
    return b;
}

static struct block *
large_block(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size = (size + page - 1) / page * page;
    struct chunk *c = add_chunk(size, size);
    if (!c)
        return NULL;
    struct block *b = (void *)c->base;
    b->size = size;
    return b;
}

void *
fc_alloc(size_t n)
{
    if (n > SIZE_MAX / 4)
        return NULL;
    size_t size = (n + sizeof(struct block) + GRAIN - 1) / GRAIN * GRAIN;
    pthread_once(&once, initialise);
    pthread_mutex_lock(&lock);
    struct block *b = size <= LARGEST ? small_block(size) : large_block(size);
    pthread_mutex_unlock(&lock);
    return b ? b + 1 : NULL;
}

static void
unmap_large(struct block *b)
{
    struct chunk **link = &chunks;
    while (*link && (*link)->base != (uint8_t *)b)
        link = &(*link)->next;
    struct chunk *c = *link;
    if (!c)
        return;
    *link = c->next;
    munmap(c->base, c->size);
    free(c);
}

void
fc_free(void *p)
{
    if (!p)
        return;
    struct block *b = (struct block *)p - 1;
    if (b->size == 0)
        return;
    fc_wipe(p, b->size - sizeof *b);
    pthread_mutex_lock(&lock);
    if (b->size > LARGEST) {
        unmap_large(b);
    } else {
        struct released *r = (void *)b;
        r->next = released[b->size / GRAIN];
        released[b->size / GRAIN] = r;
    }
    pthread_mutex_unlock(&lock);
}

int
fc_memory_locked(void)
{
    pthread_mutex_lock(&lock);
    int answer = all_locked;
    pthread_mutex_unlock(&lock);
    return answer;
}

int
fc_memory_export(const uint8_t *data, size_t n)
{
    if (n == 0 || n > INT32_MAX)
        return -EINVAL;
    void *p = MAP_FAILED;
    int fd = secret_descriptor(n);
    if (fd >= 0) {
        p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
            close(fd);
    }
    if (p == MAP_FAILED) {
        fd = memfd_create("fusecrypt", MFD_CLOEXEC);
        if (fd < 0)
            return -errno;
        if (ftruncate(fd, (off_t)n) == 0)
            p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (p == MAP_FAILED) {
        int error = errno;
        close(fd);
        return -error;
    }
    memcpy(p, data, n);
    munmap(p, n);
    return fd;
}

int
fc_memory_import(int fd, uint8_t *out, size_t n)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || n == 0 || st.st_size < 0 || (uint64_t)st.st_size < n)
        return -EINVAL;
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    memcpy(out, p, n);
    fc_wipe(p, n);
    munmap(p, n);
    return 0;
}
