/* The cutting of bytes into messages: the same result wherever the bytes are split. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "daemon/base/mem.h"
#include "daemon/rpc/frame.h"

/* What came out, one letter per outcome and the messages: "M{...}" "L". */
static void drain(struct frame_parser *p, struct buf *out)
{
    struct str message;
    for (;;) {
        switch (frame_next(p, &message)) {
        case FRAME_NONE:
            return;
        case FRAME_MESSAGE:
            buf_putc(out, 'M');
            buf_str(out, message);
            buf_putc(out, ';');
            break;
        case FRAME_TOO_LARGE:
            buf_puts(out, "L;");
            break;
        }
    }
}

static void check_at_every_split(struct str input, size_t bytes_max, const char *expected)
{
    for (size_t a = 0; a <= input.n; a++) {
        for (size_t b = a; b <= input.n; b++) {
            struct frame_parser p;
            CLEANUP(buf_free) struct buf out = {0};
            frame_init(&p, bytes_max);
            frame_feed(&p, str_n(input.p, a));
            drain(&p, &out);
            frame_feed(&p, str_n(input.p + a, b - a));
            drain(&p, &out);
            frame_feed(&p, str_n(input.p + b, input.n - b));
            drain(&p, &out);
            assert_string_equal(buf_cstr(&out), expected);
            frame_free(&p);
        }
    }
}

static void test_lines(void **state)
{
    (void)state;
    check_at_every_split(STR("one\ntwo\r\n\n\r\nthree\n"), 100, "Mone;Mtwo;Mthree;");
}

static void test_half_line_is_no_message(void **state)
{
    (void)state;
    check_at_every_split(STR("one\ntw"), 100, "Mone;");
}

static void test_limit(void **state)
{
    (void)state;
    check_at_every_split(STR("12345\n123456\nok\n"), 5, "M12345;L;Mok;");
    check_at_every_split(STR("12345\r\n123456\r\nok\r\n"), 5, "M12345;L;Mok;");
    check_at_every_split(STR("12345\r6\nok\n"), 5, "L;Mok;");
    check_at_every_split(STR("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n\nok\nbbbbbbbbbbbb\nc\n"), 5, "L;Mok;L;Mc;");
}

static void test_too_large_is_known_before_its_end(void **state)
{
    (void)state;
    struct frame_parser p;
    struct str message;
    frame_init(&p, 4);
    frame_feed(&p, STR("12345"));
    assert_int_equal(frame_next(&p, &message), FRAME_TOO_LARGE);
    assert_int_equal(p.in.n, 0); /* nothing of it is held */
    frame_feed(&p, STR("67890"));
    assert_int_equal(frame_next(&p, &message), FRAME_NONE);
    assert_int_equal(p.in.n, 0);
    frame_free(&p);
}

static void test_memory_is_given_back(void **state)
{
    (void)state;
    struct frame_parser p;
    struct str message;
    CLEANUP(buf_free) struct buf line = {0};
    frame_init(&p, 1 << 20);
    for (int i = 0; i < 100000; i++)
        buf_puts(&line, "12345678");
    buf_putc(&line, '\n');
    frame_feed(&p, buf_view(&line));
    assert_int_equal(frame_next(&p, &message), FRAME_MESSAGE);
    assert_int_equal(message.n, 800000);
    assert_int_equal(frame_next(&p, &message), FRAME_NONE);
    frame_feed(&p, STR("x"));
    assert_true(p.in.cap < 1000);
    frame_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_half_line_is_no_message),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_too_large_is_known_before_its_end),
        cmocka_unit_test(test_memory_is_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
