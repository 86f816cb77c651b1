/* A lane with one end of a socket in the place of the device: a message is a request, or a reply. */
#ifndef FUSECRYPT_CHECK_LANE_RIG_H
#define FUSECRYPT_CHECK_LANE_RIG_H

#include "check.h"

#include <linux/fuse.h>
#include <string.h>

#define RIG_ROOM ((size_t)1 << 17) /* octets of the longest message */
#define RIG_FORM 300               /* octets of the header that new files get, with two holes */
#define RIG_HEADER 8192

struct rig {
    fc_lane *lane;
    fc_names *names;    /* NULL: plain */
    int kernel, device; /* the ends of the socket */
    int root;           /* the lower root, also the lane's */
    char path[40];      /* of the lower root */
    uint32_t uid;       /* whose requests they are */
    int descriptors;    /* that were open before */
    uint8_t form[RIG_FORM], fekek[FC_KEY];
    uint8_t request[RIG_ROOM];
    size_t asked; /* octets of the request that is being made, behind its head */
    struct fuse_out_header *head;
    uint8_t *reply; /* what stands behind the head */
    size_t n;       /* octets of it */
    uint64_t out[RIG_ROOM / sizeof(uint64_t)];
};

/* What became of a request. */
enum rig_end { RIG_ANSWERED, RIG_PASSED, RIG_SILENT };

/* Whether what is not in memory is put aside. */
extern int rig_careful;
/* How many requests were put aside, and answered by rig_send() all the same. */
extern unsigned rig_asides;

/* A mount with write-back caching. */
extern const fc_lane_config rig_writing;

/* A lane over a new lower directory, with a form of AES-256; the config's names, and slow_ns unless it has
 * one, are set here. */
struct rig *rig_new(fc_lane_config config, int encrypted_names);
/* Another lane over the same lower directory. */
void rig_again(struct rig *, fc_lane_config config);
/* Another one over it, over a network, whose answers are the caller's; so is a directory with this number. */
void rig_leave(struct rig *, uint64_t directory, const char *name);
/* Everything is given back: memory, descriptors, what is below. */
void rig_free(struct rig *);

/* Add to the next request. */
void rig_add(struct rig *, const void *data, size_t n);
/* Let the lane see it; what it passes on has to be unchanged. */
enum rig_end rig_send(struct rig *, uint32_t opcode, uint64_t node);
/* A request of one argument and (unless NULL) a name. */
enum rig_end rig_ask(struct rig *, uint32_t opcode, uint64_t node, const void *arg, size_t n,
                     const char *name);

/* The lower name of an upper one; overwritten by the fourth after it. */
const char *rig_lower(const struct rig *, const char *name);

/* Requests that have to be answered. */
struct fuse_entry_out rig_lookup(struct rig *, uint64_t parent, const char *name);
uint64_t rig_create(struct rig *, uint64_t parent, const char *name, uint64_t *fh);
uint64_t rig_open(struct rig *, uint64_t node, uint32_t flags);
struct fuse_attr rig_getattr(struct rig *, uint64_t node);
void rig_write(struct rig *, uint64_t node, uint64_t fh, uint64_t offset, const void *data, size_t n);
void rig_release(struct rig *, uint64_t node, uint64_t fh);
void rig_unlink(struct rig *, uint64_t parent, const char *name);
void rig_forget(struct rig *, uint64_t node, uint64_t lookups);
/* A new closed file whose one lookup is the kernel's; returns its number. */
uint64_t rig_file(struct rig *, uint64_t parent, const char *name, const void *data, size_t n);

/* These may be passed on. */
enum rig_end rig_read(struct rig *, uint64_t node, uint64_t fh, uint64_t offset, size_t n);
enum rig_end rig_try_write(struct rig *, uint64_t node, uint64_t fh, uint64_t offset, const void *data,
                           size_t n);
enum rig_end rig_try_open(struct rig *, uint64_t node, uint32_t flags);

#endif
