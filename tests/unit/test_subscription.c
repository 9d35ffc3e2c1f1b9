/* What subscribers get: each event once and in order, live text where it belongs, in bounded memory. */
#include "rpc_box.h"

#include <sys/socket.h>

/* ---- subscriptions ---- */

static void test_subscriptions_from_every_point(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        fake_commit(TASK_A, EVENT_NOTICE, 10); /* pos 11, 15, 19 */
        fake_commit(TASK_B, EVENT_NOTICE, 10); /* pos 13, 17, 21 */
    }
    start();
    fake_publish(w.rpc);
    struct client c = client_ready();
    subscribe(&c, "{\"task\":\"" TASK_A "\",\"after_seq\":1}"); /* 1 */
    expect_event(&c, 1, 2, 15);
    expect_event(&c, 1, 3, 19);
    subscribe(&c, "{\"after_pos\":17}"); /* 2 */
    expect_event(&c, 2, 3, 19);
    expect_event(&c, 2, 3, 21);
    subscribe(&c, "{\"task\":\"" TASK_B "\",\"after_pos\":15}"); /* 3 */
    expect_event(&c, 3, 2, 17);
    expect_event(&c, 3, 3, 21);
    subscribe(&c, "{}");                        /* 4 */
    subscribe(&c, "{\"task\":\"" TASK_A "\"}"); /* 5 */
    fake_commit(TASK_A, EVENT_NOTICE, 10);
    fake_publish(w.rpc);
    expect_event(&c, 1, 4, 23);
    expect_event(&c, 2, 4, 23);
    expect_event(&c, 4, 4, 23);
    expect_event(&c, 5, 4, 23);
    say(&c,
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"events/unsubscribe\",\"params\":{\"subscription\":2}}");
    expect(&c, "1", "result");
    fake_commit(TASK_B, EVENT_NOTICE, 10);
    fake_publish(w.rpc);
    expect_event(&c, 3, 4, 25);
    expect_event(&c, 4, 4, 25);
    expect_alive(&c);
    client_close(&c);
}

static void test_subscriptions_are_bounded(void **state)
{
    (void)state;
    w.config.limits.subscriptions_max = 2;
    start();
    struct client c = client_ready();
    subscribe(&c, "{}");
    subscribe(&c, "{}");
    say(&c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"events/subscribe\",\"params\":{}}");
    expect(&c, "1", "limit_reached");
    client_close(&c);
}

/* Other subscriptions go on, and the places are free again. */
static void test_removed_task_ends_its_subscriptions(void **state)
{
    (void)state;
    w.config.limits.subscriptions_max = 4;
    start();
    struct client c = client_ready();
    subscribe(&c, "{\"task\":\"" TASK_A "\",\"after_seq\":0,\"deltas\":true}"); /* 1 */
    subscribe(&c, "{}");                                                        /* 2 */
    subscribe(&c, "{\"task\":\"" TASK_B "\",\"after_seq\":0}");                   /* 3 */
    run_dry();
    fake_commit(TASK_A, EVENT_NOTICE, 10);
    fake_publish(w.rpc);
    expect_event(&c, 1, 1, 0);
    expect_event(&c, 2, 1, 0);
    subscribe(&c, "{\"task\":\"" TASK_A "\",\"after_seq\":1}"); /* 4 */
    rpc_task_removed(w.rpc, TASK_A);
    for (int i = 0; i < 2; i++) {
        json_t *json = hear(&c);
        assert_true(is_method(json, "end"));
        assert_int_equal(number(json, "subscription"), i ? 4 : 1);
        assert_string_equal(text(json, "task"), TASK_A);
        assert_string_equal(text(json, "reason"), "removed");
        json_decref(json);
    }
    fake_commit(TASK_B, EVENT_NOTICE, 10);
    fake_publish(w.rpc);
    expect_event(&c, 2, 1, 0);
    expect_event(&c, 3, 1, 0);
    subscribe(&c, "{}");
    subscribe(&c, "{}");
    expect_alive(&c);
    client_close(&c);
}

