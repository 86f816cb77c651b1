/* Names: every length, every cipher, rooms that are too small, and what strangers write. */
#include "check.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define U(text) ((const uint8_t *)(text))
#define LONGEST 8374 /* octets of ciphertext that a packet has room for */
#define TEXT 12000
#define PREFIX 24
#define OVERHEAD 17 /* at least: filling and zero octet */

static uint8_t fnek[FC_KEY], plain[LONGEST], packet[TEXT], lower[TEXT], again[TEXT], upper[TEXT];
static const uint8_t signature[FC_SIGNATURE] = {0x92, 0xaa, 0, 0x65, 0xff, 0x4c, 0xee, 0x87};

static fc_names *
names_under(struct pair pair)
{
    fc_names *names = NULL;
    int error = fc_names_new(pair.code, pair.key_bytes, fnek, signature, &names);
    EXPECT(error == 0, "cipher %d, %zu octets: %s", pair.code, pair.key_bytes, strerror(-error));
    return names;
}

void
check_name(struct pair pair, const uint8_t key[FC_KEY], const uint8_t *name, size_t n,
           const uint8_t *encrypted, size_t m)
{
    uint8_t own[FC_SIGNATURE];
    fc_names *names = NULL;
    ssize_t entry = memchr(name, '/', n) ? -EINVAL : (ssize_t)n;
    EXPECT(fc_signature(key, own) == 0, "signature");
    EXPECT(fc_names_new(pair.code, pair.key_bytes, key, own, &names) == 0, "cipher %d", pair.code);
    EXPECT(fc_name_length(names, n) == (ssize_t)m, "%s", encrypted);
    EXPECT(fc_name_encode(names, name, n, again, sizeof again) == (ssize_t)m, "%s", encrypted);
    EXPECT(memcmp(again, encrypted, m) == 0, "%s", encrypted);
    EXPECT(fc_name_decode(names, encrypted, m, upper, sizeof upper) == (ssize_t)n, "%s", encrypted);
    EXPECT(memcmp(upper, name, n) == 0, "%s", encrypted);
    EXPECT(fc_entry_decode(names, encrypted, m, upper, sizeof upper) == entry, "%s", encrypted);
    fc_names_free(names);
}

/* Both ways, writing nothing past the end and nothing at all into a room that is too small. */
static void
both_ways(const fc_names *names, size_t n, size_t expected)
{
    again[expected] = upper[n] = 0xaa;
    EXPECT(fc_name_length(names, n) == (ssize_t)expected, "%zu octets", n);
    EXPECT(fc_name_encode(names, plain, n, again, expected) == (ssize_t)expected, "%zu octets", n);
    EXPECT(fc_name_decode(names, again, expected, upper, n) == (ssize_t)n, "%zu octets", n);
    EXPECT(memcmp(upper, plain, n) == 0, "%zu octets", n);
    EXPECT(fc_entry_decode(names, again, expected, upper, n) == (ssize_t)n, "%zu octets", n);
    EXPECT(again[expected] == 0xaa && upper[n] == 0xaa, "%zu octets", n);
    again[expected - 1] = upper[n - 1] = 0xaa;
    EXPECT(fc_name_encode(names, plain, n, again, expected - 1) == -ENAMETOOLONG, "%zu octets", n);
    EXPECT(fc_name_encode(names, plain, n, again, 0) == -ENAMETOOLONG, "%zu octets", n);
    EXPECT(again[expected - 1] == 0xaa, "%zu octets", n);
    EXPECT(fc_name_encode(names, plain, n, again, TEXT) == (ssize_t)expected, "%zu octets", n);
    EXPECT(fc_name_decode(names, again, expected, upper, n - 1) == -ENAMETOOLONG, "%zu octets", n);
    EXPECT(fc_entry_decode(names, again, expected, upper, 0) == -ENAMETOOLONG, "%zu octets", n);
    EXPECT(upper[n - 1] == 0xaa, "%zu octets", n);
}

