#include "rpc_box.h"

#include "daemon/rpc/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define WAIT_MS 20000

struct box w;

int set_up(void **state)
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

void start(void)
{
    CLEANUP(buf_free) struct buf error = {0};
    int rc = rpc_new(&w.d, w.path, -1, &w.rpc, &error);
    if (rc != 0)
        fail_msg("%s", buf_cstr(&error));
    w.d.rpc = w.rpc;
}

int tear_down(void **state)
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

size_t queued(void)
{
    size_t n = 0;
    for (const struct list *node = w.rpc->conns.next; node != &w.rpc->conns; node = node->next)
        n += conn_queued(LIST_ENTRY(node, const struct conn, node));
    return n;
}

/* ---- a client ---- */

struct client client_open(void)
{
    struct client c = {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    assert_true(strlen(w.path) < sizeof address.sun_path);
    memcpy(address.sun_path, w.path, strlen(w.path) + 1);
    assert_int_equal(connect(c.fd, (struct sockaddr *)&address, sizeof address), 0);
    fcntl(c.fd, F_SETFL, O_NONBLOCK);
    return c;
}

void client_close(struct client *c)
{
    close(c->fd);
    buf_free(&c->in);
}

/* One turn of the loop, waiting for whatever comes first. `fd` may be -1. */
void turn(int fd, short events)
{
    struct pollfd p[] = {{uv_backend_fd(&w.loop), POLLIN, 0}, {fd, events, 0}};
    if (uv_backend_timeout(&w.loop) != 0 && poll(p, 2, WAIT_MS) == 0)
        fail_msg("nothing happened");
    uv_run(&w.loop, UV_RUN_NOWAIT);
}

/* All that the loop has to do now, without waiting. */
void run_dry(void)
{
    struct pollfd p = {uv_backend_fd(&w.loop), POLLIN, 0};
    do
        uv_run(&w.loop, UV_RUN_NOWAIT);
    while (uv_backend_timeout(&w.loop) == 0 || poll(&p, 1, 0) > 0);
}

void send_bytes(struct client *c, struct str bytes)
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

void say(struct client *c, const char *text)
{
    send_bytes(c, str_of(text));
    send_bytes(c, STR("\n"));
}

void receive(struct client *c)
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
json_t *hear(struct client *c)
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

void expect_end(struct client *c)
{
    assert_null(hear(c));
}

/* "name" of the error, or "result"; the id as JSON text goes to `id`. */
void expect(struct client *c, const char *id, const char *what)
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

struct client client_ready(void)
{
    struct client c = client_open();
    say(&c, "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{\"protocol\":1,"
            "\"client\":{\"name\":\"test\",\"version\":\"1\"}}}");
    expect(&c, "0", "result");
    return c;
}

void expect_alive(struct client *c)
{
    say(c, "{\"jsonrpc\":\"2.0\",\"id\":\"alive\",\"method\":\"daemon/status\"}");
    expect(c, "\"alive\"", "result");
}

int64_t number(const json_t *json, const char *name)
{
    return json_integer_value(json_object_get(json_object_get(json, "params"), name));
}

const char *text(const json_t *json, const char *name)
{
    return json_string_value(json_object_get(json_object_get(json, "params"), name));
}

bool is_method(const json_t *json, const char *method)
{
    const char *name = json_string_value(json_object_get(json, "method"));
    return name && strcmp(name, method) == 0;
}

void subscribe(struct client *c, const char *params)
{
    CLEANUP(buf_free) struct buf b = {0};
    buf_printf(&b, "{\"jsonrpc\":\"2.0\",\"id\":\"sub\",\"method\":\"events/subscribe\",\"params\":%s}",
               params);
    say(c, b.p);
    expect(c, "\"sub\"", "result");
    run_dry();
}

void expect_event(struct client *c, int64_t subscription, int64_t seq, int64_t pos)
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
