/* The model client over a real connection: how each answer, and each failure to answer, ends. */
#include "daemon/model/curl_api.h"
#include "daemon/model/model.h"
#include "http_peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <time.h>
#include <cmocka.h>

#define HUNG_MS 20000 /* far more than anything here takes */
#define KEY "sk-secret-0123"

#define STREAM_HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
#define SAY "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"},\"finish_reason\":null}]}\n\n"
#define END "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
#define USAGE                                                                                                \
    "data: "                                                                                                 \
    "{\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"prompt_tokens_details\":{\"cached_tokens\":4},"       \
    "\"completion_tokens\":3}}\n\n"
#define DONE "data: [DONE]\n\n"
/* The sizes are checked by chunked_sizes_are_right(). */
#define CHUNK_SAY "52\r\n" SAY "\r\n"
#define CHUNK_END "43\r\n" END "\r\n"
#define CHUNK_USAGE "75\r\n" USAGE "\r\n"
#define CHUNK_DONE "e\r\n" DONE "\r\n"
#define CHUNK_LAST "0\r\n\r\n"
#define GOOD STREAM_HEAD CHUNK_SAY CHUNK_END CHUNK_USAGE CHUNK_DONE CHUNK_LAST

struct bench {
    uv_loop_t loop;
    struct peer peer;
    struct limits limits;
    struct model *model;
    uv_timer_t hung;
};

/* One transfer and what became of it. */
struct ending {
    struct bench *bench;
    struct model_transfer *transfer;
    struct buf text; /* of the deltas */
    size_t deltas, ended;
    bool done;
    bool cancel_at_delta, free_at_end;
    enum finish finish;
    struct proto_usage usage;
    enum model_fault fault;
    int64_t retry_after_ms;
    char message[2048];
    struct ending *send_at_end;
};

static void on_hung_cb(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("nothing happened for %d ms", HUNG_MS);
}

static void bench_open(struct bench *b)
{
    uv_loop_init(&b->loop);
    b->limits = limits_default();
    peer_open(&b->peer, &b->loop);
    assert_int_equal(model_new(&b->loop, &b->limits, &b->model), 0);
    uv_timer_init(&b->loop, &b->hung);
}

/* A loop that can be closed has no handle left. */
static void bench_close(struct bench *b)
{
    model_free(b->model);
    peer_shut(&b->peer);
    uv_close((uv_handle_t *)&b->hung, NULL);
    while (uv_run(&b->loop, UV_RUN_DEFAULT) != 0) /* not yet empty: somebody stopped it */
        ;
    assert_int_equal(b->peer.open, 0);
    assert_int_equal(uv_loop_close(&b->loop), 0);
}

static void on_delta(void *arg, enum delta_kind kind, size_t part, struct str text)
{
    struct ending *e = arg;
    assert_int_equal(kind, DELTA_KIND_MESSAGE_DELTA);
    assert_int_equal(part, 0);
    buf_str(&e->text, text);
    e->deltas++;
    uv_stop(&e->bench->loop);
    struct str partial = model_partial(e->transfer);
    assert_string_equal(buf_cstr(&e->text), partial.p);
    if (e->cancel_at_delta)
        model_cancel(e->transfer);
}

static void start(struct ending *e, const char *wire, const char *url);

static void ending_came(struct ending *e)
{
    e->ended++;
    uv_stop(&e->bench->loop);
    model_cancel(e->transfer); /* too late, and harmless */
    if (e->free_at_end) {
        model_free(e->bench->model);
        e->bench->model = NULL;
    }
    if (e->send_at_end)
        start(e->send_at_end, "openai-chat", e->bench->peer.url);
}

static void on_done(void *arg, const struct model_response *response)
{
    struct ending *e = arg;
    e->done = true;
    e->finish = response->finish;
    e->usage = response->usage;
    ending_came(e);
}

