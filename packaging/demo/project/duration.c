#include "duration.h"

#include <ctype.h>
#include <limits.h>

static long unit_seconds(char unit)
{
    switch (unit) {
    case 'd':
        return 86400;
    case 'h':
        return 3600;
    case 'm':
        return 60;
    case 's':
        return 1;
    default:
        return 0;
    }
}

long duration_parse(const char *text)
{
    long seconds = 0, value = 0, before = LONG_MAX;
    int digits = 0;

    if (!*text)
        return -1;
    for (; *text; text++) {
        if (isdigit((unsigned char)*text)) {
            value = value * 10 + (*text - '0');
            if (++digits > 9)
                return -1;
            continue;
        }
        long unit = unit_seconds(*text);
        if (digits == 0 || unit == 0 || unit >= before)
            return -1;
        seconds += value * unit;
        before = unit;
        digits = 0;
    }
    return digits == 0 ? seconds : -1;
}
