/* NFSv4 ACLs, which NFS clients show as an attribute of every file. */
#include "internal.h"
#include "octets.h"

#include <string.h>

#define ALLOW 0
#define DENY 1
#define GROUP_FLAG 0x40    /* some servers mark GROUP@ with it */
#define ENTRY ((size_t)16) /* octets of type, flags, mask, and length of the name behind them */

static int
is_class(const uint8_t *who, size_t n)
{
    static const char *const classes[] = {"OWNER@", "GROUP@", "EVERYONE@"};
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
        if (strlen(classes[i]) == n && memcmp(who, classes[i], n) == 0)
            return 1;
    return 0;
}

int
fc_nfs4_acl_is_mode(const uint8_t *acl, size_t n)
{
    if (n < 4)
        return 0;
    uint32_t count = fc_load_be(acl);
    size_t at = 4;
    for (uint32_t i = 0; i < count; i++) {
        if (n - at < ENTRY)
            return 0;
        uint32_t type = fc_load_be(acl + at), flags = fc_load_be(acl + at + 4);
        size_t length = fc_load_be(acl + at + 12), padded = (length + 3) / 4 * 4;
        at += ENTRY;
        if ((type != ALLOW && type != DENY) || (flags & ~(uint32_t)GROUP_FLAG) != 0)
            return 0;
        if (padded > n - at || !is_class(acl + at, length))
            return 0;
        at += padded;
    }
    return count > 0 && at == n;
}
