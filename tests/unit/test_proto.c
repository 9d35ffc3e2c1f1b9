/* Writing and reading by the schema: what goes out comes back the same, and what is wrong is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>

#include "proto/types.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"

struct decoded {
    json_t *json;
    struct proto_arena arena;
    struct buf error;
    int result;
};

static struct decoded decode(const struct proto_object *type, const char *text, unsigned flags, void *ret)
{
    struct decoded d = {.json = json_loads(text, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL)};
    assert_non_null(d.json);
    d.result = proto_decode(type, d.json, flags, ret, &d.arena, &d.error);
    return d;
}

static void decoded_free(struct decoded *d)
{
    json_decref(d->json);
    proto_arena_free(&d->arena);
    buf_free(&d->error);
}

static void expect_error(const struct proto_object *type, const char *text, const char *words)
{
    char *ret = mem_alloc(type->size);
    struct decoded d = decode(type, text, PROTO_STRICT, ret);
    assert_int_equal(d.result, -1);
    if (!strstr(buf_cstr(&d.error), words))
        fail_msg("\"%s\" does not say \"%s\"", buf_cstr(&d.error), words);
    assert_true(utf8_valid(buf_view(&d.error)));
    decoded_free(&d);
    mem_free(ret);
}

static void test_event_round_trip(void **state)
{
    (void)state;
    const struct proto_in_flight in_flight[] = {{IN_FLIGHT_WHAT_MODEL, STR("1"), BECAME_RESENT},
                                                {IN_FLIGHT_WHAT_RUN, STR("r\"2\n\\"), BECAME_IN_DOUBT}};
    struct event e = {.seq = 7, .pos = 99, .task = STR("t1"), .at = 1700000000123, .kind = EVENT_RECOVERED};
    e.recovered = (struct event_recovered){.previous_end = PREVIOUS_END_CRASH, .in_flight = in_flight, .in_flight_n = 2};
    struct buf text = {0};
    event_encode(&text, &e);
    assert_true(str_starts(buf_view(&text), "{\"seq\":7,\"pos\":99,\"task\":\"t1\",\"at\":\"2023-11-14T22:13:20.123Z\",\"kind\":\"recovered\","));
    struct event_recovered back = {0};
    struct decoded d = decode(&event_recovered_type, text.p, 0, &back);
    assert_int_equal(d.result, 0);
    assert_int_equal(back.previous_end, PREVIOUS_END_CRASH);
    assert_int_equal(back.in_flight_n, 2);
    assert_true(str_eq(back.in_flight[1].id, in_flight[1].id));
    assert_int_equal(back.in_flight[1].became, BECAME_IN_DOUBT);
    decoded_free(&d);
    buf_free(&text);
}

static void test_money(void **state)
{
    (void)state;
    static const struct {
        int64_t nano;
        const char *text;
    } cases[] = {{0, "0.0"},        {1, "0.000000001"},   {250000000, "0.25"}, {1000000000, "1.0"},
                 {-1500000000, "-1.5"}, {1234567890123, "1234.567890123"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct proto_usage u = {.cost_usd = cases[i].nano}, back = {0};
        struct buf text = {0}, member = {0};
        proto_encode(&text, &proto_usage_type, &u);
        buf_printf(&member, "\"cost_usd\":%s,", cases[i].text);
        assert_non_null(strstr(text.p, member.p));
        struct decoded d = decode(&proto_usage_type, text.p, 0, &back);
        assert_int_equal(d.result, 0);
        assert_int_equal(back.cost_usd, cases[i].nano);
        decoded_free(&d);
        buf_free(&text);
        buf_free(&member);
    }
    struct proto_usage least = {.cost_usd = INT64_MIN, .uncertain_usd = INT64_MAX};
    struct buf text = {0};
    proto_encode(&text, &proto_usage_type, &least);
    assert_non_null(strstr(text.p, "-9223372036.854775808"));
    assert_non_null(strstr(text.p, "9223372036.854775807"));
    buf_free(&text);
    expect_error(&proto_usage_type,
                 "{\"input_tokens\":0,\"cached_input_tokens\":0,\"output_tokens\":0,\"reasoning_tokens\":0,\"cost_usd\":1e300,"
                 "\"uncertain_usd\":0}",
                 "\"cost_usd\" must be an amount");
}

static void test_absent_null_default(void **state)
{
    (void)state;
    struct params_task_steer p = {0};
    struct decoded d = decode(&params_task_steer_type, "{\"task\":\"x\",\"text\":\"y\"}", PROTO_STRICT, &p);
    assert_int_equal(d.result, 0);
    assert_int_equal(p.delivery, DELIVERY_NEXT);
    assert_null(p.key.p);
    decoded_free(&d);

    struct event_task_state s = {.to = TASK_STATE_QUEUED};
    struct buf text = {0};
    event_encode(&text, &(struct event){.task = STR("t"), .kind = EVENT_TASK_STATE, .task_state = s});
    json_t *json = json_loads(text.p, 0, NULL);
    assert_non_null(json);
    assert_true(json_is_null(json_object_get(json, "from")));
    assert_true(json_is_null(json_object_get(json, "waiting")));
    json_decref(json);
    buf_free(&text);
}

static void test_what_is_wrong_is_named(void **state)
{
    (void)state;
    const struct proto_object *steer = &params_task_steer_type;
    expect_error(steer, "[]", "must be an object");
    expect_error(steer, "{\"task\":\"x\"}", "\"text\" is missing");
    expect_error(steer, "{\"task\":1,\"text\":\"y\"}", "\"task\" must be a string");
    expect_error(steer, "{\"task\":\"x\",\"text\":\"\"}", "\"text\" must have at least 1 bytes");
    expect_error(steer, "{\"task\":\"x\",\"text\":\"a\\u0000b\"}", "without U+0000");
    expect_error(steer, "{\"task\":\"x\",\"text\":\"y\",\"delivery\":\"soon\"}", "\"delivery\" must be one of");
    expect_error(steer, "{\"task\":\"x\",\"text\":\"y\",\"more\":1}", "unknown member \"more\"");
    expect_error(&params_task_events_type, "{\"task\":\"x\",\"limit\":0}", "\"limit\" must be at least 1");
    expect_error(&params_task_events_type, "{\"task\":\"x\",\"limit\":1.5}", "\"limit\" must be an integer");
    expect_error(&event_plan_type, "{\"entries\":[1]}", "\"entries\" must be an array of objects");
    expect_error(&event_plan_type, "{\"entries\":{}}", "\"entries\" must be an array");
    /* A long name is cut between characters: the error goes out as JSON, too. */
    struct buf text = {0};
    buf_puts(&text, "{\"task\":\"x\",\"text\":\"y\",\"x");
    for (int i = 0; i < 100; i++)
        buf_puts(&text, "\xc3\xa4");
    buf_puts(&text, "\":1}");
    expect_error(steer, text.p, "unknown member \"x\xc3\xa4");
    buf_free(&text);
}

static void test_readers_ignore_what_they_do_not_know(void **state)
{
    (void)state;
    struct params_task_steer p = {0};
    struct decoded d = decode(&params_task_steer_type, "{\"task\":\"x\",\"text\":\"y\",\"new\":{\"a\":[1]}}", 0, &p);
    assert_int_equal(d.result, 0);
    assert_true(str_eqz(p.text, "y"));
    decoded_free(&d);
}

static void test_enums(void **state)
{
    (void)state;
    for (int i = 0; i < TASK_STATE_N; i++)
        assert_int_equal(proto_enum_value(&task_state_enum, str_of(proto_enum_name(&task_state_enum, i))), i);
    assert_int_equal(proto_enum_value(&task_state_enum, STR("Running")), -1);
    assert_int_equal(proto_enum_value(&task_state_enum, STR("")), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_event_round_trip),
        cmocka_unit_test(test_money),
        cmocka_unit_test(test_absent_null_default),
        cmocka_unit_test(test_what_is_wrong_is_named),
        cmocka_unit_test(test_readers_ignore_what_they_do_not_know),
        cmocka_unit_test(test_enums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
