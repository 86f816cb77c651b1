/* Single ciphers: the RFCs' vectors of CAST, key sizes, weak keys. */
#include "check.h"

#include "cast.h"

#include <errno.h>
#include <string.h>

#define U(text) ((const uint8_t *)(text))

struct cast_vector {
    const char *key;
    size_t key_bytes;
    const char *ciphertext;
};

/* RFC 2144, appendix B.1: plaintext 01 23 ... ef */
static const struct cast_vector cast5_vectors[] = {
    {"\x01\x23\x45\x67\x12\x34\x56\x78\x23\x45\x67\x89\x34\x56\x78\x9a", 16,
     "\x23\x8b\x4f\xe5\x84\x7e\x44\xb2"},
    {"\x01\x23\x45\x67\x12\x34\x56\x78\x23\x45", 10, "\xeb\x6a\x71\x1a\x2c\x02\x27\x1b"},
    {"\x01\x23\x45\x67\x12", 5, "\x7a\xc8\x16\xd1\x6e\x9b\x30\x2e"},
};

/* RFC 2612, appendix A: plaintext zeros */
static const struct cast_vector cast6_vectors[] = {
    {"\x23\x42\xbb\x9e\xfa\x38\x54\x2c\x0a\xf7\x56\x47\xf2\x9f\x61\x5d", 16,
     "\xc8\x42\xa0\x89\x72\xb4\x3d\x20\x83\x6c\x91\xd1\xb7\x53\x0f\x6b"},
    {"\x23\x42\xbb\x9e\xfa\x38\x54\x2c\xbe\xd0\xac\x83\x94\x0a\xc2\x98\xba\xc7\x7a\x77\x17\x94\x28\x63", 24,
     "\x1b\x38\x6c\x02\x10\xdc\xad\xcb\xdd\x0e\x41\xaa\x08\xa7\xa7\xe8"},
    {"\x23\x42\xbb\x9e\xfa\x38\x54\x2c\xbe\xd0\xac\x83\x94\x0a\xc2\x98\x8d\x7c\x47\xce\x26\x49\x08\x46\x1c"
     "\xc1\xb5"
     "\x13\x7a\xe6\xb6\x04",
     32, "\x4f\x6a\x20\x38\x28\x68\x97\xb9\xc9\x87\x01\x36\x55\x33\x17\xfa"},
};

static void
cast(void)
{
    const uint8_t plain[8] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}, zeros[16] = {0};
    uint8_t block[16];
    struct fc_cast schedule;
    for (size_t i = 0; i < sizeof cast5_vectors / sizeof cast5_vectors[0]; i++) {
        const struct cast_vector *v = &cast5_vectors[i];
        fc_cast5_schedule(&schedule, U(v->key), v->key_bytes);
        fc_cast5_encrypt(&schedule, plain, block);
        EXPECT(memcmp(block, v->ciphertext, 8) == 0, "CAST-128, %zu octets", v->key_bytes);
        fc_cast5_decrypt(&schedule, block, block);
        EXPECT(memcmp(block, plain, 8) == 0, "CAST-128, %zu octets", v->key_bytes);
    }
    for (size_t i = 0; i < sizeof cast6_vectors / sizeof cast6_vectors[0]; i++) {
        const struct cast_vector *v = &cast6_vectors[i];
        fc_cast6_schedule(&schedule, U(v->key), v->key_bytes);
        fc_cast6_encrypt(&schedule, zeros, block);
        EXPECT(memcmp(block, v->ciphertext, 16) == 0, "CAST-256, %zu octets", v->key_bytes);
        fc_cast6_decrypt(&schedule, block, block);
        EXPECT(memcmp(block, zeros, 16) == 0, "CAST-256, %zu octets", v->key_bytes);
    }
}

/* The pairs of the format, and nothing else, make a cipher. */
static void
key_sizes(void)
{
    const uint8_t key[FC_KEY] = {1, 2, 3};
    for (int code = -1; code < 260; code++) {
        for (size_t n = 0; n <= FC_KEY + 1; n++) {
            int known = 0;
            for (size_t i = 0; i < check_pair_count; i++)
                known |= check_pairs[i].code == code && check_pairs[i].key_bytes == n;
            fc_cipher *cipher = NULL;
            int error = fc_cipher_new(code, n, key, &cipher);
            EXPECT(error == (known ? 0 : -EINVAL), "cipher %d, %zu octets: %d", code, n, error);
            EXPECT((fc_block_size(code, n) > 0) == known, "cipher %d, %zu octets", code, n);
            fc_cipher_free(cipher);
        }
    }
}

