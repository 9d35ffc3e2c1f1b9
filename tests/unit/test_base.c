/* The small parts below everything: text, time, packing, maps. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/json.h"
#include "daemon/base/list.h"
#include "daemon/base/log.h"
#include "daemon/base/map.h"
#include "daemon/base/mem.h"
#include "daemon/base/pack.h"
#include "daemon/base/ulid.h"
#include "daemon/base/utf8.h"

#include <stdio.h>

static void expect(struct buf *b, const char *text)
{
    assert_string_equal(buf_cstr(b), text);
    buf_free(b);
}

static void expect_span(struct str got, const char *text)
{
    if (!text) {
        assert_null(got.p);
        return;
    }
    assert_int_equal(got.n, strlen(text));
    assert_memory_equal(got.p, text, got.n);
}

static void test_buf(void **state)
{
    (void)state;
    struct buf b = {0};
    assert_string_equal(buf_cstr(&b), "");
    buf_printf(&b, "%d-%s", 7, "x");
    buf_i64(&b, INT64_MIN);
    buf_consume(&b, 2);
    assert_string_equal(b.p, "x-9223372036854775808");
    buf_consume(&b, 1000);
    assert_int_equal(b.n, 0);
    for (int i = 0; i < 10000; i++)
        buf_putc(&b, 'a');
    assert_int_equal(strlen(b.p), 10000);
    size_t n;
    char *taken = buf_take(&b, &n);
    assert_int_equal(n, 10000);
    assert_null(b.p);
    mem_free(taken);
}

static void test_json_strings(void **state)
{
    (void)state;
    struct buf b = {0};
    json_put_string(&b, STR("a\"b\\c\n\r\t\x01\x1f\x7f\xc3\xa4/\0z"));
    expect(&b, "\"a\\\"b\\\\c\\n\\r\\t\\u0001\\u001f\x7f\xc3\xa4/\\u0000z\"");
}

static void test_json_spans(void **state)
{
    (void)state;
    struct str text = STR(" {\"a\": 1, \"b\\\"\": \"x}\", \"c\" : {\"a\": [1, \"]\", {}]}, \"d\":[ ], \"e\":-1.5e3}");
    expect_span(json_find(text, "a"), "1");
    expect_span(json_find(text, "c"), "{\"a\": [1, \"]\", {}]}");
    expect_span(json_find(text, "d"), "[ ]");
    expect_span(json_find(text, "e"), "-1.5e3");
    expect_span(json_find(text, "b"), NULL);
    expect_span(json_find(text, "f"), NULL);
    expect_span(json_find(STR("[1]"), "a"), NULL);
    expect_span(json_find(STR("{}"), "a"), NULL);
    struct str array = json_find(json_find(text, "c"), "a"), item;
    const char *items[] = {"1", "\"]\"", "{}"};
    for (int i = 0; i < 3; i++) {
        assert_true(json_next(&array, &item));
        expect_span(item, items[i]);
    }
    assert_false(json_next(&array, &item));
    struct str empty = STR(" [ ] ");
    assert_false(json_next(&empty, &item));
    struct buf b = {0};
    json_put_compact(&b, STR("{ \"a b\" : [ 1 ,\n 2 ] }"));
    expect(&b, "{\"a b\":[1,2]}");
}

/* What was cut off anywhere is read to its end and not beyond. */
static void test_json_cut_short(void **state)
{
    (void)state;
    static const char whole[] = "{\"a\":[1,\"x\\\"\",{\"b\":null}],\"c\":\"\\\\\"}";
    for (size_t n = 0; n < sizeof whole; n++) {
        char *copy = mem_alloc(n);
        memcpy(copy, whole, n);
        struct str cut = str_n(copy, n), item;
        json_find(cut, "c");
        json_depth(cut, 10);
        struct str rest = json_find(cut, "a");
        while (rest.p && json_next(&rest, &item))
            assert_true(item.p + item.n <= copy + n);
        struct buf b = {0};
        json_put_compact(&b, cut);
        buf_free(&b);
        mem_free(copy);
    }
}

static void test_json_depth(void **state)
{
    (void)state;
    assert_int_equal(json_depth(STR("1"), 9), 0);
    assert_int_equal(json_depth(STR("[{\"a\":\"[[[[\\\"[\"},[]]"), 9), 2);
    assert_int_equal(json_depth(STR("]]]][[["), 9), 3);
    assert_int_equal(json_depth(STR("[[[[[[[[[["), 3), 4);
}

