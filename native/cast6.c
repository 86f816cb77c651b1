/* CAST-256 (RFC 2612): big-endian words, 48 rounds in 12 quad-rounds. */
#include "cast.h"
#include "fusecrypt.h"
#include "octets.h"

#define QUAD_ROUNDS 12

static uint32_t
round_function(unsigned kind, uint32_t data, uint32_t masking, unsigned rotation)
{
    switch (kind) {
    case 0:
        return fc_cast_f1(data, masking, rotation);
    case 1:
        return fc_cast_f2(data, masking, rotation);
    default:
        return fc_cast_f3(data, masking, rotation);
    }
}

/* The constants of the key schedule: each octave takes the next eight of the series Tm and Tr. */
struct series {
    uint32_t masking;
    unsigned rotation;
};

/* A "forward octave", W: the words G, F, ... A, H in turn, each changed by its right neighbour. */
static void
octave(uint32_t kappa[8], struct series *t)
{
    for (unsigned j = 0; j < 8; j++) {
        unsigned source = 7 - j;
        unsigned target = (source + 7) % 8;
        kappa[target] ^= round_function(j % 3, kappa[source], t->masking, t->rotation);
        t->masking += 0x6ed9eba1;
        t->rotation = (t->rotation + 17) % 32;
    }
}

void
fc_cast6_schedule(struct fc_cast *c, const uint8_t *key, size_t n)
{
    uint32_t kappa[8] = {0}; /* words A to H; short keys end in zeros */
    for (size_t i = 0; i < 8 && 4 * i < n; i++)
        kappa[i] = fc_load_be(key + 4 * i);
    struct series t = {.masking = 0x5a827999, .rotation = 19};
    c->rounds = 4 * QUAD_ROUNDS;
    for (size_t i = 0; i < QUAD_ROUNDS; i++) {
        octave(kappa, &t);
        octave(kappa, &t);
        for (size_t j = 0; j < 4; j++) {
            c->rotation[4 * i + j] = kappa[2 * j] & 31;
            c->masking[4 * i + j] = kappa[7 - 2 * j];
        }
    }
    fc_wipe(kappa, sizeof kappa);
}

/* A "forward quad-round", Q, of the words A to D. */
static void
forward(uint32_t w[4], const uint32_t *m, const uint8_t *r)
{
    w[2] ^= fc_cast_f1(w[3], m[0], r[0]);
    w[1] ^= fc_cast_f2(w[2], m[1], r[1]);
    w[0] ^= fc_cast_f3(w[1], m[2], r[2]);
    w[3] ^= fc_cast_f1(w[0], m[3], r[3]);
}

/* A "reverse quad-round", QBAR: it undoes Q with the same keys. */
static void
reverse(uint32_t w[4], const uint32_t *m, const uint8_t *r)
{
    w[3] ^= fc_cast_f1(w[0], m[3], r[3]);
    w[0] ^= fc_cast_f3(w[1], m[2], r[2]);
    w[1] ^= fc_cast_f2(w[2], m[1], r[1]);
    w[2] ^= fc_cast_f1(w[3], m[0], r[0]);
}

static void
load(uint32_t w[4], const uint8_t *in)
{
    for (size_t i = 0; i < 4; i++)
        w[i] = fc_load_be(in + 4 * i);
}

static void
store(uint8_t *out, const uint32_t w[4])
{
    for (size_t i = 0; i < 4; i++)
        fc_store_be(out + 4 * i, w[i]);
}

void
fc_cast6_encrypt(const struct fc_cast *c, const uint8_t *in, uint8_t *out)
{
    uint32_t w[4];
    load(w, in);
    for (size_t i = 0; i < QUAD_ROUNDS / 2; i++)
        forward(w, c->masking + 4 * i, c->rotation + 4 * i);
    for (size_t i = QUAD_ROUNDS / 2; i < QUAD_ROUNDS; i++)
        reverse(w, c->masking + 4 * i, c->rotation + 4 * i);
    store(out, w);
}

void
fc_cast6_decrypt(const struct fc_cast *c, const uint8_t *in, uint8_t *out)
{
    uint32_t w[4];
    load(w, in);
    for (size_t i = QUAD_ROUNDS; i-- > QUAD_ROUNDS / 2;)
        forward(w, c->masking + 4 * i, c->rotation + 4 * i);
    for (size_t i = QUAD_ROUNDS / 2; i-- > 0;)
        reverse(w, c->masking + 4 * i, c->rotation + 4 * i);
    store(out, w);
}