static void
ecb(struct pair pair)
{
    uint8_t key[FC_KEY], plain[160], out[160];
    fc_cipher *cipher = NULL;
    check_random(2, key, sizeof key);
    check_random(3, plain, sizeof plain);
    EXPECT(fc_cipher_new(pair.code, pair.key_bytes, key, &cipher) == 0, "cipher %d", pair.code);
    int block = fc_block_size(pair.code, pair.key_bytes);
    EXPECT(fc_ecb_encrypt(cipher, plain, out, sizeof plain) == 0, "cipher %d", pair.code);
    EXPECT(memcmp(out, plain, sizeof plain) != 0, "cipher %d", pair.code);
    memcpy(out, plain, (size_t)block);
    EXPECT(fc_ecb_encrypt(cipher, out, out, (size_t)block) == 0, "cipher %d in place", pair.code);
    EXPECT(fc_ecb_decrypt(cipher, out, out, sizeof out) == 0, "cipher %d in place", pair.code);
    EXPECT(memcmp(out, plain, sizeof plain) == 0, "cipher %d", pair.code);
    EXPECT(fc_ecb_encrypt(cipher, plain, out, (size_t)block - 1) == -EINVAL, "cipher %d, part block",
           pair.code);
    EXPECT(fc_ecb_decrypt(cipher, plain, out, 0) == 0, "cipher %d, nothing", pair.code);
    fc_cipher_free(cipher);
}

/* FEKs survive wrapping, sizes other than the cipher's are refused. */
static void
wrapping(struct pair pair)
{
    uint8_t fekek[FC_KEY], wrapped[64], iv[2][16];
    fc_file_key *key = NULL, *back = NULL;
    size_t n = pair.code == FC_AES_192 ? 32 : pair.key_bytes;
    check_random(4, fekek, sizeof fekek);
    EXPECT(fc_file_key_random(pair.code, pair.key_bytes, &key) == 0, "cipher %d", pair.code);
    EXPECT(fc_file_key_wrap(key, fekek, wrapped, n) == 0, "cipher %d", pair.code);
    EXPECT(fc_file_key_wrap(key, fekek, wrapped, n + 8) == -EINVAL, "cipher %d", pair.code);
    EXPECT(fc_file_key_unwrap(pair.code, pair.key_bytes, fekek, wrapped, n - 8, &back) == -EINVAL,
           "too short");
    EXPECT(fc_file_key_unwrap(pair.code, pair.key_bytes, fekek, wrapped, n, &back) == 0, "cipher %d",
           pair.code);
    EXPECT(fc_extent_iv(key, 9, iv[0]) == 0 && fc_extent_iv(back, 9, iv[1]) == 0, "cipher %d", pair.code);
    EXPECT(memcmp(iv[0], iv[1], 16) == 0, "cipher %d, %zu octets", pair.code, pair.key_bytes);
    fc_file_key_free(key);
    fc_file_key_free(back);
}

/* A file with a weak FEK must open all the same. */
static void
weak_keys(void)
{
    static uint8_t extent[FC_EXTENT], plain[FC_EXTENT];
    const uint8_t weak[24] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    fc_file_key *key = NULL;
    EXPECT(fc_file_key_new(FC_DES3_EDE, 24, weak, &key) == 0, "weak");
    EXPECT(fc_weak(&key->cipher) == 1, "weak");
    check_random(6, plain, sizeof plain);
    EXPECT(fc_extents_encrypt(key, 0, plain, extent, 1) == 0, "weak");
    EXPECT(fc_extents_decrypt(key, 0, extent, extent, 1) == 0, "weak");
    EXPECT(memcmp(plain, extent, sizeof plain) == 0, "weak");
    fc_file_key_free(key);
    key = check_key((struct pair){FC_DES3_EDE, 24}, 1);
    EXPECT(fc_weak(&key->cipher) == 0, "not weak");
    fc_file_key_free(key);
}

void
check_ciphers(void)
{
    cast();
    key_sizes();
    weak_keys();
    for (size_t i = 0; i < check_pair_count; i++) {
        ecb(check_pairs[i]);
        wrapping(check_pairs[i]);
    }
}
