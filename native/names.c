/* Encrypted names: tag 70 packets in eCryptfs's own base-64 text behind a fixed prefix. */
#include "internal.h"

#include <errno.h>
#include <string.h>

#define PREFIX "ECRYPTFS_FNEK_ENCRYPTED."
#define PREFIX_SIZE (sizeof PREFIX - 1)
#define TAG_70 0x46
#define SHORTEST_FILLING 16
#define LONGEST_FILLING 31
#define BODY_HEAD (FC_SIGNATURE + 1) /* octets of a packet's body ahead of the ciphertext */

/* The length of a packet's body: one octet below 192, two from 192 to 8383. */
#define TWO_OCTETS 192
#define NO_LENGTH 224 /* first octets from here on */
#define LONGEST_BODY 8383

/* Whole groups: four characters for three octets. */
#define GROUPS ((size_t)(1 + 2 + LONGEST_BODY + 2) / 3)

struct fc_names {
    struct fc_cipher cipher;
    size_t block;
    uint8_t signature[FC_SIGNATURE];
    uint8_t filling[LONGEST_FILLING];
};

/* A lower name taken apart and decrypted. */
struct opened {
    uint8_t octets[GROUPS * 3];
    size_t size;        /* octets of the text */
    size_t packet_size; /* and of the packet in it */
    const uint8_t *filling, *name;
    size_t filling_size, name_size;
};

static const char alphabet[] = "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/* A character's place in the alphabet, from 1; 0 for those that are not in it. */
static const uint8_t places[256] = {
    ['-'] = 1,  ['.'] = 2,  ['0'] = 3,  ['1'] = 4,  ['2'] = 5,  ['3'] = 6,  ['4'] = 7,  ['5'] = 8,
    ['6'] = 9,  ['7'] = 10, ['8'] = 11, ['9'] = 12, ['A'] = 13, ['B'] = 14, ['C'] = 15, ['D'] = 16,
    ['E'] = 17, ['F'] = 18, ['G'] = 19, ['H'] = 20, ['I'] = 21, ['J'] = 22, ['K'] = 23, ['L'] = 24,
    ['M'] = 25, ['N'] = 26, ['O'] = 27, ['P'] = 28, ['Q'] = 29, ['R'] = 30, ['S'] = 31, ['T'] = 32,
    ['U'] = 33, ['V'] = 34, ['W'] = 35, ['X'] = 36, ['Y'] = 37, ['Z'] = 38, ['a'] = 39, ['b'] = 40,
    ['c'] = 41, ['d'] = 42, ['e'] = 43, ['f'] = 44, ['g'] = 45, ['h'] = 46, ['i'] = 47, ['j'] = 48,
    ['k'] = 49, ['l'] = 50, ['m'] = 51, ['n'] = 52, ['o'] = 53, ['p'] = 54, ['q'] = 55, ['r'] = 56,
    ['s'] = 57, ['t'] = 58, ['u'] = 59, ['v'] = 60, ['w'] = 61, ['x'] = 62, ['y'] = 63, ['z'] = 64,
};

int
fc_names_new(int code, size_t key_bytes, const uint8_t fnek[FC_KEY], const uint8_t signature[FC_SIGNATURE],
             fc_names **out)
{
    int block = fc_block_size(code, key_bytes);
    if (block < 0)
        return block;
    struct fc_names *names = fc_alloc(sizeof *names);
    if (!names)
        return -ENOMEM;
    names->block = (size_t)block;
    memcpy(names->signature, signature, FC_SIGNATURE);
    int error = fc_cipher_set(&names->cipher, code, key_bytes, fnek);
    if (!error)
        error = fc_name_prefix(fnek, names->filling, LONGEST_FILLING);
    if (error) {
        fc_free(names);
        return error;
    }
    *out = names;
    return 0;
}

void
fc_names_free(fc_names *names)
{
    if (names)
        fc_forget(&names->cipher);
    fc_free(names);
}

/* ---- lengths ---------------------------------------------------------------------------------- */

