/* The express lane in directories: listings, and others who change them below. */
#include "lane_rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t
open_directory(struct rig *r, uint64_t node)
{
    struct fuse_open_out out;
    EXPECT(rig_ask(r, FUSE_OPENDIR, node, NULL, 0, NULL) == RIG_ANSWERED && r->n == sizeof out, "opendir");
    memcpy(&out, r->reply, sizeof out);
    return out.fh;
}

static void
release_directory(struct rig *r, uint64_t node, uint64_t fh)
{
    const struct fuse_release_in in = {.fh = fh};
    EXPECT(rig_ask(r, FUSE_RELEASEDIR, node, &in, sizeof in, NULL) == RIG_ANSWERED, "releasedir");
}

/* Made, used and removed; whoever has it open then goes on. */
static void
life(int encrypted_names)
{
    struct rig *r = rig_new(rig_writing, encrypted_names);
    const struct fuse_mkdir_in in = {.mode = 01777, .umask = 027};
    const uint32_t opcode = FUSE_MKDIR;
    EXPECT(rig_ask(r, opcode, FUSE_ROOT_ID, &in, sizeof in, "d") == RIG_ANSWERED, "mkdir");
    struct fuse_entry_out out;
    memcpy(&out, r->reply, sizeof out);
    uint64_t node = out.nodeid;
    EXPECT(r->head->error == 0 && node > FUSE_ROOT_ID && out.attr.mode == (S_IFDIR | 01750), "mkdir");
    EXPECT(rig_lookup(r, FUSE_ROOT_ID, "d").nodeid == node, "by its name");
    EXPECT(rig_ask(r, opcode, FUSE_ROOT_ID, &in, sizeof in, "d") == RIG_PASSED, "it is there");
    uint64_t file = rig_file(r, node, "file", "data", 4), fh = rig_open(r, file, O_RDONLY);
    EXPECT(rig_ask(r, FUSE_RMDIR, FUSE_ROOT_ID, NULL, 0, "d") == RIG_PASSED, "not empty");
    EXPECT(rig_ask(r, FUSE_RMDIR, node, NULL, 0, "file") == RIG_PASSED, "no directory");
    rig_unlink(r, node, "file");
    uint64_t listing = open_directory(r, node);
    EXPECT(rig_ask(r, FUSE_RMDIR, FUSE_ROOT_ID, NULL, 0, "d") == RIG_ANSWERED && !r->head->error, "rmdir");
    EXPECT(rig_lookup(r, FUSE_ROOT_ID, "d").nodeid == 0, "gone");
    EXPECT(rig_read(r, file, fh, 0, 10) == RIG_ANSWERED && r->n == 4, "open in what is gone");
    EXPECT(rig_ask(r, FUSE_LOOKUP, node, NULL, 0, "file") == RIG_PASSED, "without a link");
    EXPECT(rig_ask(r, FUSE_GETATTR, node, NULL, 0, NULL) == RIG_PASSED, "without a link");
    EXPECT(rig_ask(r, opcode, node, &in, sizeof in, "d") == RIG_PASSED, "without a link");
    release_directory(r, node, listing);
    rig_release(r, file, fh);
    rig_forget(r, file, 1);
    rig_forget(r, node, 2);
    EXPECT(fc_lane_count(r->lane) == 0, "nobody knows it");
    r->uid = 1000;
    enum rig_end end = rig_ask(r, opcode, FUSE_ROOT_ID, &in, sizeof in, "for somebody else");
    EXPECT(end == (geteuid() == 0 ? RIG_PASSED : RIG_ANSWERED), "for somebody else");
    rig_free(r);
}

/* ---- Listings ------------------------------------------------------------------------------------ */

#define ENTRIES 2500