static void on_failed(void *arg, enum model_fault fault, int64_t retry_after_ms, const char *message)
{
    struct ending *e = arg;
    e->fault = fault;
    e->retry_after_ms = retry_after_ms;
    snprintf(e->message, sizeof e->message, "%s", message);
    ending_came(e);
}

static const struct model_callbacks callbacks = {on_delta, on_done, on_failed};

static void start_with(struct ending *e, const char *wire, const char *url, const char *key, struct buf *body)
{
    struct model_spec spec = {.wire = str_of(wire),
                              .base_url = str_of(url),
                              .name = STR("m"),
                              .price_input = 1000,
                              .price_cached_input = 100,
                              .price_output = 10000};
    e->transfer = model_send(e->bench->model, &spec, key, body, &callbacks, e);
    assert_non_null(e->transfer);
    assert_int_equal(e->ended, 0); /* never from inside */
}

static void start(struct ending *e, const char *wire, const char *url)
{
    struct buf body = {0};
    buf_puts(&body, "{\"stream\":true}");
    start_with(e, wire, url, KEY, &body);
}

/* Whoever counts stops the loop: it could count in the loop's timers and then wait for a socket. */
static void wait_for(struct bench *b, const size_t *counter, size_t n)
{
    uv_timer_start(&b->hung, on_hung_cb, HUNG_MS, 0);
    while (*counter < n)
        uv_run(&b->loop, UV_RUN_DEFAULT);
}

/* Sends one request that the peer answers so, and closes all. */
static struct ending play(struct str answer, enum peer_then then, void (*change)(struct limits *limits))
{
    struct bench b;
    struct ending e = {.bench = &b};
    struct peer_answer answers[] = {{answer, then}};
    bench_open(&b);
    if (change)
        change(&b.limits);
    b.peer.answers = answers;
    b.peer.answers_n = 1;
    start(&e, "openai-chat", b.peer.url);
    wait_for(&b, &e.ended, 1);
    bench_close(&b);
    assert_int_equal(e.ended, 1);
    buf_free(&e.text);
    return e;
}

static void chunked_sizes_are_right(void **state)
{
    (void)state;
    assert_int_equal(sizeof SAY - 1, 0x52);
    assert_int_equal(sizeof END - 1, 0x43);
    assert_int_equal(sizeof USAGE - 1, 0x75);
    assert_int_equal(sizeof DONE - 1, 0xe);
}

static void test_stream_and_reuse(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    struct peer_answer answers[] = {{STR(GOOD), PEER_KEEP}};
    struct ending second = {.bench = &b}, e = {.bench = &b, .send_at_end = &second};
    b.peer.answers = answers;
    b.peer.answers_n = 1;
    start(&e, "openai-chat", b.peer.url);
    wait_for(&b, &second.ended, 1);
    assert_true(e.done && second.done);
    assert_string_equal(buf_cstr(&e.text), "Hello");
    assert_int_equal(e.usage.input_tokens, 10);
    assert_int_equal(e.usage.cost_usd, 6 * 1000 + 4 * 100 + 3 * 10000);
    assert_int_equal(b.peer.requests, 2);
    assert_int_equal(b.peer.connections, 1);
    const char *request = buf_cstr(&b.peer.request);
    assert_true(strncmp(request, "POST /v1/chat/completions HTTP/1.1\r\n", 36) == 0);
    assert_non_null(strstr(request, "\r\nAuthorization: Bearer " KEY "\r\n"));
    assert_non_null(strstr(request, "\r\nContent-Type: application/json\r\n"));
    assert_null(strcasestr(request, "expect:"));
    assert_non_null(strstr(request, "\r\n\r\n{\"stream\":true}"));
    buf_free(&e.text);
    buf_free(&second.text);
    bench_close(&b);
}

