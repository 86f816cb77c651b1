/* Many threads with the same key: the same octets, nothing leaked when they end. */
#include "check.h"
#include "internal.h"

#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 8
#define EXTENTS 20

static const uint8_t upper[] = "a file's name, long enough for several blocks";

struct work {
    struct pair pair;
    fc_file_key *key;
    fc_cipher *cipher;
    fc_names *names;
    uint8_t lower[255];
    ssize_t length;
    uint8_t expected[EXTENTS * FC_EXTENT];
};

static void *
worker(void *p)
{
    const struct work *w = p;
    uint8_t *out = calloc(EXTENTS, FC_EXTENT);
    EXPECT(out, "memory");
    for (int round = 0; round < 4; round++) {
        EXPECT(fc_extents_encrypt(w->key, 3, out, out, EXTENTS) == 0, "cipher %d", w->pair.code);
        EXPECT(memcmp(out, w->expected, sizeof w->expected) == 0, "cipher %d", w->pair.code);
        EXPECT(fc_ecb_encrypt(w->cipher, out, out, 64) == 0, "cipher %d", w->pair.code);
        EXPECT(fc_ecb_decrypt(w->cipher, out, out, 64) == 0, "cipher %d", w->pair.code);
        EXPECT(fc_extents_decrypt(w->key, 3, out, out, EXTENTS) == 0, "cipher %d", w->pair.code);
        EXPECT(fc_name_encode(w->names, upper, sizeof upper - 1, out, 255) == w->length, "cipher %d",
               w->pair.code);
        EXPECT(memcmp(out, w->lower, (size_t)w->length) == 0, "cipher %d", w->pair.code);
        EXPECT(fc_entry_decode(w->names, w->lower, (size_t)w->length, out, 255) == sizeof upper - 1,
               "cipher %d", w->pair.code);
        EXPECT(memcmp(out, upper, sizeof upper - 1) == 0, "cipher %d", w->pair.code);
        fc_file_key *own = check_key(w->pair, 15);
        EXPECT(fc_extents_encrypt(own, 0, w->expected, out, 1) == 0, "cipher %d", w->pair.code);
        fc_file_key_free(own);
        memset(out, 0, sizeof w->expected);
    }
    free(out);
    return NULL;
}

static void
together(struct work *w)
{
    const uint8_t key[FC_KEY] = {5};
    pthread_t thread[THREADS];
    w->key = check_key(w->pair, 14);
    EXPECT(fc_cipher_new(w->pair.code, w->pair.key_bytes, key, &w->cipher) == 0, "cipher %d", w->pair.code);
    EXPECT(fc_names_new(w->pair.code, w->pair.key_bytes, key, key, &w->names) == 0, "cipher %d",
           w->pair.code);
    w->length = fc_name_encode(w->names, upper, sizeof upper - 1, w->lower, sizeof w->lower);
    EXPECT(w->length > 0, "cipher %d", w->pair.code);
    memset(w->expected, 0, sizeof w->expected);
    EXPECT(fc_extents_encrypt(w->key, 3, w->expected, w->expected, EXTENTS) == 0, "cipher %d", w->pair.code);
    for (size_t i = 0; i < THREADS; i++)
        EXPECT(pthread_create(&thread[i], NULL, worker, w) == 0, "thread %zu", i);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    fc_file_key_free(w->key);
    fc_cipher_free(w->cipher);
    fc_names_free(w->names);
}

/* ---- A large request on several cores ----------------------------------------------------------- */

#define MANY (2 * FC_BATCH + 45)

