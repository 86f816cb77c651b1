/* Runs of extents: like one extent after the other, whatever the engine. */
#include "check.h"

#include <errno.h>
#include <gcrypt.h>
#include <string.h>

#define MANY 300 /* more than two batches */

static uint8_t plain[MANY * FC_EXTENT], single[MANY * FC_EXTENT], out[MANY * FC_EXTENT + 1];

/* IVs by libgcrypt's MD5, over numbers whose digits change in all ways. */
static void
ivs(void)
{
    const uint64_t firsts[] = {0, 1, 5, 8, 95, 992, 9999, 99999999995, 999999999999999};
    fc_file_key *key = check_key((struct pair){FC_AES_128, 16}, 8);
    for (size_t f = 0; f < sizeof firsts / sizeof firsts[0]; f++) {
        for (size_t count = 1; count < 20; count++) {
            uint8_t iv[20][16] = {{0}};
            fc_ivs(key->root_iv, firsts[f], count, iv);
            for (size_t i = 0; i < 20; i++) {
                uint8_t expected[16] = {0}, message[32] = {0};
                char text[24] = {0};
                snprintf(text, sizeof text, "%llu", (unsigned long long)firsts[f] + i);
                memcpy(message, key->root_iv, 16);
                memcpy(message + 16, text, 15); /* the field's last octet is always zero */
                if (i < count)
                    gcry_md_hash_buffer(GCRY_MD_MD5, expected, message, sizeof message);
                EXPECT(memcmp(iv[i], expected, 16) == 0, "extent %s, %zu of %zu", text, i, count);
            }
        }
    }
    fc_file_key_free(key);
}

static void
runs(struct pair pair)
{
    fc_file_key *key = check_key(pair, 9);
    uint64_t first = 90;
    for (size_t i = 0; i < MANY; i++) {
        size_t at = i * FC_EXTENT;
        EXPECT(fc_extents_encrypt(key, first + i, plain + at, single + at, 1) == 0, "cipher %d", pair.code);
    }
    for (size_t count = 0; count <= MANY; count += count < 40 ? 1 : 65) {
        size_t n = count * FC_EXTENT;
        out[n] = 0xaa;
        EXPECT(fc_extents_encrypt(key, first, plain, out, count) == 0, "cipher %d", pair.code);
        EXPECT(memcmp(out, single, n) == 0, "cipher %d, %zu octets, %zu extents", pair.code, pair.key_bytes,
               count);
        EXPECT(fc_extents_decrypt(key, first, out, out, count) == 0, "cipher %d", pair.code);
        EXPECT(memcmp(out, plain, n) == 0, "cipher %d, %zu octets, %zu extents", pair.code, pair.key_bytes,
               count);
        EXPECT(out[n] == 0xaa, "cipher %d, %zu extents: past the end", pair.code, count);
    }
    fc_file_key_free(key);
}

/* The engines write the same octets. */
static void
engines(struct pair pair)
{
    const char *now = fc_engine();
    fc_file_key *key = check_key(pair, 10);
    EXPECT(fc_extents_encrypt(key, 7, plain, single, 50) == 0, "cipher %d", pair.code);
    EXPECT(fc_set_engine("portable") == 0, "portable");
    EXPECT(fc_extents_encrypt(key, 7, plain, out, 50) == 0, "cipher %d", pair.code);
    EXPECT(fc_set_engine(now) == 0, "%s", now);
    EXPECT(memcmp(single, out, (size_t)50 * FC_EXTENT) == 0, "cipher %d", pair.code);
    fc_file_key_free(key);
}

/* Keys taken in turn: a thread must not use the schedule of another key. */
static void
turns(struct pair pair)
{
    fc_file_key *key[2] = {check_key(pair, 11), check_key(pair, 12)};
    for (int round = 0; round < 2; round++)
        for (int k = 0; k < 2; k++)
            EXPECT(fc_extents_encrypt(key[k], 0, plain, (k ? out : single) + (size_t)round * FC_EXTENT, 1) ==
                       0,
                   "turns");
    EXPECT(memcmp(out, out + FC_EXTENT, FC_EXTENT) == 0, "cipher %d", pair.code);
    EXPECT(memcmp(single, single + FC_EXTENT, FC_EXTENT) == 0, "cipher %d", pair.code);
    EXPECT(memcmp(single, out, FC_EXTENT) != 0, "cipher %d", pair.code);
    fc_file_key_free(key[0]);
    fc_file_key_free(key[1]);
}

void
check_extents(void)
{
    check_random(13, plain, sizeof plain);
    ivs();
    EXPECT(fc_set_engine("abacus") == -EINVAL, "no such engine");
    for (size_t i = 0; i < check_pair_count; i++) {
        engines(check_pairs[i]);
        turns(check_pairs[i]);
        /* One key size of each slow cipher is enough. */
        if (i == 0 || check_pairs[i].code != check_pairs[i - 1].code)
            runs(check_pairs[i]);
    }
}