static void test_removed_task_ends_a_slow_readers_subscription(void **state)
{
    (void)state;
    start();
    struct client c = client_ready();
    int small = 4096;
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    subscribe(&c, "{\"task\":\"" TASK_A "\",\"after_seq\":0}");
    for (int i = 0; i < 1000; i++)
        fake_commit(TASK_A, EVENT_NOTICE, 2000);
    fake_publish(w.rpc);
    run_dry();
    rpc_task_removed(w.rpc, TASK_A);
    int64_t seq = 0;
    json_t *json;
    for (; (json = hear(&c)) && is_method(json, "event"); json_decref(json))
        assert_int_equal(number(json, "seq"), ++seq);
    assert_true(seq < 1000 && is_method(json, "end"));
    json_decref(json);
    expect_alive(&c);
    client_close(&c);
}

/* Every order in which a commit, its publication and a subscriber's reads can fall. */
static void test_no_event_is_lost_or_doubled_at_the_switch(void **state)
{
    (void)state;
    start();
    for (int order = 0; order < 8; order++) {
        int64_t after = fake_seq(TASK_A);
        fake_publish(w.rpc);
        struct client c = client_ready();
        CLEANUP(buf_free) struct buf params = {0};
        buf_printf(
            &params,
            "{\"jsonrpc\":\"2.0\",\"id\":\"sub\",\"method\":\"events/subscribe\",\"params\":{\"task\":\"%s\","
            "\"after_seq\":%lld}}",
            TASK_A, (long long)after);
        fake_commit(TASK_A, EVENT_NOTICE, 10);
        if (order & 1)
            fake_publish(w.rpc);
        say(&c, params.p);
        expect(&c, "\"sub\"", "result");
        if (order & 2)
            run_dry();
        fake_commit(TASK_A, EVENT_NOTICE, 10);
        if (order & 4)
            run_dry();
        fake_publish(w.rpc);
        fake_commit(TASK_A, EVENT_NOTICE, 10);
        run_dry();
        fake_publish(w.rpc);
        for (int64_t seq = after + 1; seq <= after + 3; seq++)
            expect_event(&c, 1, seq, 0);
        expect_alive(&c);
        client_close(&c);
    }
}

/* A disk that fails is told to who follows, in the words that it has for it; the connection serves on. */
static void test_what_cannot_be_read_ends_a_subscription(void **state)
{
    (void)state;
    start();
    struct client c = client_ready();
    fake_commit(TASK_A, EVENT_NOTICE, 10);
    fake_publish(w.rpc);
    fake_unreadable = "cannot read events: disk I/O error (SQLite 266, Input/output error)";
    for (int all = 0; all < 2; all++) {
        say(&c, all ? "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"events/subscribe\",\"params\":{\"after_pos\":0}}"
                    : "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"events/subscribe\",\"params\":{\"task\":\"" TASK_A
                      "\",\"after_seq\":0}}");
        expect(&c, "1", "result");
        json_t *json = hear(&c);
        assert_true(is_method(json, "end"));
        assert_int_equal(number(json, "subscription"), all + 1);
        assert_true(all ? text(json, "task") == NULL : strcmp(text(json, "task"), TASK_A) == 0);
        assert_string_equal(text(json, "reason"), "unreadable");
        assert_non_null(strstr(text(json, "detail"), fake_unreadable));
        json_decref(json);
    }
    fake_unreadable = NULL;
    subscribe(&c, "{\"task\":\"" TASK_A "\",\"after_seq\":0}");
    expect_event(&c, 3, 1, 0);
    expect_alive(&c);
    client_close(&c);
}

static void test_subscription_waits_for_its_task(void **state)
{
    (void)state;
    start();
    struct client c = client_ready();
    fake_unsettle();
    say(&c,
        "{\"jsonrpc\":\"2.0\",\"id\":\"sub\",\"method\":\"events/subscribe\",\"params\":{\"task\":\"" TASK_A
        "\",\"after_seq\":0}}");
    run_dry();
    struct client gone = client_ready();
    say(&gone, "{\"jsonrpc\":\"2.0\",\"id\":\"sub\",\"method\":\"events/subscribe\"}");
    run_dry();
    client_close(&gone);
    run_dry();
    char byte;
    assert_int_equal(recv(c.fd, &byte, 1, MSG_DONTWAIT), -1);
    fake_commit(TASK_A, EVENT_NOTICE, 10);
    fake_settle();
    fake_publish(w.rpc);
    expect(&c, "\"sub\"", "result");
    expect_event(&c, 1, 1, 11);
    expect_alive(&c);
    client_close(&c);
}

