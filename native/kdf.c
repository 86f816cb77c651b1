/* From a passphrase to a FEKEK or FNEK, its signature and its name prefix. */
#include "internal.h"

#include <errno.h>
#include <gcrypt.h>
#include <string.h>

#define ROUNDS 65536
#define SHA512 64
#define MD5 16

/* A hash whose state lies in libgcrypt's secure memory, or NULL. */
static gcry_md_hd_t
open_hash(int algorithm)
{
    gcry_md_hd_t hash;
    fc_library();
    return gcry_md_open(&hash, algorithm, GCRY_MD_FLAG_SECURE) ? NULL : hash;
}

/* digest = H(a || b); `size` is the digest's length. */
static void
digest_of(gcry_md_hd_t hash, const uint8_t *a, size_t na, const uint8_t *b, size_t nb, uint8_t *digest,
          size_t size)
{
    gcry_md_reset(hash);
    gcry_md_write(hash, a, na);
    gcry_md_write(hash, b, nb);
    memcpy(digest, gcry_md_read(hash, 0), size);
}

int
fc_passphrase_key(const uint8_t *passphrase, size_t n, const uint8_t salt[FC_SALT], uint8_t key[FC_KEY])
{
    gcry_md_hd_t hash = open_hash(GCRY_MD_SHA512);
    if (!hash)
        return -ENOMEM;
    digest_of(hash, salt, FC_SALT, passphrase, n, key, SHA512);
    for (int i = 1; i < ROUNDS; i++)
        digest_of(hash, key, SHA512, key, 0, key, SHA512);
    gcry_md_close(hash);
    return 0;
}

int
fc_signature(const uint8_t key[FC_KEY], uint8_t signature[FC_SIGNATURE])
{
    gcry_md_hd_t hash = open_hash(GCRY_MD_SHA512);
    if (!hash)
        return -ENOMEM;
    digest_of(hash, key, FC_KEY, key, 0, signature, FC_SIGNATURE);
    gcry_md_close(hash);
    return 0;
}

int
fc_name_prefix(const uint8_t key[FC_KEY], uint8_t *prefix, size_t n)
{
    if (n < MD5 || n > FC_KEY)
        return -EINVAL;
    gcry_md_hd_t hash = open_hash(GCRY_MD_MD5);
    if (!hash)
        return -ENOMEM;
    uint8_t chain[MD5];
    digest_of(hash, key, FC_KEY, key, 0, chain, MD5);
    for (size_t i = 0; i < n; i++) {
        if (i && i % MD5 == 0)
            digest_of(hash, chain, MD5, chain, 0, chain, MD5);
        /* The first zero octet ends the prefix when a name is read. */
        prefix[i] = chain[i % MD5] ? chain[i % MD5] : 0x42;
    }
    gcry_md_close(hash);
    fc_wipe(chain, sizeof chain);
    return 0;
}

int
fc_root_iv(const uint8_t *fek, size_t n, uint8_t root_iv[MD5])
{
    gcry_md_hd_t hash = open_hash(GCRY_MD_MD5);
    if (!hash)
        return -ENOMEM;
    digest_of(hash, fek, n, fek, 0, root_iv, MD5);
    gcry_md_close(hash);
    return 0;
}
