/* What the lane shares with its caller. */
#include "lane_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Objects ------------------------------------------------------------------------------------- */

static fc_record
take(struct rig *r, uint64_t number, const char *name)
{
    fc_record record;
    char lower[256];
    EXPECT(fc_lane_take(r->lane, number, &record, lower) == 0, "%s", name);
    EXPECT(record.number == number && record.ino == number && strcmp(lower, rig_lower(r, name)) == 0, "%s",
           name);
    EXPECT(fc_lane_take(r->lane, number, &record, lower) == -ENOENT, "%s: twice", name);
    if (record.kind == S_IFDIR && record.fd >= 0) {
        close(record.fd);
        record.fd = -1;
    }
    return record;
}

static void
objects(int encrypted_names)
{
    struct rig *r = rig_new(rig_writing, encrypted_names);
    uint64_t node = rig_file(r, FUSE_ROOT_ID, "file", "data", 4);
    rig_lookup(r, FUSE_ROOT_ID, "file");
    fc_record record = take(r, node, "file");
    EXPECT(record.lookups == 2 && record.parent == FUSE_ROOT_ID && record.kind == S_IFREG, "record");
    EXPECT(record.shown == 4 && record.stamp_size > 0 && record.pin == -1 && record.fd == -1, "record");
    EXPECT(fc_lane_count(r->lane) == 0 && fc_lane_find(r->lane, record.dev, node) == 0, "the caller's");
    const struct fuse_forget_in forget = {.nlookup = 1};
    EXPECT(rig_ask(r, FUSE_GETATTR, node, NULL, 0, NULL) == RIG_PASSED, "the caller's");
    EXPECT(rig_ask(r, FUSE_LOOKUP, FUSE_ROOT_ID, NULL, 0, rig_lower(r, "file")) != RIG_SILENT, "any name");
    EXPECT(rig_ask(r, FUSE_LOOKUP, FUSE_ROOT_ID, NULL, 0, "file") == RIG_PASSED, "the caller's");
    EXPECT(rig_ask(r, FUSE_UNLINK, FUSE_ROOT_ID, NULL, 0, "file") == RIG_PASSED, "the caller's");
    EXPECT(rig_ask(r, FUSE_FORGET, node, &forget, sizeof forget, NULL) == RIG_PASSED, "the caller's");
    EXPECT(rig_try_open(r, node, O_RDWR) == RIG_PASSED, "the caller's");

    const char *lower = rig_lower(r, "file");
    EXPECT(fc_lane_give(r->lane, &record, lower) == 0 && fc_lane_count(r->lane) == 1, "given back");
    EXPECT(fc_lane_give(r->lane, &record, lower) == -ENOENT, "twice");
    EXPECT(fc_lane_find(r->lane, record.dev, node) == node, "found");
    EXPECT(rig_getattr(r, node).size == 4 && rig_lookup(r, FUSE_ROOT_ID, "file").nodeid == node, "ours");

    rig_unlink(r, FUSE_ROOT_ID, "file");
    record = take(r, node, "file");
    struct stat st;
    EXPECT(record.lookups == 3 && fstat(record.pin, &st) == 0 && st.st_ino == node, "without a link");
    close(record.pin);
    char longer[300] = {0};
    memset(longer, 'x', sizeof longer - 1);
    record.pin = -1;
    EXPECT(fc_lane_give(r->lane, &record, longer) == -ENAMETOOLONG, "no such name");
    fc_lane_unmark(r->lane, node);
    EXPECT(fc_lane_take(r->lane, FUSE_ROOT_ID, &record, longer) == -ENOENT, "never ours");
    fc_lane_unmark(r->lane, node);
    rig_free(r);
}

/* ---- Open files ----------------------------------------------------------------------------------- */