/* Filling ahead of the zero octet and n octets of name: whole blocks result. */
static size_t
filling_size(const fc_names *names, size_t n)
{
    size_t rest = (SHORTEST_FILLING + 1 + n) % names->block;
    return SHORTEST_FILLING + (rest ? names->block - rest : 0);
}

static size_t
body_size(const fc_names *names, size_t n)
{
    return BODY_HEAD + filling_size(names, n) + 1 + n;
}

ssize_t
fc_name_length(const fc_names *names, size_t n)
{
    if (names->cipher.serial == 0)
        return -ENOKEY;
    if (n > LONGEST_BODY || body_size(names, n) > LONGEST_BODY)
        return -ENAMETOOLONG;
    size_t body = body_size(names, n);
    size_t packet = (body < TWO_OCTETS ? 2 : 3) + body;
    size_t groups = (packet + 2) / 3;
    return (ssize_t)(PREFIX_SIZE + groups * 4);
}

size_t
fc_name_longest(const fc_names *names, size_t limit)
{
    size_t n = limit < LONGEST_BODY ? limit : LONGEST_BODY;
    for (; n > 0; n--) {
        ssize_t length = fc_name_length(names, n);
        if (length > 0 && (size_t)length <= limit)
            break;
    }
    return n;
}

/* ---- upper to lower --------------------------------------------------------------------------- */

/* Tag and length of a body; returns where the body goes. */
static uint8_t *
put_head(uint8_t *p, size_t body)
{
    *p++ = TAG_70;
    if (body >= TWO_OCTETS) {
        *p++ = (uint8_t)(((body - TWO_OCTETS) >> 8) + TWO_OCTETS);
        body -= TWO_OCTETS;
    }
    *p++ = (uint8_t)body;
    return p;
}

/* The packet may be the last three quarters of the text's own memory. */
static void
put_text(const uint8_t *packet, size_t groups, uint8_t *text)
{
    for (size_t i = 0; i < groups; i++, packet += 3, text += 4) {
        uint32_t bits = (uint32_t)packet[0] << 16 | (uint32_t)packet[1] << 8 | packet[2];
        for (int j = 0; j < 4; j++)
            text[j] = (uint8_t)alphabet[bits >> (18 - 6 * j) & 63];
    }
}

ssize_t
fc_name_encode(const fc_names *names, const uint8_t *in, size_t n, uint8_t *out, size_t room)
{
    ssize_t length = fc_name_length(names, n);
    if (length < 0)
        return length;
    if (n == 0 || memchr(in, '\0', n))
        return -EINVAL;
    if ((size_t)length > room)
        return -ENAMETOOLONG;
    size_t groups = ((size_t)length - PREFIX_SIZE) / 4;
    uint8_t *text = out + PREFIX_SIZE, *packet = text + groups;
    memset(packet + groups * 3 - 2, 0, 2); /* the last group is filled up with zero octets */
    uint8_t *p = put_head(packet, body_size(names, n));
    memcpy(p, names->signature, FC_SIGNATURE);
    p[FC_SIGNATURE] = (uint8_t)names->cipher.code;
    p += BODY_HEAD;
    size_t filling = filling_size(names, n);
    memcpy(p, names->filling, filling);
    p[filling] = '\0';
    memcpy(p + filling + 1, in, n);
    int error = fc_ecb_encrypt(&names->cipher, p, p, filling + 1 + n);
    if (error)
        return error;
    put_text(packet, groups, text);
    memcpy(out, PREFIX, PREFIX_SIZE);
    return length;
}

/* ---- lower to upper --------------------------------------------------------------------------- */

/* Octets of n characters; those that the last four lack count as zero bits. */
static ssize_t
take_text(const uint8_t *text, size_t n, uint8_t *out)
{
    size_t size = 0;
    for (size_t i = 0; i < n; i += 4) {
        uint32_t bits = 0;
        for (size_t j = i; j < i + 4; j++) {
            uint8_t place = j < n ? places[text[j]] : 1;
            if (!place)
                return -EINVAL;
            bits = bits << 6 | (place - 1u);
        }
        out[size++] = (uint8_t)(bits >> 16);
        out[size++] = (uint8_t)(bits >> 8);
        out[size++] = (uint8_t)bits;
    }
    return (ssize_t)size;
}

