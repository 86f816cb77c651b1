/* NFSv4 ACLs that a mode says too, and others. */
#include "check.h"

#include <string.h>

#define OWNER 0, 0, 0, 6, 'O', 'W', 'N', 'E', 'R', '@', 0, 0
#define GROUP 0, 0, 0, 6, 'G', 'R', 'O', 'U', 'P', '@', 0, 0
#define ALL 0, 0, 0, 9, 'E', 'V', 'E', 'R', 'Y', 'O', 'N', 'E', '@', 0, 0, 0
#define MASK 0, 0x12, 0x01, 0x9f
#define ALLOW 0, 0, 0, 0
#define NO_FLAGS 0, 0, 0, 0

static const uint8_t of_mode[] = {0, 0, 0, 3, ALLOW, NO_FLAGS, MASK,  OWNER, 0,        0,    0,
                                  1, 0, 0, 0, 0x40,  MASK,     GROUP, ALLOW, NO_FLAGS, MASK, ALL};

static int
is_mode(const uint8_t *acl, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1); /* so that a look beyond the end is seen */
    EXPECT(copy != NULL, "memory");
    memcpy(copy, acl, n);
    int found = fc_nfs4_acl_is_mode(copy, n);
    free(copy);
    return found;
}

void
check_acls(void)
{
    EXPECT(is_mode(of_mode, sizeof of_mode), "three classes");
    for (size_t n = 0; n < sizeof of_mode; n++)
        EXPECT(!is_mode(of_mode, n), "cut to %zu octets", n);
    for (size_t i = 0; i < sizeof of_mode; i++) {
        uint8_t other[sizeof of_mode];
        memcpy(other, of_mode, sizeof other);
        other[i] ^= 0x80;
        int is_mask = memcmp(of_mode + i / 4 * 4, (const uint8_t[]){MASK}, 4) == 0;
        int is_padding = of_mode[i] == 0 && i % 4 >= 1 && of_mode[i / 4 * 4] >= '@';
        EXPECT(is_mode(other, sizeof other) == (is_mask || is_padding), "octet %zu changed", i);
    }
    static const uint8_t somebody[] = {0,   0,   0,   1,   ALLOW, NO_FLAGS, MASK, 0,   0, 0, 9, 'a',
                                       '@', 'e', 'x', 'a', 'm',   'p',      'l',  'e', 0, 0, 0};
    EXPECT(!is_mode(somebody, sizeof somebody), "somebody");
    static const uint8_t none[] = {0, 0, 0, 0},
                         many[] = {0xff, 0xff, 0xff, 0xff, ALLOW, NO_FLAGS, MASK, OWNER};
    EXPECT(!is_mode(none, sizeof none) && !is_mode(many, sizeof many), "none, and more than there are");
}