/* Nothing is durable before somebody makes room, and yet one can look on. */
static void test_subscription_on_a_full_disk(void **state)
{
    (void)state;
    start();
    struct client c = client_ready();
    fake_commit(TASK_A, EVENT_NOTICE, 10);
    fake_publish(w.rpc);
    fake_unsettle();
    w.d.disk_full = true;
    subscribe(&c, "{\"task\":\"" TASK_A "\",\"after_seq\":0}");
    expect_event(&c, 1, 1, 11);
    client_close(&c);
}

/* The slow reader: while it does not read, the daemon holds no more than its bound; when it does, it misses
 * nothing. */
static void test_slow_reader(void **state)
{
    (void)state;
    start();
    struct client slow = client_ready(), quick = client_ready();
    int small = 4096;
    setsockopt(slow.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    subscribe(&slow, "{\"task\":\"" TASK_A "\"}");
    subscribe(&slow, "{}");
    subscribe(&quick, "{}");
    int64_t total = 3000;
    for (int64_t i = 1; i <= total; i++) {
        fake_commit(i % 3 ? TASK_A : TASK_B, EVENT_NOTICE, i == 1500 ? 500000 : 2000);
        fake_publish(w.rpc);
        if (i % 10 == 0) {
            for (int64_t k = i - 9; k <= i; k++)
                expect_event(&quick, 1, 0, 9 + 2 * k);
        }
    }
    run_dry();
    size_t pages = fake_pages;
    run_dry();
    assert_int_equal(fake_pages, pages); /* it is not asked for in vain while the client sleeps */
    assert_true(queued() <= 3 * (size_t)w.config.limits.client_queue_bytes_max);

    int64_t seq = 0, pos = 9;
    while (seq < 2000 || pos < 9 + 2 * total) {
        json_t *json = hear(&slow);
        assert_true(is_method(json, "event"));
        if (number(json, "subscription") == 1)
            assert_int_equal(number(json, "seq"), ++seq);
        else
            assert_int_equal(number(json, "pos"), pos += 2);
        json_decref(json);
    }
    fake_commit(TASK_A, EVENT_NOTICE, 10); /* caught up: it comes at once again, without the store */
    run_dry();
    pages = fake_pages;
    fake_publish(w.rpc);
    for (int i = 0; i < 2; i++) {
        json_t *json = hear(&slow);
        assert_int_equal(number(json, "pos"), pos + 2);
        seq += number(json, "subscription");
        json_decref(json);
    }
    assert_int_equal(seq, 2000 + 1 + 2); /* one for each */
    assert_int_equal(fake_pages, pages);
    expect_alive(&slow);
    client_close(&slow);
    client_close(&quick);
}

/* ---- live text ---- */

static void expect_delta(struct client *c, const char *item, int64_t offset, const char *piece)
{
    json_t *json = hear(c);
    assert_true(is_method(json, "delta"));
    assert_string_equal(text(json, "item"), item);
    assert_int_equal(number(json, "offset"), offset);
    assert_string_equal(text(json, "text"), piece);
    json_decref(json);
}

static void test_deltas(void **state)
{
    (void)state;
    start();
    struct client c = client_ready(), plain = client_ready();
    subscribe(&c, "{\"task\":\"" TASK_A "\",\"after_seq\":0,\"deltas\":true}");
    subscribe(&plain, "{\"task\":\"" TASK_A "\",\"after_seq\":0}");
    fake_commit(TASK_A, EVENT_STEP_STARTED, 1);
    fake_publish(w.rpc);
    rpc_live_text(w.rpc, TASK_A, 1, 1, 4, DELTA_KIND_MESSAGE_DELTA, STR("Hé"));
    rpc_live_text(w.rpc, TASK_B, 1, 1, 4, DELTA_KIND_MESSAGE_DELTA, STR("other"));
    expect_event(&c, 1, 1, 0);
    expect_delta(&c, "i4", 0, "Hé");
    rpc_live_text(w.rpc, TASK_A, 1, 1, 4, DELTA_KIND_MESSAGE_DELTA, STR("llo"));
    rpc_live_text(w.rpc, TASK_A, 1, 1, 5, DELTA_KIND_TOOL_DELTA, STR("{}"));
    expect_delta(&c, "i4", 3, "llo");
    expect_delta(&c, "i5", 0, "{}");
    struct client late = client_ready();
    subscribe(&late, "{\"deltas\":true}");
    bool b_first = false;
    for (int i = 0; i < 3; i++) { /* each open item from its beginning; tasks in any order */
        json_t *json = hear(&late);
        if (strcmp(text(json, "task"), TASK_B) == 0) {
            assert_string_equal(text(json, "text"), "other");
            b_first = true;
        } else if (strcmp(text(json, "item"), "i4") == 0) {
            assert_string_equal(text(json, "text"), "Héllo");
        } else {
            assert_string_equal(text(json, "text"), "{}");
        }
        assert_int_equal(number(json, "offset"), 0);
        json_decref(json);
    }
    assert_true(b_first);
    rpc_live_text(w.rpc, TASK_A, 1, 1, 4, DELTA_KIND_MESSAGE_DELTA, STR("!"));
    rpc_live_end(w.rpc, TASK_A); /* who keeps up gets the last piece, and then the event */
    fake_commit(TASK_A, EVENT_MESSAGE, 1);
    fake_publish(w.rpc);
    expect_delta(&c, "i4", 6, "!");
    expect_event(&c, 1, 2, 0);
    rpc_live_text(w.rpc, TASK_A, 2, 1, 4, DELTA_KIND_MESSAGE_DELTA, STR("new"));
    expect_delta(&c, "i4", 0, "new");
    rpc_live_text(w.rpc, TASK_A, 2, 2, 4, DELTA_KIND_MESSAGE_DELTA, STR("again")); /* another attempt */
    expect_delta(&c, "i4", 0, "again");
    expect_event(&plain, 1, 1, 0);
    expect_event(&plain, 1, 2, 0);
    expect_alive(&plain);
    rpc_live_end(w.rpc, TASK_A);
    rpc_live_end(w.rpc, TASK_B);
    client_close(&c);
    client_close(&plain);
    client_close(&late);
}

/* What was said before an item's event is published never comes after it, even if nobody has ended the live
 * text. */
static void test_no_delta_after_its_event(void **state)
{
    (void)state;
    start();
    struct client c = client_ready();
    subscribe(&c, "{\"task\":\"" TASK_A "\",\"after_seq\":0,\"deltas\":true}");
    rpc_live_text(w.rpc, TASK_A, 1, 1, 4, DELTA_KIND_MESSAGE_DELTA, STR("text"));
    fake_commit(TASK_A, EVENT_MESSAGE, 1);
    fake_publish(w.rpc);
    expect_event(&c, 1, 1, 0);
    expect_alive(&c);
    client_close(&c);
}

/* A subscriber that read the event in the store before it was published. */
static void test_no_delta_to_who_reads_ahead(void **state)
{
    (void)state;
    start();
    struct client c = client_ready();
    fake_commit(TASK_A, EVENT_MESSAGE, 1);
    rpc_live_text(w.rpc, TASK_A, 1, 1, 4, DELTA_KIND_MESSAGE_DELTA, STR("text"));
    subscribe(&c, "{\"task\":\"" TASK_A "\",\"after_seq\":0,\"deltas\":true}");
    expect_event(&c, 1, 1, 0);
    rpc_live_text(w.rpc, TASK_A, 1, 1, 4, DELTA_KIND_MESSAGE_DELTA, STR("more"));
    expect_alive(&c); /* and nothing before it */
    fake_publish(w.rpc);
    rpc_live_text(w.rpc, TASK_A, 2, 1, 5, DELTA_KIND_MESSAGE_DELTA, STR("next"));
    expect_delta(&c, "i5", 0, "next");
    rpc_live_end(w.rpc, TASK_A);
    client_close(&c);
}

static void test_slow_reader_gets_coalesced_text(void **state)
{
    (void)state;
    start();
    struct client c = client_ready();
    int small = 4096;
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    subscribe(&c, "{\"task\":\"" TASK_A "\",\"after_seq\":0,\"deltas\":true}");
    CLEANUP(buf_free) struct buf all = {0};
    CLEANUP(buf_free) struct buf heard = {0};
    for (int i = 0; i < 200000; i++) {
        CLEANUP(buf_free) struct buf piece = {0};
        buf_printf(&piece, "%d€", i);
        buf_str(&all, buf_view(&piece));
        rpc_live_text(w.rpc, TASK_A, 1, 1, 7, DELTA_KIND_MESSAGE_DELTA, buf_view(&piece));
        if (i % 1000 == 0)
            uv_run(&w.loop, UV_RUN_NOWAIT);
    }
    run_dry();
    assert_true(queued() <= 3 * (size_t)w.config.limits.client_queue_bytes_max);
    size_t pieces = 0;
    while (heard.n < all.n) {
        json_t *json = hear(&c);
        assert_true(is_method(json, "delta"));
        assert_int_equal(number(json, "offset"), heard.n);
        buf_puts(&heard, text(json, "text"));
        json_decref(json);
        pieces++;
    }
    assert_true(str_eq(buf_view(&heard), buf_view(&all)));
    assert_true(pieces < 1000);
    rpc_live_end(w.rpc, TASK_A);
    client_close(&c);
}

/* ---- live output ---- */

static void expect_output(struct client *c, int64_t offset, int64_t bytes, const char *piece)
{
    json_t *json = hear(c);
    assert_true(is_method(json, "delta"));
    assert_string_equal(text(json, "kind"), "run.output");
    assert_string_equal(text(json, "run"), "r3");
    assert_int_equal(number(json, "offset"), offset);
    assert_int_equal(number(json, "bytes"), bytes);
    if (piece)
        assert_string_equal(text(json, "text"), piece);
    json_decref(json);
}

static void output(const char *bytes)
{
    buf_puts(&fake_output, bytes);
    rpc_live_run(w.rpc, TASK_A, 3, (int64_t)fake_output.n);
}

static void test_run_output(void **state)
{
    (void)state;
    start();
    struct client c = client_ready();
    subscribe(&c, "{\"task\":\"" TASK_A "\",\"after_seq\":0,\"deltas\":true}");
    output("one\xe2\x82"); /* a cut character waits for its end */
    expect_output(&c, 0, 3, "one");
    output("\xac\xff!");
    expect_output(&c, 3, 5, "€\xef\xbf\xbd!");
    output("\xe2\x82");
    run_dry();
    rpc_live_run_end(w.rpc, TASK_A, 3); /* now it has none */
    expect_output(&c, 8, 2, "\xef\xbf\xbd");
    expect_alive(&c);
    client_close(&c);
}

static void test_run_output_may_skip(void **state)
{
    (void)state;
    start();
    struct client c = client_ready();
    for (int i = 0; i < 100001; i++)
        buf_puts(&fake_output, "€");
    rpc_live_run(w.rpc, TASK_A, 3, (int64_t)fake_output.n);
    subscribe(&c, "{\"task\":\"" TASK_A "\",\"after_seq\":0,\"deltas\":true}");
    json_t *json = hear(&c);
    int64_t offset = number(json, "offset");
    assert_true(offset > 200000);
    assert_int_equal(offset % 3, 0);
    assert_null(strstr(text(json, "text"), "\xef\xbf\xbd"));
    assert_int_equal(offset + number(json, "bytes"), fake_output.n);
    json_decref(json);
    rpc_live_run_end(w.rpc, TASK_A, 3);
    expect_alive(&c);
    client_close(&c);
}

/* The cap of the file is behind the total: what is not kept cannot be shown, and nobody spins for it. */
static void test_run_output_beyond_what_is_kept(void **state)
{
    (void)state;
    start();
    struct client c = client_ready();
    subscribe(&c, "{\"deltas\":true}");
    output("kept");
    expect_output(&c, 0, 4, "kept");
    rpc_live_run(w.rpc, TASK_A, 3, 1000);
    run_dry();
    expect_alive(&c);
    rpc_live_run_end(w.rpc, TASK_A, 3);
    expect_alive(&c);
    client_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_subscriptions_from_every_point),
        TEST(test_subscriptions_are_bounded),
        TEST(test_no_event_is_lost_or_doubled_at_the_switch),
        TEST(test_removed_task_ends_its_subscriptions),
        TEST(test_removed_task_ends_a_slow_readers_subscription),
        TEST(test_what_cannot_be_read_ends_a_subscription),
        TEST(test_subscription_waits_for_its_task),
        TEST(test_subscription_on_a_full_disk),
        TEST(test_slow_reader),
        TEST(test_deltas),
        TEST(test_no_delta_after_its_event),
        TEST(test_no_delta_to_who_reads_ahead),
        TEST(test_slow_reader_gets_coalesced_text),
        TEST(test_run_output),
        TEST(test_run_output_may_skip),
        TEST(test_run_output_beyond_what_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
