/* What the files of the express lane share: see fusecrypt.h for what it is. */
#ifndef FUSECRYPT_LANE_H
#define FUSECRYPT_LANE_H

#include "fusecrypt.h"

#include <limits.h>
#include <linux/fuse.h>
#include <sys/uio.h>

/* ---- lane_nodes.c: what the kernel knows by a number --------------------------------------------------- */

/*
 * An object that the kernel refers to. Either it is ours: an object about which there is nothing to
 * know but its one link. Or it is the caller's (`theirs`), and then this is a mark that says so, with the
 * link that the caller goes by, by which only its way is fetched into memory.
 */
struct lane_node {
    struct lane_node *next_number, *next_ino;
    fc_record r;
    int theirs;
    int dir_fd;    /* a directory's descriptor for *at calls, or -1; theirs is not to be closed */
    fc_file *file; /* while it is open; of ours the head of a struct lane_open */
    char name[];   /* the lower name, ended by NUL; of theirs nothing if there is none */
};

struct lane_nodes {
    struct lane_node **by_number, **by_ino;
    size_t buckets, count; /* buckets: a power of two, or 0 before the first node */
    size_t ours;
};

struct lane_node *lane_by_number(const struct lane_nodes *, uint64_t number);
struct lane_node *lane_by_identity(const struct lane_nodes *, uint64_t dev, uint64_t ino);
/* A copy of the record and the name (n octets) goes into the table; NULL without memory. */
struct lane_node *lane_add(struct lane_nodes *, const fc_record *, const char *name, size_t n);
/* The same for an object that was found, or made, under a lower name, by its lower inode number. */
struct lane_node *lane_add_found(fc_lane *, uint64_t parent, const char *lower, const fc_stat *,
                                 uint64_t lookups);
/* Take it out and free it; a pin is closed. */
void lane_drop(struct lane_nodes *, struct lane_node *);
void lane_drop_all(struct lane_nodes *);

/* ---- lane.c: one request after the other ------------------------------------------------------- */

#define LANE_BUFFER ((size_t)(1 << 20) + 4096) /* the kernel's largest request, and a page for its head */

/* The largest upper size that is taken for real, as fusecrypt/ondisk/header.py says. */
#define LANE_MAX_SIZE ((uint64_t)INT64_MAX - ((uint64_t)1 << 49))

struct lane_handle {
    fc_file *file;   /* NULL: not to be used by the lane */
    uint64_t number; /* of the object, 0: no such handle */
    int by_root;     /* whose writes leave set-id bits alone */
};

/* An open file of ours. */
struct lane_open {
    fc_file file; /* first, so that the node's pointer leads here */
    fc_file_key *key;
    uint32_t opens;
    int writable;
};

struct lane_forms;

#define LANE_DIRECTORIES 256 /* descriptors of directories of ours that are kept open */

struct lane_listing;

struct fc_lane {
    int fd; /* the device */
    fc_lane_config config;
    struct lane_nodes nodes;
    struct lane_handle *handles;
    size_t handle_count, first_free; /* no handle below first_free is free */
    struct lane_forms *forms;
    int may_create;
    struct lane_listing **listings;
    size_t listing_count;
    uint64_t open_directories[LANE_DIRECTORIES]; /* numbers, the oldest at `oldest_directory` */
    size_t oldest_directory;
    uint8_t *request;   /* where a request is read to, so that the octets of a write are aligned */
    uint8_t *data;      /* LANE_BUFFER octets for the data of a reply */
    size_t waiting;     /* octets of a request that is the caller's to answer, 0: none */
    int64_t left;       /* when the last one was left to the caller, for CLOCK_MONOTONIC in ns; 0: seen to */
    int fetched;        /* the request at hand was put aside: what it needs was in memory a moment ago */
    int wary;           /* the lower file system may make requests wait for long */
    int careful;        /* it may not wait: what is not in memory is to be fetched first */
    int64_t slow_until; /* when requests may wait again, for CLOCK_MONOTONIC in ns */
    int blind;          /* the lower file system cannot tell which contents are in memory */
    struct lane_place *places; /* room for those of the request at hand */
    size_t aside_count;
    struct fc_aside *asides;         /* what was put aside, the latest first */
    struct fc_aside *fetched_asides; /* what can be answered now, in order */
    uint64_t answered;
};

