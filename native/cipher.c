/*
 * Block ciphers in ECB and CBC: libgcrypt's, and CAST where libgcrypt has none.
 *
 * A key costs no handle: each thread keeps one schedule for each cipher and mode, that of the key it
 * used last, in libgcrypt's secure memory or in fc_alloc()'s. So any number of files may be open, and
 * no thread waits for another, but when a key ends and what any of them keeps of it is wiped.
 */
#include "internal.h"

#include "cast.h"

#include <errno.h>
#include <gcrypt.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum mode { ECB, CBC, MODES };

/* Key sizes are those that eCryptfs can use: a FEK must be whole blocks, for it is wrapped in ECB. */
static const struct algorithm {
    int code;
    int block;
    size_t shortest, longest, step;
    int gcrypt; /* 0: cast.h */
} algorithms[] = {
    {FC_DES3_EDE, 8, 24, 24, 8, GCRY_CIPHER_3DES},
    {FC_CAST5, 8, 16, 16, 8, GCRY_CIPHER_CAST5},
    {FC_CAST5, 8, 8, 8, 8, 0},
    {FC_BLOWFISH, 8, 8, 56, 8, GCRY_CIPHER_BLOWFISH},
    {FC_AES_128, 16, 16, 16, 8, GCRY_CIPHER_AES128},
    {FC_AES_192, 16, 24, 24, 8, GCRY_CIPHER_AES192},
    {FC_AES_256, 16, 32, 32, 8, GCRY_CIPHER_AES256},
    {FC_TWOFISH, 16, 16, 16, 8, GCRY_CIPHER_TWOFISH128},
    {FC_TWOFISH, 16, 32, 32, 8, GCRY_CIPHER_TWOFISH},
    {FC_CAST6, 16, 16, 32, 16, 0},
};
#define ALGORITHMS (sizeof algorithms / sizeof algorithms[0])

struct slot {
    gcry_cipher_hd_t handle;
    uint64_t serial;
    int weak;
};

struct cast_slot {
    uint64_t serial;
    struct fc_cast schedule;
};

struct fc_schedules {
    struct slot slots[MODES][ALGORITHMS];
    struct cast_slot *cast; /* in key memory */
};

static const struct algorithm *
find(int code, size_t key_bytes)
{
    for (const struct algorithm *a = algorithms; a < algorithms + ALGORITHMS; a++)
        if (a->code == code && key_bytes >= a->shortest && key_bytes <= a->longest &&
            (key_bytes - a->shortest) % a->step == 0)
            return a;
    return NULL;
}

int
fc_block_size(int code, size_t key_bytes)
{
    const struct algorithm *a = find(code, key_bytes);
    return a ? a->block : -EINVAL;
}

int
fc_cipher_set(struct fc_cipher *c, int code, size_t key_bytes, const uint8_t *key)
{
    static atomic_uint_fast64_t serials;
    if (!find(code, key_bytes))
        return -EINVAL;
    c->serial = atomic_fetch_add(&serials, 1) + 1;
    c->code = code;
    c->key_bytes = key_bytes;
    memcpy(c->key, key, key_bytes);
    return 0;
}

int
fc_cipher_new(int code, size_t key_bytes, const uint8_t *key, fc_cipher **out)
{
    struct fc_cipher *c = fc_alloc(sizeof *c);
    int error = c ? fc_cipher_set(c, code, key_bytes, key) : -ENOMEM;
    if (error) {
        fc_free(c);
        return error;
    }
    *out = c;
    return 0;
}

void
fc_cipher_free(fc_cipher *c)
{
    if (c)
        fc_forget(c);
    fc_free(c);
}

void
fc_schedules_free(struct fc_schedules *s)
{
    if (!s)
        return;
    for (size_t mode = 0; mode < MODES; mode++)
        for (size_t i = 0; i < ALGORITHMS; i++)
            gcry_cipher_close(s->slots[mode][i].handle);
    fc_free(s->cast);
    free(s);
}

