#include "duration.h"

#include <stdio.h>

static const struct {
    const char *text;
    long seconds;
} cases[] = {
    {"45s", 45},        {"10m", 600},      {"2d", 172800}, {"0s", 0},   {"1h30m", 5400},
    {"1h30m10s", 5410}, {"2d12h", 216000}, {"", -1},       {"h", -1},   {"10", -1},
    {"1m1h", -1},       {"1h1h", -1},      {"5x", -1},     {"1234567890s", -1},
};

int main(void)
{
    int failed = 0, n = sizeof cases / sizeof *cases;

    for (int i = 0; i < n; i++) {
        long seconds = duration_parse(cases[i].text);
        if (seconds == cases[i].seconds)
            continue;
        printf("FAIL \"%s\": want %ld, got %ld\n", cases[i].text, cases[i].seconds, seconds);
        failed++;
    }
    if (failed)
        printf("%d of %d failed\n", failed, n);
    else
        printf("all %d passed\n", n);
    return failed ? 1 : 0;
}
