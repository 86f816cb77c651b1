/*
 * The native part of fusecrypt: key memory, block ciphers, extents, and the few system calls that
 * Python lacks or makes slow. Plain C11: it compiles and is tested without Python.
 *
 * Conventions: functions return 0 (or a count of octets) on success and -errno on failure. Lengths
 * and codes arrive checked by Python and are checked again here. No function keeps a pointer to the
 * caller's memory. Everything that holds key material lives in memory from fc_alloc().
 * All functions may be called from several threads at once, also with the same fc_cipher or
 * fc_file_key.
 */
#ifndef FUSECRYPT_H
#define FUSECRYPT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FC_EXTENT 4096      /* octets of an extent: the unit of content encryption */
#define FC_KEY 64           /* octets of a FEKEK or FNEK; a cipher uses a prefix of them */
#define FC_SIGNATURE 8      /* octets of a key signature */
#define FC_SALT 8           /* octets of a passphrase salt */
#define FC_MAX_KEY_BYTES 56 /* the longest cipher key (Blowfish) */

/* Cipher codes as they stand on disk (RFC 2440 and eCryptfs's own). */
enum {
    FC_DES3_EDE = 0x02,
    FC_CAST5 = 0x03,
    FC_BLOWFISH = 0x04,
    FC_AES_128 = 0x07,
    FC_AES_192 = 0x08,
    FC_AES_256 = 0x09,
    FC_TWOFISH = 0x0a,
    FC_CAST6 = 0x0b
};

/* ---- memory.c: locked, undumpable, wiped ------------------------------------------------- */

/* Zeroed memory that is kept out of swap and core dumps if the system allows it, or NULL. */
void *fc_alloc(size_t n);
/* Wipe and release; NULL is allowed. */
void fc_free(void *p);
/* 1 while every chunk so far could be locked, else 0 (RLIMIT_MEMLOCK is too small). */
int fc_memory_locked(void);
/* Overwrite in a way the compiler keeps. */
void fc_wipe(void *p, size_t n);
/* 1 if equal, in time that depends on n only. */
int fc_equal(const uint8_t *a, const uint8_t *b, size_t n);

/*
 * Hand key memory to another process: a new descriptor (memfd_secret, else a memfd) that holds n
 * octets and can be inherited over exec if the caller clears close-on-exec. Returns the descriptor.
 */
int fc_memory_export(const uint8_t *data, size_t n);
/* Copy n octets out of such a descriptor into out, and wipe them there. */
int fc_memory_import(int fd, uint8_t *out, size_t n);

/* ---- kdf.c: eCryptfs's passphrase derivation ----------------------------------------------- */

/* 65536 SHA-512 rounds over salt and passphrase; key is FC_KEY octets. */
int fc_passphrase_key(const uint8_t *passphrase, size_t n, const uint8_t salt[FC_SALT], uint8_t key[FC_KEY]);
/* First 8 octets of SHA-512(key). */
int fc_signature(const uint8_t key[FC_KEY], uint8_t signature[FC_SIGNATURE]);
/* R octets (16 <= n <= 64) of the name prefix: the MD5 chain over the key, zero octets as 0x42. */
int fc_name_prefix(const uint8_t key[FC_KEY], uint8_t *prefix, size_t n);

/* ---- cipher.c: a keyed block cipher in ECB, for names and FEKs ------------------------------ */

typedef struct fc_cipher fc_cipher;

/* 8 or 16, or -EINVAL if the code and key size are no pair of the format's. */
int fc_block_size(int code, size_t key_bytes);
/* Key schedule from the first key_bytes octets of key. */
int fc_cipher_new(int code, size_t key_bytes, const uint8_t *key, fc_cipher **out);
void fc_cipher_free(fc_cipher *);
/* n a multiple of the block size; in and out may be the same. */
int fc_ecb_encrypt(const fc_cipher *, const uint8_t *in, uint8_t *out, size_t n);
int fc_ecb_decrypt(const fc_cipher *, const uint8_t *in, uint8_t *out, size_t n);

/* ---- names.c: encrypted file names and symlink targets ---------------------------------------- */

typedef struct fc_names fc_names;

/* Names under an FNEK of that signature, with a cipher that takes key_bytes octets of it. */
int fc_names_new(int code, size_t key_bytes, const uint8_t fnek[FC_KEY],
                 const uint8_t signature[FC_SIGNATURE], fc_names **out);