void
fc_schedules_forget(struct fc_schedules *s, uint64_t serial)
{
    if (!s)
        return;
    for (size_t mode = 0; mode < MODES; mode++) {
        for (size_t i = 0; i < ALGORITHMS; i++) {
            struct slot *slot = &s->slots[mode][i];
            if (slot->serial != serial)
                continue;
            gcry_cipher_close(slot->handle); /* wipes it, which setting another key does only in part */
            *slot = (struct slot){0};
        }
    }
    if (s->cast && s->cast->serial == serial)
        fc_wipe(s->cast, sizeof *s->cast);
}

size_t
fc_schedules_kept(const struct fc_schedules *s)
{
    if (!s)
        return 0;
    size_t n = s->cast && !fc_is_zero(s->cast, sizeof *s->cast);
    for (size_t mode = 0; mode < MODES; mode++)
        for (size_t i = 0; i < ALGORITHMS; i++)
            n += s->slots[mode][i].handle != NULL;
    return n;
}

static int
open_slot(struct slot *slot, int algorithm, enum mode mode)
{
    int m = mode == CBC ? GCRY_CIPHER_MODE_CBC : GCRY_CIPHER_MODE_ECB;
    fc_library();
    if (gcry_cipher_open(&slot->handle, algorithm, m, GCRY_CIPHER_SECURE))
        return -ENOTSUP;
    /* A weak key opens its file like any other; new files avoid them (fc_file_key_random). */
    gcry_cipher_ctl(slot->handle, GCRYCTL_SET_ALLOW_WEAK_KEY, NULL, 1);
    return 0;
}

/* The thread's handle with the key's schedule in it. */
static int
load_gcrypt(struct fc_schedules *s, const struct fc_cipher *c, const struct algorithm *a, enum mode mode,
            struct slot **out)
{
    struct slot *slot = &s->slots[mode][a - algorithms];
    if (!slot->handle) {
        int error = open_slot(slot, a->gcrypt, mode);
        if (error)
            return error;
    }
    if (slot->serial != c->serial) {
        slot->serial = 0;
        gcry_error_t error = gcry_cipher_setkey(slot->handle, c->key, c->key_bytes);
        slot->weak = gcry_err_code(error) == GPG_ERR_WEAK_KEY;
        if (error && !slot->weak)
            return -EINVAL;
        slot->serial = c->serial;
    }
    *out = slot;
    return 0;
}

static int
load_cast(struct fc_schedules *s, const struct fc_cipher *c, const struct fc_cast **out)
{
    if (!s->cast && !(s->cast = fc_alloc(sizeof *s->cast)))
        return -ENOMEM;
    if (s->cast->serial != c->serial) {
        if (c->code == FC_CAST5)
            fc_cast5_schedule(&s->cast->schedule, c->key, c->key_bytes);
        else
            fc_cast6_schedule(&s->cast->schedule, c->key, c->key_bytes);
        s->cast->serial = c->serial;
    }
    *out = &s->cast->schedule;
    return 0;
}

/* One block of CAST. */
static void
cast_block(const struct fc_cipher *c, const struct fc_cast *s, enum fc_direction direction, const uint8_t *in,
           uint8_t *out)
{
    if (c->code == FC_CAST5)
        (direction == FC_ENCRYPT ? fc_cast5_encrypt : fc_cast5_decrypt)(s, in, out);
    else
        (direction == FC_ENCRYPT ? fc_cast6_encrypt : fc_cast6_decrypt)(s, in, out);
}

static void
exclusive_or(uint8_t *a, const uint8_t *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        a[i] ^= b[i];
}