/* What fits is what can be encoded: a lower name longer than the limit, or none, comes next. */
static void
longest_names(const fc_names *names, size_t block, size_t longest)
{
    EXPECT(fc_name_longest(names, 255) == 143, "%zu", fc_name_longest(names, 255));
    EXPECT(fc_name_longest(names, 4095) == (block == 16 ? 3007 : 3015), "%zu", fc_name_longest(names, 4095));
    EXPECT(fc_name_longest(names, SIZE_MAX) == longest, "%zu", fc_name_longest(names, SIZE_MAX));
    for (size_t limit = 0; limit < 600; limit++) {
        size_t n = fc_name_longest(names, limit);
        EXPECT(n == 0 || fc_name_length(names, n) <= (ssize_t)limit, "%zu", limit);
        EXPECT(fc_name_length(names, n + 1) > (ssize_t)limit, "%zu", limit);
    }
}

static void
lengths(struct pair pair)
{
    fc_names *names = names_under(pair);
    size_t block = (size_t)fc_block_size(pair.code, pair.key_bytes);
    size_t longest = LONGEST / block * block - OVERHEAD;
    memset(plain, 'n', sizeof plain);
    for (size_t n = 1; n <= longest; n += n < 200 || n > longest - 20 ? 1 : 181) {
        size_t body = 9 + (OVERHEAD + n + block - 1) / block * block;
        both_ways(names, n, PREFIX + (body + (body < 192 ? 2 : 3) + 2) / 3 * 4);
    }
    longest_names(names, block, longest);
    const size_t too_long[] = {longest + 1, 8383, 8384, TEXT, SIZE_MAX - 40, SIZE_MAX};
    for (size_t i = 0; i < sizeof too_long / sizeof too_long[0]; i++) {
        EXPECT(fc_name_length(names, too_long[i]) == -ENAMETOOLONG, "%zu", too_long[i]);
        EXPECT(fc_name_encode(names, plain, too_long[i], again, TEXT) == -ENAMETOOLONG, "%zu", too_long[i]);
    }
    EXPECT(fc_name_encode(names, plain, 0, again, TEXT) == -EINVAL, "nothing");
    EXPECT(fc_name_encode(names, U("a\0b"), 3, again, TEXT) == -EINVAL, "NUL");
    fc_names_free(names);
}

/* A lower name of octets, by other means than names.c; returns its length. */
static size_t
text_of(const uint8_t *octets, size_t n)
{
    static const uint8_t prefix[] = "ECRYPTFS_FNEK_ENCRYPTED.";
    static const char alphabet[] = "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    size_t m = PREFIX;
    memcpy(lower, prefix, sizeof prefix);
    for (size_t bit = 0; bit < n * 8; bit += 6) {
        unsigned value = 0;
        for (size_t i = bit; i < bit + 6; i++)
            value = value << 1 | (i / 8 < n ? (unsigned)octets[i / 8] >> (7 - i % 8) & 1u : 0u);
        lower[m++] = (uint8_t)alphabet[value];
    }
    while ((m - PREFIX) % 4)
        lower[m++] = '-';
    return m;
}

/* A lower name of any plaintext, whole blocks of AES, with `more` zero octets behind the packet. */
static size_t
lower_of(const void *plaintext, size_t n, size_t more)
{
    fc_cipher *cipher = NULL;
    memset(packet, 0, 11 + n + more);
    packet[0] = 0x46;
    packet[1] = (uint8_t)(9 + n);
    memcpy(packet + 2, signature, FC_SIGNATURE);
    packet[10] = FC_AES_128;
    EXPECT(fc_cipher_new(FC_AES_128, 16, fnek, &cipher) == 0, "AES");
    EXPECT(fc_ecb_encrypt(cipher, plaintext, packet + 11, n) == 0, "AES");
    fc_cipher_free(cipher);
    return text_of(packet, 11 + n + more);
}

