#pragma once
/* An answer that is ready to be sent: status, headers, body, and where the sender pauses. Knows nothing of
 * sockets. */
#include "daemon/base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct reply_pause {
    size_t at; /* offset in the body */
    int64_t ms;
};

struct reply {
    int status;
    const char *content_type;
    int64_t retry_after_s; /* -1: none */
    int64_t delay_ms;      /* before the first byte */
    int64_t pace_ms;       /* between deltas */
    struct buf body;
    struct reply_pause *pauses;
    size_t pauses_n;
    size_t first_delta_end; /* 0: no delta yet */
    bool cut;               /* the connection ends after the body without ending the message */

    int64_t sequence; /* for the wires: events written */

    /* for the log */
    const char *wire;  /* static text, or NULL */
    int64_t step;      /* -1: no step was looked for */
    const char *fault; /* static text, or NULL */
};

void reply_init(struct reply *r);
void reply_free(struct reply *r);

/* The body up to here ends with a delta; the next one comes after the pace. */
void reply_delta_end(struct reply *r);
/* Calls `put` for each piece of a text, in order, on borders of characters. An empty text has no piece. */
void reply_pieces(struct str text, void (*put)(void *arg, struct str piece), void *arg);

/* Faults; all of them on a finished body. */
void reply_malform(struct reply *r, struct str text, bool stream);
void reply_cut(struct reply *r, size_t bytes);
void reply_stall(struct reply *r, int64_t ms);