/* Many extents in one call are what they are one by one. */
static void *
many(void *p)
{
    const struct work *w = p;
    uint8_t *in = malloc((size_t)MANY * FC_EXTENT), *out = malloc((size_t)MANY * FC_EXTENT);
    uint8_t one[FC_EXTENT];
    EXPECT(in && out, "memory");
    for (size_t i = 0; i < MANY; i++)
        memset(in + i * FC_EXTENT, (int)i & 255, FC_EXTENT);
    EXPECT(fc_extents_encrypt(w->key, 7, in, out, MANY) == 0, "cipher %d", w->pair.code);
    for (size_t i = 0; i < MANY; i++) {
        EXPECT(fc_extents_encrypt(w->key, 7 + i, in + i * FC_EXTENT, one, 1) == 0, "cipher %d", w->pair.code);
        EXPECT(memcmp(one, out + i * FC_EXTENT, FC_EXTENT) == 0, "cipher %d, extent %zu", w->pair.code, i);
    }
    EXPECT(fc_extents_decrypt(w->key, 7, out, out, MANY) == 0, "cipher %d", w->pair.code);
    EXPECT(memcmp(in, out, (size_t)MANY * FC_EXTENT) == 0, "cipher %d", w->pair.code);
    free(in);
    free(out);
    return NULL;
}

static void
check_many(struct work *w)
{
    pthread_t thread;
    w->key = check_key(w->pair, 16);
    EXPECT(pthread_create(&thread, NULL, many, w) == 0, "thread");
    many(w);
    pthread_join(thread, NULL);
    fc_file_key_free(w->key);
}

/* ---- Keys that end ------------------------------------------------------------------------------ */

struct use {
    fc_file_key *key;
    fc_cipher *cipher;
    pthread_barrier_t step;
};

/* By each engine and in each mode that the cipher has. */
static void
use_keys(const struct use *u)
{
    uint8_t *octets = calloc(2, FC_EXTENT);
    EXPECT(octets, "memory");
    EXPECT(fc_extents_encrypt(u->key, 0, octets, octets, 1) == 0, "one extent");
    EXPECT(fc_extents_decrypt(u->key, 0, octets, octets, 2) == 0, "two extents");
    EXPECT(fc_ecb_encrypt(u->cipher, octets, octets, 64) == 0, "blocks");
    free(octets);
}

static void *
user(void *p)
{
    struct use *u = p;
    use_keys(u);
    pthread_barrier_wait(&u->step);
    pthread_barrier_wait(&u->step); /* lives on while the keys end */
    return NULL;
}

/* No thread keeps anything of a key that is freed. */
static void
check_forgotten(struct pair pair)
{
    const uint8_t octets[FC_KEY] = {6};
    struct use u = {.key = check_key(pair, 18)};
    pthread_t thread;
    EXPECT(fc_cipher_new(pair.code, pair.key_bytes, octets, &u.cipher) == 0, "cipher %d", pair.code);
    EXPECT(pthread_barrier_init(&u.step, NULL, 2) == 0, "barrier");
    EXPECT(fc_kept() == 0, "cipher %d: of others", pair.code);
    EXPECT(pthread_create(&thread, NULL, user, &u) == 0, "thread");
    use_keys(&u);
    pthread_barrier_wait(&u.step);
    EXPECT(fc_kept() >= 2, "cipher %d: neither thread has used its key", pair.code);
    fc_file_key_free(u.key);
    fc_cipher_free(u.cipher);
    EXPECT(fc_kept() == 0, "cipher %d: %zu schedules are left", pair.code, fc_kept());
    pthread_barrier_wait(&u.step);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&u.step);
}

/* A forked child has no helpers, and works alone. */
static void
check_fork(struct work *w)
{
    int status;
    pid_t child = fork();
    EXPECT(child >= 0, "fork");
    if (child == 0) {
        alarm(20);
        w->key = check_key(w->pair, 17);
        many(w);
        fc_file_key_free(w->key);
        _exit(0);
    }
    EXPECT(waitpid(child, &status, 0) == child && status == 0, "status %d", status);
}

static int
fails_at_five(void *arg, size_t share)
{
    (void)arg;
    return share == 5 ? -5 : 0;
}

void
check_threads(void)
{
    struct work *w = calloc(1, sizeof *w);
    EXPECT(w, "memory");
    for (size_t i = 0; i < check_pair_count; i++) {
        w->pair = check_pairs[i];
        together(w);
        check_many(w);
        check_forgotten(w->pair);
    }
    check_fork(w);
    EXPECT(fc_spread(9, fails_at_five, NULL) == -5, "errors arrive");
    free(w);
}
