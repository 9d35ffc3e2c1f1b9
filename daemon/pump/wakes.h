#pragma once
/* When which task is to be looked at: a heap of moments, so that the next one costs nothing to find among thousands of tasks. Inside of
 * the pump. */
#include "daemon/base/map.h"

#include <stdint.h>

struct wake;

struct wakes {
    struct wake **heap; /* by moment, then by task */
    size_t n, cap;
    struct map by_task;
};

/* In boot time; it takes the place of the task's moment before; INT64_MAX: never. */
void wakes_set(struct wakes *w, const char *task, int64_t at_ms);
/* The task of the soonest moment, and the moment; NULL if there is none. */
const char *wakes_first(const struct wakes *w, int64_t *ret_at_ms);
void wakes_free(struct wakes *w);
