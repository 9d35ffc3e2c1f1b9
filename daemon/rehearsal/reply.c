#include "reply.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"

#define PIECE_BYTES_MIN 12
#define PIECES_MAX 256 /* of one text, about */

void reply_init(struct reply *r)
{
    *r = (struct reply){.status = 200, .content_type = "application/json", .retry_after_s = -1, .step = -1};
}

void reply_free(struct reply *r)
{
    buf_free(&r->body);
    mem_free(r->pauses);
}

static void pause_add(struct reply *r, size_t at, int64_t ms)
{
    size_t i = r->pauses_n++;
    r->pauses = mem_realloc(r->pauses, r->pauses_n * sizeof *r->pauses);
    for (; i > 0 && r->pauses[i - 1].at > at; i--)
        r->pauses[i] = r->pauses[i - 1];
    r->pauses[i] = (struct reply_pause){at, ms};
}

void reply_delta_end(struct reply *r)
{
    if (r->first_delta_end == 0)
        r->first_delta_end = r->body.n;
    if (r->pace_ms > 0)
        pause_add(r, r->body.n, r->pace_ms);
}

/* About a word or two, as tokens come. */
void reply_pieces(struct str text, void (*put)(void *arg, struct str piece), void *arg)
{
    size_t least = text.n / PIECES_MAX > PIECE_BYTES_MIN ? text.n / PIECES_MAX : PIECE_BYTES_MIN;
    while (text.n > 0) {
        size_t n = text.n;
        if (n > least) {
            const char *space =
                memchr(text.p + least, ' ', text.n - least < 2 * least ? text.n - least : 2 * least);
            n = space ? (size_t)(space - text.p) : utf8_floor(text, least);
        }
        put(arg, str_n(text.p, n));
        text = str_n(text.p + n, text.n - n);
    }
}

void reply_malform(struct reply *r, struct str text, bool stream)
{
    struct buf body = {0};
    size_t at = stream ? r->first_delta_end : 0;
    buf_put(&body, r->body.p, at);
    if (stream)
        buf_puts(&body, "data: ");
    buf_str(&body, text);
    if (stream) {
        buf_puts(&body, "\n\n");
        buf_put(&body, r->body.p + at, r->body.n - at);
    }
    for (size_t i = 0; i < r->pauses_n; i++)
        if (r->pauses[i].at > at)
            r->pauses[i].at += body.n - r->body.n;
    buf_free(&r->body);
    r->body = body;
}

void reply_cut(struct reply *r, size_t bytes)
{
    if (r->body.n > bytes)
        r->body.n = bytes;
    while (r->pauses_n > 0 && r->pauses[r->pauses_n - 1].at > r->body.n)
        r->pauses_n--;
    r->cut = true;
}

void reply_stall(struct reply *r, int64_t ms)
{
    size_t at = r->first_delta_end ? r->first_delta_end : r->body.n / 2;
    pause_add(r, r->cut || at > r->body.n ? r->body.n : at, ms);
}
