/* What the files of the native part share with each other. */
#ifndef FUSECRYPT_INTERNAL_H
#define FUSECRYPT_INTERNAL_H

#include "fusecrypt.h"

#include <pthread.h>
#include <string.h>

enum fc_direction { FC_ENCRYPT, FC_DECRYPT };

/*
 * A cipher key, in memory from fc_alloc(). The serial number is never used twice, so that a thread
 * can tell which key it holds the schedule of; it reads 0 in a forked child, where the key is gone.
 */
struct fc_cipher {
    uint64_t serial;
    int code;
    size_t key_bytes;
    uint8_t key[FC_MAX_KEY_BYTES];
};

struct fc_file_key {
    struct fc_cipher cipher;
    uint8_t root_iv[16];
};

/* ---- thread.c: what a thread keeps, given back when it ends ---------------------------------- */

#define FC_WINDOW 256 /* extents of scratch: what one system call writes at most */

struct fc_thread {
    pthread_mutex_t lock; /* of the schedules, which others wipe: taken while they are used */
    struct fc_schedules *schedules;
    struct fc_ipsec *ipsec;
    uint8_t *scratch;
    struct fc_thread *next, **here; /* in the list of all */
};

/* NULL without memory. */
struct fc_thread *fc_thread(void);
/* Wipe what any thread keeps of a key that is no more. */
void fc_forget(const struct fc_cipher *);
/* How many schedules all threads keep together, for the checks: whatever is not wiped counts. */
size_t fc_kept(void);
/* FC_WINDOW + 2 extents, or NULL. The last two are meant for plaintext. */
uint8_t *fc_scratch(void);
/* Prepare libgcrypt; to be called before its first use, cheap afterwards. */
void fc_library(void);

static inline int
fc_is_zero(const void *p, size_t n)
{
    const uint8_t *octets = p;
    return n == 0 || (octets[0] == 0 && memcmp(octets, octets + 1, n - 1) == 0);
}

/* Where a header stands that is not in front of the contents. */
#define FC_HEADER_ATTRIBUTE "user.ecryptfs"

/* ---- sys.c ------------------------------------------------------------------------------------- */

/* openat() to read without a trace in the access time, where we may. */
int fc_open_quietly(int dirfd, const char *name, int flags);
/* Nanoseconds of a time; the first or last that there are for one further away (the years 1677 and 2262). */
static inline int64_t
fc_nanoseconds(int64_t seconds, int64_t nanoseconds)
{
    int64_t all;
    if (__builtin_mul_overflow(seconds, 1000000000, &all) || __builtin_add_overflow(all, nanoseconds, &all))
        return seconds < 0 ? INT64_MIN : INT64_MAX;
    return all;
}

/* ---- cipher.c --------------------------------------------------------------------------------- */

/* Set up a key in memory from fc_alloc(); -EINVAL if code and key size are no pair. */
int fc_cipher_set(struct fc_cipher *, int code, size_t key_bytes, const uint8_t *key);
/* CBC over n octets, a multiple of the block size; in and out may be the same. */
int fc_cbc(const struct fc_cipher *, enum fc_direction, const uint8_t *iv, const uint8_t *in, uint8_t *out,
           size_t n);
/* 1 if the cipher's designers count this key as weak, 0 if not, or -errno. */
int fc_weak(const struct fc_cipher *);
void fc_schedules_free(struct fc_schedules *);
/* With the thread's lock held. */
void fc_schedules_forget(struct fc_schedules *, uint64_t serial);
size_t fc_schedules_kept(const struct fc_schedules *);

/* ---- kdf.c ------------------------------------------------------------------------------------ */

/* MD5 of a FEK's n octets. */
int fc_root_iv(const uint8_t *fek, size_t n, uint8_t root_iv[16]);

/* ---- iv.c ------------------------------------------------------------------------------------- */

/* The IVs of count extents, the first numbered `first`. */
void fc_ivs(const uint8_t root_iv[16], uint64_t first, size_t count, uint8_t (*iv)[16]);

/* ---- ipsec.c: AES through intel-ipsec-mb, many extents at a time ------------------------------- */

#define FC_BATCH 128 /* extents that one call takes */

/* Whether this build has it and this CPU can run it. */
int fc_ipsec_usable(void);
/* Whether this thread has a manager, which it gets with the first call. */
int fc_ipsec_ready(struct fc_thread *);
/* CBC over up to FC_BATCH extents, each with its own place and IV. */
int fc_ipsec_cbc(struct fc_thread *, const struct fc_cipher *, enum fc_direction, const uint8_t (*iv)[16],
                 const uint8_t *const *in, uint8_t *const *out, size_t count);
void fc_ipsec_free(struct fc_ipsec *);
/* With the thread's lock held. */
void fc_ipsec_forget(struct fc_ipsec *, uint64_t serial);
size_t fc_ipsec_kept(const struct fc_ipsec *);

/* ---- spread.c: work on several cores at once --------------------------------------------------- */

/* How many shares can be worked on at the same time; 1 on a single core. */
size_t fc_spread_width(void);
/* Do every share, each by one call, and return the first error. One caller at a time has helpers. */
int fc_spread(size_t shares, int (*run)(void *arg, size_t share), void *arg);

/* ---- extents.c -------------------------------------------------------------------------------- */

/* Extents that follow each other in the file, but not in memory. */
struct fc_piece {
    const uint8_t *in;
    uint8_t *out;
    size_t count;
};

/* Take the pieces as one run of extents, the first numbered `first`. */
int fc_pieces(const fc_file_key *, enum fc_direction, uint64_t first, const struct fc_piece *pieces,
              size_t n);

#endif