/* Count up to `most` names of one reply; returns the position behind them, or 0 at the end. */
static uint64_t
read_some(struct rig *r, uint64_t fh, uint64_t offset, uint32_t size, unsigned most, uint8_t seen[ENTRIES])
{
    const struct fuse_read_in in = {.fh = fh, .offset = offset, .size = size};
    EXPECT(rig_ask(r, FUSE_READDIRPLUS, 2, &in, sizeof in, NULL) == RIG_ANSWERED, "readdirplus");
    EXPECT(r->head->error == 0 && r->n <= size, "readdirplus");
    uint64_t next = 0;
    for (size_t at = 0; at < r->n && most > 0; most--) {
        struct fuse_direntplus *entry = (void *)(r->reply + at);
        char name[256] = {0};
        unsigned i;
        EXPECT(entry->dirent.namelen < sizeof name, "%u", entry->dirent.namelen);
        memcpy(name, entry->dirent.name, entry->dirent.namelen);
        if (sscanf(name, "entry %u", &i) == 1 && i < ENTRIES) { /* NOLINT(cert-err34-c) */
            seen[i]++;
            EXPECT(entry->entry_out.nodeid == entry->dirent.ino && entry->dirent.type == DT_REG, "%s", name);
        } else {
            EXPECT(strcmp(name, ".") == 0 || strcmp(name, "..") == 0, "%s", name);
        }
        next = entry->dirent.off;
        at += FUSE_DIRENTPLUS_SIZE(entry);
    }
    return next;
}

static void
listings(int encrypted_names)
{
    static uint8_t seen[ENTRIES];
    static uint64_t files[ENTRIES];
    struct rig *r = rig_new(rig_writing, encrypted_names);
    EXPECT(mkdirat(r->root, rig_lower(r, "directory"), 0700) == 0, "mkdir");
    EXPECT(symlinkat("x", r->root, "not shown where names are encrypted") == 0, "symlink");
    uint64_t node = rig_lookup(r, FUSE_ROOT_ID, "directory").nodeid;
    for (unsigned i = 0; i < ENTRIES; i++) {
        char name[100];
        snprintf(name, sizeof name, "entry %u, with a name of some length", i);
        files[i] = rig_file(r, node, name, NULL, 0);
    }
    uint64_t fh = open_directory(r, node);
    for (unsigned most = 1000; most > 0; most /= 100) { /* all of a reply, or going back into it */
        memset(seen, 0, sizeof seen);
        for (uint64_t at = 0, next; (next = read_some(r, fh, at, 4096 * (1 + most % 3), most, seen));
             at = next)
            ;
        for (unsigned i = 0; i < ENTRIES; i++)
            EXPECT(seen[i] == 1, "entry %u: %u times", i, seen[i]);
    }
    EXPECT(read_some(r, fh, 0, 100, 1, seen) == 0 && r->n == 0, "no room");
    const struct fuse_read_in in = {.fh = fh, .offset = UINT64_MAX, .size = 4096};
    EXPECT(rig_ask(r, FUSE_READDIRPLUS, node, &in, sizeof in, NULL) == RIG_ANSWERED, "no such position");
    EXPECT(r->head->error == -EINVAL, "no such position");
    uint64_t other = open_directory(r, node);
    EXPECT(other != fh && fc_lane_listing_fd(r->lane, other) >= 0, "two");
    release_directory(r, node, fh);
    EXPECT(fc_lane_listing_fd(r->lane, fh) == -EBADF, "closed");
    EXPECT(open_directory(r, node) == fh, "its number is free");
    for (unsigned i = 0; i < ENTRIES; i++)
        rig_forget(r, files[i], 1000);
    EXPECT(fc_lane_count(r->lane) == 1 && rig_getattr(r, node).ino == node, "only the directory");
    rig_free(r); /* two are open */
}

/* The names of the root, in one reply. */
static void
what_is_shown(void)
{
    struct rig *r = rig_new(rig_writing, 1);
    EXPECT(symlinkat("x", r->root, "foreign") == 0, "symlink");
    EXPECT(symlinkat("x", r->root, rig_lower(r, "shown")) == 0, "symlink");
    const struct fuse_read_in in = {.fh = open_directory(r, FUSE_ROOT_ID), .size = 4096};
    EXPECT(rig_ask(r, FUSE_READDIRPLUS, 1, &in, sizeof in, NULL) == RIG_ANSWERED, "readdirplus");
    int found = 0;
    for (size_t at = 0; at < r->n;) {
        struct fuse_direntplus *entry = (void *)(r->reply + at);
        if (entry->dirent.namelen > 2) {
            EXPECT(memcmp(entry->dirent.name, "shown", 5) == 0 && entry->dirent.namelen == 5, "not shown");
            EXPECT(entry->entry_out.nodeid == 0, "a target that does not decode is looked up when asked for");
            found++;
        }
        at += FUSE_DIRENTPLUS_SIZE(entry);
    }
    EXPECT(found == 1, "%d", found);
    rig_free(r);
}