static void test_utf8(void **state)
{
    (void)state;
    static const char *const good[] = {"", "a", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf", "\xed\x9f\xbf"};
    static const char *const bad[] = {"\x80",         "\xc0\x80",         "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",     "\xc3",         "\xe2\x82"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(utf8_valid(str_of(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(utf8_valid(str_of(bad[i])));
        struct buf b = {0};
        utf8_put_valid(&b, str_of(bad[i]), false);
        assert_true(b.n >= 3 && utf8_valid(buf_view(&b)));
        buf_free(&b);
    }
    struct buf b = {0}; /* each maximal part is replaced once */
    assert_int_equal(utf8_put_valid(&b, STR("a\xe2\x82" "b\xf0\x9f\x98" "\xff" "c"), false), 9);
    expect(&b, "a\xef\xbf\xbd" "b\xef\xbf\xbd\xef\xbf\xbd" "c");
    assert_int_equal(utf8_put_valid(&b, STR("a\xe2\x82"), true), 1);
    expect(&b, "a");
    struct str text = STR("a\xe2\x82\xac");
    assert_int_equal(utf8_floor(text, 9), 4);
    assert_int_equal(utf8_floor(text, 3), 1);
    assert_int_equal(utf8_floor(text, 2), 1);
    assert_int_equal(utf8_floor(text, 1), 1);
    assert_int_equal(utf8_floor(text, 0), 0);
}

static void test_clock_text(void **state)
{
    (void)state;
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {{0, "1970-01-01T00:00:00.000Z"},
                 {951782400001, "2000-02-29T00:00:00.001Z"},
                 {1767323045678, "2026-01-02T03:04:05.678Z"},
                 {253402300799999, "9999-12-31T23:59:59.999Z"}};
    char text[CLOCK_TEXT_SIZE];
    int64_t back;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        clock_format(cases[i].ms, text);
        assert_string_equal(text, cases[i].text);
        assert_int_equal(clock_parse(text, &back), 0);
        assert_int_equal(back, cases[i].ms);
    }
    clock_format(INT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999Z");
    clock_format(INT64_MIN, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z");
    static const char *const bad[] = {"", "2026-01-02", "2026-13-02T03:04:05.678Z", "2026-01-02T24:04:05.678Z",
                                      "2026-01-02T03:04:05.678Zx", "2026-01-02T03:04:05Z", "2026-01-02 03:04:05.678Z",
                                      "2026-02-31T03:04:05.678Z", "2026-02-29T03:04:05.678Z", "2100-02-29T03:04:05.678Z",
                                      "2026-04-31T03:04:05.678Z", "2026-01-00T03:04:05.678Z", "2026- 1-02T03:04:05.678Z",
                                      "2026-01-02T+3:04:05.678Z", "2026-01-02T03:04:05.-78Z"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(clock_parse(bad[i], &back), -1);
}

static void test_deadlines(void **state)
{
    (void)state;
    struct clock_now now = {.wall_ms = 1000000, .boot_ms = 5000, .boot_id = "one"};
    struct clock_deadline d = clock_deadline_in(&now, 700), never = {0};
    assert_int_equal(clock_deadline_left(&d, &now), 700);
    assert_true(clock_deadline_left(&never, &now) == INT64_MAX);
    now.wall_ms += 1000000000; /* somebody sets the clock: a duration does not care */
    now.boot_ms += 100;
    assert_int_equal(clock_deadline_left(&d, &now), 600);
    now.boot_ms += 9999;
    assert_int_equal(clock_deadline_left(&d, &now), 0);
    struct clock_now next = {.wall_ms = 1000500, .boot_ms = 10, .boot_id = "two"}; /* across a boot the wall clock is all there is */
    assert_int_equal(clock_deadline_left(&d, &next), 200);
    next.wall_ms = 500; /* and it may have been years ahead before: no duration grows */
    assert_int_equal(clock_deadline_left(&d, &next), 700);
    /* Taken over, it counts boot time, whatever the wall clock says now. */
    clock_deadline_adopt(&d, &next);
    next.boot_ms += 300;
    assert_int_equal(clock_deadline_left(&d, &next), 400);
}

static void test_pack(void **state)
{
    (void)state;
    struct buf b = {0};
    pack_i64(&b, "zero", 0);
    pack_i64(&b, "least", INT64_MIN);
    pack_str(&b, "absent", STR_NONE);
    pack_str(&b, "empty", STR(""));
    size_t mark = pack_open(&b, "group");
    pack_str(&b, "bytes", STR("\0\xff"));
    pack_close(&b, mark);
    struct str in = buf_view(&b);
    struct pack_field f;
    assert_int_equal(pack_next(&in, &f), 1);
    assert_true(pack_is(&f, "least") && f.i64 == INT64_MIN);
    assert_int_equal(pack_next(&in, &f), 1);
    assert_true(pack_is(&f, "empty") && f.bytes.n == 0);
    assert_int_equal(pack_next(&in, &f), 1);
    assert_true(pack_is(&f, "group") && f.type == PACK_GROUP);
    struct str inner = f.bytes;
    assert_int_equal(pack_next(&inner, &f), 1);
    assert_true(pack_is(&f, "bytes") && str_eq(f.bytes, STR("\0\xff")));
    assert_int_equal(pack_next(&inner, &f), 0);
    assert_int_equal(pack_next(&in, &f), 0);
    for (size_t n = 1; n < b.n; n++) { /* cut short: an end between fields, or damage; never a read beyond */
        char *copy = mem_dup(b.p, n);
        in = str_n(copy, n);
        int more;
        while ((more = pack_next(&in, &f)) > 0)
            assert_true(f.bytes.p == NULL || f.bytes.p + f.bytes.n <= copy + n);
        mem_free(copy);
    }
    buf_free(&b);
}

static void test_map(void **state)
{
    (void)state;
    enum { N = 2000 };
    static char keys[N][8];
    struct map m = {0};
    assert_null(map_get(&m, STR("x")));
    assert_null(map_remove(&m, STR("x")));
    for (int i = 0; i < N; i++) {
        snprintf(keys[i], sizeof keys[i], "k%d", i);
        map_put(&m, str_of(keys[i]), keys[i]);
    }
    for (int i = 0; i < N; i += 2)
        assert_ptr_equal(map_remove(&m, str_of(keys[i])), keys[i]);
    for (int i = 0; i < N; i++)
        assert_ptr_equal(map_get(&m, str_of(keys[i])), i % 2 ? keys[i] : NULL);
    assert_int_equal(m.n, N / 2);
    map_free(&m);
}

static void test_list(void **state)
{
    (void)state;
    struct item {
        struct list node;
        int n;
    } items[5], *it;
    struct list head;
    list_init(&head);
    for (int i = 0; i < 5; i++) {
        items[i].n = i;
        list_append(&head, &items[i].node);
    }
    int sum = 0;
    LIST_EACH(it, &head, struct item, node)
    {
        sum += it->n;
        list_remove(&it->node); /* the current one may go */
        list_remove(&it->node);
    }
    assert_int_equal(sum, 10);
    assert_true(list_empty(&head));
}

static void test_ulid(void **state)
{
    (void)state;
    static const uint8_t zero[ULID_RANDOM_SIZE], ones[ULID_RANDOM_SIZE] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    char a[ULID_TEXT_SIZE], b[ULID_TEXT_SIZE];
    ulid_format(0, zero, a);
    assert_string_equal(a, "00000000000000000000000000");
    ulid_format(281474976710655, ones, a);
    assert_string_equal(a, "7zzzzzzzzzzzzzzzzzzzzzzzzz");
    ulid_format(1700000000000, ones, a);
    ulid_format(1700000000001, zero, b);
    assert_true(strcmp(a, b) < 0);
}

/* A full disk takes no line; how many is said when there is space again. */
static void test_log_lost_lines(void **state)
{
    (void)state;
    char path[] = "/tmp/agentd-log-XXXXXX", text[1024];
    int before = dup(STDERR_FILENO), full = open("/dev/full", O_WRONLY | O_CLOEXEC), file = mkstemp(path);
    assert_true(before >= 0 && full >= 0 && file >= 0);
    dup2(full, STDERR_FILENO);
    log_info("one");
    log_info("two");
    dup2(file, STDERR_FILENO);
    log_info("three");
    log_info("four");
    dup2(before, STDERR_FILENO);
    ssize_t n = pread(file, text, sizeof text - 1, 0);
    assert_true(n > 0);
    text[n] = 0;
    assert_non_null(strstr(text, "WARN 2 line(s) of this log found no space\n"));
    assert_non_null(strstr(text, "INFO three\n"));
    assert_null(strstr(strstr(text, "three"), "found no space"));
    close(before);
    close(full);
    close(file);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buf),        cmocka_unit_test(test_json_strings), cmocka_unit_test(test_json_spans),
        cmocka_unit_test(test_json_cut_short), cmocka_unit_test(test_json_depth),   cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_clock_text), cmocka_unit_test(test_deadlines),    cmocka_unit_test(test_pack),
        cmocka_unit_test(test_map),        cmocka_unit_test(test_list),         cmocka_unit_test(test_ulid),
        cmocka_unit_test(test_log_lost_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
