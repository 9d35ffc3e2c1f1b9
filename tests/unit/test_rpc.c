/* The server as clients meet it: requests of every kind, connections, the socket's file. */
#include "rpc_box.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- requests ---- */

static void test_errors_of_every_kind(void **state)
{
    (void)state;
    start();
    struct client other = client_ready();
    struct client c = client_ready();
    static const struct {
        const char *message, *id, *what;
    } cases[] = {
        {"nonsense", "null", "parse_error"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"daemon/status\"}", "null", "parse_error"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon/status\"} x", "null", "parse_error"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}", "null", "parse_error"},
        {"7", "null", "invalid_request"},
        {"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon/status\"}]", "null", "invalid_request"},
        {"{}", "null", "invalid_request"},
        {"{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"daemon/status\"}", "null", "invalid_request"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"daemon/status\"}", "null", "invalid_request"},
        {"{\"jsonrpc\":\"2.0\",\"id\":[1],\"method\":\"daemon/status\"}", "null", "invalid_request"},
        {"{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"daemon/status\"}", "1", "invalid_request"},
        {"{\"id\":\"x\",\"method\":\"daemon/status\"}", "\"x\"", "invalid_request"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":4}", "1", "invalid_request"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":4}", "1", "invalid_request"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/fly\"}", "1", "method_not_found"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/get\"}", "1", "invalid_params"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/get\",\"params\":[]}", "1", "invalid_params"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/get\",\"params\":{\"task\":4}}", "1",
         "invalid_params"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/get\",\"params\":{\"task\":\"\"}}", "1",
         "invalid_params"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/get\",\"params\":{\"task\":\"x\",\"y\":1}}", "1",
         "invalid_params"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/get\",\"params\":{\"task\":\"x\\u0000y\"}}", "1",
         "invalid_params"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/steer\",\"params\":{\"task\":\"x\",\"text\":\"y\","
         "\"delivery\":\"soon\"}}",
         "1", "invalid_params"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{\"protocol\":1,\"client\":{"
         "\"name\":\"a\","
         "\"version\":\"b\"}}}",
         "1", "invalid_request"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"events/subscribe\",\"params\":{\"task\":\"nobody\"}}",
         "1", "task_not_found"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"events/subscribe\",\"params\":{\"after_seq\":1}}", "1",
         "invalid_params"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"events/unsubscribe\",\"params\":{\"subscription\":9}}",
         "1", "subscription_unknown"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        say(&c, cases[i].message);
        expect(&c, cases[i].id, cases[i].what);
    }
    expect_alive(&c);
    expect_alive(&other);
    client_close(&c);
    client_close(&other);
}

static void test_unknown_member_is_named(void **state)
{
    (void)state;
    start();
    struct client c = client_ready();
    say(&c,
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/get\",\"params\":{\"task\":\"x\",\"colour\":1}}");
    json_t *json = hear(&c);
    const char *message = json_string_value(json_object_get(json_object_get(json, "error"), "message"));
    assert_non_null(strstr(message, "colour"));
    json_decref(json);
    client_close(&c);
}

static void test_initialize_comes_first(void **state)
{
    (void)state;
    start();
    struct client c = client_open();
    say(&c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon/status\"}");
    expect(&c, "1", "not_initialized");
    say(&c,
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"initialize\",\"params\":{\"protocol\":2,\"new\":true}}");
    expect(&c, "2", "protocol_unsupported");
    say(&c, "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"initialize\",\"params\":{\"protocol\":0}}");
    expect(&c, "3", "invalid_params");
    say(&c, "{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"initialize\",\"params\":{\"protocol\":1,\"client\":{"
            "\"name\":"
            "\"test\",\"version\":\"1\"}}}");
    json_t *json = hear(&c);
    const json_t *result = json_object_get(json, "result");
    assert_int_equal(json_integer_value(json_object_get(result, "protocol")), 1);
    assert_string_equal(json_string_value(json_object_get(result, "state_dir")), "/state");
    assert_string_equal(json_string_value(json_object_get(result, "role")), "owner");
    assert_true(json_is_array(json_object_get(result, "capabilities")));
    const char *start = json_string_value(json_object_get(result, "start"));
    assert_true(start && *start);
    assert_true(json_is_null(json_object_get(result, "previous_end"))); /* nothing was recovered here */
    json_decref(json);
    expect_alive(&c);
    client_close(&c);
}

static void test_initialize_says_how_the_last_one_ended(void **state)
{
    (void)state;
    w.d.recovered = true;
    w.d.previous_end = PREVIOUS_END_STOP;
    start();
    struct client c = client_open();
    say(&c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{\"protocol\":1,\"client\":{"
            "\"name\":\"test\",\"version\":\"1\"}}}");
    json_t *json = hear(&c);
    assert_string_equal(json_string_value(json_object_get(json_object_get(json, "result"), "previous_end")), "stop");
    json_decref(json);
    client_close(&c);
}

static void test_ids_come_back_as_sent(void **state)
{
    (void)state;
    start();
    struct client c = client_ready();
    say(&c, "{\"jsonrpc\":\"2.0\", \"method\":\"daemon/status\", \"id\": \"\\u00e9\\/\\u0041\" }");
    while (!memchr(c.in.p ? c.in.p : "", '\n', c.in.n))
        receive(&c);
    assert_non_null(strstr(c.in.p, "\"id\":\"\\u00e9\\/\\u0041\","));
    expect(&c, "\"é/A\"", "result");
    say(&c, "{\"jsonrpc\":\"2.0\",\"method\":\"daemon/status\",\"id\":-9223372036854775808}");
    expect(&c, "-9223372036854775808", "result");
    client_close(&c);
}

static void test_notifications_are_not_answered(void **state)
{
    (void)state;
    start();
    struct client c = client_ready();
    say(&c, "{\"jsonrpc\":\"2.0\",\"method\":\"task/get\",\"params\":{\"task\":\"x\"}}");
    say(&c, "{\"jsonrpc\":\"2.0\",\"method\":\"whatever\"}");
    expect_alive(&c);
    assert_int_equal(fake_waiting(), 0);
    client_close(&c);
}

static void test_frames(void **state)
{
    (void)state;
    w.config.limits.frame_bytes_max = 65536;
    start();
    struct client c = client_ready();
    CLEANUP(buf_free) struct buf b = {0};
    memset(buf_reserve(&b, 300000), 'z', 300000);
    b.n = 300000;
    send_bytes(&c, buf_view(&b));
    expect(&c, "null", "frame_too_large"); /* before its end */
    send_bytes(&c, STR("zzz\n"));
    expect_alive(&c);

    buf_clear(&b);
    buf_puts(&b, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/get\",\"params\":{\"task\":");
    for (int i = 0; i < 5000; i++)
        buf_putc(&b, '[');
    say(&c, b.p);
    expect(&c, "null", "too_deep");

    const char *message = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon/status\"}\r\n";
    for (const char *p = message; *p; p++) {
        send_bytes(&c, str_n(p, 1));
        run_dry();
    }
    expect(&c, "1", "result");
    client_close(&c);
}

static void test_keyed_params_are_canonical(void **state)
{
    (void)state;
    start();
    struct client c = client_ready();
    static const char *const same[] = {
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/"
        "steer\",\"params\":{\"task\":\"x\",\"text\":\"A\",\"key\":\"k\"}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/steer\",\"params\": {\"key\" :\"k\", "
        "\"text\":\"\\u0041\",\"task\":\"x\"}}",
    };
    char *first = NULL;
    for (int i = 0; i < 2; i++) {
        say(&c, same[i]);
        json_t *json = hear(&c);
        char *result = json_dumps(json_object_get(json, "result"), JSON_COMPACT);
        assert_true(json_object_size(json_object_get(json, "result")) == 3);
        if (first)
            assert_string_equal(result, first);
        free(first);
        first = result;
        json_decref(json);
    }
    free(first);
    client_close(&c);
}

/* Whatever a line holds, it gets an answer or is a notification, and the next line is read as ever. */
static void test_mutated_messages(void **state)
{
    (void)state;
    static const char *const seeds[] = {
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/get\",\"params\":{\"task\":\"x\"}}",
        "{\"jsonrpc\":\"2.0\",\"id\":\"a\\u00e9\",\"method\":\"task/steer\",\"params\":{\"task\":\"x\",\"text\":\"y\",\"delivery\":\"now\",\"key\":\"k\"}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"events/subscribe\",\"params\":{\"after_pos\":0,\"deltas\":true}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"events/unsubscribe\",\"params\":{\"subscription\":1}}",
        "[1,{\"a\":[null,true,-1.5e3]}]",
    };
    static const char bytes[] = "\"{}[]:,\\u0019\x00\xff\xc3\xa9 tfn-+e.\r";
    uint64_t random = 88172645463325252u; /* xorshift64 */
    start();
    struct client c = client_ready();
    fake_commit(TASK_A, EVENT_NOTICE, 10);
    fake_publish(w.rpc);
    for (int round = 0; round < 5000; round++) {
        CLEANUP(buf_free) struct buf b = {0};
        buf_puts(&b, seeds[round % 5]);
        for (int i = round % 4; i >= 0; i--) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            b.p[random % b.n] = bytes[(random >> 32) % (sizeof bytes - 1)];
        }
        buf_putc(&b, '\n');
        send_bytes(&c, buf_view(&b));
        if (round % 50 != 49)
            continue;
        run_dry();
        fake_answer();
        say(&c, "{\"jsonrpc\":\"2.0\",\"id\":\"alive\",\"method\":\"daemon/status\"}");
        for (bool alive = false; !alive;) {
            json_t *json = hear(&c);
            assert_non_null(json);
            const char *id = json_string_value(json_object_get(json, "id"));
            alive = id && strcmp(id, "alive") == 0;
            json_decref(json);
        }
    }
    client_close(&c);
}

/* ---- connections ---- */

static void test_one_client_too_many(void **state)
{
    (void)state;
    w.config.limits.clients_max = 2;
    start();
    struct client a = client_ready(), b = client_ready();
    struct client c = client_open();
    expect(&c, "null", "limit_reached");
    expect_end(&c);
    client_close(&c);
    client_close(&b);
    while (rpc_clients(w.rpc) > 1)
        turn(-1, 0);
    struct client e = client_ready();
    expect_alive(&a);
    client_close(&a);
    client_close(&e);
}

static void test_half_closed_client_gets_its_answers(void **state)
{
    (void)state;
    start();
    struct client c = client_ready();
    say(&c, "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"task/get\",\"params\":{\"task\":\"x\"}}");
    send_bytes(&c, STR("{\"half"));
    shutdown(c.fd, SHUT_WR);
    while (fake_waiting() == 0)
        turn(-1, 0);
    run_dry();
    assert_int_equal(rpc_clients(w.rpc), 1);
    fake_answer();
    expect(&c, "null", "parse_error"); /* the half line */
    expect(&c, "5", "result");
    expect_end(&c);
    assert_int_equal(rpc_clients(w.rpc), 0);
    client_close(&c);
}

static void test_answer_to_a_client_that_is_gone(void **state)
{
    (void)state;
    start();
    struct client c = client_ready(), other = client_ready();
    subscribe(&c, "{}");
    for (int i = 0; i < 3; i++)
        say(&c, "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"task/get\",\"params\":{\"task\":\"x\"}}");
    while (fake_waiting() < 3)
        turn(-1, 0);
    client_close(&c);
    run_dry();
    assert_int_equal(rpc_clients(w.rpc), 2); /* it may only have closed its end for writing */
    fake_commit(TASK_A, EVENT_NOTICE, 10);
    fake_publish(w.rpc); /* the write fails */
    run_dry();
    assert_int_equal(rpc_clients(w.rpc), 1);
    fake_answer();
    expect_alive(&other);
    client_close(&other);
}

static void test_calls_outlive_the_server(void **state)
{
    (void)state;
    start();
    struct client c = client_ready();
    say(&c, "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"task/get\",\"params\":{\"task\":\"x\"}}");
    say(&c, "{\"jsonrpc\":\"2.0\",\"id\":6,\"method\":\"daemon/status\"}");
    while (fake_waiting() == 0)
        turn(-1, 0);
    rpc_free(w.rpc);
    w.rpc = NULL;
    expect(&c, "6", "result"); /* what was answered is sent before the end */
    expect_end(&c);
    uv_run(&w.loop, UV_RUN_DEFAULT); /* the connection's memory is gone */
    fake_answer();
    client_close(&c);
}

/* More than client_requests_max at once: they wait in the socket, and each is answered. */
static void test_many_requests_at_once(void **state)
{
    (void)state;
    w.config.limits.client_requests_max = 4;
    start();
    struct client c = client_ready();
    for (int i = 0; i < 100; i++)
        say(&c, "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"task/get\",\"params\":{\"task\":\"x\"}}");
    for (int answered = 0; answered < 100;) {
        run_dry();
        size_t n = fake_waiting();
        assert_in_range(n, 1, 4);
        fake_answer();
        for (size_t i = 0; i < n; i++)
            expect(&c, "5", "result");
        answered += (int)n;
    }
    client_close(&c);
}

/* A client that asks and never reads is not read from any more. */
static void test_asking_without_reading_is_bounded(void **state)
{
    (void)state;
    start();
    struct client c = client_ready(), other = client_ready();
    const struct str line = STR("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"nothing\"}\n");
    size_t sent = 0;
    for (int quiet = 0; quiet < 3;) {
        ssize_t n = write(c.fd, line.p + sent % line.n, line.n - sent % line.n);
        if (n > 0) {
            sent += (size_t)n;
            quiet = 0;
            continue;
        }
        run_dry();
        quiet++;
    }
    assert_true(sent < 8 << 20);
    expect_alive(&other);
    size_t answers = 0;
    while (answers < sent / line.n) {
        expect(&c, "1", "method_not_found");
        answers++;
    }
    client_close(&c);
    client_close(&other);
}

/* ---- the socket's file ---- */

static void expect_refusal(const char *word)
{
    CLEANUP(buf_free) struct buf error = {0};
    struct rpc *rpc = NULL;
    assert_int_equal(rpc_new(&w.d, w.path, -1, &rpc, &error), -1);
    assert_non_null(strstr(buf_cstr(&error), word));
}

static void test_socket_modes(void **state)
{
    (void)state;
    struct stat st;
    rmdir(w.dir);
    start();
    assert_int_equal(stat(w.path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(w.dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static void test_stale_socket_is_replaced(void **state)
{
    (void)state;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    assert_true(strlen(w.path) < sizeof address.sun_path);
    memcpy(address.sun_path, w.path, strlen(w.path) + 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    expect_refusal("listens");
    close(fd);
    start();
    struct client c = client_ready();
    client_close(&c);
}

static void test_foreign_file_is_left_alone(void **state)
{
    (void)state;
    struct stat st;
    FILE *f = fopen(w.path, "w");
    fputs("mine", f);
    fclose(f);
    expect_refusal("not a socket");
    assert_int_equal(stat(w.path, &st), 0);
    assert_int_equal(st.st_size, 4);
    unlink(w.path);
    assert_int_equal(symlink("/nowhere", w.path), 0);
    expect_refusal("not a socket");
    unlink(w.path);
    chmod(w.dir, 0777);
    expect_refusal("chmod 700");
}

/* The file is removed at the end only if it is still ours. */
static void test_another_ones_socket_survives(void **state)
{
    (void)state;
    start();
    unlink(w.path);
    FILE *f = fopen(w.path, "w");
    fclose(f);
    rpc_free(w.rpc);
    w.rpc = NULL;
    assert_int_equal(access(w.path, F_OK), 0);
    unlink(w.path);
}

static void test_long_path(void **state)
{
    (void)state;
    char long_dir[sizeof w.dir + 100];
    snprintf(long_dir, sizeof long_dir, "%s/%050d/%040d", w.dir, 1, 2);
    snprintf(w.path, sizeof w.path, "%s/a.sock", long_dir);
    assert_true(strlen(w.path) > 108);
    start();
    int dir = open(long_dir, O_PATH | O_DIRECTORY);
    struct client c = {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/a.sock", dir);
    assert_int_equal(connect(c.fd, (struct sockaddr *)&address, sizeof address), 0);
    close(dir);
    fcntl(c.fd, F_SETFL, O_NONBLOCK);
    say(&c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon/status\"}");
    expect(&c, "1", "not_initialized");
    client_close(&c);
    rpc_free(w.rpc);
    w.rpc = NULL;
    assert_int_equal(access(w.path, F_OK), -1);
    rmdir(long_dir);
    *strrchr(long_dir, '/') = 0;
    rmdir(long_dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_errors_of_every_kind),
        TEST(test_unknown_member_is_named),
        TEST(test_initialize_comes_first),
        TEST(test_initialize_says_how_the_last_one_ended),
        TEST(test_ids_come_back_as_sent),
        TEST(test_notifications_are_not_answered),
        TEST(test_frames),
        TEST(test_keyed_params_are_canonical),
        TEST(test_mutated_messages),
        TEST(test_one_client_too_many),
        TEST(test_half_closed_client_gets_its_answers),
        TEST(test_answer_to_a_client_that_is_gone),
        TEST(test_calls_outlive_the_server),
        TEST(test_many_requests_at_once),
        TEST(test_asking_without_reading_is_bounded),
        TEST(test_socket_modes),
        TEST(test_stale_socket_is_replaced),
        TEST(test_foreign_file_is_left_alone),
        TEST(test_another_ones_socket_survives),
        TEST(test_long_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
