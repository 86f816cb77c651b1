/* The state of each thread: cipher schedules and scratch, so that no request allocates. */
#include "internal.h"

#include <gcrypt.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define SCRATCH ((size_t)(FC_WINDOW + 2) * FC_EXTENT)
/*
 * The scratch begins this far behind a page's start. Data of requests begin at one, and a CPU takes a store
 * for a hazard to loads whose addresses end in the same twelve bits: AES-256 encrypts a quarter faster so.
 */
#define SKEW ((size_t)512)
/* Enough for the handles of some threads; libgcrypt adds more when needed. */
#define SECURE_MEMORY 65536

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_once_t library_once = PTHREAD_ONCE_INIT;
static pthread_key_t at_exit;
static int have_at_exit;
static _Thread_local struct fc_thread *self;
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct fc_thread *threads;

static void
list(struct fc_thread *thread)
{
    thread->next = threads;
    thread->here = &threads;
    if (threads)
        threads->here = &thread->next;
    threads = thread;
}

static void
unlist(struct fc_thread *thread)
{
    *thread->here = thread->next;
    if (thread->next)
        thread->next->here = thread->here;
}

static void
release(void *p)
{
    struct fc_thread *thread = p;
    pthread_mutex_lock(&list_lock);
    unlist(thread);
    pthread_mutex_unlock(&list_lock);
    pthread_mutex_destroy(&thread->lock);
    fc_schedules_free(thread->schedules);
    fc_ipsec_free(thread->ipsec);
    if (thread->scratch) {
        /* The plaintext of partly written extents; all else in there was ciphertext. */
        fc_wipe(thread->scratch + (size_t)FC_WINDOW * FC_EXTENT, (size_t)2 * FC_EXTENT);
        munmap(thread->scratch - SKEW, SKEW + SCRATCH);
    }
    free(thread);
    self = NULL;
}

/* A forked child has this thread alone. */
static void
forked(void)
{
    pthread_mutex_init(&list_lock, NULL);
    threads = NULL;
    if (self) {
        pthread_mutex_init(&self->lock, NULL);
        list(self);
    }
}

static void
initialise(void)
{
    have_at_exit = pthread_key_create(&at_exit, release) == 0 && pthread_atfork(NULL, NULL, forked) == 0;
}

struct fc_thread *
fc_thread(void)
{
    if (self)
        return self;
    pthread_once(&once, initialise);
    if (!have_at_exit)
        return NULL;
    struct fc_thread *thread = calloc(1, sizeof *thread);
    if (!thread)
        return NULL;
    if (pthread_setspecific(at_exit, thread) != 0) {
        free(thread);
        return NULL;
    }
    pthread_mutex_init(&thread->lock, NULL);
    pthread_mutex_lock(&list_lock);
    list(thread);
    pthread_mutex_unlock(&list_lock);
    self = thread;
    return thread;
}

void
fc_forget(const struct fc_cipher *c)
{
    if (c->serial == 0)
        return;
    pthread_mutex_lock(&list_lock);
    for (struct fc_thread *thread = threads; thread; thread = thread->next) {
        pthread_mutex_lock(&thread->lock);
        fc_schedules_forget(thread->schedules, c->serial);
        fc_ipsec_forget(thread->ipsec, c->serial);
        pthread_mutex_unlock(&thread->lock);
    }
    pthread_mutex_unlock(&list_lock);
}

size_t
fc_kept(void)
{
    size_t n = 0;
    pthread_mutex_lock(&list_lock);
    for (struct fc_thread *thread = threads; thread; thread = thread->next) {
        pthread_mutex_lock(&thread->lock);
        n += fc_schedules_kept(thread->schedules) + fc_ipsec_kept(thread->ipsec);
        pthread_mutex_unlock(&thread->lock);
    }
    pthread_mutex_unlock(&list_lock);
    return n;
}

uint8_t *
fc_scratch(void)
{
    struct fc_thread *thread = fc_thread();
    if (!thread || thread->scratch)
        return thread ? thread->scratch : NULL;
    void *p = mmap(NULL, SKEW + SCRATCH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    madvise(p, SKEW + SCRATCH, MADV_DONTDUMP);
    thread->scratch = (uint8_t *)p + SKEW;
    return thread->scratch;
}

/* libgcrypt locks its pool, but does not keep it out of core dumps; the first block is on its first page. */
static void
leave_pool_undumped(void)
{
    uint8_t *first = gcry_malloc_secure(1);
    if (!first)
        return;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    madvise(first - (uintptr_t)first % page, SECURE_MEMORY, MADV_DONTDUMP);
    gcry_free(first);
}

static void
initialise_library(void)
{
    /* Another library of the process may have done it, in its own way. */
    if (gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P))
        return;
    gcry_check_version(NULL);
    /* Where memory cannot be locked fc_memory_locked() says so; the library would print it. */
    gcry_control(GCRYCTL_DISABLE_SECMEM_WARN);
    gcry_control(GCRYCTL_INIT_SECMEM, SECURE_MEMORY, 0);
    gcry_control(GCRYCTL_AUTO_EXPAND_SECMEM, SECURE_MEMORY, 0);
    gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
    leave_pool_undumped();
}

void
fc_library(void)
{
    pthread_once(&library_once, initialise_library);
}
