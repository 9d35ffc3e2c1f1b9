#pragma once
/* When a provider says that it may be asked again: read from the headers of its answer. Pure but for the wall
 * clock, which a date in Retry-After is measured against. */
#include "daemon/base/str.h"

#include <stdint.h>

struct hint {
    int64_t retry_after_ms;                     /* Retry-After, retry-after-ms */
    int64_t requests_reset_ms, tokens_reset_ms; /* x-ratelimit-reset-*: how long until there is quota again */
    bool requests_spent, tokens_spent;          /* x-ratelimit-remaining-*: 0 */
};

/* One header; others than those above are ignored. `wall_ms`: now. */
void hint_header(struct hint *h, struct str name, struct str value, int64_t wall_ms);
/* What they come to; 0: nothing was said. */
int64_t hint_retry_after_ms(const struct hint *h);
