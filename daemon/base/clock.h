#pragma once
/* Time as the core sees it: values that come in from outside, never a clock that is read. */
#include <stdbool.h>
#include <stdint.h>

#define CLOCK_BOOT_ID_SIZE 40 /* the text of /proc/sys/kernel/random/boot_id and its NUL */
#define CLOCK_TEXT_SIZE 48    /* "2026-01-02T03:04:05.678Z" and its NUL, with room */

struct clock_now {
    int64_t wall_ms; /* since 1970, UTC */
    int64_t boot_ms; /* CLOCK_BOOTTIME: goes on through suspend, restarts at boot */
    char boot_id[CLOCK_BOOT_ID_SIZE];
};

/* A point in the future, a duration away from where it was made. Within one boot it counts boot time, so that a
 * jump of the wall clock neither hurries nor delays it; across a reboot the wall clock is all there is, and where that was set
 * back meanwhile, no more is left than there was at the beginning. */
struct clock_deadline {
    int64_t wall_ms; /* 0: not set */
    int64_t boot_ms;
    int64_t delay_ms; /* what it began with */
    char boot_id[CLOCK_BOOT_ID_SIZE];
};

struct clock_deadline clock_deadline_in(const struct clock_now *now, int64_t delay_ms);
bool clock_deadline_set(const struct clock_deadline *d);
/* Milliseconds left, 0 when due. INT64_MAX when not set. */
int64_t clock_deadline_left(const struct clock_deadline *d, const struct clock_now *now);

/* Takes a deadline of another boot over into this one, where it counts boot time again: a wall clock that was far off when it
 * was made, and is not now, delays it once by no more than its own duration. Whether it was of another boot: then what it is now
 * must be stored, or the next start would ask the wall clock again. */
bool clock_deadline_adopt(struct clock_deadline *d, const struct clock_now *now);

/* RFC 3339 in UTC with three digits of a second and `Z`. */
void clock_format(int64_t wall_ms, char ret[CLOCK_TEXT_SIZE]);
/* The reverse; 0 on success, -1 if the text is not of that form, or names a day that is not in the calendar. */
int clock_parse(const char *text, int64_t *ret_wall_ms);
