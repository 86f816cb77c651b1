/* Data that the kernel and ecryptfs-utils wrote. */
#include "check.h"

#include <gcrypt.h>
#include <string.h>

#define U(text) ((const uint8_t *)(text))

struct passphrase_vector {
    const char *passphrase;
    size_t n;
    const char *salt, *key, *signature;
};

struct iv_vector {
    const char *fek;
    size_t n;
    uint64_t extent;
    const char *iv;
};

struct header_vector {
    const char *name;
    int code;
    size_t key_bytes;
    const char *passphrase;
    size_t passphrase_size;
    const char *salt;
    const char *wrapped;
    size_t wrapped_size;
    const char *fek, *iv, *plaintext;
    size_t plaintext_size;
    const char *sha256;
};

struct name_vector {
    int code;
    size_t key_bytes;
    const char *passphrase;
    size_t passphrase_size;
    const char *salt, *name;
    size_t name_size;
    const char *prefix;
    size_t prefix_size;
    const char *ciphertext;
    size_t size;
    const char *lower;
    size_t lower_size;
};

struct target_vector {
    int code;
    size_t key_bytes;
    const char *passphrase;
    size_t passphrase_size;
    const char *salt, *target;
    size_t target_size;
    const char *lower;
    size_t lower_size;
};

#include "vectors.h"

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

static void
passphrase(const struct passphrase_vector *v)
{
    uint8_t key[FC_KEY], signature[FC_SIGNATURE];
    EXPECT(fc_passphrase_key(U(v->passphrase), v->n, U(v->salt), key) == 0, "%s", v->passphrase);
    EXPECT(memcmp(key, v->key, FC_KEY) == 0, "%s", v->passphrase);
    EXPECT(fc_signature(key, signature) == 0, "%s", v->passphrase);
    EXPECT(memcmp(signature, v->signature, FC_SIGNATURE) == 0, "%s", v->passphrase);
}

static void
iv(const struct iv_vector *v)
{
    int code = v->n == 16 ? FC_AES_128 : v->n == 24 ? FC_AES_192 : v->n == 32 ? FC_AES_256 : FC_BLOWFISH;
    fc_file_key *key = NULL;
    uint8_t got[16];
    EXPECT(fc_file_key_new(code, v->n, U(v->fek), &key) == 0, "%zu octets", v->n);
    EXPECT(fc_extent_iv(key, v->extent, got) == 0, "%zu octets", v->n);
    EXPECT(memcmp(got, v->iv, 16) == 0, "extent %llu", (unsigned long long)v->extent);
    fc_file_key_free(key);
}

static void
header(const struct header_vector *v)
{
    static uint8_t extent[FC_EXTENT], plain[FC_EXTENT];
    uint8_t fekek[FC_KEY], wrapped[64], digest[32], first_iv[16];
    fc_file_key *key = NULL, *same = NULL;
    EXPECT(fc_passphrase_key(U(v->passphrase), v->passphrase_size, U(v->salt), fekek) == 0, "%s", v->name);
    int error = fc_file_key_unwrap(v->code, v->key_bytes, fekek, U(v->wrapped), v->wrapped_size, &key);
    EXPECT(error == 0, "%s: %s", v->name, strerror(-error));
    EXPECT(memcmp(key->cipher.key, v->fek, v->key_bytes) == 0, "%s", v->name);
    EXPECT(fc_file_key_new(v->code, v->key_bytes, U(v->fek), &same) == 0, "%s", v->name);
    EXPECT(fc_file_key_wrap(same, fekek, wrapped, v->wrapped_size) == 0, "%s", v->name);
    EXPECT(memcmp(wrapped, v->wrapped, v->wrapped_size) == 0, "%s", v->name);
    EXPECT(fc_extent_iv(key, 0, first_iv) == 0, "%s", v->name);
    EXPECT(memcmp(first_iv, v->iv, (size_t)fc_block_size(v->code, v->key_bytes)) == 0, "%s", v->name);
    memset(plain, 0, sizeof plain);
    memcpy(plain, v->plaintext, v->plaintext_size);
    EXPECT(fc_extents_encrypt(key, 0, plain, extent, 1) == 0, "%s", v->name);
    gcry_md_hash_buffer(GCRY_MD_SHA256, digest, extent, sizeof extent);
    EXPECT(memcmp(digest, v->sha256, sizeof digest) == 0, "%s", v->name);
    EXPECT(fc_extents_decrypt(same, 0, extent, extent, 1) == 0, "%s", v->name);
    EXPECT(memcmp(extent, plain, sizeof plain) == 0, "%s", v->name);
    fc_file_key_free(key);
    fc_file_key_free(same);
}

static void
name(const struct name_vector *v)
{
    uint8_t key[FC_KEY], plain[512], out[512];
    fc_cipher *cipher = NULL;
    EXPECT(v->size <= sizeof plain && v->prefix_size + 1 + v->name_size == v->size, "%s", v->name);
    EXPECT(fc_passphrase_key(U(v->passphrase), v->passphrase_size, U(v->salt), key) == 0, "%s", v->name);
    EXPECT(fc_name_prefix(key, plain, v->prefix_size) == 0, "%s", v->name);
    EXPECT(memcmp(plain, v->prefix, v->prefix_size) == 0, "%s", v->name);
    plain[v->prefix_size] = 0;
    memcpy(plain + v->prefix_size + 1, v->name, v->name_size);
    EXPECT(fc_cipher_new(v->code, v->key_bytes, key, &cipher) == 0, "%s", v->name);
    EXPECT(fc_ecb_encrypt(cipher, plain, out, v->size) == 0, "%s", v->name);
    EXPECT(memcmp(out, v->ciphertext, v->size) == 0, "%s", v->name);
    EXPECT(fc_ecb_decrypt(cipher, out, out, v->size) == 0, "%s", v->name);
    EXPECT(memcmp(out, plain, v->size) == 0, "%s", v->name);
    fc_cipher_free(cipher);
    check_name((struct pair){v->code, v->key_bytes}, key, U(v->name), v->name_size, U(v->lower),
               v->lower_size);
}

static void
target(const struct target_vector *v)
{
    uint8_t key[FC_KEY];
    EXPECT(fc_passphrase_key(U(v->passphrase), v->passphrase_size, U(v->salt), key) == 0, "%s", v->target);
    check_name((struct pair){v->code, v->key_bytes}, key, U(v->target), v->target_size, U(v->lower),
               v->lower_size);
}

void
check_vectors(void)
{
    for (size_t i = 0; i < COUNT(passphrase_vectors); i++)
        passphrase(&passphrase_vectors[i]);
    for (size_t i = 0; i < COUNT(iv_vectors); i++)
        iv(&iv_vectors[i]);
    for (size_t i = 0; i < COUNT(header_vectors); i++)
        header(&header_vectors[i]);
    for (size_t i = 0; i < COUNT(name_vectors); i++)
        name(&name_vectors[i]);
    for (size_t i = 0; i < COUNT(target_vectors); i++)
        target(&target_vectors[i]);
}
