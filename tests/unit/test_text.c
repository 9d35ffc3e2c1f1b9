/* Text for people: safe for a terminal, cut to a width, with units. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/text.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"

#define BAD "\xef\xbf\xbd"

static void expect_safe(const char *in, const char *out)
{
    CLEANUP(buf_free) struct buf b = {0};
    text_put_safe(&b, str_of(in));
    assert_string_equal(buf_cstr(&b), out);
}

static void test_safe(void **state)
{
    (void)state;
    expect_safe("plain\ttext\nand \xc3\xa4", "plain\ttext\nand \xc3\xa4");
    expect_safe("\033[1;31mred\033[0m", "red");
    expect_safe("a\033]0;title\ab", "ab");
    expect_safe("a\033]8;;http://x\033\\link\033]8;;\033\\b", "alinkb");
    expect_safe("a\033Pq\033\\b\033(Bc", "abc");
    expect_safe("cut \033[31", "cut " BAD "[31");
    expect_safe("\033", BAD);
    expect_safe("bell\a back\b del\x7f", "bell" BAD " back" BAD " del" BAD);
    expect_safe("c1 \xc2\x9b" "2J", "c1 " BAD "2J");
    expect_safe("bidi \xe2\x80\xae" "txt \xe2\x81\xa6", "bidi " BAD "txt " BAD);
    expect_safe("dos\r\nline\rover", "dos\nline" BAD "over");
    expect_safe("broken \xff\xc3", "broken " BAD BAD);
    expect_safe("hidden \033[31\nm", "hidden " BAD "[31\nm");
}

/* Whatever comes in: valid UTF-8 without any control character goes out. */
static void test_safe_for_any_bytes(void **state)
{
    static const char alphabet[] = "a\033[];m\a\\\r\n\t\x7f\xc2\x9b\x80\xe2\xae\xf0(P0";
    uint32_t seed = 1;
    (void)state;
    for (int round = 0; round < 20000; round++) {
        char text[12];
        for (size_t i = 0; i < sizeof text; i++) {
            seed = seed * 1664525 + 1013904223;
            text[i] = alphabet[(seed >> 16) % (sizeof alphabet - 1)];
        }
        CLEANUP(buf_free) struct buf b = {0};
        text_put_safe(&b, str_n(text, sizeof text));
        assert_true(utf8_valid(buf_view(&b)));
        for (size_t i = 0; i < b.n; i++) {
            unsigned char c = (unsigned char)b.p[i], next = (unsigned char)b.p[i + 1];
            assert_true(c >= 0x20 || c == '\n' || c == '\t');
            assert_true(c != 0x7f && !(c == 0xc2 && next < 0xa0));
        }
    }
}

static void expect_line(const char *in, size_t columns, const char *out)
{
    CLEANUP(buf_free) struct buf b = {0};
    buf_puts(&b, "> ");
    text_put_line(&b, str_of(in), columns);
    assert_string_equal(buf_cstr(&b) + 2, out);
}

static void test_line(void **state)
{
    (void)state;
    expect_line("  one\n\n two\tthree ", 0, "one two three");
    expect_line("exactly ten", 11, "exactly ten");
    expect_line("exactly ten", 10, "exactly...");
    expect_line("\xe6\x96\x87\xe6\x96\x87\xe6\x96\x87\xe6\x96\x87", 7, "\xe6\x96\x87\xe6\x96\x87...");
    expect_line("", 5, "");
    assert_int_equal(text_columns(str_of("a\xe6\x96\x87")), 3);
}

static void test_next_line(void **state)
{
    struct str in = str_of("one\r\n10%\r50%\r100%\n\nlast"), line;
    static const char *const expected[] = {"one", "100%", "", "last"};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        assert_true(text_next_line(&in, &line));
        assert_true(str_eqz(line, expected[i]));
    }
    assert_false(text_next_line(&in, &line));
}

static void expect_number(void (*put)(struct buf *, int64_t), int64_t v, const char *expected)
{
    CLEANUP(buf_free) struct buf b = {0};
    put(&b, v);
    assert_string_equal(buf_cstr(&b), expected);
}

static void test_units(void **state)
{
    (void)state;
    expect_number(text_put_duration, 412, "412 ms");
    expect_number(text_put_duration, 1499, "1.4 s");
    expect_number(text_put_duration, 12345, "12 s");
    expect_number(text_put_duration, 200000, "3m 20s");
    expect_number(text_put_duration, 7500000, "2h 5m");
    expect_number(text_put_duration, 273600000, "3d 4h");
    expect_number(text_put_age, 119000, "1m");
    expect_number(text_put_age, -5, "0s");
    expect_number(text_put_bytes, 184, "184 B");
    expect_number(text_put_bytes, 4100, "4.1 KB");
    expect_number(text_put_count, 999, "999");
    expect_number(text_put_count, 999960, "1.0M");
}

static void test_parse(void **state)
{
    int64_t v;
    (void)state;
    assert_int_equal(text_parse_duration("30s", &v), 0);
    assert_int_equal(v, 30000);
    assert_int_equal(text_parse_duration("3d", &v), 0);
    assert_int_equal(v, 259200000);
    static const char *const wrong[] = {"", "s", "5", "1.5h", "-1s", "1w", "10 m", "999999999999999s"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(text_parse_duration(wrong[i], &v), -1);
    assert_int_equal(text_parse_number("9223372036854775808", &v), -1);
    assert_int_equal(text_parse_number("12", &v), 0);
    assert_int_equal(v, 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_safe),      cmocka_unit_test(test_safe_for_any_bytes), cmocka_unit_test(test_line),
        cmocka_unit_test(test_next_line), cmocka_unit_test(test_units),              cmocka_unit_test(test_parse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