static void test_no_key_and_a_large_body(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    struct peer_answer answers[] = {{STR(GOOD), PEER_KEEP}};
    struct ending e = {.bench = &b};
    struct buf body = {0};
    b.peer.answers = answers;
    b.peer.answers_n = 1;
    memset(buf_reserve(&body, 3000000), 'x', 3000000);
    body.n = 3000000;
    start_with(&e, "openai-responses", b.peer.url, "", &body);
    wait_for(&b, &b.peer.requests, 1);
    assert_null(strcasestr(b.peer.request.p, "authorization"));
    assert_null(strcasestr(b.peer.request.p, "\r\nexpect"));
    assert_true(strncmp(b.peer.request.p, "POST /v1/responses ", 19) == 0);
    assert_true(b.peer.request.n > 3000000 && b.peer.request.p[b.peer.request.n - 1] == 'x');
    model_cancel(e.transfer);
    bench_close(&b);
    assert_int_equal(e.ended, 0);
}

#define JSON_HEAD(status) "HTTP/1.1 " status "\r\nContent-Type: application/json\r\n"

static void check_fault(struct str answer, enum model_fault fault, int64_t retry_after_ms,
                        const char *message)
{
    struct ending e = play(answer, PEER_CLOSE, NULL);
    assert_false(e.done);
    assert_string_equal(e.message, message);
    assert_int_equal(e.fault, fault);
    assert_int_equal(e.retry_after_ms, retry_after_ms);
}

/* A message is cut at 1000 bytes: what is left of a key there is no more to be read than a whole one. */
static void test_key_at_the_cut(void **state)
{
    (void)state;
    struct buf answer = {0};
    buf_puts(&answer, "HTTP/1.1 401 No\r\nContent-Type: text/plain\r\n\r\n");
    for (int i = 0; i < 980; i++)
        buf_putc(&answer, 'x');
    buf_puts(&answer, KEY " is wrong");
    struct ending e = play(buf_view(&answer), PEER_CLOSE, NULL);
    assert_int_equal(e.fault, MODEL_FAULT_CREDENTIALS);
    assert_null(strstr(e.message, "sk-s"));
    assert_non_null(strstr(e.message, "xxx[key]..."));
    buf_free(&answer);
}

static void test_statuses(void **state)
{
    (void)state;
    check_fault(
        STR(JSON_HEAD("429 No") "Retry-After: 7\r\n\r\n{\"error\":{\"message\":\"slow, try again in 1s\"}}"),
        MODEL_FAULT_RATE_LIMIT, 7000, "HTTP 429: slow, try again in 1s");
    check_fault(STR(JSON_HEAD("429 No") "retry-after-ms: 250\r\n\r\n"), MODEL_FAULT_RATE_LIMIT, 250,
                "HTTP 429");
    check_fault(STR(JSON_HEAD("429 No") "\r\n{\"error\":{\"message\":\"try again in 1m2.5s.\"}}"),
                MODEL_FAULT_RATE_LIMIT, 62500, "HTTP 429: try again in 1m2.5s.");
    check_fault(STR(JSON_HEAD(
                    "429 No") "x-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 6m0s\r\n"
                              "x-ratelimit-remaining-requests: 5\r\nx-ratelimit-reset-requests: 9h\r\n\r\n"),
                MODEL_FAULT_RATE_LIMIT, 360000, "HTTP 429");
    check_fault(STR("HTTP/1.1 503 No\r\nContent-Type: text/html\r\n\r\n<html>busy</html>"),
                MODEL_FAULT_SERVER, 0, "HTTP 503");
    check_fault(STR("HTTP/1.1 500 No\r\n\r\nplain\nwords"), MODEL_FAULT_SERVER, 0, "HTTP 500: plain words");
    check_fault(STR(JSON_HEAD("401 No") "\r\n{\"error\":{\"message\":\"bad key " KEY " and " KEY "\"}}"),
                MODEL_FAULT_CREDENTIALS, 0, "HTTP 401: bad key [key] and [key]");
    check_fault(STR(JSON_HEAD("404 No") "\r\n{\"error\":\"model 'm' not found\"}"), MODEL_FAULT_REQUEST, 0,
                "HTTP 404: model 'm' not found");
    check_fault(STR("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"), MODEL_FAULT_REQUEST, 0,
                "HTTP 302: the provider redirects, which is not followed; set base_url to where it leads");
}

