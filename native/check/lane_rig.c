/* The kernel's part of the lane's checks. */
#include "lane_rig.h"

#include "libfuse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

int rig_careful;
unsigned rig_asides;
const fc_lane_config rig_writing = {.simple = 1, .owns_sizes = 1, .valid_ns = 1000000000};

static struct fuse_buf buf; /* the caller's */

static int
open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    EXPECT(dir, "/proc/self/fd");
    int n = 0;
    while (readdir(dir)) /* NOLINT(concurrency-mt-unsafe) */
        n++;
    closedir(dir);
    return n;
}

/* ---- Life -------------------------------------------------------------------------------------- */

static void
tell_form(struct rig *r)
{
    check_random(90, r->form, RIG_FORM);
    check_random(91, r->fekek, FC_KEY);
    const fc_hole holes[2] = {{.at = 60, .n = 32, .fekek = r->fekek},
                              {.at = 200, .n = 32, .fekek = r->fekek}};
    EXPECT(fc_lane_form(r->lane, r->form, RIG_FORM, holes, 2, 1, FC_AES_256, 32) == 0, "form");
    fc_lane_may_create(r->lane);
}

static void
begin(struct rig *r, fc_lane_config config)
{
    struct stat st;
    config.names = r->names;
    if (!config.slow_ns)
        config.slow_ns = rig_careful ? 0 : -1;
    EXPECT(fc_lane_new(&config, &r->lane) == 0 && fc_lane_attach(r->lane, r->device) == 0, "lane");
    EXPECT(fstat(r->root, &st) == 0, "root");
    EXPECT(fc_lane_mark(r->lane, FUSE_ROOT_ID, st.st_dev, st.st_ino, S_IFDIR, 0, "") == 0, "root");
    fc_lane_directory(r->lane, FUSE_ROOT_ID, r->root);
    tell_form(r);
}

struct rig *
rig_new(fc_lane_config config, int encrypted_names)
{
    int before = open_descriptors(), ends[2], room = (int)(2 * RIG_ROOM);
    struct rig *r = calloc(1, sizeof *r);
    EXPECT(r, "memory");
    r->descriptors = before;
    strcpy(r->path, "/tmp/fusecrypt-check-XXXXXX");
    EXPECT(mkdtemp(r->path), "%s", r->path);
    r->root = open(r->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    EXPECT(r->root >= 0, "%s", r->path);
    EXPECT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0, "socket");
    r->kernel = ends[0];
    r->device = ends[1];
    for (int i = 0; i < 2; i++)
        EXPECT(setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room) == 0, "socket");
    if (encrypted_names) {
        uint8_t fnek[FC_KEY];
        check_random(92, fnek, sizeof fnek);
        EXPECT(fc_names_new(FC_AES_256, 32, fnek, fnek, &r->names) == 0, "names");
    }
    begin(r, config);
    return r;
}

void
rig_again(struct rig *r, fc_lane_config config)
{
    fc_lane_free(r->lane);
    begin(r, config);
}

void
rig_leave(struct rig *r, uint64_t directory, const char *name)
{
    const char *lower = rig_lower(r, name);
    fc_lane_config config = rig_writing;
    struct stat st;
    config.simple = 0;
    config.remote = 1;
    rig_again(r, config);
    EXPECT(fstatat(r->root, lower, &st, 0) == 0, "%s", name);
    int error = fc_lane_mark(r->lane, directory, st.st_dev, st.st_ino, S_IFDIR, FUSE_ROOT_ID, lower);
    EXPECT(error == 0, "%d", error);
}

static int
remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

