#include "clock.h"

#include <stdio.h>
#include <string.h>

struct clock_deadline clock_deadline_in(const struct clock_now *now, int64_t delay_ms)
{
    struct clock_deadline d = {.wall_ms = now->wall_ms + delay_ms, .boot_ms = now->boot_ms + delay_ms, .delay_ms = delay_ms};
    if (d.wall_ms == 0)
        d.wall_ms = 1; /* 0 means "not set" */
    memcpy(d.boot_id, now->boot_id, sizeof d.boot_id);
    return d;
}

bool clock_deadline_set(const struct clock_deadline *d)
{
    return d->wall_ms != 0;
}

int64_t clock_deadline_left(const struct clock_deadline *d, const struct clock_now *now)
{
    if (!clock_deadline_set(d))
        return INT64_MAX;
    bool same_boot = strcmp(d->boot_id, now->boot_id) == 0;
    int64_t left = same_boot ? d->boot_ms - now->boot_ms : d->wall_ms - now->wall_ms;
    if (left > d->delay_ms)
        left = d->delay_ms;
    return left > 0 ? left : 0;
}

bool clock_deadline_adopt(struct clock_deadline *d, const struct clock_now *now)
{
    if (!clock_deadline_set(d) || strcmp(d->boot_id, now->boot_id) == 0)
        return false;
    int64_t delay_ms = d->delay_ms;
    *d = clock_deadline_in(now, clock_deadline_left(d, now));
    d->delay_ms = delay_ms;
    return true;
}

/* Days since 1970 <-> civil date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms". */
static void civil_from_days(int64_t z, int64_t *y, int *m, int *d)
{
    z += 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    *d = (int)(doy - (153 * mp + 2) / 5 + 1);
    *m = (int)(mp < 10 ? mp + 3 : mp - 9);
    *y = yoe + era * 400 + (*m <= 2);
}

static int64_t days_from_civil(int64_t y, int m, int d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
    int64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + doe - 719468;
}

void clock_format(int64_t wall_ms, char ret[CLOCK_TEXT_SIZE])
{
    const int64_t day_ms = 86400000;
    const int64_t last_ms = 253402300799999; /* the end of the year 9999: RFC 3339 has four digits */
    if (wall_ms < 0)
        wall_ms = 0;
    if (wall_ms > last_ms)
        wall_ms = last_ms;
    int64_t days = wall_ms / day_ms, rest = wall_ms % day_ms, y;
    int m, d;
    civil_from_days(days, &y, &m, &d);
    snprintf(ret, CLOCK_TEXT_SIZE, "%04u-%02u-%02uT%02d:%02d:%02d.%03dZ", (unsigned)y % 10000, (unsigned)m % 100,
             (unsigned)d % 100, (int)(rest / 3600000), (int)(rest / 60000 % 60), (int)(rest / 1000 % 60), (int)(rest % 1000));
}

/* sscanf() would take signs and spaces for digits. */
static bool has_form(const char *text)
{
    static const char form[] = "0000-00-00T00:00:00.000Z";
    for (size_t i = 0; i < sizeof form; i++) {
        bool digit = text[i] >= '0' && text[i] <= '9';
        if (form[i] == '0' ? !digit : text[i] != form[i])
            return false;
    }
    return true;
}

static bool in_calendar(int y, int m, int d)
{
    int64_t back_y;
    int back_m, back_d;
    if (m < 1 || m > 12 || d < 1 || d > 31)
        return false;
    civil_from_days(days_from_civil(y, m, d), &back_y, &back_m, &back_d);
    return back_y == y && back_m == m && back_d == d; /* 31 February comes back as a day of March */
}

int clock_parse(const char *text, int64_t *ret_wall_ms)
{
    int y, m, d, hh, mm, ss, ms;
    if (!has_form(text) || sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ", &y, &m, &d, &hh, &mm, &ss, &ms) != 7)
        return -1;
    if (!in_calendar(y, m, d) || hh > 23 || mm > 59 || ss > 60)
        return -1;
    int64_t wall_ms = (((days_from_civil(y, m, d) * 24 + hh) * 60 + mm) * 60 + ss) * 1000 + ms;
    if (wall_ms < 0) /* clock_format() writes none before 1970 */
        return -1;
    *ret_wall_ms = wall_ms;
    return 0;
}