static void test_retry_after_as_a_date(void **state)
{
    char answer[256], date[64];
    time_t at = time(NULL) + 3600;
    struct tm tm;
    (void)state;
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&at, &tm));
    snprintf(answer, sizeof answer, "HTTP/1.1 503 No\r\nRetry-After: %s\r\n\r\n", date);
    struct ending e = play(str_of(answer), PEER_CLOSE, NULL);
    assert_int_equal(e.fault, MODEL_FAULT_SERVER);
    assert_in_range(e.retry_after_ms, 3500000, 3600000);
}

static void test_good_status_without_a_stream(void **state)
{
    (void)state;
    check_fault(
        STR(JSON_HEAD("200 OK") "\r\n{\"error\":{\"message\":\"no\",\"code\":\"rate_limit_exceeded\"}}"),
        MODEL_FAULT_RATE_LIMIT, 0, "the provider says: no (rate_limit_exceeded)");
    check_fault(STR("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>hotel wifi</html>"),
                MODEL_FAULT_MALFORMED, 0, "the provider answered with text/html instead of an event stream");
}

static void test_cut(void **state)
{
    (void)state;
    struct ending e = play(STR(STREAM_HEAD CHUNK_SAY "52\r\ndata: {\"cho"), PEER_CLOSE, NULL);
    assert_int_equal(e.fault, MODEL_FAULT_CUT);
    assert_int_equal(e.deltas, 1);
    e = play(STR(STREAM_HEAD CHUNK_SAY CHUNK_LAST), PEER_KEEP, NULL); /* ends well, but too early */
    assert_int_equal(e.fault, MODEL_FAULT_CUT);
    e = play(STR("HTTP/1.1 200 OK\r\n\r\n" SAY END), PEER_CLOSE, NULL); /* no [DONE], but a reason to end */
    assert_true(e.done);
    e = play(STR(STREAM_HEAD CHUNK_SAY CHUNK_END CHUNK_DONE), PEER_KEEP,
             NULL); /* the end is not waited for */
    assert_true(e.done);
    e = play(STR(""), PEER_CLOSE, NULL);
    assert_int_equal(e.fault, MODEL_FAULT_NETWORK);
}

static void stall_soon(struct limits *limits)
{
    limits->stall_ms_max = 100;
}

static void test_stall(void **state)
{
    (void)state;
    struct ending e = play(STR(STREAM_HEAD CHUNK_SAY), PEER_PING, stall_soon); /* comments are no progress */
    assert_int_equal(e.fault, MODEL_FAULT_STALL);
    assert_int_equal(e.deltas, 1);
    e = play(STR(""), PEER_KEEP, stall_soon);
    assert_int_equal(e.fault, MODEL_FAULT_STALL);
    e = play(STR(STREAM_HEAD CHUNK_SAY CHUNK_END), PEER_KEEP, stall_soon);
    assert_true(e.done);
    e = play(STR("HTTP/1.1 502 No\r\nContent-Length: 100\r\n\r\nhalf"), PEER_KEEP, stall_soon);
    assert_int_equal(e.fault, MODEL_FAULT_SERVER);
    assert_string_equal(e.message, "HTTP 502: half");
}

static void test_malformed(void **state)
{
    (void)state;
    struct ending e = play(STR(STREAM_HEAD CHUNK_SAY "b\r\ndata: {]}\n\n\r\n"), PEER_KEEP, NULL);
    assert_int_equal(e.fault, MODEL_FAULT_MALFORMED);
    e = play(STR("this is no HTTP\r\n\r\n"), PEER_CLOSE, NULL);
    assert_int_equal(e.fault, MODEL_FAULT_NETWORK);
}