void
rig_free(struct rig *r)
{
    fc_lane_free(r->lane);
    fc_names_free(r->names);
    free(buf.mem);
    buf.mem = NULL;
    close(r->kernel);
    close(r->device);
    close(r->root);
    EXPECT(nftw(r->path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0, "%s", r->path);
    int left = open_descriptors();
    EXPECT(left == r->descriptors, "%d descriptors are left of %d", left, r->descriptors);
    free(r);
}

/* ---- Requests ---------------------------------------------------------------------------------- */

void
rig_add(struct rig *r, const void *data, size_t n)
{
    EXPECT(sizeof(struct fuse_in_header) + r->asked + n <= RIG_ROOM, "%zu octets", n);
    if (n)
        memcpy(r->request + sizeof(struct fuse_in_header) + r->asked, data, n);
    r->asked += n;
}

/* The caller's part, of a request of n octets. */
static void
fetch(struct rig *r, uint32_t opcode, size_t n)
{
    int got = fuse_session_receive_buf(NULL, &buf);
    EXPECT(got > 0, "%d", got);
    if (opcode != FUSE_BATCH_FORGET) /* of which the lane answers a part */
        EXPECT((size_t)got == n && memcmp(buf.mem, r->request, n) == 0, "opcode %u is changed", opcode);
    r->n = (size_t)got - sizeof(struct fuse_in_header);
    memcpy(r->out, buf.mem, (size_t)got);
    r->reply = (uint8_t *)r->out + sizeof(struct fuse_in_header);
}

enum rig_end
rig_send(struct rig *r, uint32_t opcode, uint64_t node)
{
    static uint64_t unique;
    size_t n = sizeof(struct fuse_in_header) + r->asked;
    const struct fuse_in_header head = {
        .len = (uint32_t)n,
        .opcode = opcode,
        .unique = ++unique,
        .nodeid = node,
        .uid = r->uid,
        .gid = getegid(),
    };
    memcpy(r->request, &head, sizeof head);
    r->asked = 0;
    EXPECT(send(r->kernel, r->request, n, 0) == (ssize_t)n, "%zu octets", n);
    int state = fc_lane_run(r->lane, 0, 0, 1);
    if (state == FC_LANE_ASIDE) {
        EXPECT(rig_careful && recv(r->kernel, r->out, sizeof r->out, 0) < 0, "opcode %u", opcode);
        rig_asides++;
        fc_aside *aside = fc_lane_aside(r->lane);
        fc_aside_fetch(aside);
        fc_lane_resume(r->lane, aside);
        state = fc_lane_run(r->lane, 0, 0, 1);
    }
    ssize_t got = recv(r->kernel, r->out, sizeof r->out, 0);
    if (state == FC_LANE_REQUEST) {
        EXPECT(got < 0 && errno == EAGAIN, "opcode %u is answered and passed on", opcode);
        fetch(r, opcode, n);
        return RIG_PASSED;
    }
    EXPECT(state == FC_LANE_BUSY, "opcode %u: %d", opcode, state);
    if (got < 0)
        return RIG_SILENT;
    r->head = (void *)r->out;
    EXPECT((size_t)got >= sizeof *r->head && r->head->len == (size_t)got, "opcode %u: %zd", opcode, got);
    EXPECT(r->head->unique == unique && r->head->error <= 0, "opcode %u", opcode);
    r->reply = (uint8_t *)(r->head + 1);
    r->n = (size_t)got - sizeof *r->head;
    EXPECT(r->head->error == 0 || r->n == 0, "opcode %u: an error with %zu octets", opcode, r->n);
    return RIG_ANSWERED;
}

enum rig_end
rig_ask(struct rig *r, uint32_t opcode, uint64_t node, const void *arg, size_t n, const char *name)
{
    rig_add(r, arg, n);
    if (name)
        rig_add(r, name, strlen(name) + 1);
    return rig_send(r, opcode, node);
}

const char *
rig_lower(const struct rig *r, const char *name)
{
    static char names[4][NAME_MAX + 1];
    static unsigned turn;
    char *lower = names[turn++ % 4];
    size_t n = strlen(name);
    if (!r->names)
        return name;
    ssize_t length = fc_name_encode(r->names, (const uint8_t *)name, n, (uint8_t *)lower, NAME_MAX);
    EXPECT(length > 0, "%s", name);
    lower[length] = '\0';
    return lower;
}
