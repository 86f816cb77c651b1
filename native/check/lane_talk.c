/* Long random conversations with the express lane, whose caller takes and gives and whose tree others change.
 */
#include "lane_rig.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define FEW 12 /* names, objects and handles at a time: they meet again often */

/* What the caller has taken, with the handles that it has to see closed. */
struct taken {
    fc_record record;
    char name[256];
    fc_file *file;
};

struct talk {
    struct rig *r;
    uint32_t state;
    uint64_t nodes[FEW];
    struct {
        uint64_t node, fh;
    } handles[FEW];
    struct taken taken[FEW];
};

static uint32_t
any(struct talk *t, uint32_t limit)
{
    return check_next(&t->state) / 7 % limit;
}

static const char *
any_name(struct talk *t)
{
    static const char *const names[FEW] = {"a", "b", "c", "d", "e", "f", "g", "h", "sub", "sub", "i", "j"};
    return names[any(t, FEW)];
}

static struct taken *
taken_of(struct talk *t, uint64_t number)
{
    for (size_t i = 0; i < FEW; i++)
        if (t->taken[i].record.number == number)
            return &t->taken[i];
    return NULL;
}

/* Make an object the caller's, with whatever belongs to it. */
static void
take_one(struct talk *t, uint64_t number)
{
    struct taken *place = taken_of(t, 0);
    if (!place || !number || fc_lane_take(t->r->lane, number, &place->record, place->name) < 0) {
        if (place)
            place->record.number = 0;
        return;
    }
    EXPECT(place->record.number == number, "another one");
    if (place->record.kind == S_IFDIR && place->record.fd >= 0) {
        close(place->record.fd);
        place->record.fd = -1;
    }
    if (place->record.fd < 0)
        return;
    place->file = calloc(1, sizeof *place->file); /* to be used after it is freed, if there is a way */
    EXPECT(place->file, "memory");
    place->file->direct = 1;
    place->file->lower.fd = place->record.fd;
    fc_lane_file(t->r->lane, number, place->file);
}

static void
close_file(struct talk *t, struct taken *taken)
{
    fc_lane_file(t->r->lane, taken->record.number, NULL);
    close(taken->record.fd);
    taken->record.fd = -1;
    free(taken->file);
    taken->file = NULL;
}

/* The caller is done with an object: it is the lane's again, or nobody's. */
static void
give_one(struct talk *t, struct taken *taken)
{
    if (taken->file || !taken->record.number)
        return;
    if (taken->record.pin >= 0) {
        close(taken->record.pin);
        fc_lane_unmark(t->r->lane, taken->record.number);
    } else {
        EXPECT(fc_lane_give(t->r->lane, &taken->record, taken->name) == 0, "give");
    }
    taken->record.number = 0;
}

static void
release(struct talk *t, size_t i)
{
    const struct fuse_release_in in = {.fh = t->handles[i].fh};
    if (!in.fh)
        return;
    if (rig_ask(t->r, FUSE_RELEASE, t->handles[i].node, &in, sizeof in, NULL) == RIG_PASSED) {
        struct taken *taken = taken_of(t, t->handles[i].node);
        EXPECT(taken && taken->file, "nobody has this handle's file");
        fc_lane_close(t->r->lane, in.fh);
        if (--taken->record.opens == 0)
            close_file(t, taken);
    }
    t->handles[i].fh = 0;
}

/* An object by its name, perhaps a new one, perhaps with a handle. */
static void
meet(struct talk *t, uint64_t parent)
{
    const struct fuse_create_in in = {.flags = O_RDWR, .mode = S_IFREG | 0600};
    size_t i = any(t, FEW), h = any(t, FEW);
    int create = any(t, 2) && !t->handles[h].fh;
    enum rig_end end = create ? rig_ask(t->r, FUSE_CREATE, parent, &in, sizeof in, any_name(t))
                              : rig_ask(t->r, FUSE_LOOKUP, parent, NULL, 0, any_name(t));
    if (end != RIG_ANSWERED || t->r->n < sizeof(struct fuse_entry_out))
        return;
    memcpy(&t->nodes[i], t->r->reply, sizeof t->nodes[i]);
    if (create) {
        t->handles[h].node = t->nodes[i];
        memcpy(&t->handles[h].fh, t->r->reply + sizeof(struct fuse_entry_out), sizeof t->handles[h].fh);
    }
}

