#include "frame.h"

#define KEEP_BYTES 16384 /* an idle parser holds no more than this */

void frame_init(struct frame_parser *p, size_t bytes_max)
{
    *p = (struct frame_parser){.bytes_max = bytes_max};
}

/* Drops what was taken, so that the buffer never holds more than a line under way and what was fed last. */
static void compact(struct frame_parser *p)
{
    if (p->start == 0)
        return;
    buf_consume(&p->in, p->start);
    p->scanned -= p->start;
    p->start = 0;
    if (p->in.n == 0 && p->in.cap > KEEP_BYTES)
        buf_free(&p->in);
}

void frame_feed(struct frame_parser *p, struct str bytes)
{
    compact(p);
    if (p->skipping) {
        const char *end = memchr(bytes.p, '\n', bytes.n);
        if (!end)
            return;
        size_t skip = (size_t)(end + 1 - bytes.p);
        bytes = str_n(bytes.p + skip, bytes.n - skip);
        p->skipping = false;
    }
    buf_str(&p->in, bytes);
}

static bool ends_in_cr(const struct frame_parser *p, size_t n)
{
    return n > 0 && p->in.p[p->start + n - 1] == '\r';
}

/* No newline yet. The CR of a line of exactly bytes_max bytes may already be there. */
static enum frame partial(struct frame_parser *p)
{
    size_t n = p->in.n - p->start;
    p->scanned = p->in.n;
    if (n <= p->bytes_max || (n == p->bytes_max + 1 && ends_in_cr(p, n)))
        return FRAME_NONE;
    buf_free(&p->in);
    p->start = p->scanned = 0;
    p->skipping = true;
    return FRAME_TOO_LARGE;
}

enum frame frame_next(struct frame_parser *p, struct str *ret)
{
    for (;;) {
        const char *end = NULL;
        if (p->in.n > p->scanned)
            end = memchr(p->in.p + p->scanned, '\n', p->in.n - p->scanned);
        if (!end)
            return partial(p);
        size_t line = p->start;
        size_t n = (size_t)(end - (p->in.p + line));
        if (ends_in_cr(p, n))
            n--;
        p->start = p->scanned = (size_t)(end + 1 - p->in.p);
        if (n > p->bytes_max)
            return FRAME_TOO_LARGE;
        if (n > 0) {
            *ret = str_n(p->in.p + line, n);
            return FRAME_MESSAGE;
        }
    }
}

bool frame_cut(struct frame_parser *p)
{
    bool cut = p->in.n > p->start;
    buf_free(&p->in);
    p->start = p->scanned = 0;
    return cut;
}

void frame_free(struct frame_parser *p)
{
    buf_free(&p->in);
    *p = (struct frame_parser){0};
}
