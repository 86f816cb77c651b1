/* Work in shares, on several cores at once: helpers wait for some, the caller takes its part. */
#include "internal.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#define MOST_HELPERS 7
#define STACK ((size_t)256 << 10)

static struct {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    int (*run)(void *arg, size_t share);
    void *arg;
    size_t shares, next, unfinished;
    int error, busy;
    size_t helpers;
} pool = {
    .lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* With the lock held: do what nobody has begun. */
static void
take_shares(void)
{
    while (pool.next < pool.shares) {
        size_t share = pool.next++;
        pthread_mutex_unlock(&pool.lock);
        int error = pool.run(pool.arg, share);
        pthread_mutex_lock(&pool.lock);
        if (error && !pool.error)
            pool.error = error;
        if (--pool.unfinished == 0)
            pthread_cond_signal(&pool.done);
    }
}

static void *
help(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        take_shares();
        pthread_cond_wait(&pool.work, &pool.lock);
    }
    return NULL;
}

/* The helpers stay with the parent. */
static void
forked(void)
{
    pthread_mutex_init(&pool.lock, NULL);
    pool.helpers = 0;
    pool.busy = 0;
}

static size_t
cores(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n > 0 ? (size_t)n : 1;
}

static void
start(void)
{
    size_t wanted = cores() - 1;
    pthread_attr_t attributes;
    sigset_t all, before;
    if (wanted == 0 || pthread_atfork(NULL, NULL, forked) != 0 || pthread_attr_init(&attributes) != 0)
        return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK);
    sigfillset(&all); /* signals are for the threads that expect them */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t helper;
    while (pool.helpers < wanted && pool.helpers < MOST_HELPERS &&
           pthread_create(&helper, &attributes, help, NULL) == 0)
        pool.helpers++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

size_t
fc_spread_width(void)
{
    pthread_once(&once, start);
    return pool.helpers + 1;
}

int
fc_spread(size_t shares, int (*run)(void *arg, size_t share), void *arg)
{
    pthread_mutex_lock(&pool.lock);
    int alone = pool.busy || pool.helpers == 0;
    if (alone) {
        pthread_mutex_unlock(&pool.lock);
        int error = 0;
        for (size_t share = 0; share < shares && !error; share++)
            error = run(arg, share);
        return error;
    }
    pool.busy = 1;
    pool.run = run;
    pool.arg = arg;
    pool.error = 0;
    pool.next = 0;
    pool.shares = pool.unfinished = shares;
    pthread_cond_broadcast(&pool.work);
    take_shares();
    while (pool.unfinished)
        pthread_cond_wait(&pool.done, &pool.lock);
    int error = pool.error;
    pool.busy = 0;
    pthread_mutex_unlock(&pool.lock);
    return error;
}