/* What fc_entry_decode() promises, said by the other functions. */
static ssize_t
entry_by_definition(const fc_names *names, const uint8_t *in, size_t m)
{
    ssize_t n = fc_name_decode(names, in, m, upper, TEXT);
    if (n < 0)
        return n;
    int dots = (n == 1 && upper[0] == '.') || (n == 2 && memcmp(upper, "..", 2) == 0);
    if (dots || memchr(upper, '/', (size_t)n))
        return -EINVAL;
    ssize_t length = fc_name_encode(names, upper, (size_t)n, again, TEXT);
    return length == (ssize_t)m && memcmp(again, in, m) == 0 ? n : -EINVAL;
}

static void
expect_decoded(const fc_names *names, size_t m, ssize_t target, ssize_t entry, const char *what)
{
    EXPECT(fc_name_decode(names, lower, m, upper, TEXT) == target, "%s", what);
    EXPECT(fc_entry_decode(names, lower, m, upper, TEXT) == entry, "%s", what);
    EXPECT(entry_by_definition(names, lower, m) == entry, "%s", what);
}

/* Plaintexts with n octets of the true filling and a name behind them. */
static void
plaintexts(const fc_names *names)
{
    static const struct {
        const char *what, *rest;
        size_t n, filling;
        ssize_t target, entry;
    } cases[] = {
        {"good", "\0name", 5, 27, 4, 4},
        {"hidden", "\0...", 4, 28, 3, 3},
        {"dot", "\0.", 2, 30, 1, -EINVAL},
        {"dots", "\0..", 3, 29, 2, -EINVAL},
        {"slash", "\0a/b", 4, 28, 3, -EINVAL},
        {"NUL", "\0a\0b", 4, 28, -EINVAL, -EINVAL},
        {"NUL at the end", "\0ab", 4, 28, -EINVAL, -EINVAL},
        {"empty", "\0", 1, 31, -EINVAL, -EINVAL},
        {"no zero", "x", 1, 31, -EINVAL, -EINVAL},
        {"short filling", "\0name name name name name ", 26, 6, 25, -EINVAL},
        {"no filling", "\0name name name ", 16, 0, 15, -EINVAL},
        {"other filling", "x\0name", 6, 26, 4, -EINVAL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        EXPECT(fc_name_prefix(fnek, plain, 64) == 0, "filling");
        memcpy(plain + cases[i].filling, cases[i].rest, cases[i].n);
        size_t m = lower_of(plain, cases[i].filling + cases[i].n, 0);
        expect_decoded(names, m, cases[i].target, cases[i].entry, cases[i].what);
    }
    /* A block more of filling than the name needs. */
    EXPECT(fc_name_prefix(fnek, plain, 64) == 0, "filling");
    memcpy(plain + 43, "\0name", 5);
    expect_decoded(names, lower_of(plain, 48, 0), 4, -EINVAL, "long filling");
    /* A block less, in a text as long as that name's. */
    memcpy(plain + 6, "\0name name name name name ", 26);
    expect_decoded(names, lower_of(plain, 32, 15), 25, -EINVAL, "short filling, octets behind");
}

/* The same packet in other texts, and texts that hold no such packet. */
static void
texts(const fc_names *names)
{
    EXPECT(fc_name_prefix(fnek, plain, 64) == 0, "filling");
    memcpy(plain + 27, "\0name", 5);
    size_t m = lower_of(plain, 32, 0);
    EXPECT(m == 84, "%zu", m);
    expect_decoded(names, 84, 4, 4, "whole");
    expect_decoded(names, 83, 4, -EINVAL, "without zero bits");
    expect_decoded(names, 82, 4, -EINVAL, "without zero bits");
    lower[83] = '.';
    expect_decoded(names, 84, 4, -EINVAL, "bits behind the packet");
    lower[83] = '!';
    expect_decoded(names, 84, -EINVAL, -EINVAL, "foreign character");
    for (m = 0; m < 81; m++)
        expect_decoded(names, m, -EINVAL, -EINVAL, "cut");
    m = lower_of(plain, 32, 3);
    expect_decoded(names, m, 4, -EINVAL, "octets behind the packet");
    lower[0] = 'e';
    expect_decoded(names, m, -EINVAL, -EINVAL, "another prefix");
    static const struct {
        size_t at;
        uint8_t value;
    } changes[] = {{0, 0x47}, {1, 0},   {1, 9},   {1, 10},   {1, 40}, {1, 42},    {1, 191},  {1, 192},
                   {1, 223},  {1, 224}, {1, 255}, {2, 0x93}, {9, 0},  {10, 0x08}, {10, 0x0a}};
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        lower_of(plain, 32, 0);
        packet[changes[i].at] = changes[i].value;
        expect_decoded(names, text_of(packet, 43), -EINVAL, -EINVAL, "changed packet");
    }
    /* Longer than any packet. */
    memset(lower, '-', TEXT);
    lower_of(plain, 32, 0);
    EXPECT(fc_name_decode(names, lower, PREFIX + 2796 * 4, upper, TEXT) == 4, "the longest text");
    EXPECT(fc_name_decode(names, lower, PREFIX + 2796 * 4 + 1, upper, TEXT) == -EINVAL, "a longer text");
}

