/* Server-sent events: the same events however the bytes are cut, all of them UTF-8 and within their bound.
 * Input: the size of a piece, the bytes. */
#include "fuzz.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"
#include "daemon/model/sse.h"

#define LINE_MAX_BYTES 200
#define EVENT_MAX_BYTES 400

static int take_all(struct sse *s, struct buf *log)
{
    struct sse_event event;
    int found;
    while ((found = sse_next(s, &event)) == 1) {
        HOLDS(utf8_valid(event.event) && utf8_valid(event.data));
        /* A byte that is no UTF-8 becomes three. */
        HOLDS(event.event.n + event.data.n <= 3 * EVENT_MAX_BYTES + sizeof "message");
        buf_printf(log, "%zu %zu ", event.event.n, event.data.n);
        buf_str(log, event.event);
        buf_str(log, event.data);
    }
    return found;
}

static void read_pieces(struct str bytes, size_t piece, struct buf *log)
{
    struct sse s;
    int state = 0;
    sse_init(&s, LINE_MAX_BYTES, EVENT_MAX_BYTES);
    for (size_t i = 0; i < bytes.n && state == 0; i += piece) {
        sse_feed(&s, str_n(bytes.p + i, piece < bytes.n - i ? piece : bytes.n - i));
        state = take_all(&s, log);
    }
    HOLDS(state == 0 || s.error);
    buf_puts(log, state == 0 ? "good" : "failed");
    sse_free(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(buf_free) struct buf whole = {0}, pieces = {0};
    struct str in = fuzz_input(data, size);
    size_t piece = 1 + fuzz_byte(&in);
    read_pieces(in, in.n + 1, &whole);
    read_pieces(in, piece, &pieces);
    HOLDS(str_eq(buf_view(&whole), buf_view(&pieces)));
    return 0;
}
