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

/* This thread if the bulk engine takes this cipher, else NULL. */
static struct fc_thread *
bulk_engine(const struct fc_cipher *c)
{
    if (c->code != FC_AES_128 && c->code != FC_AES_192 && c->code != FC_AES_256)
        return NULL;
    struct fc_thread *thread = fc_engine() == IPSEC ? fc_thread() : NULL;
    return fc_ipsec_ready(thread) ? thread : NULL;
}

/* Where the extents of a batch are. */
struct batch {
    const uint8_t *in[FC_BATCH];
    uint8_t *out[FC_BATCH];
    uint8_t iv[FC_BATCH][16];
    size_t count;
};

static int
run(const fc_file_key *key, struct fc_thread *bulk, enum fc_direction direction, uint64_t first,
    struct batch *b)
{
    fc_ivs(key->root_iv, first, b->count, b->iv);
    /* One extent has nothing to be encrypted beside: then the portable engine is faster by a quarter. */
    if (bulk && (b->count > 1 || direction == FC_DECRYPT))
        return fc_ipsec_cbc(bulk, &key->cipher, direction, (const uint8_t(*)[16])b->iv, b->in, b->out,
                            b->count);
    int error = 0;
    for (size_t i = 0; i < b->count && !error; i++)
        error = fc_cbc(&key->cipher, direction, b->iv[i], b->in[i], b->out[i], FC_EXTENT);
    return error;
}

/* A run of extents that lies in pieces, to be done in shares of so many. */
struct work {
    const fc_file_key *key;
    enum fc_direction direction;
    uint64_t first;
    const struct fc_piece *pieces;
    size_t total, share;
};

static size_t
least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Where `count` extents are, the `from`th of all and those after it. */
static void
gather(const struct work *w, size_t from, size_t count, struct batch *b)
{
    b->count = 0;
    for (const struct fc_piece *piece = w->pieces; b->count < count; piece++) {
        size_t skip = least(from, piece->count);
        from -= skip;
        for (size_t i = skip; i < piece->count && b->count < count; i++, b->count++) {
            b->in[b->count] = piece->in + i * FC_EXTENT;
            b->out[b->count] = piece->out + i * FC_EXTENT;
        }
    }
}

static int
run_part(const struct work *w, size_t from, size_t count)
{
    struct fc_thread *bulk = bulk_engine(&w->key->cipher);
    struct batch b;
    int error = 0;
    for (size_t end = from + count; from < end && !error; from += b.count) {
        gather(w, from, least(end - from, FC_BATCH), &b);
        error = run(w->key, bulk, w->direction, w->first + from, &b);
    }
    return error;
}

static int
run_share(void *arg, size_t share)
{
    const struct work *w = arg;
    size_t from = share * w->share;
    return run_part(w, from, least(w->share, w->total - from));
}

/*
 * How many extents are worth another core: what takes several times as long as waking it. On two cores the
 * bulk engine leaves the other one to whoever waits for the result.
 */
static size_t
share_of(const struct fc_cipher *c, size_t total)
{
    int bulk = bulk_engine(c) != NULL;
    size_t smallest = bulk ? FC_BATCH : 16;
    if (total < 2 * smallest)
        return total;
    size_t width = fc_spread_width();
    if (width <= 1 + (size_t)bulk)
        return total;
    size_t shares = least(width, total / smallest);
    return (total + shares - 1) / shares;
}

int
fc_pieces(const fc_file_key *key, enum fc_direction direction, uint64_t first, const struct fc_piece *pieces,
          size_t n)
{
    if (key->cipher.serial == 0)
        return -ENOKEY;
    struct work w = {.key = key, .direction = direction, .first = first, .pieces = pieces};
    for (size_t p = 0; p < n; p++)
        w.total += pieces[p].count;
    w.share = share_of(&key->cipher, w.total);
    if (w.share == w.total)
        return run_part(&w, 0, w.total);
    return fc_spread((w.total + w.share - 1) / w.share, run_share, &w);
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
