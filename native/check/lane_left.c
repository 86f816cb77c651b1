/* Lanes that leave answers to the caller: what they know of the lower tree, and what they list. */
#include "lane.h"
#include "lane_rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define UPPER ((uint64_t)1000) /* numbers of the caller's objects */
#define INNER ((uint64_t)1001)
#define LEAF ((uint64_t)1002)

static void
mark(struct rig *r, uint64_t number, uint32_t kind, uint64_t parent, const char *name)
{
    EXPECT(fc_lane_mark(r->lane, number, 0, number, kind, parent, name) == 0, "%s", name);
}

/* The places of a request: their paths, or NULL, one after the other, and where they begin. */
static void
expect_places(struct rig *r, uint32_t opcode, uint64_t node, const char *name, int fd, const char *first,
              const char *second)
{
    struct lane_place places[2];
    const char *expected[2] = {first, second};
    struct fuse_in_header in = {.opcode = opcode, .nodeid = node};
    char arg[32];
    snprintf(arg, sizeof arg, "%s", name ? name : "");
    struct lane_request q = {.lane = r->lane, .in = &in, .arg = arg, .n = sizeof arg};
    EXPECT(lane_most_places(r->lane) == 2, "%zu", lane_most_places(r->lane));
    lane_find_places(&q, places);
    for (int i = 0; i < 2; i++) {
        const struct lane_place *place = &places[i];
        EXPECT((place->fd >= 0) == (expected[i] != NULL), "place %d of opcode %u", i, opcode);
        if (expected[i])
            EXPECT(place->fd == fd && strcmp(lane_path(place), expected[i]) == 0, "%s", lane_path(place));
    }
}

static struct rig *
rig_left(fc_lane_config config, int encrypted_names)
{
    config.simple = 0;
    struct rig *r = rig_new(config, encrypted_names);
    mark(r, UPPER, S_IFDIR, FUSE_ROOT_ID, "d");
    mark(r, INNER, S_IFDIR, UPPER, "e");
    mark(r, LEAF, S_IFREG, INNER, "file");
    return r;
}

/* An object is found where its link says, and from the next directory above it that is open. */
static void
links(void)
{
    struct rig *r = rig_left(rig_writing, 0);
    int fd = openat(r->root, ".", O_PATH | O_CLOEXEC);
    expect_places(r, FUSE_LOOKUP, INNER, "x", r->root, "d/e/x", NULL);
    expect_places(r, FUSE_GETATTR, LEAF, NULL, r->root, "d/e/file", NULL);
    mark(r, UPPER, S_IFDIR, FUSE_ROOT_ID, "renamed");
    expect_places(r, FUSE_LOOKUP, INNER, "x", r->root, "renamed/e/x", NULL);
    fc_lane_directory(r->lane, INNER, fd);
    expect_places(r, FUSE_ACCESS, LEAF, NULL, fd, "file", NULL);
    mark(r, INNER, S_IFDIR, FUSE_ROOT_ID, "moved");
    expect_places(r, FUSE_ACCESS, LEAF, NULL, fd, "file", NULL);
    fc_lane_directory(r->lane, INNER, -1);
    expect_places(r, FUSE_ACCESS, LEAF, NULL, r->root, "moved/file", NULL);
    mark(r, INNER, S_IFDIR, 0, "");
    expect_places(r, FUSE_ACCESS, LEAF, NULL, -1, NULL, NULL);
    fc_file file = {.lower.fd = r->root};
    fc_lane_file(r->lane, LEAF, &file);
    mark(r, LEAF, S_IFREG, 0, "");
    expect_places(r, FUSE_GETATTR, LEAF, NULL, r->root, "", NULL);
    mark(r, UPPER, S_IFDIR, INNER, "a circle");
    mark(r, INNER, S_IFDIR, UPPER, "a circle");
    expect_places(r, FUSE_LOOKUP, UPPER, "x", -1, NULL, NULL);
    close(fd);
    rig_free(r);
}

/* Under several keys a name has a spelling for each, in their order. */
static void
spellings(void)
{
    uint8_t fnek[FC_KEY];
    char lower[2][NAME_MAX + 1] = {{0}, {0}};
    fc_names *other;
    check_random(93, fnek, sizeof fnek);
    EXPECT(fc_names_new(FC_AES_256, 32, fnek, fnek, &other) == 0, "names");
    const fc_names *others[] = {other};
    fc_lane_config config = rig_writing;
    config.read_only = 1;
    config.other_names = others;
    config.other_count = 1;
    struct rig *r = rig_left(config, 1);
    const fc_names *each[] = {r->names, other};
    for (size_t i = 0; i < 2; i++)
        EXPECT(fc_name_encode(each[i], (const uint8_t *)"x", 1, (uint8_t *)lower[i], NAME_MAX) > 0, "encode");
    EXPECT(strcmp(lower[0], lower[1]) != 0, "%s", lower[0]);
    expect_places(r, FUSE_LOOKUP, FUSE_ROOT_ID, "x", r->root, lower[0], lower[1]);
    expect_places(r, FUSE_LOOKUP, FUSE_ROOT_ID, "..", -1, NULL, NULL);
    EXPECT(mkdirat(r->root, lower[1], 0700) == 0, "mkdir");
    EXPECT(mkdirat(r->root, "plain", 0700) == 0, "mkdir");
    uint8_t name[NAME_MAX + 1];
    EXPECT(lane_upper_name(r->lane, lower[1], name) == 1 && name[0] == 'x', "%s", lower[1]);
    EXPECT(lane_upper_name(r->lane, "plain", name) < 0, "shown");
    rig_free(r);
    fc_names_free(other);
}

