/* Requests that are put aside, and what happens meanwhile. */
#include "lane_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOO_MANY 1000

/* Ask for a name that was never looked for, which no kernel can answer from memory. */
static int
ask(struct rig *r, uint64_t unique, uint64_t parent, const char *name)
{
    struct {
        struct fuse_in_header head;
        char name[16];
    } q = {.head = {.opcode = FUSE_LOOKUP, .unique = unique, .nodeid = parent}};
    size_t n = sizeof q.head + strlen(name) + 1;
    memcpy(q.name, name, strlen(name) + 1);
    q.head.len = (uint32_t)n;
    EXPECT(send(r->kernel, &q, n, 0) == (ssize_t)n, "%s", name);
    return fc_lane_run(r->lane, 0, 0, 1);
}

static fc_aside *
ask_aside(struct rig *r, uint64_t unique, uint64_t parent, const char *name)
{
    int state = ask(r, unique, parent, name);
    EXPECT(state == FC_LANE_ASIDE, "%s: %d", name, state);
    return fc_lane_aside(r->lane);
}

/* What the lane has answered now: the number of the request, 0: nothing. */
static uint64_t
answered(struct rig *r, int *error, uint64_t *node)
{
    ssize_t got = recv(r->kernel, r->out, sizeof r->out, 0);
    if (got < 0)
        return 0;
    r->head = (void *)r->out;
    *error = r->head->error;
    if (!*error)
        memcpy(node, r->head + 1, sizeof *node); /* the first field of an entry */
    return r->head->unique;
}

/* The last one first, with others between; what came meanwhile is found. */
static void
in_any_order(void)
{
    struct rig *r = rig_new(rig_writing, 0);
    int error = 0;
    uint64_t node = 0;
    fc_aside *first = ask_aside(r, 1001, FUSE_ROOT_ID, "first");
    fc_aside *second = ask_aside(r, 1002, FUSE_ROOT_ID, "second");
    EXPECT(first != second && answered(r, &error, &node) == 0, "nothing is known yet");
    EXPECT(mkdirat(r->root, "first", 0700) == 0, "mkdir");
    EXPECT(rig_lookup(r, FUSE_ROOT_ID, "first").nodeid != 0, "others go on");
    fc_aside_fetch(second);
    fc_aside_fetch(first);
    fc_lane_resume(r->lane, second);
    fc_lane_resume(r->lane, first);
    EXPECT(fc_lane_run(r->lane, 0, 0, 2) == FC_LANE_BUSY, "both are answered");
    EXPECT(answered(r, &error, &node) == 1002 && error == 0 && node == 0, "absent");
    EXPECT(answered(r, &error, &node) == 1001 && error == 0 && node != 0, "it came");
    rig_free(r);
}

/* Its directory goes while a request waits. */
static void
behind_its_back(void)
{
    struct rig *r = rig_new(rig_writing, 0);
    EXPECT(mkdirat(r->root, "d", 0700) == 0, "mkdir");
    uint64_t directory = rig_lookup(r, FUSE_ROOT_ID, "d").nodeid;
    fc_aside *aside = ask_aside(r, 1001, directory, "name");
    EXPECT(unlinkat(r->root, "d", AT_REMOVEDIR) == 0, "rmdir");
    rig_forget(r, directory, 1);
    fc_aside_fetch(aside);
    fc_lane_resume(r->lane, aside);
    EXPECT(fc_lane_run(r->lane, 0, 0, 1) == FC_LANE_REQUEST, "the caller tells what is wrong");
    rig_free(r);
}

/* The mount goes while requests wait: one in a thread, which lives longer, one that could be answered. */
static void
at_the_end(void)
{
    struct rig *r = rig_new(rig_writing, 0);
    fc_aside *ready = ask_aside(r, 1001, FUSE_ROOT_ID, "ready");
    fc_lane_resume(r->lane, ready);
    rig_free(r);
}

/* Nobody is being killed here: they go on waiting. */
static void
given_up(void)
{
    struct rig *r = rig_new(rig_writing, 0);
    int error = 0;
    uint64_t node = 0;
    fc_aside *aside = ask_aside(r, 1001, FUSE_ROOT_ID, "name");
    fc_lane_give_up(r->lane);
    EXPECT(answered(r, &error, &node) == 0, "answered");
    fc_lane_resume(r->lane, aside);
    EXPECT(fc_lane_run(r->lane, 0, 0, 1) == FC_LANE_BUSY, "answer");
    EXPECT(answered(r, &error, &node) == 1001 && error == 0, "%d", error);
    rig_free(r);
}

/* Over a network those that are too many are refused; the others are answered all the same. */
static void
too_many(void)
{
    fc_lane_config config = rig_writing;
    config.remote = 1;
    struct rig *r = rig_new(config, 0);
    fc_aside *asides[TOO_MANY];
    int error = 0, asked = 0;
    uint64_t node = 0;
    char name[16];
    for (;; asked++) {
        EXPECT(asked < TOO_MANY, "%d are aside", asked);
        snprintf(name, sizeof name, "%d", asked);
        if (ask(r, 1001 + (uint64_t)asked, FUSE_ROOT_ID, name) != FC_LANE_ASIDE)
            break;
        asides[asked] = fc_lane_aside(r->lane);
    }
    EXPECT(answered(r, &error, &node) == 1001 + (uint64_t)asked && error == -EAGAIN, "%d", error);
    for (int i = 0; i < asked; i++) {
        fc_aside_fetch(asides[i]);
        fc_lane_resume(r->lane, asides[i]);
        EXPECT(fc_lane_run(r->lane, 0, 0, 1) == FC_LANE_BUSY, "%d", i);
        EXPECT(answered(r, &error, &node) == 1001 + (uint64_t)i && error == 0, "%d: %d", i, error);
    }
    rig_free(r);
}

void
check_lane_aside(void)
{
    too_many();
    in_any_order();
    behind_its_back();
    at_the_end();
    given_up();
}
