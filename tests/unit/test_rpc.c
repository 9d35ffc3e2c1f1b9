/* The server as clients meet it: a real Unix socket on a real loop, against a daemon made of lists (rpc_world.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>

#include "rpc_world.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define WAIT_MS 20000
#define TASK_A "t01aaaaaaaaaaaaaaaaaaaaaaaa"
#define TASK_B "t01bbbbbbbbbbbbbbbbbbbbbbbb"

static struct {
    uv_loop_t loop;
    struct config config;
    struct daemon d;
    char dir[64];
    char path[128];
    struct rpc *rpc;
} w;

static int set_up(void **state)
{
    (void)state;
    memset(&w, 0, sizeof w);
    fake_reset();
    uv_loop_init(&w.loop);
    w.config.limits = limits_default();
    w.config.limits.client_queue_bytes_max = 65536;
    w.d = (struct daemon){.loop = &w.loop, .config = &w.config, .state_dir = "/state"};
    snprintf(w.dir, sizeof w.dir, "/tmp/agentd-rpc-XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    snprintf(w.path, sizeof w.path, "%s/agentd.sock", w.dir);
    fake_task(TASK_A);
    fake_task(TASK_B);
    return 0;
}

static void start(void)
{
    CLEANUP(buf_free) struct buf error = {0};
    int rc = rpc_new(&w.d, w.path, -1, &w.rpc, &error);
    if (rc != 0)
        fail_msg("%s", buf_cstr(&error));
    w.d.rpc = w.rpc;
}

static int tear_down(void **state)
{
    (void)state;
    if (w.rpc)
        rpc_free(w.rpc);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w.loop), 0); /* no handle is left */
    assert_int_equal(access(w.path, F_OK), -1);
    unlink(w.path);
    rmdir(w.dir);
    fake_reset();
    return 0;
}

/* ---- a client ---- */

struct client {
    int fd;
    struct buf in;
    bool end;
};

static struct client client_open(void)
{
    struct client c = {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", w.path);
    assert_int_equal(connect(c.fd, (struct sockaddr *)&address, sizeof address), 0);
    fcntl(c.fd, F_SETFL, O_NONBLOCK);
    return c;
}

static void client_close(struct client *c)
{
    close(c->fd);
    buf_free(&c->in);
}

/* One turn of the loop, waiting for whatever comes first. `fd` may be -1. */
static void turn(int fd, short events)
{
    struct pollfd p[] = {{uv_backend_fd(&w.loop), POLLIN, 0}, {fd, events, 0}};
    if (uv_backend_timeout(&w.loop) != 0 && poll(p, 2, WAIT_MS) == 0)
        fail_msg("nothing happened");
    uv_run(&w.loop, UV_RUN_NOWAIT);
}

/* All that the loop has to do now, without waiting. */
static void run_dry(void)
{
    struct pollfd p = {uv_backend_fd(&w.loop), POLLIN, 0};
    do
        uv_run(&w.loop, UV_RUN_NOWAIT);
    while (uv_backend_timeout(&w.loop) == 0 || poll(&p, 1, 0) > 0);
}

static void send_bytes(struct client *c, struct str bytes)
{
    while (bytes.n) {
        ssize_t n = write(c->fd, bytes.p, bytes.n);
        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            turn(c->fd, POLLOUT);
            continue;
        }
        bytes = str_n(bytes.p + n, bytes.n - (size_t)n);
    }
}

static void say(struct client *c, const char *text)
{
    send_bytes(c, str_of(text));
    send_bytes(c, STR("\n"));
}

static void receive(struct client *c)
{
    char bytes[65536];
    ssize_t n = read(c->fd, bytes, sizeof bytes);
    if (n > 0)
        buf_put(&c->in, bytes, (size_t)n);
    else if (n == 0 || errno != EAGAIN)
        c->end = true;
    else
        turn(c->fd, POLLIN);
}

