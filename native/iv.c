/*
 * Extent IVs: MD5(root IV || extent number in decimal). The message is 32 octets, one block of MD5,
 * and there is one for each extent; eight are computed side by side, which costs a fifth of what a
 * library's MD5 costs for each. An IV is no secret.
 */
#include "internal.h"

#include <string.h>

#define LANES 8
/* A vector of the compiler's: two registers where the CPU has 16-octet ones. */
typedef uint32_t lanes __attribute__((vector_size(4 * LANES)));

/* RFC 1321: floor(2^32 * abs(sin(i + 1))) */
static const uint32_t sines[64] = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
};
static const int shifts[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
static const uint32_t start[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};

static uint32_t
load_le(const uint8_t *p)
{
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

static void
store_le(uint8_t *p, uint32_t x)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(x >> 8 * i);
}

/* One step of round r; f is what the round makes of b, c and d, k the message word. */
#define STEP(r, f, k)                                                                                        \
    do {                                                                                                     \
        lanes sum = a + (f) + sines[16 * (r) + i] + m[k];                                                    \
        int by = shifts[r][i % 4];                                                                           \
        a = d;                                                                                               \
        d = c;                                                                                               \
        c = b;                                                                                               \
        b += sum << by | sum >> (32 - by);                                                                   \
    } while (0)

/* MD5's compression of one block from the initial state; s gets the state after it. */
static void
compress(const lanes m[16], lanes s[4])
{
    const lanes zero = {0};
    lanes a = zero + start[0], b = zero + start[1], c = zero + start[2], d = zero + start[3];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        STEP(0, d ^ (b & (c ^ d)), i);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        STEP(1, c ^ (d & (b ^ c)), (5 * i + 1) % 16);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        STEP(2, b ^ c ^ d, (3 * i + 5) % 16);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        STEP(3, c ^ (b | ~d), 7 * i % 16);
    s[0] = a + start[0];
    s[1] = b + start[1];
    s[2] = c + start[2];
    s[3] = d + start[3];
}

/* An extent number in ASCII; what follows the digits is zero. */
struct decimal {
    uint8_t text[24];
    size_t digits;
};

static void
decimal_set(struct decimal *d, uint64_t n)
{
    uint8_t reversed[20];
    *d = (struct decimal){0};
    do {
        reversed[d->digits++] = (uint8_t)('0' + n % 10);
        n /= 10;
    } while (n);
    for (size_t i = 0; i < d->digits; i++)
        d->text[i] = reversed[d->digits - 1 - i];
}

static void
decimal_increment(struct decimal *d)
{
    size_t i = d->digits;
    while (i > 0 && d->text[i - 1] == '9')
        d->text[--i] = '0';
    if (i > 0) {
        d->text[i - 1]++;
    } else {
        d->text[0] = '1';
        d->text[d->digits++] = '0';
    }
}

/* The number's field has 16 octets of which the last is always zero: later digits are lost. */
#define FIELD_DIGITS 15

static void
eight_ivs(const uint8_t root_iv[16], struct decimal *number, uint8_t iv[LANES][16])
{
    lanes m[16] = {{0}}, s[4];
    for (size_t word = 0; word < 4; word++)
        m[word] += load_le(root_iv + 4 * word);
    for (size_t lane = 0; lane < LANES; lane++) {
        uint8_t field[16] = {0};
        memcpy(field, number->text, FIELD_DIGITS);
        for (size_t word = 0; word < 4; word++)
            m[4 + word][lane] = load_le(field + 4 * word);
        decimal_increment(number);
    }
    m[8] += 0x80;    /* the end of the message */
    m[14] += 8 * 32; /* its length in bits */
    compress(m, s);
    for (size_t lane = 0; lane < LANES; lane++)
        for (size_t word = 0; word < 4; word++)
            store_le(iv[lane] + 4 * word, s[word][lane]);
}

void
fc_ivs(const uint8_t root_iv[16], uint64_t first, size_t count, uint8_t (*iv)[16])
{
    struct decimal number;
    decimal_set(&number, first);
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        eight_ivs(root_iv, &number, iv + i);
    if (i < count) {
        uint8_t last[LANES][16];
        eight_ivs(root_iv, &number, last);
        memcpy(iv + i, last, (count - i) * sizeof last[0]);
    }
}
