/* AES-CBC through intel-ipsec-mb: CBC is serial inside an extent, so sixteen are encrypted at once. */
#include "internal.h"

#include <errno.h>

#ifdef FC_IPSEC_MB

/* Version 1.3 would otherwise define names as bare as MD5 and ENCRYPT. */
#define NO_COMPAT_IMB_API_053
#include <intel-ipsec-mb.h>
#include <stdlib.h>
#include <string.h>

/* The schedules of the key this thread used last, in key memory. */
struct schedule {
    _Alignas(16) uint8_t encrypt[15 * 16];
    _Alignas(16) uint8_t decrypt[15 * 16];
    uint64_t serial;
};

struct fc_ipsec {
    IMB_MGR *manager;
    struct schedule *schedule;
    IMB_JOB jobs[FC_BATCH];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int usable;

/* NULL where the CPU lacks what the library needs: then its function pointers stay null. */
static IMB_MGR *
new_manager(void)
{
    IMB_MGR *manager = alloc_mb_mgr(0);
    if (!manager)
        return NULL;
    init_mb_mgr_auto(manager, NULL);
    if (imb_get_errno(manager) != 0) {
        free_mb_mgr(manager);
        return NULL;
    }
    return manager;
}

static void
probe(void)
{
    IMB_MGR *manager = new_manager();
    usable = manager != NULL;
    if (manager)
        free_mb_mgr(manager);
}

int
fc_ipsec_usable(void)
{
    pthread_once(&once, probe);
    return usable;
}

static struct fc_ipsec *
new_ipsec(void)
{
    struct fc_ipsec *ipsec = calloc(1, sizeof *ipsec);
    if (!ipsec)
        return NULL;
    ipsec->manager = new_manager();
    ipsec->schedule = fc_alloc(sizeof *ipsec->schedule);
    if (ipsec->manager && ipsec->schedule)
        return ipsec;
    fc_ipsec_free(ipsec);
    return NULL;
}

int
fc_ipsec_ready(struct fc_thread *thread)
{
    if (!thread || thread->ipsec)
        return thread != NULL;
    struct fc_ipsec *ipsec = new_ipsec();
    pthread_mutex_lock(&thread->lock);
    thread->ipsec = ipsec;
    pthread_mutex_unlock(&thread->lock);
    return ipsec != NULL;
}

void
fc_ipsec_free(struct fc_ipsec *ipsec)
{
    if (!ipsec)
        return;
    if (ipsec->manager)
        free_mb_mgr(ipsec->manager);
    fc_free(ipsec->schedule);
    free(ipsec);
}

void
fc_ipsec_forget(struct fc_ipsec *ipsec, uint64_t serial)
{
    if (ipsec && ipsec->schedule->serial == serial)
        fc_wipe(ipsec->schedule, sizeof *ipsec->schedule);
}

size_t
fc_ipsec_kept(const struct fc_ipsec *ipsec)
{
    return ipsec && !fc_is_zero(ipsec->schedule, sizeof *ipsec->schedule);
}

static void
load(struct fc_ipsec *ipsec, const struct fc_cipher *c)
{
    struct schedule *s = ipsec->schedule;
    if (s->serial == c->serial)
        return;
    switch (c->key_bytes) {
    case IMB_KEY_128_BYTES:
        IMB_AES_KEYEXP_128(ipsec->manager, c->key, s->encrypt, s->decrypt);
        break;
    case IMB_KEY_192_BYTES:
        IMB_AES_KEYEXP_192(ipsec->manager, c->key, s->encrypt, s->decrypt);
        break;
    default:
        IMB_AES_KEYEXP_256(ipsec->manager, c->key, s->encrypt, s->decrypt);
        break;
    }
    s->serial = c->serial;
}

int
fc_ipsec_cbc(struct fc_thread *thread, const struct fc_cipher *c, enum fc_direction direction,
             const uint8_t (*iv)[16], const uint8_t *const *in, uint8_t *const *out, size_t count)
{
    if (count > FC_BATCH)
        return -EINVAL;
    pthread_mutex_lock(&thread->lock);
    struct fc_ipsec *ipsec = thread->ipsec;
    load(ipsec, c);
    for (size_t i = 0; i < count; i++) {
        IMB_JOB *job = &ipsec->jobs[i];
        job->enc_keys = ipsec->schedule->encrypt;
        job->dec_keys = ipsec->schedule->decrypt;
        job->key_len_in_bytes = c->key_bytes;
        job->src = in[i];
        job->dst = out[i];
        job->msg_len_to_cipher_in_bytes = FC_EXTENT;
        job->iv = iv[i];
        job->iv_len_in_bytes = 16;
    }
    IMB_CIPHER_DIRECTION way = direction == FC_ENCRYPT ? IMB_DIR_ENCRYPT : IMB_DIR_DECRYPT;
    uint32_t done = IMB_SUBMIT_CIPHER_BURST(ipsec->manager, ipsec->jobs, (uint32_t)count, IMB_CIPHER_CBC, way,
                                            (IMB_KEY_SIZE_BYTES)c->key_bytes);
    pthread_mutex_unlock(&thread->lock);
    return done == count ? 0 : -EIO;
}

int
fc_raw_cbc(size_t key_bytes, int decrypt, const uint8_t *in, uint8_t *out, size_t count, size_t rounds)
{
    _Alignas(16) uint8_t schedules[2][15 * 16];
    static const uint8_t zeros[32];
    if (!fc_ipsec_usable() || (key_bytes != 16 && key_bytes != 24 && key_bytes != 32))
        return -ENOTSUP;
    if (count == 0)
        return -EINVAL;
    IMB_MGR *manager = new_manager();
    IMB_JOB *jobs = calloc(IMB_MAX_BURST_SIZE, sizeof *jobs);
    if (!manager || !jobs) {
        if (manager)
            free_mb_mgr(manager);
        free(jobs);
        return -ENOMEM;
    }
    if (key_bytes == 16)
        IMB_AES_KEYEXP_128(manager, zeros, schedules[0], schedules[1]);
    else if (key_bytes == 24)
        IMB_AES_KEYEXP_192(manager, zeros, schedules[0], schedules[1]);
    else
        IMB_AES_KEYEXP_256(manager, zeros, schedules[0], schedules[1]);
    int error = 0;
    for (size_t done = 0; done < count * rounds && !error;) {
        size_t first = done % count;
        size_t n = count - first < IMB_MAX_BURST_SIZE ? count - first : IMB_MAX_BURST_SIZE;
        for (size_t i = 0; i < n; i++) {
            jobs[i].enc_keys = schedules[0];
            jobs[i].dec_keys = schedules[1];
            jobs[i].key_len_in_bytes = key_bytes;
            jobs[i].src = in + (first + i) * FC_EXTENT;
            jobs[i].dst = out + (first + i) * FC_EXTENT;
            jobs[i].msg_len_to_cipher_in_bytes = FC_EXTENT;
            jobs[i].iv = zeros;
            jobs[i].iv_len_in_bytes = 16;
        }
        if (IMB_SUBMIT_CIPHER_BURST(manager, jobs, (uint32_t)n, IMB_CIPHER_CBC,
                                    decrypt ? IMB_DIR_DECRYPT : IMB_DIR_ENCRYPT,
                                    (IMB_KEY_SIZE_BYTES)key_bytes) != n)
            error = -EIO;
        done += n;
    }
    free(jobs);
    free_mb_mgr(manager);
    return error;
}

#else /* a build without the library */

int
fc_ipsec_usable(void)
{
    return 0;
}

int
fc_ipsec_ready(struct fc_thread *thread)
{
    (void)thread;
    return 0;
}

void
fc_ipsec_forget(struct fc_ipsec *ipsec, uint64_t serial)
{
    (void)ipsec, (void)serial;
}

size_t
fc_ipsec_kept(const struct fc_ipsec *ipsec)
{
    (void)ipsec;
    return 0;
}

void
fc_ipsec_free(struct fc_ipsec *ipsec)
{
    (void)ipsec;
}

int
fc_ipsec_cbc(struct fc_thread *thread, const struct fc_cipher *c, enum fc_direction direction,
             const uint8_t (*iv)[16], const uint8_t *const *in, uint8_t *const *out, size_t count)
{
    (void)thread, (void)c, (void)direction, (void)iv, (void)in, (void)out, (void)count;
    return -ENOTSUP;
}

int
fc_raw_cbc(size_t key_bytes, int decrypt, const uint8_t *in, uint8_t *out, size_t count, size_t rounds)
{
    (void)key_bytes, (void)decrypt, (void)in, (void)out, (void)count, (void)rounds;
    return -ENOTSUP;
}

#endif
