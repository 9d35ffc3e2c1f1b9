#pragma once
/* Cuts a stream of bytes into messages: one a line, at most bytes_max bytes each. Feed bytes, take messages;
 * it does no I/O and does not look into them. A line over the limit is reported once, as soon as that is
 * certain, and skipped to its end; what follows it is read as ever. Empty lines are nothing; a CR before the
 * newline does not count. Calls: base. */
#include "daemon/base/buf.h"

#include <stdbool.h>

struct frame_parser {
    struct buf in;
    size_t start;   /* the first byte not taken */
    size_t scanned; /* no newline before it */
    size_t bytes_max;
    bool skipping; /* inside a line over the limit */
};

enum frame {
    FRAME_NONE, /* feed more */
    FRAME_MESSAGE,
    FRAME_TOO_LARGE,
};

void frame_init(struct frame_parser *p, size_t bytes_max);
void frame_feed(struct frame_parser *p, struct str bytes);
/* The message lives until the next frame_feed(). */
enum frame frame_next(struct frame_parser *p, struct str *ret);
/* At the end of the stream, when frame_next() has nothing more: whether it ended inside a line. That is dropped. */
bool frame_cut(struct frame_parser *p);
void frame_free(struct frame_parser *p);