/* Find filling and name in the decrypted n octets. */
static int
split(struct opened *o, const uint8_t *plain, size_t n)
{
    const uint8_t *zero = memchr(plain, '\0', n);
    if (!zero)
        return -EINVAL;
    o->filling = plain;
    o->filling_size = (size_t)(zero - plain);
    o->name = zero + 1;
    o->name_size = n - o->filling_size - 1;
    return o->name_size == 0 || memchr(o->name, '\0', o->name_size) ? -EINVAL : 0;
}

/* Take the packet in o->octets, at least three of them, apart. */
static int
open_packet(const fc_names *names, struct opened *o)
{
    uint8_t *p = o->octets;
    if (p[0] != TAG_70 || p[1] >= NO_LENGTH)
        return -EINVAL;
    size_t body = p[1], head = 2;
    if (p[1] >= TWO_OCTETS) {
        body = TWO_OCTETS + ((size_t)(p[1] - TWO_OCTETS) << 8) + p[2];
        head = 3;
    }
    if (body <= BODY_HEAD || body > o->size - head)
        return -EINVAL;
    p += head;
    if (memcmp(p, names->signature, FC_SIGNATURE) != 0 || p[FC_SIGNATURE] != names->cipher.code)
        return -EINVAL;
    o->packet_size = head + body;
    p += BODY_HEAD;
    int error = fc_ecb_decrypt(&names->cipher, p, p, body - BODY_HEAD); /* refuses part of a block */
    return error ? error : split(o, p, body - BODY_HEAD);
}

/* To be closed by done(), also after an error. */
static int
open_name(const fc_names *names, const uint8_t *in, size_t n, struct opened *o)
{
    o->size = 0;
    if (names->cipher.serial == 0)
        return -ENOKEY;
    if (n <= PREFIX_SIZE || n > PREFIX_SIZE + GROUPS * 4 || memcmp(in, PREFIX, PREFIX_SIZE) != 0)
        return -EINVAL;
    ssize_t size = take_text(in + PREFIX_SIZE, n - PREFIX_SIZE, o->octets);
    if (size < 0)
        return (int)size;
    o->size = (size_t)size;
    return open_packet(names, o);
}

/* Hand out what was found, and forget the filling. */
static ssize_t
done(struct opened *o, int error, uint8_t *out, size_t room)
{
    ssize_t result = error;
    if (!error && o->name_size > room)
        result = -ENAMETOOLONG;
    if (!error && o->name_size <= room) {
        memcpy(out, o->name, o->name_size);
        result = (ssize_t)o->name_size;
    }
    fc_wipe(o->octets, o->size);
    return result;
}

ssize_t
fc_name_decode(const fc_names *names, const uint8_t *in, size_t n, uint8_t *out, size_t room)
{
    struct opened o;
    int error = open_name(names, in, n, &o);
    return done(&o, error, out, room);
}

/* Whether fc_name_encode() makes the same n octets of the name: ECB and text are one to one. */
static int
is_our_form(const fc_names *names, const struct opened *o, size_t n)
{
    for (size_t i = o->packet_size; i < o->size; i++)
        if (o->octets[i])
            return 0;
    return fc_name_length(names, o->name_size) == (ssize_t)n &&
           filling_size(names, o->name_size) == o->filling_size &&
           memcmp(o->filling, names->filling, o->filling_size) == 0;
}

/* Whether it can stand in a directory. */
static int
is_entry(const uint8_t *name, size_t n)
{
    int dots = name[0] == '.' && (n == 1 || (n == 2 && name[1] == '.'));
    return !dots && !memchr(name, '/', n);
}

ssize_t
fc_entry_decode(const fc_names *names, const uint8_t *in, size_t n, uint8_t *out, size_t room)
{
    struct opened o;
    int error = open_name(names, in, n, &o);
    if (!error && !(is_entry(o.name, o.name_size) && is_our_form(names, &o, n)))
        error = -EINVAL;
    return done(&o, error, out, room);
}