void fc_names_free(fc_names *);
/* Octets of the lower name of n octets; -ENAMETOOLONG if the format has no place for so many. */
ssize_t fc_name_length(const fc_names *, size_t n);
/* The longest upper name whose lower name has at most limit octets (143 for 255), or 0. */
size_t fc_name_longest(const fc_names *, size_t limit);
/*
 * The lower name, without a NUL, of the n octets of an upper name or symlink target; returns its
 * length. -ENAMETOOLONG if it exceeds the format or `room`, -EINVAL for nothing and for a NUL in it.
 * in and out do not overlap.
 */
ssize_t fc_name_encode(const fc_names *, const uint8_t *in, size_t n, uint8_t *out, size_t room);
/*
 * The reverse; a room of n octets is enough. -EINVAL for what was not encrypted with this FNEK and
 * cipher, or holds no name.
 */
ssize_t fc_name_decode(const fc_names *, const uint8_t *in, size_t n, uint8_t *out, size_t room);
/*
 * The same for the name of a directory entry: -EINVAL also for ".", "..", names with "/", and for
 * every form but the one that fc_name_encode() makes, since a lookup would not find the entry again.
 */
ssize_t fc_entry_decode(const fc_names *, const uint8_t *in, size_t n, uint8_t *out, size_t room);

/* ---- filekey.c: a file's FEK, its root IV and its cipher ------------------------------------ */

typedef struct fc_file_key fc_file_key;

int fc_file_key_new(int code, size_t key_bytes, const uint8_t *fek, fc_file_key **out);
int fc_file_key_random(int code, size_t key_bytes, fc_file_key **out);
/*
 * Decrypt the n octets of a tag 3 packet with the first key_bytes octets of a FEKEK. n is key_bytes,
 * or 32 for AES-192 (8 octets of padding). Any result is accepted: there is no check value.
 */
int fc_file_key_unwrap(int code, size_t key_bytes, const uint8_t fekek[FC_KEY], const uint8_t *wrapped,
                       size_t n, fc_file_key **out);
/* The reverse; n as above. */
int fc_file_key_wrap(const fc_file_key *, const uint8_t fekek[FC_KEY], uint8_t *wrapped, size_t n);
void fc_file_key_free(fc_file_key *);

/* iv(extent) = MD5(root IV || decimal), 16 octets, for tests. */
int fc_extent_iv(const fc_file_key *, uint64_t extent, uint8_t iv[16]);

/* ---- extents.c: CBC over count extents, the first numbered `first`; in may equal out ---------- */

int fc_extents_encrypt(const fc_file_key *, uint64_t first, const uint8_t *in, uint8_t *out, size_t count);
int fc_extents_decrypt(const fc_file_key *, uint64_t first, const uint8_t *in, uint8_t *out, size_t count);

/* ---- fileio.c: whole requests on a lower file ----------------------------------------------- */

/*
 * A lower file's data: extent n lies at data_offset + 4096 n; the upper file is `size` octets.
 * Offsets and sizes are refused (-EINVAL, -EFBIG) where they do not fit off_t.
 */
typedef struct {
    int fd;
    uint64_t data_offset;
    uint64_t size;
} fc_lower;

enum { FC_NOWAIT = 1 }; /* -EAGAIN instead of waiting for a disk; -EOPNOTSUPP if that can't be told */

/*
 * Read upper octets [offset, offset + n) into out, cut at size; returns how many, 0 at or past the end.
 * Lower data that ends too early is -EIO, unless some whole extents before that were read: then those
 * are returned (the next call gives the -EIO).
 */
ssize_t fc_read(const fc_file_key *, const fc_lower *, uint64_t offset, uint8_t *out, size_t n, int flags);

/*
 * Write n upper octets at offset. offset must not lie past the end of size's last extent (fc_fill()
 * closes such gaps first). Extents that are only partly written are read, cut at size, zero-filled,
 * merged. Extents past the end count as zeros and are not read. Returns n, or less only after a short
 * write below, in whole extents from the start (the caller treats the rest as not written). The size
 * field is not touched.
 */
ssize_t fc_write(const fc_file_key *, const fc_lower *, uint64_t offset, const uint8_t *in, size_t n);

