#pragma once
/* Server-sent events, as WHATWG HTML section 9.2.6 reads them: bytes in, events out. It does no I/O, knows no
 * provider, and neither reconnects nor keeps a last event id: a request to a model is sent again by the core
 * or not at all. `id` and `retry` are therefore ignored. */
#include "daemon/base/buf.h"

#include <stdbool.h>

struct sse {
    size_t line_max, event_max; /* bytes; set by sse_init() */
    struct buf in;              /* bytes that were fed and not read */
    size_t at;                  /* how much of them was read */
    size_t scanned;             /* how far the current line was searched for its end */
    bool started;               /* the place of a byte order mark is behind us */
    bool skip_lf;               /* the last line ended with CR: a LF right after belongs to it */
    bool has_data;
    struct buf event, data; /* the event that is being collected, then the one that was taken */
    bool taken;
    const char *error;
};

struct sse_event {
    struct str event; /* "message" where the stream named none */
    struct str data;  /* valid UTF-8: what is not was replaced by U+FFFD */
};

void sse_init(struct sse *s, size_t line_max, size_t event_max);
void sse_free(struct sse *s);
/* Copies the bytes. Take all events before the next feed: what is fed is bounded by the caller. */
void sse_feed(struct sse *s, struct str bytes);
/* 1: an event, valid until the next call with `s`; 0: more bytes are needed; -1: a line or an event is over
 * its bound (s->error says which; nothing more can be read). An event that the end of the stream cuts is
 * never returned. */
int sse_next(struct sse *s, struct sse_event *ret);