/* More directories than are kept open, some of which others replace. */
static void
many_directories(void)
{
    enum { MANY = 600 };
    static uint64_t nodes[MANY];
    struct rig *r = rig_new(rig_writing, 0);
    char name[40];
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "d%u", i);
        EXPECT(mkdirat(r->root, name, 0700) == 0, "%s", name);
        nodes[i] = rig_lookup(r, FUSE_ROOT_ID, name).nodeid;
        rig_file(r, nodes[i], "file", NULL, 0);
        if (i % 3 == 0) { /* forgotten and known again while its number is remembered as open */
            rig_forget(r, nodes[i], 1);
            EXPECT(rig_lookup(r, FUSE_ROOT_ID, name).nodeid == nodes[i], "%s", name);
        }
        if (i % 7 == 0) {
            fc_record record;
            char lower[256];
            EXPECT(fc_lane_take(r->lane, nodes[i], &record, lower) == 0, "%s", name);
            EXPECT(record.fd < 0 || close(record.fd) == 0, "%s", name);
            EXPECT(fc_lane_give(r->lane, &record, lower) == 0, "%s", name);
        }
    }
    for (unsigned i = 0; i < MANY; i++)
        EXPECT(rig_lookup(r, nodes[i], "file").nodeid > 0, "%u", i);
    EXPECT(renameat(r->root, "d0", r->root, "moved") == 0 && mkdirat(r->root, "d0", 0700) == 0, "swap");
    EXPECT(rig_ask(r, FUSE_LOOKUP, nodes[0], NULL, 0, "file") == RIG_PASSED, "another directory");
    EXPECT(rig_ask(r, FUSE_OPENDIR, nodes[0], NULL, 0, NULL) == RIG_PASSED, "another directory");
    EXPECT(rig_ask(r, FUSE_GETATTR, nodes[0], NULL, 0, NULL) == RIG_PASSED, "another directory");
    EXPECT(unlinkat(r->root, "d0", AT_REMOVEDIR) == 0 && symlinkat("moved", r->root, "d0") == 0, "swap");
    EXPECT(rig_ask(r, FUSE_LOOKUP, nodes[0], NULL, 0, "file") == RIG_PASSED, "a link to it");
    rig_free(r);
}

/* Parents that lead nowhere, in a circle, or through what is no directory. */
static void
bad_parents(void)
{
    struct rig *r = rig_new(rig_writing, 0);
    uint64_t file = rig_file(r, FUSE_ROOT_ID, "file", NULL, 0);
    for (uint64_t i = 0; i < 4; i++) {
        const uint64_t number = 1000000 + i, parents[4] = {1000001, 1000000, 77, file};
        const fc_record record = {
            .number = number, .ino = number, .parent = parents[i], .lookups = 1, .kind = S_IFDIR, .pin = -1};
        EXPECT(fc_lane_mark(r->lane, number, 0, number, S_IFDIR, 0, "") == 0, "mark");
        EXPECT(fc_lane_give(r->lane, &record, "x") == 0, "give");
    }
    for (uint64_t number = 1000000; number < 1000004; number++) {
        const struct fuse_create_in in = {.mode = S_IFREG};
        EXPECT(rig_ask(r, FUSE_LOOKUP, number, NULL, 0, "file") == RIG_PASSED, "lookup");
        EXPECT(rig_ask(r, FUSE_OPENDIR, number, NULL, 0, NULL) == RIG_PASSED, "opendir");
        EXPECT(rig_ask(r, FUSE_CREATE, number, &in, sizeof in, "file") == RIG_PASSED, "create");
        EXPECT(rig_ask(r, FUSE_GETATTR, number, NULL, 0, NULL) == RIG_PASSED, "getattr");
    }
    EXPECT(rig_ask(r, FUSE_LOOKUP, file, NULL, 0, "file") == RIG_PASSED, "in a file");
    rig_free(r);
}

void
check_lane_directories(void)
{
    life(0);
    life(1);
    listings(0);
    listings(1);
    what_is_shown();
    many_directories();
    bad_parents();
}
