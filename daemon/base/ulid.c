#include "ulid.h"

void ulid_format(int64_t wall_ms, const uint8_t random[ULID_RANDOM_SIZE], char ret[ULID_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";
    uint64_t ms = (uint64_t)(wall_ms < 0 ? 0 : wall_ms);
    for (int i = 9; i >= 0; i--, ms >>= 5)
        ret[i] = digits[ms & 31];
    for (int half = 0; half < 2; half++) {
        uint64_t bits = 0;
        for (int i = 0; i < 5; i++)
            bits = bits << 8 | random[half * 5 + i];
        for (int i = 7; i >= 0; i--, bits >>= 5)
            ret[10 + half * 8 + i] = digits[bits & 31];
    }
    ret[26] = 0;
}
