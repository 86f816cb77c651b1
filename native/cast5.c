/* CAST-128 (RFC 2144). Used for keys of up to 80 bits, whose 12 rounds libgcrypt does not offer. */
#include "cast.h"
#include "fusecrypt.h"
#include "octets.h"

#include <string.h>

/*
 * The key schedule as a table: each row makes one word from octets of x (0 to 15) and z (16 to 31):
 * base ^ S5[a] ^ S6[b] ^ S7[c] ^ S8[d] ^ S[box][e]. Rows of `mix` have a base, a word of x or z, and
 * replace words 0 to 3 of the other one; rows of `derive` have none and yield subkeys.
 */
struct row {
    uint8_t a, b, c, d, box, e, base;
};

enum { X0, X1, X2, X3, X4, X5, X6, X7, X8, X9, XA, XB, XC, XD, XE, XF };
enum { Z0 = 16, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, ZA, ZB, ZC, ZD, ZE, ZF };
enum { S5 = 4, S6, S7, S8 };

/* z from x, then x from z */
static const struct row mix[2][4] = {
    {{XD, XF, XC, XE, S7, X8, X0},
     {Z0, Z2, Z1, Z3, S8, XA, X8},
     {Z7, Z6, Z5, Z4, S5, X9, XC},
     {ZA, Z9, ZB, Z8, S6, XB, X4}},
    {{Z5, Z7, Z4, Z6, S7, Z0, Z8},
     {X0, X2, X1, X3, S8, Z2, Z0},
     {X7, X6, X5, X4, S5, Z1, Z4},
     {XA, X9, XB, X8, S6, Z3, ZC}},
};

/* K1 to K4, K5 to K8, K9 to K12, K13 to K16; K17 to K32 repeat them */
static const struct row derive[4][4] = {
    {{Z8, Z9, Z7, Z6, S5, Z2, 0},
     {ZA, ZB, Z5, Z4, S6, Z6, 0},
     {ZC, ZD, Z3, Z2, S7, Z9, 0},
     {ZE, ZF, Z1, Z0, S8, ZC, 0}},
    {{X3, X2, XC, XD, S5, X8, 0},
     {X1, X0, XE, XF, S6, XD, 0},
     {X7, X6, X8, X9, S7, X3, 0},
     {X5, X4, XA, XB, S8, X7, 0}},
    {{Z3, Z2, ZC, ZD, S5, Z9, 0},
     {Z1, Z0, ZE, ZF, S6, ZC, 0},
     {Z7, Z6, Z8, Z9, S7, Z2, 0},
     {Z5, Z4, ZA, ZB, S8, Z6, 0}},
    {{X8, X9, X7, X6, S5, X3, 0},
     {XA, XB, X5, X4, S6, X7, 0},
     {XC, XD, X3, X2, S7, X8, 0},
     {XE, XF, X1, X0, S8, XD, 0}},
};

static uint32_t
substitute(const uint8_t xz[32], const struct row *t)
{
    return fc_cast_s[S5][xz[t->a]] ^ fc_cast_s[S6][xz[t->b]] ^ fc_cast_s[S7][xz[t->c]] ^
           fc_cast_s[S8][xz[t->d]] ^ fc_cast_s[t->box][xz[t->e]];
}

void
fc_cast5_schedule(struct fc_cast *c, const uint8_t *key, size_t n)
{
    uint8_t xz[32] = {0};
    memcpy(xz, key, n < 16 ? n : 16);
    c->rounds = n <= 10 ? 12 : 16;
    for (size_t k = 0; k < 32; k++) {
        size_t half = k / 4 % 2;
        if (k % 4 == 0) {
            for (size_t i = 0; i < 4; i++) {
                const struct row *t = &mix[half][i];
                uint8_t *target = xz + (half ? 0 : 16) + 4 * i;
                fc_store_be(target, fc_load_be(xz + t->base) ^ substitute(xz, t));
            }
        }
        uint32_t word = substitute(xz, &derive[k / 4 % 4][k % 4]);
        if (k < 16)
            c->masking[k] = word;
        else
            c->rotation[k - 16] = word & 31;
    }
    fc_wipe(xz, sizeof xz);
}

static uint32_t
round_function(const struct fc_cast *c, int i, uint32_t data)
{
    switch (i % 3) {
    case 0:
        return fc_cast_f1(data, c->masking[i], c->rotation[i]);
    case 1:
        return fc_cast_f2(data, c->masking[i], c->rotation[i]);
    default:
        return fc_cast_f3(data, c->masking[i], c->rotation[i]);
    }
}

void
fc_cast5_encrypt(const struct fc_cast *c, const uint8_t *in, uint8_t *out)
{
    uint32_t left = fc_load_be(in);
    uint32_t right = fc_load_be(in + 4);
    for (int i = 0; i < c->rounds; i++) {
        uint32_t next = left ^ round_function(c, i, right);
        left = right;
        right = next;
    }
    fc_store_be(out, right);
    fc_store_be(out + 4, left);
}

void
fc_cast5_decrypt(const struct fc_cast *c, const uint8_t *in, uint8_t *out)
{
    uint32_t right = fc_load_be(in);
    uint32_t left = fc_load_be(in + 4);
    for (int i = c->rounds; i-- > 0;) {
        uint32_t previous = right ^ round_function(c, i, left);
        right = left;
        left = previous;
    }
    fc_store_be(out, left);
    fc_store_be(out + 4, right);
}
