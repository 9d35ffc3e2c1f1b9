/* Lines on a socket: however the bytes are cut into pieces, the messages are those that a plain reading of
 * the whole finds. Input: the limit, the size of a piece, the bytes. */
#include "fuzz.h"

#include "daemon/base/mem.h"
#include "daemon/rpc/frame.h"

static void put_message(struct buf *log, struct str message)
{
    buf_printf(log, "message %zu ", message.n);
    buf_str(log, message);
    buf_putc(log, '\n');
}

static void take_all(struct frame_parser *p, struct buf *log)
{
    struct str message;
    enum frame found;
    while ((found = frame_next(p, &message)) != FRAME_NONE) {
        if (found == FRAME_MESSAGE)
            put_message(log, message);
        else
            buf_puts(log, "large\n");
    }
}

static void read_pieces(struct str bytes, size_t bytes_max, size_t piece, struct buf *log)
{
    struct frame_parser p;
    frame_init(&p, bytes_max);
    for (size_t i = 0; i < bytes.n; i += piece) {
        frame_feed(&p, str_n(bytes.p + i, piece < bytes.n - i ? piece : bytes.n - i));
        take_all(&p, log);
        HOLDS(p.in.n - p.start <= bytes_max + 1);
    }
    frame_free(&p);
}

static void put_line(struct str line, bool ended, size_t bytes_max, struct buf *log)
{
    bool cr = line.n && line.p[line.n - 1] == '\r';
    if (line.n - cr > bytes_max)
        buf_puts(log, "large\n");
    else if (ended && line.n - cr > 0)
        put_message(log, str_n(line.p, line.n - cr));
}

/* What the parser should find, said as simply as it can be. */
static void read_plainly(struct str bytes, size_t bytes_max, struct buf *log)
{
    while (bytes.n) {
        bool ended = memchr(bytes.p, '\n', bytes.n) != NULL;
        put_line(fuzz_line(&bytes), ended, bytes_max, log);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(buf_free) struct buf plain = {0}, pieces = {0}, whole = {0};
    struct str in = fuzz_input(data, size);
    size_t bytes_max = fuzz_byte(&in), piece = 1 + fuzz_byte(&in);
    read_plainly(in, bytes_max, &plain);
    read_pieces(in, bytes_max, piece, &pieces);
    read_pieces(in, bytes_max, in.n + 1, &whole);
    HOLDS(str_eq(buf_view(&plain), buf_view(&pieces)));
    HOLDS(str_eq(buf_view(&plain), buf_view(&whole)));
    return 0;
}
