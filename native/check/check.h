/* The C checks: each returns if all is well and ends the process, saying where, if not. */
#ifndef FUSECRYPT_CHECK_H
#define FUSECRYPT_CHECK_H

#include "internal.h"

#include <stdio.h>
#include <stdlib.h>

/* Say which expectation failed, and of what it speaks. */
#define EXPECT(condition, ...)                                                                               \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: not so: %s: ", __FILE__, __LINE__, #condition);                          \
            fprintf(stderr, __VA_ARGS__);                                                                    \
            fputc('\n', stderr);                                                                             \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

/* A cipher code with each of its key sizes. */
struct pair {
    int code;
    size_t key_bytes;
};
extern const struct pair check_pairs[];
extern const size_t check_pair_count;

/* Octets that look random and are the same in each run. */
void check_random(uint32_t seed, uint8_t *out, size_t n);
uint32_t check_next(uint32_t *state);
/* A file key made from a seed. */
fc_file_key *check_key(struct pair pair, uint32_t seed);
/* An empty file in memory. */
int check_file(void);
/* The upper name and the lower name belong together. */
void check_name(struct pair pair, const uint8_t key[FC_KEY], const uint8_t *name, size_t n,
                const uint8_t *encrypted, size_t m);

void check_memory(void);
void check_vectors(void);
void check_ciphers(void);
void check_names(void);
void check_extents(void);
void check_files(void);
void check_system(void);
void check_acls(void);
void check_lane(void);
void check_lane_names(void);
void check_lane_directories(void);
void check_lane_sharing(void);
void check_lane_hostile(void);
void check_lane_talk(void);
void check_lane_aside(void);
void check_lane_left(void);
void check_threads(void);

#endif