static void
open_one(struct talk *t, uint64_t node)
{
    size_t h = any(t, FEW);
    if (t->handles[h].fh || rig_try_open(t->r, node, any(t, 4) ? O_RDWR : O_RDWR | O_TRUNC) != RIG_ANSWERED)
        return;
    t->handles[h].node = node;
    memcpy(&t->handles[h].fh, t->r->reply, sizeof t->handles[h].fh);
}

/* What others do below. */
static void
interfere(struct talk *t)
{
    const char *a = rig_lower(t->r, any_name(t)), *b = rig_lower(t->r, any_name(t));
    int fd;
    switch (any(t, 5)) {
    case 0:
        mkdirat(t->r->root, a, 0700);
        break;
    case 1:
        renameat(t->r->root, a, t->r->root, b);
        break;
    case 2:
        linkat(t->r->root, a, t->r->root, b, 0);
        break;
    case 3:
        unlinkat(t->r->root, a, any(t, 2) ? AT_REMOVEDIR : 0);
        break;
    default:
        fd = openat(t->r->root, a, O_RDWR | O_CLOEXEC);
        if (fd >= 0) {
            EXPECT(ftruncate(fd, (off_t)any(t, 3) * 6000) == 0, "ftruncate");
            close(fd);
        }
    }
}

static void
say_something(struct talk *t)
{
    static uint8_t data[9000];
    struct rig *r = t->r;
    uint64_t node = t->nodes[any(t, FEW)], parent = any(t, 3) ? FUSE_ROOT_ID : node;
    size_t h = any(t, FEW);
    const struct fuse_forget_in forget = {.nlookup = any(t, 4)};
    struct fuse_setattr_in times = {
        .valid = FATTR_MTIME | FATTR_MODE, .mode = 0600, .mtime = any(t, 1U << 30)};
    const struct fuse_mkdir_in mkdir = {.mode = 0700};
    switch (any(t, 16)) {
    case 0:
    case 1:
        meet(t, parent);
        break;
    case 2:
        open_one(t, node);
        break;
    case 3:
        release(t, h);
        break;
    case 4:
    case 5:
        rig_try_write(r, node, t->handles[h].fh, any(t, 12000), data, any(t, sizeof data));
        break;
    case 6:
        rig_read(r, node, t->handles[h].fh, any(t, 12000), any(t, 20000));
        break;
    case 7:
        rig_ask(r, FUSE_GETATTR, node, NULL, 0, NULL);
        break;
    case 8:
        rig_ask(r, FUSE_SETATTR, node, &times, sizeof times, NULL);
        break;
    case 9:
        rig_ask(r, FUSE_UNLINK, parent, NULL, 0, any_name(t));
        break;
    case 10:
        rig_ask(r, FUSE_FORGET, node, &forget, sizeof forget, NULL);
        break;
    case 11:
        take_one(t, node);
        break;
    case 12:
        give_one(t, &t->taken[h]);
        break;
    case 13:
        rig_ask(r, FUSE_MKDIR, parent, &mkdir, sizeof mkdir, any_name(t));
        break;
    case 14:
        rig_ask(r, FUSE_RMDIR, parent, NULL, 0, any_name(t));
        break;
    default:
        if (any(t, 4) == 0)
            interfere(t);
    }
}

static void
conversation(uint32_t seed, int steps, int encrypted_names)
{
    struct talk t = {.r = rig_new(rig_writing, encrypted_names), .state = seed};
    for (int i = 0; i < steps; i++)
        say_something(&t);
    for (size_t i = 0; i < FEW; i++)
        release(&t, i);
    for (size_t i = 0; i < FEW; i++)
        give_one(&t, &t.taken[i]);
    rig_free(t.r);
}

void
check_lane_talk(void)
{
    for (uint32_t seed = 1; seed <= 20; seed++)
        conversation(seed, 1500, (int)(seed % 2));
}
