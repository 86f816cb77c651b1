/* Fuzz headers: the input is laid over one that the lane knows, so that most of it is right. */
#include "lane.h"
#include "lane_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct rig *r;
    static uint8_t header[RIG_HEADER];
    fc_file file;
    if (!r)
        r = rig_new(rig_writing, 0);
    if (n < 2 || n - 2 > sizeof header)
        return 0;
    size_t length = ((size_t)data[0] << 8 | data[1]) % (sizeof header + 1);
    memset(header, 0, sizeof header);
    memcpy(header, r->form, RIG_FORM);
    for (size_t i = 0; i < n - 2; i++)
        header[i] ^= data[i + 2];
    uint8_t *exact = malloc(length ? length : 1); /* whose end the sanitizer knows */
    EXPECT(exact, "memory");
    memcpy(exact, header, length);
    fc_file_key *key = lane_unlock(r->lane, exact, length, &file);
    EXPECT(!key || length > RIG_FORM, "a header of %zu octets", length);
    fc_file_key_free(key);
    free(exact);
    return 0;
}
