/* CAST-128 (RFC 2144) and CAST-256 (RFC 2612), one block at a time: what libgcrypt lacks. */
#ifndef FUSECRYPT_CAST_H
#define FUSECRYPT_CAST_H

#include <stddef.h>
#include <stdint.h>

/* A pair of masking and rotation keys a round: 12 or 16 of CAST-128, 48 of CAST-256. */
struct fc_cast {
    uint32_t masking[48];
    uint8_t rotation[48];
    int rounds;
};

extern const uint32_t fc_cast_s[8][256];

/* n of 5 to 16 octets; up to 10 mean 12 rounds instead of 16. */
void fc_cast5_schedule(struct fc_cast *, const uint8_t *key, size_t n);
/* One block of 8 octets; in and out may be the same. */
void fc_cast5_encrypt(const struct fc_cast *, const uint8_t *in, uint8_t *out);
void fc_cast5_decrypt(const struct fc_cast *, const uint8_t *in, uint8_t *out);

/* n of 16 to 32 octets, a multiple of 4. */
void fc_cast6_schedule(struct fc_cast *, const uint8_t *key, size_t n);
/* One block of 16 octets; in and out may be the same. */
void fc_cast6_encrypt(const struct fc_cast *, const uint8_t *in, uint8_t *out);
void fc_cast6_decrypt(const struct fc_cast *, const uint8_t *in, uint8_t *out);

static inline uint32_t
fc_cast_rotate(uint32_t x, unsigned n)
{
    return x << (n & 31) | x >> (-n & 31);
}

/* The three round functions, which both ciphers share. */

static inline uint32_t
fc_cast_f1(uint32_t data, uint32_t masking, unsigned rotation)
{
    const uint32_t(*s)[256] = fc_cast_s;
    uint32_t i = fc_cast_rotate(masking + data, rotation);
    return ((s[0][i >> 24] ^ s[1][i >> 16 & 255]) - s[2][i >> 8 & 255]) + s[3][i & 255];
}

static inline uint32_t
fc_cast_f2(uint32_t data, uint32_t masking, unsigned rotation)
{
    const uint32_t(*s)[256] = fc_cast_s;
    uint32_t i = fc_cast_rotate(masking ^ data, rotation);
    return ((s[0][i >> 24] - s[1][i >> 16 & 255]) + s[2][i >> 8 & 255]) ^ s[3][i & 255];
}

static inline uint32_t
fc_cast_f3(uint32_t data, uint32_t masking, unsigned rotation)
{
    const uint32_t(*s)[256] = fc_cast_s;
    uint32_t i = fc_cast_rotate(masking - data, rotation);
    return ((s[0][i >> 24] + s[1][i >> 16 & 255]) ^ s[2][i >> 8 & 255]) - s[3][i & 255];
}

#endif