/* Every request is the caller's, once what it needs was fetched. */
static void
requests(void)
{
    fc_lane_config config = rig_writing;
    config.remote = 1;
    struct rig *r = rig_left(config, 0);
    EXPECT(mkdirat(r->root, "d", 0700) == 0 && mkdirat(r->root, "d/e", 0700) == 0, "mkdir");
    EXPECT(symlinkat("target", r->root, "d/e/link") == 0, "symlink");
    close(openat(r->root, "d/e/file", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));
    const unsigned before = rig_asides;
    EXPECT(rig_ask(r, FUSE_LOOKUP, INNER, NULL, 0, "file") == RIG_PASSED, "lookup");
    EXPECT(rig_ask(r, FUSE_LOOKUP, INNER, NULL, 0, "link") == RIG_PASSED, "lookup");
    EXPECT(rig_ask(r, FUSE_LOOKUP, INNER, NULL, 0, "absent") == RIG_PASSED, "lookup");
    EXPECT(rig_ask(r, FUSE_UNLINK, INNER, NULL, 0, "file") == RIG_PASSED, "unlink");
    EXPECT(rig_ask(r, FUSE_OPEN, LEAF, NULL, 0, NULL) == RIG_PASSED, "open");
    EXPECT(rig_asides - before == 5, "%u were put aside", rig_asides - before);
    EXPECT(rig_ask(r, FUSE_STATFS, FUSE_ROOT_ID, NULL, 0, NULL) == RIG_PASSED, "statfs");
    EXPECT(fc_lane_count(r->lane) == 0, "nothing is the lane's");
    rig_free(r);
}

/* Directories are listed by name alone: nothing that is in them becomes the lane's. */
static void
listing(void)
{
    struct rig *r = rig_left(rig_writing, 0);
    EXPECT(mkdirat(r->root, "d", 0700) == 0 && mkdirat(r->root, "d/e", 0700) == 0, "mkdir");
    EXPECT(rig_ask(r, FUSE_OPENDIR, UPPER, NULL, 0, NULL) == RIG_PASSED, "it is another one by now");
    struct stat st;
    EXPECT(fstatat(r->root, "d", &st, 0) == 0, "stat");
    EXPECT(fc_lane_mark(r->lane, UPPER, st.st_dev, st.st_ino, S_IFDIR, FUSE_ROOT_ID, "d") == 0, "mark");
    EXPECT(rig_ask(r, FUSE_OPENDIR, UPPER, NULL, 0, NULL) == RIG_ANSWERED && !r->head->error, "opendir");
    struct fuse_open_out out;
    memcpy(&out, r->reply, sizeof out);
    const struct fuse_read_in in = {.fh = out.fh, .size = 4096};
    EXPECT(rig_ask(r, FUSE_READDIRPLUS, UPPER, &in, sizeof in, NULL) == RIG_ANSWERED, "readdirplus");
    unsigned seen = 0;
    for (size_t at = 0; at < r->n; seen++) {
        const struct fuse_direntplus *entry = (void *)(r->reply + at);
        EXPECT(entry->entry_out.nodeid == 0, "entry %u is described", seen);
        at += FUSE_DIRENTPLUS_SIZE(entry);
    }
    EXPECT(seen == 3, "%u entries", seen);
    EXPECT(fc_lane_count(r->lane) == 0, "nothing is the lane's");
    const struct fuse_release_in release = {.fh = out.fh};
    EXPECT(rig_ask(r, FUSE_RELEASEDIR, UPPER, &release, sizeof release, NULL) == RIG_ANSWERED, "releasedir");
    EXPECT(rig_ask(r, FUSE_READDIR, UPPER, &in, sizeof in, NULL) == RIG_PASSED, "released");
    rig_free(r);
}

/* A disk is slow once the caller's answer took long; until then nothing is put aside. */
static void
slow_answers(void)
{
    fc_lane_config config = rig_writing;
    config.slow_ns = 1;
    struct rig *r = rig_left(config, 0);
    const unsigned before = rig_asides;
    EXPECT(rig_ask(r, FUSE_LOOKUP, FUSE_ROOT_ID, NULL, 0, "absent") == RIG_PASSED, "lookup");
    EXPECT(rig_asides == before, "it was put aside");
    EXPECT(rig_ask(r, FUSE_LOOKUP, FUSE_ROOT_ID, NULL, 0, "another") == RIG_PASSED, "lookup");
    EXPECT(rig_asides == before + 1, "it was not put aside");
    rig_free(r);
}

void
check_lane_left(void)
{
    slow_answers();
    links();
    spellings();
    requests();
    listing();
}
