/* The kernel's requests, as the lane's checks make them. */
#include "lane_rig.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* A reply of n octets. */
static void
expect(struct rig *r, enum rig_end end, size_t n, const char *what)
{
    EXPECT(end == RIG_ANSWERED, "%s: %d", what, end);
    EXPECT(r->head->error == 0 && r->n == n, "%s: %d, %zu octets", what, r->head->error, r->n);
}

struct fuse_entry_out
rig_lookup(struct rig *r, uint64_t parent, const char *name)
{
    struct fuse_entry_out out;
    expect(r, rig_ask(r, FUSE_LOOKUP, parent, NULL, 0, name), sizeof out, name);
    memcpy(&out, r->reply, sizeof out);
    return out;
}

uint64_t
rig_create(struct rig *r, uint64_t parent, const char *name, uint64_t *fh)
{
    const struct fuse_create_in in = {.flags = O_RDWR, .mode = S_IFREG | 0666, .umask = 027};
    struct fuse_entry_out entry;
    struct fuse_open_out open;
    expect(r, rig_ask(r, FUSE_CREATE, parent, &in, sizeof in, name), sizeof entry + sizeof open, name);
    memcpy(&entry, r->reply, sizeof entry);
    memcpy(&open, r->reply + sizeof entry, sizeof open);
    EXPECT(entry.nodeid == entry.attr.ino && entry.attr.size == 0, "%s", name);
    *fh = open.fh;
    return entry.nodeid;
}

enum rig_end
rig_try_open(struct rig *r, uint64_t node, uint32_t flags)
{
    const struct fuse_open_in in = {.flags = flags};
    return rig_ask(r, FUSE_OPEN, node, &in, sizeof in, NULL);
}

uint64_t
rig_open(struct rig *r, uint64_t node, uint32_t flags)
{
    struct fuse_open_out out;
    expect(r, rig_try_open(r, node, flags), sizeof out, "open");
    memcpy(&out, r->reply, sizeof out);
    return out.fh;
}

struct fuse_attr
rig_getattr(struct rig *r, uint64_t node)
{
    const struct fuse_getattr_in in = {0};
    struct fuse_attr_out out;
    expect(r, rig_ask(r, FUSE_GETATTR, node, &in, sizeof in, NULL), sizeof out, "getattr");
    memcpy(&out, r->reply, sizeof out);
    return out.attr;
}

enum rig_end
rig_read(struct rig *r, uint64_t node, uint64_t fh, uint64_t offset, size_t n)
{
    const struct fuse_read_in in = {.fh = fh, .offset = offset, .size = (uint32_t)n};
    return rig_ask(r, FUSE_READ, node, &in, sizeof in, NULL);
}

enum rig_end
rig_try_write(struct rig *r, uint64_t node, uint64_t fh, uint64_t offset, const void *data, size_t n)
{
    const struct fuse_write_in in = {.fh = fh, .offset = offset, .size = (uint32_t)n};
    rig_add(r, &in, sizeof in);
    return rig_ask(r, FUSE_WRITE, node, data, n, NULL);
}

void
rig_write(struct rig *r, uint64_t node, uint64_t fh, uint64_t offset, const void *data, size_t n)
{
    struct fuse_write_out out;
    expect(r, rig_try_write(r, node, fh, offset, data, n), sizeof out, "write");
    memcpy(&out, r->reply, sizeof out);
    EXPECT(out.size == n, "%u of %zu", out.size, n);
}

void
rig_release(struct rig *r, uint64_t node, uint64_t fh)
{
    const struct fuse_release_in in = {.fh = fh};
    expect(r, rig_ask(r, FUSE_RELEASE, node, &in, sizeof in, NULL), 0, "release");
}

void
rig_unlink(struct rig *r, uint64_t parent, const char *name)
{
    expect(r, rig_ask(r, FUSE_UNLINK, parent, NULL, 0, name), 0, name);
}

void
rig_forget(struct rig *r, uint64_t node, uint64_t lookups)
{
    const struct fuse_forget_in in = {.nlookup = lookups};
    EXPECT(rig_ask(r, FUSE_FORGET, node, &in, sizeof in, NULL) == RIG_SILENT, "forget");
}

uint64_t
rig_file(struct rig *r, uint64_t parent, const char *name, const void *data, size_t n)
{
    uint64_t fh, node = rig_create(r, parent, name, &fh);
    if (n)
        rig_write(r, node, fh, 0, data, n);
    rig_release(r, node, fh);
    return node;
}
