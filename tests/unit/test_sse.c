/* Server-sent events: what the bytes say must not depend on how they are cut. */
#include "daemon/model/sse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#define LONG 1000

/* Appends "name|data;" for each event that is there. */
static int take(struct sse *s, struct buf *out)
{
    struct sse_event event;
    int rc;
    while ((rc = sse_next(s, &event)) == 1) {
        buf_str(out, event.event);
        buf_putc(out, '|');
        buf_str(out, event.data);
        buf_putc(out, ';');
    }
    return rc;
}

/* Fed in pieces of `first` bytes once and then of `rest`. */
static int read_pieces(struct str stream, size_t first, size_t rest, struct buf *out)
{
    struct sse s;
    int rc = 0;
    sse_init(&s, LONG, LONG);
    for (size_t i = 0; i < stream.n && rc == 0;) {
        size_t n = i == 0 ? first : rest;
        n = n < stream.n - i ? n : stream.n - i;
        sse_feed(&s, str_n(stream.p + i, n));
        rc = take(&s, out);
        i += n;
    }
    sse_free(&s);
    return rc;
}

static void check_pieces(struct str stream, const char *expected, size_t first, size_t rest)
{
    struct buf out = {0};
    assert_int_equal(read_pieces(stream, first, rest, &out), 0);
    assert_string_equal(buf_cstr(&out), expected);
    buf_free(&out);
}

static void check(struct str stream, const char *expected)
{
    for (size_t split = 1; split <= stream.n; split++)
        check_pieces(stream, expected, split, stream.n);
    for (size_t size = 1; size < 5; size++)
        check_pieces(stream, expected, size, size);
}

static void test_examples_of_the_standard(void **state)
{
    (void)state;
    check(STR("data: This is the first message.\n\ndata: This is the second message, it\ndata: has two "
              "lines.\n\n"),
          "message|This is the first message.;message|This is the second message, it\nhas two lines.;");
    check(STR("event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\n"), "add|73857293;remove|2153;");
    check(STR(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"),
          "message|first event;message|second event;message| third event;");
    check(STR("data\n\ndata\ndata\n\ndata:"), "message|;message|\n;");
    check(STR("data:test\n\ndata: test\n\n"), "message|test;message|test;");
}

static void test_line_ends(void **state)
{
    (void)state;
    check(STR("data: a\r\rdata: b\r\n\r\ndata: c\n\n"), "message|a;message|b;message|c;");
    check(STR("data: a\r\ndata: b\rdata: c\n\r\n"), "message|a\nb\nc;");
    check(STR("data: a\r\n\rdata: b\n\r"), "message|a;message|b;");
}

static void test_byte_order_mark(void **state)
{
    (void)state;
    check(STR("\xef\xbb\xbf"
              "data: a\n\n"),
          "message|a;");
    check(STR("data: a\n\n\xef\xbb\xbf"
              "data: b\n\ndata: c\n\n"),
          "message|a;message|c;");
    check(STR("\xef\xbb"
              "data: a\n\ndata: b\n\n"),
          "message|b;");
}

static void test_what_is_ignored(void **state)
{
    (void)state;
    check(STR(": ping\n\n: OPENROUTER PROCESSING\n\nretry: 5\nid: x\nother: y\n\nevent: lost\n\ndata: a\n\n"),
          "message|a;");
    check(STR("data: cut by the end"), "");
}

static void test_invalid_utf8_is_replaced(void **state)
{
    (void)state;
    check(STR("data: a\xff"
              "b\xe2\x82\n\n"),
          "message|a\xef\xbf\xbd"
          "b\xef\xbf\xbd;");
    check(STR("data: \xf0\x9f\x98\x80\n\n"), "message|\xf0\x9f\x98\x80;");
}

static void check_too_much(struct str stream, const char *error)
{
    for (size_t size = 1; size <= stream.n; size = size * 2 + 1) {
        struct sse s;
        struct buf out = {0};
        int rc = 0;
        sse_init(&s, 16, 24);
        for (size_t i = 0; i < stream.n && rc == 0; i += size) {
            sse_feed(&s, str_n(stream.p + i, size < stream.n - i ? size : stream.n - i));
            rc = take(&s, &out);
        }
        assert_int_equal(rc, -1);
        assert_string_equal(s.error, error);
        assert_string_equal(buf_cstr(&out), "message|a;");
        assert_int_equal(take(&s, &out), -1);
        sse_free(&s);
        buf_free(&out);
    }
}

static void test_bounds(void **state)
{
    (void)state;
    check_too_much(STR("data: a\n\ndata: 12345678901\n\n"), "a line of the stream is too long");
    check_too_much(STR("data: a\n\n: a comment without end, which nobody would ever have asked for"),
                   "a line of the stream is too long");
    check_too_much(STR("data: a\n\ndata:1234567890\ndata:1234567890\ndata:12345678\n\n"),
                   "an event of the stream is too large");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_examples_of_the_standard), cmocka_unit_test(test_line_ends),
        cmocka_unit_test(test_byte_order_mark),          cmocka_unit_test(test_what_is_ignored),
        cmocka_unit_test(test_invalid_utf8_is_replaced), cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