/* The caller's open file in place of a record's. */
static struct fc_file_key *
go_on(struct rig *r, const fc_record *record, fc_file *file)
{
    uint8_t header[RIG_FORM];
    fc_file_key *key;
    EXPECT(pread(record->fd, header, sizeof header, 0) == (ssize_t)sizeof header, "header");
    EXPECT(fc_file_key_unwrap(FC_AES_256, 32, r->fekek, header + 200, 32, &key) == 0, "unwrap");
    *file = (fc_file){.key = key, .born_ns = -1, .direct = 1};
    file->lower = (fc_lower){.fd = record->fd, .data_offset = RIG_HEADER, .size = header[7]};
    return key;
}

static void
open_files(void)
{
    struct rig *r = rig_new(rig_writing, 0);
    uint64_t first, second, node = rig_create(r, FUSE_ROOT_ID, "file", &first);
    rig_write(r, node, first, 0, "0123456789", 10);
    second = rig_open(r, node, O_RDONLY);
    fc_record record = take(r, node, "file");
    EXPECT(record.fd >= 0 && record.opens == 2 && record.writable && record.born_ns >= 0, "record");
    EXPECT(rig_read(r, node, first, 0, 10) == RIG_PASSED, "the caller has not told its file yet");
    fc_file file;
    fc_file_key *key = go_on(r, &record, &file);
    fc_lane_file(r->lane, node, &file);
    EXPECT(rig_read(r, node, first, 0, 20) == RIG_ANSWERED && r->n == 10, "by the caller's file");
    EXPECT(rig_read(r, node, second, 0, 20) == RIG_ANSWERED && r->n == 10, "by the caller's file");
    rig_write(r, node, first, 10, "ab", 2);
    EXPECT(file.lower.size == 12 && rig_getattr(r, node).size == 12, "the caller's size");
    file.busy = 1;
    EXPECT(rig_read(r, node, first, 0, 20) == RIG_PASSED, "busy");
    EXPECT(rig_ask(r, FUSE_GETATTR, node, NULL, 0, NULL) == RIG_PASSED, "busy");
    file.busy = 0;
    file.direct = 0;
    EXPECT(rig_try_write(r, node, first, 0, "x", 1) == RIG_PASSED, "not for the lane");
    file.direct = 1;
    const struct fuse_release_in in = {.fh = first};
    EXPECT(rig_ask(r, FUSE_RELEASE, node, &in, sizeof in, NULL) == RIG_PASSED, "the caller's");
    int by_root = 0;
    EXPECT(fc_lane_handle(r->lane, first, &by_root) == node && by_root, "whose handle it is");
    fc_lane_close(r->lane, first);
    EXPECT(fc_lane_handle(r->lane, first, &by_root) == 0, "closed");
    EXPECT(fc_lane_open(r->lane, node, &file, 0) == (int64_t)first, "the number is free again");

    /* The caller closes its file although handles are left: none of them may lead to it. */
    fc_lane_file(r->lane, node, NULL);
    file.lower.size = 0;
    EXPECT(rig_read(r, node, first, 0, 20) == RIG_PASSED, "its file is gone");
    fc_file_key_free(key);
    close(record.fd);
    record.fd = -1;
    EXPECT(fc_lane_give(r->lane, &record, "file") == 0, "given back");
    uint64_t third = rig_open(r, node, O_RDWR);
    const struct fuse_release_in old = {.fh = second};
    EXPECT(rig_ask(r, FUSE_RELEASE, node, &old, sizeof old, NULL) == RIG_PASSED, "a handle of another time");
    EXPECT(rig_read(r, node, third, 0, 20) == RIG_ANSWERED && r->n == 12, "still open");
    rig_release(r, node, third);
    fc_lane_close(r->lane, first);
    fc_lane_close(r->lane, second);
    fc_lane_close(r->lane, second);
    fc_lane_close(r->lane, 0);
    fc_lane_close(r->lane, UINT64_MAX);
    rig_free(r);
}