/* Random damage; fc_entry_decode() must judge as its definition does. */
static void
damage(struct pair pair)
{
    fc_names *names = names_under(pair);
    uint32_t state = 31;
    size_t shown = 0;
    for (int i = 0; i < 3000; i++) {
        size_t n = 1 + check_next(&state) % 300;
        for (size_t j = 0; j < n; j++)
            plain[j] = (uint8_t)(1 + check_next(&state) % 255);
        ssize_t m = fc_name_encode(names, plain, n, lower, TEXT);
        EXPECT(m > 0, "%zu octets", n);
        if (i % 4)
            lower[check_next(&state) % (size_t)m] = (uint8_t)(check_next(&state) >> 9);
        if (i % 4 == 3)
            m -= (ssize_t)(check_next(&state) % 8);
        ssize_t expected = entry_by_definition(names, lower, (size_t)m);
        EXPECT(fc_entry_decode(names, lower, (size_t)m, upper, TEXT) == expected, "cipher %d, step %d",
               pair.code, i);
        shown += expected > 0;
    }
    EXPECT(shown > 100 && shown < 1500, "%zu shown", shown);
    fc_names_free(names);
}

/* A child has no keys and says so. */
static void
forked(void)
{
    fc_names *names = names_under((struct pair){FC_AES_128, 16});
    ssize_t m = fc_name_encode(names, U("name"), 4, lower, TEXT);
    pid_t child = fork();
    if (child == 0) {
        int failed = fc_name_length(names, 4) != -ENOKEY;
        failed |= fc_name_encode(names, U("name"), 4, again, TEXT) != -ENOKEY;
        failed |= fc_name_decode(names, lower, (size_t)m, upper, TEXT) != -ENOKEY;
        failed |= fc_entry_decode(names, lower, (size_t)m, upper, TEXT) != -ENOKEY;
        fc_names_free(names);
        _exit(failed);
    }
    int status = -1;
    EXPECT(waitpid(child, &status, 0) == child && status == 0, "status %d", status);
    EXPECT(fc_entry_decode(names, lower, (size_t)m, upper, TEXT) == 4, "the parent");
    fc_names_free(names);
}

void
check_names(void)
{
    fc_names *names = NULL;
    check_random(30, fnek, sizeof fnek);
    EXPECT(fc_names_new(FC_AES_128, 32, fnek, signature, &names) == -EINVAL, "no pair");
    for (size_t i = 0; i < check_pair_count; i++) {
        lengths(check_pairs[i]);
        damage(check_pairs[i]);
    }
    names = names_under((struct pair){FC_AES_128, 16});
    plaintexts(names);
    texts(names);
    fc_names_free(names);
    forked();
}