static void small_response(struct limits *limits)
{
    limits->response_bytes_max = 8000;
}

static void test_too_large(void **state)
{
    (void)state;
    struct buf line = {0};
    buf_puts(&line, "HTTP/1.1 200 OK\r\n\r\ndata: ");
    for (int i = 0; i < 6000; i++)
        buf_putc(&line, 'x');
    struct ending e = play(buf_view(&line), PEER_KEEP, small_response);
    assert_int_equal(e.fault, MODEL_FAULT_MALFORMED);
    assert_string_equal(e.message, "a line of the stream is too long");
    buf_clear(&line);
    buf_puts(&line, "HTTP/1.1 200 OK\r\n\r\n");
    for (int i = 0; i < 200; i++)
        buf_puts(&line, SAY);
    e = play(buf_view(&line), PEER_KEEP, small_response);
    assert_int_equal(e.fault, MODEL_FAULT_MALFORMED);
    assert_string_equal(e.message, "the response is larger than response_bytes_max (8000)");
    buf_free(&line);
}

static void test_what_cannot_be_sent(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    struct ending key = {.bench = &b}, wire = {.bench = &b}, url = {.bench = &b}, refused = {.bench = &b};
    struct buf body = {0};
    char closed[64];
    start_with(&key, "openai-chat", b.peer.url, "two\nlines", &body);
    start(&wire, "smoke-signals", b.peer.url);
    start(&url, "openai-chat", "file:///etc");
    snprintf(closed, sizeof closed, "%s", b.peer.url);
    peer_shut(&b.peer);
    uv_run(&b.loop, UV_RUN_NOWAIT);
    start(&refused, "openai-chat", closed);
    wait_for(&b, &key.ended, 1);
    wait_for(&b, &wire.ended, 1);
    wait_for(&b, &url.ended, 1);
    wait_for(&b, &refused.ended, 1);
    assert_int_equal(key.fault, MODEL_FAULT_CREDENTIALS);
    assert_null(strstr(key.message, "lines"));
    assert_int_equal(wire.fault, MODEL_FAULT_REQUEST);
    assert_int_equal(url.fault, MODEL_FAULT_REQUEST);
    assert_int_equal(refused.fault, MODEL_FAULT_NETWORK);
    assert_non_null(strstr(refused.message, closed));
    bench_close(&b);
}

/* libcurl without memory: nothing leaves that lacks a header, the key say, and what could not be sent now is sent later. */
static struct {
    struct curl_slist *(*append)(struct curl_slist *, const char *);
    CURL *(*init)(void);
    CURLU *(*url)(void);
    int calls, fails_at;
} memory;

static bool memory_fails(void)
{
    return ++memory.calls == memory.fails_at;
}

static struct curl_slist *append_or_fail(struct curl_slist *list, const char *text)
{
    return memory_fails() ? NULL : memory.append(list, text);
}

static CURL *init_or_fail(void)
{
    return memory_fails() ? NULL : memory.init();
}

static CURLU *url_or_fail(void)
{
    return memory_fails() ? NULL : memory.url();
}

static void test_no_memory_for_a_request(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    struct peer_answer answers[] = {{STR(GOOD), PEER_KEEP}};
    b.peer.answers = answers;
    b.peer.answers_n = 1;
    assert_int_equal(curl_api_load(), 0);
    memory.append = curl_api.slist_append;
    memory.init = curl_api.easy_init;
    memory.url = curl_api.url;
    curl_api.slist_append = append_or_fail;
    curl_api.easy_init = init_or_fail;
    curl_api.url = url_or_fail;
    bool done = false;
    for (memory.fails_at = 1; !done; memory.fails_at++) {
        struct ending e = {.bench = &b};
        memory.calls = 0;
        start(&e, "openai-chat", b.peer.url);
        wait_for(&b, &e.ended, 1);
        done = e.done;
        buf_free(&e.text);
        if (done)
            break;
        assert_int_equal(e.fault, MODEL_FAULT_NETWORK);
        assert_non_null(strstr(e.message, "memory"));
        assert_int_equal(b.peer.requests, 0);
    }
    assert_in_range(memory.fails_at, 6, 20); /* the handle, the URL, four headers */
    curl_api.slist_append = memory.append;
    curl_api.easy_init = memory.init;
    curl_api.url = memory.url;
    bench_close(&b);
}

