#include "daemon/model/sse.h"

#include "daemon/base/utf8.h"

#include <string.h>

void sse_init(struct sse *s, size_t line_max, size_t event_max)
{
    *s = (struct sse){.line_max = line_max, .event_max = event_max};
}

void sse_free(struct sse *s)
{
    buf_free(&s->in);
    buf_free(&s->event);
    buf_free(&s->data);
}

void sse_feed(struct sse *s, struct str bytes)
{
    if (s->at > 0) {
        buf_consume(&s->in, s->at);
        s->scanned -= s->at;
        s->at = 0;
    }
    buf_str(&s->in, bytes);
}

/* A byte order mark counts only as the very first character. false: it cannot be told yet. */
static bool sse_start(struct sse *s)
{
    static const char mark[] = "\xef\xbb\xbf";
    size_t n = s->in.n < 3 ? s->in.n : 3;
    bool is_mark = n > 0 && memcmp(s->in.p, mark, n) == 0;
    if (n == 0 || (is_mark && n < 3))
        return false;
    s->at = s->scanned = is_mark ? 3 : 0;
    s->started = true;
    return true;
}

/* The next line without its end. false: it has not ended yet. A CR ends a line at once, so that an event is
 * not held back until one knows whether a LF follows. */
static bool sse_line(struct sse *s, struct str *ret)
{
    if (s->skip_lf && s->at < s->in.n) {
        if (s->in.p[s->at] == '\n')
            s->at++;
        s->skip_lf = false;
        s->scanned = s->at;
    }
    size_t i = s->scanned;
    while (i < s->in.n && s->in.p[i] != '\n' && s->in.p[i] != '\r')
        i++;
    s->scanned = i;
    if (i == s->in.n)
        return false;
    *ret = str_n(s->in.p + s->at, i - s->at);
    s->skip_lf = s->in.p[i] == '\r';
    s->at = s->scanned = i + 1;
    return true;
}

static void sse_field(struct sse *s, struct str line)
{
    const char *colon = memchr(line.p, ':', line.n);
    struct str name = {line.p, colon ? (size_t)(colon - line.p) : line.n};
    struct str value = {line.p + line.n, 0};
    if (colon) {
        value = str_n(colon + 1, line.n - name.n - 1);
        if (value.n > 0 && value.p[0] == ' ')
            value = str_n(value.p + 1, value.n - 1);
    }
    if (str_eqz(name, "data")) {
        if (s->has_data)
            buf_putc(&s->data, '\n');
        buf_str(&s->data, value);
        s->has_data = true;
    } else if (str_eqz(name, "event")) {
        buf_clear(&s->event);
        buf_str(&s->event, value);
    }
}

/* The stream is to be decoded as UTF-8, which replaces what is invalid; only then does it cost a copy. */
static struct str sse_text(struct buf *b)
{
    if (!utf8_valid(buf_view(b))) {
        struct buf valid = {0};
        utf8_put_valid(&valid, buf_view(b), false);
        buf_free(b);
        *b = valid;
    }
    return buf_view(b);
}

/* One large event must not hold its memory for the rest of the stream. */
static void sse_recycle(struct buf *b)
{
    if (b->cap > 65536)
        buf_free(b);
    else
        buf_clear(b);
}

static int sse_fail(struct sse *s, const char *error)
{
    s->error = error;
    return -1;
}

int sse_next(struct sse *s, struct sse_event *ret)
{
    struct str line;
    if (s->error)
        return -1;
    if (s->taken) {
        sse_recycle(&s->event);
        sse_recycle(&s->data);
        s->taken = s->has_data = false;
    }
    if (!s->started && !sse_start(s))
        return 0;
    while (sse_line(s, &line)) {
        if (line.n > s->line_max)
            return sse_fail(s, "a line of the stream is too long");
        if (line.n > 0) {
            sse_field(s, line);
            if (s->data.n + s->event.n > s->event_max)
                return sse_fail(s, "an event of the stream is too large");
            continue;
        }
        if (!s->has_data) { /* no data, no event */
            buf_clear(&s->event);
            continue;
        }
        s->taken = true;
        *ret = (struct sse_event){.event = s->event.n > 0 ? sse_text(&s->event) : STR("message"),
                                  .data = sse_text(&s->data)};
        return 1;
    }
    if (s->in.n - s->at > s->line_max)
        return sse_fail(s, "a line of the stream is too long");
    if (s->at == s->in.n) {
        sse_recycle(&s->in);
        s->at = s->scanned = 0;
    }
    return 0;
}
