/* Fuzz names: the first octet chooses the cipher, the rest is a lower name and an upper one. */
#include "check.h"

#include <string.h>

#define LONGEST 9000 /* more than the format holds */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static fc_names *
names_of(size_t which)
{
    static fc_names *made[32];
    uint8_t fnek[FC_KEY];
    if (!made[which]) {
        check_random(92, fnek, sizeof fnek);
        EXPECT(fc_names_new(check_pairs[which].code, check_pairs[which].key_bytes, fnek, fnek,
                            &made[which]) == 0,
               "pair %zu", which);
    }
    return made[which];
}

/* What is decoded is shorter, and for entries encoded to the same again. */
static void
decode(const fc_names *names, const uint8_t *lower, size_t n)
{
    uint8_t upper[LONGEST], again[LONGEST];
    ssize_t target = fc_name_decode(names, lower, n, upper, n);
    EXPECT(target < (ssize_t)n, "%zd octets of %zu", target, n);
    ssize_t entry = fc_entry_decode(names, lower, n, upper, n);
    if (entry < 0)
        return;
    EXPECT(entry == target && !memchr(upper, '\0', (size_t)entry), "%zd octets", entry);
    ssize_t back = fc_name_encode(names, upper, (size_t)entry, again, sizeof again);
    EXPECT(back == (ssize_t)n && memcmp(again, lower, n) == 0, "%zd octets", back);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t lower[LONGEST];
    if (n < 2 || n > LONGEST)
        return 0;
    const fc_names *names = names_of(*data % check_pair_count);
    decode(names, data + 1, n - 1);
    ssize_t length = fc_name_encode(names, data + 1, n - 1, lower, sizeof lower);
    if (length > 0)
        decode(names, lower, (size_t)length);
    return 0;
}
