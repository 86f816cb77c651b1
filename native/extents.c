/* CBC over runs of extents, by the fastest engine that this CPU and the cipher allow. */
#include "internal.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

static atomic_int portable_only;

static const char IPSEC[] = "ipsec-mb";
static const char PORTABLE[] = "portable";

const char *
fc_engine(void)
{
    return !portable_only && fc_ipsec_usable() ? IPSEC : PORTABLE;
}

int
fc_set_engine(const char *name)
{
    if (strcmp(name, PORTABLE) == 0) {
        portable_only = 1;
        return 0;
    }
    if (strcmp(name, IPSEC) != 0)
        return -EINVAL;
    if (!fc_ipsec_usable())
        return -ENOTSUP;
    portable_only = 0;
    return 0;
}

/* The thread's manager if the engine takes this cipher, else NULL. */
static struct fc_ipsec *
bulk_engine(const struct fc_cipher *c)
{
    if (c->code != FC_AES_128 && c->code != FC_AES_192 && c->code != FC_AES_256)
        return NULL;
    return fc_engine() == IPSEC ? fc_ipsec(fc_thread()) : NULL;
}

/* Where the extents of a batch are. */
struct batch {
    const uint8_t *in[FC_BATCH];
    uint8_t *out[FC_BATCH];
    uint8_t iv[FC_BATCH][16];
    size_t count;
};

static int
run(const fc_file_key *key, struct fc_ipsec *ipsec, enum fc_direction direction, uint64_t first,
    struct batch *b)
{
    fc_ivs(key->root_iv, first, b->count, b->iv);
    /* One extent has nothing to be encrypted beside: then the portable engine is faster by a quarter. */
    if (ipsec && (b->count > 1 || direction == FC_DECRYPT))
        return fc_ipsec_cbc(ipsec, &key->cipher, direction, (const uint8_t(*)[16])b->iv, b->in, b->out,
                            b->count);
    int error = 0;
    for (size_t i = 0; i < b->count && !error; i++)
        error = fc_cbc(&key->cipher, direction, b->iv[i], b->in[i], b->out[i], FC_EXTENT);
    return error;
}

int
fc_pieces(const fc_file_key *key, enum fc_direction direction, uint64_t first, const struct fc_piece *pieces,
          size_t n)
{
    if (key->cipher.serial == 0)
        return -ENOKEY;
    struct fc_ipsec *ipsec = bulk_engine(&key->cipher);
    struct batch b;
    b.count = 0;
    for (size_t p = 0; p < n; p++) {
        for (size_t i = 0; i < pieces[p].count; i++) {
            if (b.count == FC_BATCH) {
                int error = run(key, ipsec, direction, first, &b);
                if (error)
                    return error;
                first += b.count;
                b.count = 0;
            }
            b.in[b.count] = pieces[p].in + i * FC_EXTENT;
            b.out[b.count] = pieces[p].out + i * FC_EXTENT;
            b.count++;
        }
    }
    return b.count ? run(key, ipsec, direction, first, &b) : 0;
}

int
fc_extents_encrypt(const fc_file_key *key, uint64_t first, const uint8_t *in, uint8_t *out, size_t count)
{
    return fc_pieces(key, FC_ENCRYPT, first, &(struct fc_piece){in, out, count}, 1);
}

int
fc_extents_decrypt(const fc_file_key *key, uint64_t first, const uint8_t *in, uint8_t *out, size_t count)
{
    return fc_pieces(key, FC_DECRYPT, first, &(struct fc_piece){in, out, count}, 1);
}