static void test_cancel_closes_the_connection(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    struct peer_answer answers[] = {{STR(STREAM_HEAD CHUNK_SAY CHUNK_SAY CHUNK_SAY), PEER_KEEP}};
    struct ending outside = {.bench = &b}, inside = {.bench = &b, .cancel_at_delta = true},
                  early = {.bench = &b};
    b.peer.answers = answers;
    b.peer.answers_n = 1;
    start(&outside, "openai-chat", b.peer.url);
    start(&inside, "openai-chat", b.peer.url);
    start(&early, "openai-chat", b.peer.url);
    model_cancel(early.transfer);
    wait_for(&b, &outside.deltas, 3);
    wait_for(&b, &b.peer.closed, 1);
    model_cancel(outside.transfer);
    wait_for(&b, &b.peer.closed, 2);
    assert_int_equal(inside.deltas, 1);
    bench_close(&b);
    assert_int_equal(inside.ended + outside.ended + early.ended, 0);
    buf_free(&inside.text);
    buf_free(&outside.text);
}

static void test_the_line(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    struct peer_answer answers[] = {{STR(GOOD), PEER_KEEP}};
    static struct ending all[100];
    b.limits.transfers_max = 3;
    b.peer.answers = answers;
    b.peer.answers_n = 1;
    for (size_t i = 0; i < 100; i++) {
        all[i] = (struct ending){.bench = &b};
        start(&all[i], "openai-chat", b.peer.url);
    }
    model_cancel(all[50].transfer); /* in line */
    wait_for(&b, &all[99].ended, 1);
    for (size_t i = 0; i < 100; i++) {
        wait_for(&b, &all[i].ended, i == 50 ? 0 : 1);
        assert_int_equal(all[i].ended, i == 50 ? 0 : 1);
        assert_int_equal(all[i].done, i != 50);
        buf_free(&all[i].text);
    }
    assert_int_equal(b.peer.requests, 99);
    assert_in_range(b.peer.open_most, 1, 12); /* three at work, and some whose end is still on its way */
    bench_close(&b);
}

static void test_free_inside_a_callback(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b);
    struct peer_answer answers[] = {{STR(GOOD), PEER_KEEP}};
    struct ending first = {.bench = &b, .free_at_end = true}, other = {.bench = &b};
    b.limits.transfers_max = 1;
    b.peer.answers = answers;
    b.peer.answers_n = 1;
    start(&first, "openai-chat", b.peer.url);
    start(&other, "openai-chat", b.peer.url);
    wait_for(&b, &first.ended, 1);
    bench_close(&b);
    assert_true(first.done);
    assert_int_equal(other.ended, 0);
    buf_free(&first.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunked_sizes_are_right),
        cmocka_unit_test(test_stream_and_reuse),
        cmocka_unit_test(test_no_key_and_a_large_body),
        cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_key_at_the_cut),
        cmocka_unit_test(test_retry_after_as_a_date),
        cmocka_unit_test(test_good_status_without_a_stream),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_stall),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_what_cannot_be_sent),
        cmocka_unit_test(test_no_memory_for_a_request),
        cmocka_unit_test(test_cancel_closes_the_connection),
        cmocka_unit_test(test_the_line),
        cmocka_unit_test(test_free_inside_a_callback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
