/* What several checks need. */
#include "check.h"

#include <string.h>
#include <sys/mman.h>

const struct pair check_pairs[] = {
    {FC_DES3_EDE, 24}, {FC_CAST5, 8},     {FC_CAST5, 16},    {FC_BLOWFISH, 8},  {FC_BLOWFISH, 16},
    {FC_BLOWFISH, 24}, {FC_BLOWFISH, 32}, {FC_BLOWFISH, 40}, {FC_BLOWFISH, 48}, {FC_BLOWFISH, 56},
    {FC_AES_128, 16},  {FC_AES_192, 24},  {FC_AES_256, 32},  {FC_TWOFISH, 16},  {FC_TWOFISH, 32},
    {FC_CAST6, 16},    {FC_CAST6, 32},
};
const size_t check_pair_count = sizeof check_pairs / sizeof check_pairs[0];

uint32_t
check_next(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

void
check_random(uint32_t seed, uint8_t *out, size_t n)
{
    uint32_t state = seed * 2654435761u + 1;
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)(check_next(&state) >> 11);
}

fc_file_key *
check_key(struct pair pair, uint32_t seed)
{
    uint8_t fek[FC_MAX_KEY_BYTES];
    fc_file_key *key = NULL;
    check_random(seed, fek, sizeof fek);
    int error = fc_file_key_new(pair.code, pair.key_bytes, fek, &key);
    EXPECT(error == 0, "cipher %d, %zu octets: %s", pair.code, pair.key_bytes, strerror(-error));
    return key;
}

int
check_file(void)
{
    int fd = memfd_create("check", MFD_CLOEXEC);
    EXPECT(fd >= 0, "memfd_create");
    return fd;
}