/* The next message; NULL: the connection has ended. */
static json_t *hear(struct client *c)
{
    for (;;) {
        const char *end = c->in.n ? memchr(c->in.p, '\n', c->in.n) : NULL;
        if (end) {
            size_t n = (size_t)(end - c->in.p);
            json_t *json = json_loadb(c->in.p, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
            assert_non_null(json);
            buf_consume(&c->in, n + 1);
            return json;
        }
        if (c->end)
            return NULL;
        receive(c);
    }
}

static void expect_end(struct client *c)
{
    assert_null(hear(c));
}

/* "name" of the error, or "result"; the id as JSON text goes to `id`. */
static void expect(struct client *c, const char *id, const char *what)
{
    json_t *json = hear(c);
    assert_non_null(json);
    char *got_id = json_dumps(json_object_get(json, "id"), JSON_ENCODE_ANY);
    const json_t *error = json_object_get(json, "error");
    const char *name = json_string_value(json_object_get(json_object_get(error, "data"), "name"));
    assert_string_equal(got_id, id);
    assert_string_equal(error ? name : "result", what);
    if (error) {
        assert_true(json_is_integer(json_object_get(error, "code")));
        assert_true(json_string_length(json_object_get(error, "message")) > 0);
        assert_true(json_string_length(json_object_get(json_object_get(error, "data"), "hint")) > 0);
    }
    free(got_id);
    json_decref(json);
}

static struct client client_ready(void)
{
    struct client c = client_open();
    say(&c, "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{\"protocol\":1,"
            "\"client\":{\"name\":\"test\",\"version\":\"1\"}}}");
    expect(&c, "0", "result");
    return c;
}

static void expect_alive(struct client *c)
{
    say(c, "{\"jsonrpc\":\"2.0\",\"id\":\"alive\",\"method\":\"daemon/status\"}");
    expect(c, "\"alive\"", "result");
}

static int64_t number(const json_t *json, const char *name)
{
    return json_integer_value(json_object_get(json_object_get(json, "params"), name));
}

static const char *text(const json_t *json, const char *name)
{
    return json_string_value(json_object_get(json_object_get(json, "params"), name));
}

static bool is_method(const json_t *json, const char *method)
{
    const char *name = json_string_value(json_object_get(json, "method"));
    return name && strcmp(name, method) == 0;
}

static void subscribe(struct client *c, const char *params)
{
    CLEANUP(buf_free) struct buf b = {0};
    buf_printf(&b, "{\"jsonrpc\":\"2.0\",\"id\":\"sub\",\"method\":\"events/subscribe\",\"params\":%s}", params);
    say(c, b.p);
    expect(c, "\"sub\"", "result");
    run_dry();
}

static void expect_event(struct client *c, int64_t subscription, int64_t seq, int64_t pos)
{
    json_t *json = hear(c);
    assert_true(is_method(json, "event"));
    assert_int_equal(number(json, "subscription"), subscription);
    if (seq)
        assert_int_equal(number(json, "seq"), seq);
    if (pos)
        assert_int_equal(number(json, "pos"), pos);
    json_decref(json);
}

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
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/get\",\"params\":{\"task\":4}}", "1", "invalid_params"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/get\",\"params\":{\"task\":\"\"}}", "1", "invalid_params"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/get\",\"params\":{\"task\":\"x\",\"y\":1}}", "1",
         "invalid_params"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/get\",\"params\":{\"task\":\"x\\u0000y\"}}", "1",
         "invalid_params"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/steer\",\"params\":{\"task\":\"x\",\"text\":\"y\","
         "\"delivery\":\"soon\"}}",
         "1", "invalid_params"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\",\"params\":{\"protocol\":1,\"client\":{\"name\":\"a\","
         "\"version\":\"b\"}}}",
         "1", "invalid_request"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"events/subscribe\",\"params\":{\"task\":\"nobody\"}}", "1",
         "task_not_found"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"events/subscribe\",\"params\":{\"after_seq\":1}}", "1",
         "invalid_params"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"events/unsubscribe\",\"params\":{\"subscription\":9}}", "1",
         "subscription_unknown"},
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
    say(&c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/get\",\"params\":{\"task\":\"x\",\"colour\":1}}");
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
    say(&c, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"initialize\",\"params\":{\"protocol\":2,\"new\":true}}");
    expect(&c, "2", "protocol_unsupported");
    say(&c, "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"initialize\",\"params\":{\"protocol\":0}}");
    expect(&c, "3", "invalid_params");
    say(&c, "{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"initialize\",\"params\":{\"protocol\":1,\"client\":{\"name\":"
            "\"test\",\"version\":\"1\"}}}");
    json_t *json = hear(&c);
    const json_t *result = json_object_get(json, "result");
    assert_int_equal(json_integer_value(json_object_get(result, "protocol")), 1);
    assert_string_equal(json_string_value(json_object_get(result, "state_dir")), "/state");
    assert_string_equal(json_string_value(json_object_get(result, "role")), "owner");
    assert_true(json_is_array(json_object_get(result, "capabilities")));
    json_decref(json);
    expect_alive(&c);
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
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/steer\",\"params\":{\"task\":\"x\",\"text\":\"A\",\"key\":\"k\"}}",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"task/steer\",\"params\": {\"key\" :\"k\", \"text\":\"\\u0041\",\"task\":\"x\"}}",
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
    for (int i = 0; i < 3; i++)
        say(&c, "{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"task/get\",\"params\":{\"task\":\"x\"}}");
    while (fake_waiting() < 3)
        turn(-1, 0);
    client_close(&c);
    run_dry();
    fake_answer();
    run_dry();
    assert_int_equal(rpc_clients(w.rpc), 1);
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
    snprintf(address.sun_path, sizeof address.sun_path, "%s", w.path);
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
    char long_dir[120];
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
    subscribe(&c, "{}");                              /* 4 */
    subscribe(&c, "{\"task\":\"" TASK_A "\"}");       /* 5 */
    fake_commit(TASK_A, EVENT_NOTICE, 10);
    fake_publish(w.rpc);
    expect_event(&c, 1, 4, 23);
    expect_event(&c, 2, 4, 23);
    expect_event(&c, 4, 4, 23);
    expect_event(&c, 5, 4, 23);
    say(&c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"events/unsubscribe\",\"params\":{\"subscription\":2}}");
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
        buf_printf(&params, "{\"jsonrpc\":\"2.0\",\"id\":\"sub\",\"method\":\"events/subscribe\",\"params\":{\"task\":\"%s\","
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

static void test_subscription_waits_for_its_task(void **state)
{
    (void)state;
    start();
    struct client c = client_ready();
    fake_unsettle();
    say(&c, "{\"jsonrpc\":\"2.0\",\"id\":\"sub\",\"method\":\"events/subscribe\",\"params\":{\"task\":\"" TASK_A
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

/* The slow reader: while it does not read, the daemon holds no more than its bound; when it does, it misses nothing. */
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
    assert_true(rpc_queued(w.rpc) <= 3 * (size_t)w.config.limits.client_queue_bytes_max);

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

/* What was said before an item's event is published never comes after it, even if nobody has ended the live text. */
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
    assert_true(rpc_queued(w.rpc) <= 3 * (size_t)w.config.limits.client_queue_bytes_max);
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

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_errors_of_every_kind),
        TEST(test_unknown_member_is_named),
        TEST(test_initialize_comes_first),
        TEST(test_ids_come_back_as_sent),
        TEST(test_notifications_are_not_answered),
        TEST(test_frames),
        TEST(test_keyed_params_are_canonical),
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
        TEST(test_subscriptions_from_every_point),
        TEST(test_subscriptions_are_bounded),
        TEST(test_no_event_is_lost_or_doubled_at_the_switch),
        TEST(test_subscription_waits_for_its_task),
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