/* iv NULL: ECB */
static int
cast_blocks(struct fc_schedules *kept, const struct fc_cipher *c, size_t block, enum fc_direction direction,
            const uint8_t *iv, const uint8_t *in, uint8_t *out, size_t n)
{
    const struct fc_cast *s;
    int error = load_cast(kept, c, &s);
    if (error)
        return error;
    uint8_t chain[16] = {0}, next[16] = {0};
    if (iv)
        memcpy(chain, iv, block);
    for (size_t i = 0; i < n; i += block) {
        memcpy(next, in + i, block);
        if (iv && direction == FC_ENCRYPT)
            exclusive_or(next, chain, block);
        cast_block(c, s, direction, next, out + i);
        if (iv && direction == FC_DECRYPT)
            exclusive_or(out + i, chain, block);
        memcpy(chain, direction == FC_ENCRYPT ? out + i : next, block);
    }
    fc_wipe(next, sizeof next);
    return 0;
}

static int
gcrypt_blocks(struct fc_schedules *kept, const struct fc_cipher *c, const struct algorithm *a,
              enum fc_direction direction, const uint8_t *iv, const uint8_t *in, uint8_t *out, size_t n)
{
    struct slot *slot;
    int error = load_gcrypt(kept, c, a, iv ? CBC : ECB, &slot);
    if (error)
        return error;
    if (iv && gcry_cipher_setiv(slot->handle, iv, (size_t)a->block))
        return -EIO;
    /* libgcrypt spells "in place" as a null pointer. */
    const uint8_t *from = in == out ? NULL : in;
    size_t length = in == out ? 0 : n;
    gcry_error_t failed = direction == FC_ENCRYPT ? gcry_cipher_encrypt(slot->handle, out, n, from, length)
                                                  : gcry_cipher_decrypt(slot->handle, out, n, from, length);
    return failed ? -EIO : 0;
}

/* This thread, whose schedules are there and locked, or NULL. */
static struct fc_thread *
take_schedules(void)
{
    struct fc_thread *thread = fc_thread();
    if (!thread)
        return NULL;
    pthread_mutex_lock(&thread->lock);
    if (!thread->schedules)
        thread->schedules = calloc(1, sizeof *thread->schedules);
    if (thread->schedules)
        return thread;
    pthread_mutex_unlock(&thread->lock);
    return NULL;
}

static int
blocks(const struct fc_cipher *c, enum fc_direction direction, const uint8_t *iv, const uint8_t *in,
       uint8_t *out, size_t n)
{
    if (c->serial == 0)
        return -ENOKEY;
    const struct algorithm *a = find(c->code, c->key_bytes);
    if (!a || n % (size_t)a->block != 0)
        return -EINVAL;
    if (n == 0)
        return 0;
    struct fc_thread *thread = take_schedules();
    if (!thread)
        return -ENOMEM;
    int error = a->gcrypt ? gcrypt_blocks(thread->schedules, c, a, direction, iv, in, out, n)
                          : cast_blocks(thread->schedules, c, (size_t)a->block, direction, iv, in, out, n);
    pthread_mutex_unlock(&thread->lock);
    return error;
}

int
fc_ecb_encrypt(const fc_cipher *c, const uint8_t *in, uint8_t *out, size_t n)
{
    return blocks(c, FC_ENCRYPT, NULL, in, out, n);
}

int
fc_ecb_decrypt(const fc_cipher *c, const uint8_t *in, uint8_t *out, size_t n)
{
    return blocks(c, FC_DECRYPT, NULL, in, out, n);
}

int
fc_cbc(const struct fc_cipher *c, enum fc_direction direction, const uint8_t *iv, const uint8_t *in,
       uint8_t *out, size_t n)
{
    return blocks(c, direction, iv, in, out, n);
}

int
fc_weak(const struct fc_cipher *c)
{
    const struct algorithm *a = find(c->code, c->key_bytes);
    struct slot *slot;
    if (!a)
        return -EINVAL;
    if (!a->gcrypt)
        return 0;
    struct fc_thread *thread = take_schedules();
    if (!thread)
        return -ENOMEM;
    int error = load_gcrypt(thread->schedules, c, a, CBC, &slot);
    int weak = error ? error : slot->weak;
    pthread_mutex_unlock(&thread->lock);
    return weak;
}
