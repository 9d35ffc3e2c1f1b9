#include "daemon/model/hint.h"

#include "daemon/model/fault.h"

#include <stdio.h>
#include <strings.h>
#include <time.h>

static bool is(struct str name, const char *text)
{
    return name.n == strlen(text) && strncasecmp(name.p, text, name.n) == 0;
}

static void keep_longer(int64_t *ms, int64_t other)
{
    if (other > *ms)
        *ms = other;
}

/* The three forms of RFC 9110, section 5.6.7; the last two are of old servers. */
static time_t read_date(const char *text)
{
    static const char *const forms[] = {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT",
                                        "%a %b %d %H:%M:%S %Y"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct tm tm = {0};
        const char *end = strptime(text, forms[i], &tm);
        if (end && *end == 0)
            return timegm(&tm);
    }
    return -1;
}

/* Seconds, or a date (RFC 9110, section 10.2.3). */
static int64_t retry_after_ms(struct str value, int64_t wall_ms)
{
    char date[64];
    if (value.n > 0 && value.p[0] >= '0' && value.p[0] <= '9')
        return fault_duration_ms(value, 1000);
    if (value.n == 0 || value.n >= sizeof date)
        return 0;
    snprintf(date, sizeof date, "%.*s", STR_ARG(value));
    time_t at = read_date(date);
    int64_t left_ms = at < 0 ? 0 : (int64_t)at * 1000 - wall_ms;
    int64_t most_ms = fault_duration_ms(STR("999999d"), 1);
    return left_ms < 0 ? 0 : left_ms < most_ms ? left_ms : most_ms;
}

void hint_header(struct hint *h, struct str name, struct str value, int64_t wall_ms)
{
    if (is(name, "retry-after-ms"))
        keep_longer(&h->retry_after_ms, fault_duration_ms(value, 1));
    else if (is(name, "retry-after"))
        keep_longer(&h->retry_after_ms, retry_after_ms(value, wall_ms));
    else if (is(name, "x-ratelimit-reset-requests"))
        h->requests_reset_ms = fault_duration_ms(value, 1000);
    else if (is(name, "x-ratelimit-reset-tokens"))
        h->tokens_reset_ms = fault_duration_ms(value, 1000);
    else if (is(name, "x-ratelimit-remaining-requests"))
        h->requests_spent = str_eqz(value, "0");
    else if (is(name, "x-ratelimit-remaining-tokens"))
        h->tokens_spent = str_eqz(value, "0");
}

int64_t hint_retry_after_ms(const struct hint *h)
{
    int64_t ms = h->retry_after_ms;
    if (ms == 0 && h->requests_spent)
        keep_longer(&ms, h->requests_reset_ms);
    if (h->retry_after_ms == 0 && h->tokens_spent)
        keep_longer(&ms, h->tokens_reset_ms);
    return ms;
}