/* A file can be handed over when no descriptor is left. */
static void
no_descriptors(void)
{
    struct rig *r = rig_new(rig_writing, 0);
    uint64_t fh, node = rig_create(r, FUSE_ROOT_ID, "file", &fh);
    struct rlimit old;
    EXPECT(getrlimit(RLIMIT_NOFILE, &old) == 0, "limit");
    const struct rlimit none = {0, old.rlim_max};
    EXPECT(setrlimit(RLIMIT_NOFILE, &none) == 0, "limit");
    fc_record record = take(r, node, "file");
    EXPECT(setrlimit(RLIMIT_NOFILE, &old) == 0, "limit");
    EXPECT(record.fd >= 0 && record.opens == 1, "%d", record.fd);
    EXPECT(close(record.fd) == 0, "close");
    rig_free(r);
}

/* ---- Forms ---------------------------------------------------------------------------------------- */

static void
forms(void)
{
    static uint8_t octets[5000], fekek[FC_KEY];
    struct rig *r = rig_new(rig_writing, 0);
    const fc_hole known = {.at = 60, .n = 32, .fekek = fekek}, unknown = {.at = 100, .n = 32};
    const fc_hole low = {.at = 15, .n = 32, .fekek = fekek}, high = {.at = 290, .n = 32, .fekek = fekek};
    const fc_hole over = {.at = 91, .n = 32, .fekek = fekek};
    const struct {
        size_t n, count, which;
        fc_hole holes[2];
        int expected;
    } cases[] = {
        {15, 1, 0, {known}, -EINVAL},        {300, 0, 0, {known}, -EINVAL},
        {300, 1, 1, {known}, -EINVAL},       {300, 2, 1, {known, unknown}, -EINVAL},
        {300, 1, 0, {low}, -EINVAL},         {300, 1, 0, {high}, -EINVAL},
        {300, 2, 0, {known, over}, -EINVAL}, {300, 2, 1, {unknown, known}, -EINVAL},
        {5000, 1, 0, {known}, -ENOSPC},      {300, 9, 0, {known}, -ENOSPC},
        {300, 2, 0, {known, unknown}, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int got = fc_lane_form(r->lane, octets, cases[i].n, cases[i].holes, cases[i].count, cases[i].which,
                               FC_AES_256, 32);
        EXPECT(got == cases[i].expected, "case %zu: %d", i, got);
    }
    int error = 0;
    for (int i = 0; i < 10 && !error; i++)
        error = fc_lane_form(r->lane, octets, 300, &known, 1, 0, FC_AES_256, 32);
    EXPECT(error == -ENOSPC, "%d", error);
    rig_file(r, FUSE_ROOT_ID, "file", "the first form is still the one of new files", 10);
    rig_free(r);
}

/* With an old size, a file that got the number of another one would be read in part. */
static void
attributes_beside_others(void)
{
    fc_lane_config config = rig_writing;
    config.owns_sizes = 0;
    config.shared = 1;
    struct rig *r = rig_new(config, 0);
    uint64_t file = rig_file(r, FUSE_ROOT_ID, "file", "data", 4);
    EXPECT(mkdirat(r->root, "d", 0700) == 0, "mkdir");
    const struct fuse_entry_out found = rig_lookup(r, FUSE_ROOT_ID, "file"),
                                d = rig_lookup(r, FUSE_ROOT_ID, "d");
    EXPECT(found.entry_valid == 1 && found.attr_valid == 0 && found.attr_valid_nsec == 0, "lookup");
    EXPECT(d.entry_valid == 1 && d.attr_valid == 1, "directory");
    rig_getattr(r, file);
    const struct fuse_attr_out *out = (const void *)r->reply;
    EXPECT(out->attr.size == 4 && out->attr_valid == 0 && out->attr_valid_nsec == 0, "getattr");
    rig_free(r);
}

void
check_lane_sharing(void)
{
    attributes_beside_others();
    objects(0);
    objects(1);
    open_files();
    no_descriptors();
    forms();
}
