/* A file's FEK: made, wrapped by a FEKEK and unwrapped again. */
#include "internal.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

/* AES-192 is the only key that is not whole blocks: it is padded with zero octets. */
#define AES_192_WRAPPED 32

static size_t
wrapped_size(int code, size_t key_bytes)
{
    return code == FC_AES_192 ? AES_192_WRAPPED : key_bytes;
}

static int
random_octets(uint8_t *out, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t got = getrandom(out + done, n - done, 0);
        if (got < 0 && errno != EINTR)
            return -errno;
        if (got > 0)
            done += (size_t)got;
    }
    return 0;
}

int
fc_file_key_new(int code, size_t key_bytes, const uint8_t *fek, fc_file_key **out)
{
    struct fc_file_key *k = fc_alloc(sizeof *k);
    if (!k)
        return -ENOMEM;
    int error = fc_cipher_set(&k->cipher, code, key_bytes, fek);
    if (!error)
        error = fc_root_iv(fek, key_bytes, k->root_iv);
    if (error) {
        fc_free(k);
        return error;
    }
    *out = k;
    return 0;
}

int
fc_file_key_random(int code, size_t key_bytes, fc_file_key **out)
{
    if (fc_block_size(code, key_bytes) < 0)
        return -EINVAL;
    uint8_t *fek = fc_alloc(key_bytes);
    fc_file_key *key = NULL;
    int error = fek ? 0 : -ENOMEM;
    int weak = 1;
    while (!error && weak) {
        error = random_octets(fek, key_bytes);
        if (!error)
            error = fc_file_key_new(code, key_bytes, fek, &key);
        if (error)
            break;
        weak = fc_weak(&key->cipher);
        if (weak) /* the kernel would refuse to read the file; or an error */
            fc_file_key_free(key);
        if (weak < 0)
            error = weak;
    }
    fc_free(fek);
    if (!error)
        *out = key;
    return error;
}

int
fc_file_key_unwrap(int code, size_t key_bytes, const uint8_t fekek[FC_KEY], const uint8_t *wrapped, size_t n,
                   fc_file_key **out)
{
    fc_cipher *kek;
    int error = fc_cipher_new(code, key_bytes, fekek, &kek);
    if (error)
        return error;
    uint8_t *fek = NULL;
    if (n != wrapped_size(code, key_bytes))
        error = -EINVAL;
    else if (!(fek = fc_alloc(n)))
        error = -ENOMEM;
    if (!error)
        error = fc_ecb_decrypt(kek, wrapped, fek, n);
    if (!error)
        error = fc_file_key_new(code, key_bytes, fek, out);
    fc_free(fek);
    fc_cipher_free(kek);
    return error;
}

int
fc_file_key_wrap(const fc_file_key *key, const uint8_t fekek[FC_KEY], uint8_t *wrapped, size_t n)
{
    const struct fc_cipher *c = &key->cipher;
    if (c->serial == 0)
        return -ENOKEY;
    if (n != wrapped_size(c->code, c->key_bytes))
        return -EINVAL;
    fc_cipher *kek;
    int error = fc_cipher_new(c->code, c->key_bytes, fekek, &kek);
    if (error)
        return error;
    uint8_t *fek = fc_alloc(n);
    if (fek) {
        memcpy(fek, c->key, c->key_bytes);
        error = fc_ecb_encrypt(kek, fek, wrapped, n);
    } else {
        error = -ENOMEM;
    }
    fc_free(fek);
    fc_cipher_free(kek);
    return error;
}

void
fc_file_key_free(fc_file_key *key)
{
    if (key)
        fc_forget(&key->cipher);
    fc_free(key);
}

int
fc_extent_iv(const fc_file_key *key, uint64_t extent, uint8_t iv[16])
{
    fc_ivs(key->root_iv, extent, 1, (uint8_t(*)[16])iv);
    return 0;
}