/* A request while it is being answered. */
struct lane_request {
    fc_lane *lane;
    struct fuse_in_header *in;
    void *arg;
    size_t n; /* octets of arg */
};

/*
 * What a handler says. On LANE_PASS nothing has been answered, and the caller will do all of it; on
 * LANE_ASIDE nothing has been done, and the request is to be put aside.
 */
enum { LANE_DONE, LANE_PASS, LANE_ASIDE };

int lane_reply(struct lane_request *, const void *data, size_t n);
int lane_reply_two(struct lane_request *, const void *head, size_t h, const void *data, size_t n);
int lane_refuse(struct lane_request *, int error);

/* The argument of a request that ends with a name: the name, ended by NUL, at `from`, or NULL. */
const char *lane_name(struct lane_request *, size_t from);

/* ---- lane_libfuse.c: where libfuse gets its requests from ---------------------------------------------- */

void lane_detach(const fc_lane *);

/* ---- lane_directory.c: descriptors of directories ------------------------------------------------------ */

/* Whether a node is the object that a stat describes. */
int lane_is(const struct lane_node *, uint64_t dev, uint64_t ino, uint32_t mode);
/*
 * The descriptor of a directory for *at calls, or -1 if there is none to be had. It holds until others
 * have been asked for, so use it at once.
 */
int lane_directory_fd(fc_lane *, uint64_t number);
/* openat() of a lower object; a read-only mount leaves no access times below. */
int lane_open_lower(const fc_lane *, int dir_fd, const char *name, int flags);

/* ---- lane_listing.c: what is in directories ------------------------------------------------------------ */

/* What getdents64(2) gives. */
struct lane_entry {
    uint64_t ino;
    int64_t next; /* the position after this entry */
    unsigned short size;
    unsigned char type;
    char name[];
};

void lane_listings_free(fc_lane *);
/* The descriptor of a request's listing, and where it goes on; -1 if there is none. */
int lane_listing_place(const struct lane_request *, int64_t *position);
int lane_opendir(struct lane_request *);
/* FUSE_READDIR and FUSE_READDIRPLUS. */
int lane_readdir(struct lane_request *);
int lane_releasedir(struct lane_request *);

/* ---- lane_places.c: what requests need of the lower tree ----------------------------------------------- */

/* A lower object: a path that begins at a descriptor, "" the object behind that one itself. */
struct lane_place {
    int fd;      /* -1: none */
    size_t from; /* where the path begins */
    char room[PATH_MAX];
};

const char *lane_path(const struct lane_place *);
/* How many places a request can need: two, or one for each spelling of a name. */
size_t lane_most_places(const fc_lane *);
/* The places that a request needs, and unused ones up to that number; their descriptors are the lane's. */
void lane_find_places(struct lane_request *, struct lane_place *places);
/* Open an object (O_PATH) by the way that is known of it, and see that it is the one; or -1. */
int lane_open_object(const fc_lane *, uint64_t number);
/* openat() of a path without symlinks and ways up, with O_PATH; `resolve` adds to that (RESOLVE_*). */
int lane_open_path(int dir_fd, const char *path, uint64_t resolve);
/* Whether this kernel (Linux 5.12 or later) tells what it has in memory. */
int lane_can_ask(void);
/* Whether the kernel can find such a path, or that it is not there, in memory. */
int lane_knows(int dir_fd, const char *path);
/* Open the regular file behind a descriptor (O_PATH) to read; -1 if it is none, or cannot be opened. */
int lane_open_contents(int fd);
/* Whether a request needs names or attributes that are not in memory. */
int lane_would_wait(struct lane_request *);

/* ---- lane_fetch.c: waiting for what they need, in any thread ---------------------------------------------
 */

