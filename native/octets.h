/* Big-endian numbers in octet strings. */
#ifndef FUSECRYPT_OCTETS_H
#define FUSECRYPT_OCTETS_H

#include <stdint.h>

static inline uint32_t
fc_load_be(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void
fc_store_be(uint8_t *p, uint32_t x)
{
    p[0] = (uint8_t)(x >> 24);
    p[1] = (uint8_t)(x >> 16);
    p[2] = (uint8_t)(x >> 8);
    p[3] = (uint8_t)x;
}

#endif