/*
 * Extend with encrypted zeros: rewrite size's last partial extent with its tail zeroed, then zero
 * extents until one that holds octet `until - 1` is written or about `budget` octets are done.
 * Returns the new upper size that is now backed by data (<= until), so that the caller can go on, or
 * -errno. Call again with size = the result while it is less than until.
 */
int64_t fc_fill(const fc_file_key *, const fc_lower *, uint64_t until, uint64_t budget);

/* Zero the octets of the extent that holds `size` from size to that extent's end, inside the lower
 * file; nothing if size is a multiple of 4096. lower->size is the old size, size <= it. */
int fc_zero_tail(const fc_file_key *, const fc_lower *, uint64_t size);

/* ---- sys.c: directory batches and calls Python lacks ------------------------------------------ */

enum {
    FC_PEEK_NONE = 0,    /* no regular file, or no header asked for */
    FC_PEEK_HEADER = 1,  /* the marker is right: upper_size is its size field */
    FC_PEEK_FOREIGN = 2, /* a regular file without a header in its contents */
    FC_PEEK_EMPTY = 3,   /* an empty lower file */
    FC_PEEK_ERROR = 4    /* the file cannot be opened or read: error says why */
};

/* How far to look: attributes, also the header of a regular file, or that only if it is in memory. */
enum { FC_LOOK_STAT = 0, FC_LOOK_HEADER = 1, FC_LOOK_NOW = 2 };

typedef struct {
    uint64_t ino, dev, size, blocks, rdev;
    int64_t atime_ns, mtime_ns, ctime_ns;
    uint32_t mode, nlink, uid, gid, blksize;
    int32_t error; /* errno of the lstat (all else is then 0) or of the peek */
    int32_t peek;  /* FC_PEEK_* */
    uint64_t upper_size;
} fc_stat;

/*
 * fstatat(AT_SYMLINK_NOFOLLOW) of `count` names (each ended by NUL, one after the other in `names`,
 * `n` octets in all) under a directory descriptor; with FC_LOOK_HEADER, regular files are opened
 * (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME where allowed) and the first 16 octets of their header
 * read; what is opened is fstat()ed again, so size and identity belong to one file. FC_LOOK_NOW: the
 * error is EAGAIN if the header is not in memory, EOPNOTSUPP if that cannot be told. An empty name means
 * the descriptor itself (AT_EMPTY_PATH). Returns 0; errors are in the entries.
 */
int fc_stat_many(int dirfd, const char *names, size_t n, size_t count, int look, fc_stat *out);
/* The same of one open descriptor (which must be readable for its header). */
int fc_stat_fd(int fd, int look, fc_stat *out);

int fc_renameat2(int olddirfd, const char *oldname, int newdirfd, const char *newname, unsigned flags);
/* utimensat with AT_SYMLINK_NOFOLLOW; an empty name with AT_EMPTY_PATH. set_*: 0 leaves the time
 * alone, 1 takes the nanoseconds, 2 means now. */
int fc_utimens(int dirfd, const char *name, int set_atime, int64_t atime_ns, int set_mtime, int64_t mtime_ns);
/* No core dumps and no ptrace by other processes of the user (PR_SET_DUMPABLE 0, RLIMIT_CORE 0). */
int fc_harden_process(void);

/* ---- lane*.c: an express lane for FUSE requests ------------------------------------------------ */

/*
 * The lane reads requests from a FUSE device and answers the plain ones itself, without Python: names
 * and attributes of objects about which nothing special is known, reads and writes within open files.
 * Everything else (whatever is rare, fails, or may wait for a disk) it leaves to the caller, who gets
 * the request unchanged through libfuse, whose fuse_session_receive_buf() this module takes the place
 * of. A lane belongs to one thread, but for fc_file, see there.
 *
 * Each object that the kernel refers to is known to the lane by its number: as the lane's own, or as
 * the caller's, of which the lane knows no more than that and its link. fc_lane_take() makes the caller's
 * of the lane's own, fc_lane_give() the reverse.
 */
typedef struct fc_lane fc_lane;

typedef struct {
    const fc_names *names;              /* NULL: names are plain */
    const fc_names *const *other_names; /* further keys under which names stand; only where not simple */
    size_t other_count;
    int32_t simple; /* 0: answers are the caller's (passthrough, encrypted view, names by several keys) */
    int32_t read_only;
    int32_t quiet;      /* reading leaves access times below alone */
    int32_t owns_sizes; /* the kernel believes no size but its own (write-back caching) */
    int32_t shared;     /* others write the tree too: no attributes of files are kept (numbers are reused) */
    int32_t remote;     /* the lower file system asks others, and may hang */
    int64_t slow_ns;    /* an answer that took longer shows that a disk is slow, and for a while what would
                           wait for it is put aside; 0: always; negative: never */
    uint64_t valid_ns;  /* how long the kernel may keep names and attributes */
} fc_lane_config;