/* Attributes of an object, and what its size hangs on; whether it is there. Waits for as long as it takes. */
int lane_fetch(int dir_fd, const char *path);
/* The entries of a directory behind a position, and the first `most` of them as lane_fetch() does. */
void lane_fetch_entries(int dir_fd, int64_t position, int most);

/* ---- lane_aside.c: requests that would wait for a disk or a network ------------------------------------ */

#define LANE_ENTRIES 64 /* of a directory that are fetched at a time */
/* Let a request be answered, or put it aside: what the answer says. */
int lane_with_care(struct lane_request *, int (*answer)(struct lane_request *));
/* The caller has done what was left to it. */
void lane_note_caller(fc_lane *);
/* Make the next one that was fetched the request at hand: its octets, or 0. */
size_t lane_next_fetched(fc_lane *);
void lane_asides_free(fc_lane *);

/* ---- lane_forms.c: headers of known forms -------------------------------------------------------------- */

void lane_forms_free(fc_lane *);
/* The key of a header, whose size and marker go into *file; NULL if it is of no known form. */
fc_file_key *lane_unlock(const fc_lane *, const uint8_t *header, size_t n, fc_file *file);
/* Give an empty lower file a header and a key, NULL if that fails. */
fc_file_key *lane_initialise(fc_lane *, int fd, fc_file *file);

/* ---- lane_open.c: files of ours while they are open ---------------------------------------------------- */

void lane_close_file(struct lane_node *);
int lane_open(struct lane_request *);
int lane_release(struct lane_request *);

/* ---- lane_create.c: new files -------------------------------------------------------------------------- */

/* Whether a new object may stay as the daemon makes it: only root gives objects to others. */
int lane_stays_ours(const struct lane_request *);
int lane_create(struct lane_request *);

/* ---- lane_make.c: new directories, and their end ------------------------------------------------------- */

int lane_mkdir(struct lane_request *);
int lane_rmdir(struct lane_request *);

/* ---- lane_data.c: reads and writes --------------------------------------------------------------------- */

/* The file, if the lane may use it now, or NULL. */
fc_file *lane_usable(fc_file *);
/* Store the size field of the header, which stands in front of the data. 0, or -1. */
int lane_store_size(fc_file *, uint64_t size);
int lane_read(struct lane_request *);
int lane_write(struct lane_request *);

/* ---- lane_lookup.c: names ------------------------------------------------------------------------------ */

/* How many lower names an upper one can have: one for each key. */
size_t lane_spellings(const fc_lane *);
/* One of them, the first in 0; its length, or -1. */
ssize_t lane_spell(const fc_lane *, size_t which, const char *name, char lower[NAME_MAX + 1]);
/* The one that new objects get; its length, or -1. */
ssize_t lane_lower_name(const fc_lane *, const char *name, char lower[NAME_MAX + 1]);
/* The upper name of one in a directory; its length, or -1 if it is not shown. */
ssize_t lane_upper_name(const fc_lane *, const char *lower, uint8_t name[NAME_MAX + 1]);
/*
 * Attributes and upper size of a child; 0, an errno (EAGAIN where that would wait), or -1 where it takes
 * more than a look.
 */
int lane_look(fc_lane *, int dir_fd, const char *lower, fc_stat *, int64_t *size);
/*
 * What is called `lower` in a directory: its entry, counted as one more lookup. 0, or as lane_look().
 */
int lane_enter(fc_lane *, uint64_t parent, int dir_fd, const char *lower, struct fuse_entry_out *);
int lane_lookup(struct lane_request *);
int lane_forget(struct lane_request *);
int lane_batch_forget(struct lane_request *);
int lane_unlink(struct lane_request *);

/* ---- lane_attributes.c: attributes of what is known ---------------------------------------------------- */

/* An entry; without a node it says that there is no such name. */
struct fuse_entry_out lane_entry_of(const fc_lane *, const struct lane_node *, const fc_stat *,
                                    uint64_t size);
int lane_getattr(struct lane_request *);
int lane_setattr(struct lane_request *);
int lane_getxattr(struct lane_request *);

#endif
