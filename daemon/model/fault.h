#pragma once
/* What went wrong with an attempt: from an HTTP status, from an error object in a body or a stream, in a
 * sentence for people, and when the provider says that it may be tried again. Pure; the decision is the
 * core's. */
#include "daemon/core/types.h"

#include "daemon/base/buf.h"

#define FAULT_MESSAGE_MAX 1000

struct fault {
    bool set;
    enum model_fault kind;
    struct buf message;     /* valid UTF-8, one line, bounded */
    int64_t retry_after_ms; /* 0: not said */
};

/* The first fault stays: what follows is its consequence. */
void fault_set(struct fault *f, enum model_fault kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void fault_free(struct fault *f);
/* From a status that is not 2xx and the (perhaps cut, perhaps not JSON) body that came with it. */
void fault_set_status(struct fault *f, long status, struct str body, size_t depth_max);
/* From an error object in a stream, checked JSON: {"code", "message"} or {"error": {...}}; `otherwise` if its
 * code says nothing. */
void fault_set_error(struct fault *f, enum model_fault otherwise, struct str error);

/* "1.5s", "6m0s", "20ms", "2 seconds", "1 hour": milliseconds, 0 if it is none. A bare number counts
 * `unit_ms`. */
int64_t fault_duration_ms(struct str text, int64_t unit_ms);