/* An object with one link: that name in that parent. Times and size are of its last close. */
typedef struct {
    uint64_t number, dev, ino, parent, lookups;
    int64_t shown;                                /* the upper size that was given away, or -1 */
    int64_t stamp_mtime, stamp_ctime, stamp_size; /* what cached contents belong to; size -1: none */
    uint32_t kind;                                /* S_IFMT bits */
    uint32_t generation;
    int32_t pin; /* a descriptor (O_PATH) of an object without a link, or -1 */
    int32_t fd;  /* of an open file, or of a directory (O_PATH), or -1; and what belongs to a file: */
    int32_t opens, writable;
    int64_t born_ns;
} fc_record;

/*
 * An open file that its owner shares with the lane. The lane reads and writes it only while `direct`
 * is set: it has a key, a whole lower file, its header in front. `busy` counts requests in threads, for
 * which the lane stands back.
 */
typedef struct {
    const fc_file_key *key;
    fc_lower lower;
    int64_t born_ns; /* the modification time of a new file as the kernel was told it, or -1 */
    int32_t direct;
    int32_t busy;
    int32_t shared; /* others write it too: size and marker are looked at before each use */
    uint8_t marker[8];
    int32_t no_nowait; /* the lower file system cannot tell what is in memory */
} fc_file;

/* `config` is copied, but names (and the list of others) stay the caller's. */
int fc_lane_new(const fc_lane_config *config, fc_lane **out);
void fc_lane_free(fc_lane *);
/* Take requests from this device (set not to block) from now on. One lane of a process can. */
int fc_lane_attach(fc_lane *, int fd);
/*
 * A form is a header with holes: all headers in a tree are of few forms. Size and marker are two holes,
 * the FEK as each packet holds it (`n` octets from `at`) another. A file whose header is of a known form
 * is opened by the lane.
 */
#define FC_FORM_PACKETS 8
typedef struct {
    uint16_t at, n;
    const uint8_t *fekek; /* FC_KEY octets, copied; NULL: not known */
} fc_hole;
/* `code` and `key_bytes` are of the FEK in hole `which`. -ENOSPC: it is too long, has too many
 * packets, or no more forms are taken. */
int fc_lane_form(fc_lane *, const uint8_t *octets, size_t n, const fc_hole *holes, size_t count, size_t which,
                 int code, size_t key_bytes);
/* New files get the header that was told first. */
void fc_lane_may_create(fc_lane *);
/* How many requests came through libfuse's place; 0 after the first: this pyfuse3 cannot be served. */
uint64_t fc_lane_received(void);

enum { FC_LANE_IDLE = 0, FC_LANE_REQUEST = 1, FC_LANE_GONE = 2, FC_LANE_BUSY = 3, FC_LANE_ASIDE = 4 };
/*
 * Answer up to `budget` requests, looking `spins` times for the next one, and sleeping for it up to
 * `sleep_ms`, if there is none. FC_LANE_REQUEST: one waits for the caller; FC_LANE_ASIDE: one was put
 * aside; FC_LANE_GONE: the mount is no more; FC_LANE_IDLE: there is none now; FC_LANE_BUSY: the budget
 * is used up.
 */
int fc_lane_run(fc_lane *, unsigned spins, int sleep_ms, unsigned budget);
/*
 * A request that needs what is not in memory: after FC_LANE_ASIDE the one that is meant. It stays valid
 * until it is resumed, also without the lane.
 */
typedef struct fc_aside fc_aside;
fc_aside *fc_lane_aside(const fc_lane *);
/* Wait until what it needs is in memory, or cannot be had; for any thread. */
void fc_aside_fetch(fc_aside *);
/* It is answered next, and no more to be used. */
void fc_lane_resume(fc_lane *, fc_aside *);
/* Answer those whose callers are being killed meanwhile. */
void fc_lane_give_up(fc_lane *);
/* Requests that were answered here so far. */
uint64_t fc_lane_answered(const fc_lane *);

/*
 * The caller has an object of its own with this number and identity, and this link: a lower name in that
 * parent, "" if there is none. Also where it has another link than before.
 */
int fc_lane_mark(fc_lane *, uint64_t number, uint64_t dev, uint64_t ino, uint32_t kind, uint64_t parent,
                 const char *name);
void fc_lane_unmark(fc_lane *, uint64_t number);
/* The descriptor for *at calls in a directory of the caller's; -1: none any more. */
void fc_lane_directory(fc_lane *, uint64_t number, int fd);
/* The open file behind an object of the caller's, or NULL. */
void fc_lane_file(fc_lane *, uint64_t number, fc_file *);
/* Make an object the caller's: its record and name (room for 256 octets). -ENOENT if it is not ours. */
int fc_lane_take(fc_lane *, uint64_t number, fc_record *out, char *name);
/* The number of the lane's own object with this identity, or 0. */
uint64_t fc_lane_find(const fc_lane *, uint64_t dev, uint64_t ino);
/* Make an object that was the caller's the lane's; 0, or -errno and nothing has changed. */
int fc_lane_give(fc_lane *, const fc_record *, const char *name);
/* Objects of the lane's own. */
uint64_t fc_lane_count(const fc_lane *);

/* A handle for an open file of the caller's: its number (above 0), or -errno. */
int64_t fc_lane_open(fc_lane *, uint64_t number, fc_file *, int by_root);
void fc_lane_close(fc_lane *, uint64_t handle);
/* Whose handle it is: the object's number, or 0; by_root as it was given. */
uint64_t fc_lane_handle(const fc_lane *, uint64_t handle, int *by_root);
/* The descriptor behind a directory handle of the lane's own, or -EBADF. */
int fc_lane_listing_fd(const fc_lane *, uint64_t handle);

/* ---- acl.c -------------------------------------------------------------------------------------- */

/* Whether an NFSv4 ACL (the attribute system.nfs4_acl) is about nobody but owner, group and all, as a mode
 * is. */
int fc_nfs4_acl_is_mode(const uint8_t *acl, size_t n);

/* ---- copy.c: plain files of a tree, copied decrypted by the dozen -------------------------------- */

enum {
    FC_COPY_ASIDE = 0,    /* left to the caller: it is not plain, or failed; nothing of it is there */
    FC_COPIED = 1,        /* contents, owner, mode and times */
    FC_COPIED_AS_OURS = 2 /* the same, but only root could give it its owner */
};

/*
 * Copy `count` lower files (names as in fc_stat_many(), each in its own directory) of the forms that a lane
 * was told into new files in work_fd, whose names are the numbers from `first` on. Plain are whole files with
 * one link, and without attributes and set-id bits. `flush`: fsync() each. What became of each (FC_COPY_*)
 * is in `results`. Of the lane only the forms are used, and more may be told meanwhile.
 */
int fc_copy_many(const fc_lane *forms, const int *dir_fds, const char *lowers, size_t n, size_t count,
                 int work_fd, uint64_t first, int flush, uint8_t *results);
/* renameat2() of files called by such numbers to names in one directory; an errno or 0 for each. */
int fc_rename_many(int work_fd, const uint64_t *numbers, int dir_fd, const char *names, size_t n,
                   size_t count, unsigned flags, int32_t *errors);
/*
 * Whether syncfs() on this file system does for all files what fsync() does for one: it is known of ext4,
 * XFS, Btrfs, F2FS and tmpfs; FUSE, for one, does not pass it on.
 */
int fc_flushes_together(int fd);
int fc_flush_all(int fd);

/* ---- what this build and this CPU have ------------------------------------------------------- */

/* "ipsec-mb" or "portable": the engine that AES extents take on this CPU. */
const char *fc_engine(void);
/* Choose "portable" (or "ipsec-mb" again if there is one) for tests and bench; -ENOTSUP if absent. */
int fc_set_engine(const char *name);
/*
 * What this machine can do at most: AES-CBC of `rounds` times count extents by ipsec-mb, in its largest
 * bursts, with one IV, one key of zeros (16, 24 or 32 octets) and nothing of ours around it. For the bench
 * only. -ENOTSUP without the library.
 */
int fc_raw_cbc(size_t key_bytes, int decrypt, const uint8_t *in, uint8_t *out, size_t count, size_t rounds);

#endif
