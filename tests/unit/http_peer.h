/* A small HTTP server on the test's own loop: answers each request with the next bytes of a script. */
#pragma once
#include "daemon/base/buf.h"
#include "daemon/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <uv.h>

enum peer_then {
    PEER_KEEP,
    PEER_CLOSE,
    PEER_PING
}; /* what follows the bytes: nothing, the end, comments for ever */

struct peer_answer {
    struct str bytes;
    enum peer_then then;
};

struct peer {
    uv_tcp_t server;
    uv_loop_t *loop;
    char url[64];
    const struct peer_answer *answers; /* the last one is repeated */
    size_t answers_n;
    size_t requests, connections, closed, open, open_most;
    struct buf request; /* the last one, whole */
};

struct peer_connection {
    uv_tcp_t tcp;
    uv_timer_t ping;
    struct peer *peer;
    struct buf in;
    int handles;
};

struct peer_write {
    uv_write_t write;
    char *bytes;
    struct peer_connection *c;
    enum peer_then then;
};

static void peer_on_closed_cb(uv_handle_t *handle)
{
    struct peer_connection *c = handle->data;
    if (--c->handles > 0)
        return;
    buf_free(&c->in);
    mem_free(c);
}

static void peer_close(struct peer_connection *c)
{
    if (uv_is_closing((uv_handle_t *)&c->tcp))
        return;
    c->peer->open--;
    uv_close((uv_handle_t *)&c->tcp, peer_on_closed_cb);
    uv_close((uv_handle_t *)&c->ping, peer_on_closed_cb);
}

static void peer_on_alloc_cb(uv_handle_t *handle, size_t size, uv_buf_t *ret)
{
    static char bytes[65536];
    (void)handle;
    (void)size;
    *ret = uv_buf_init(bytes, sizeof bytes);
}

static void peer_on_written_cb(uv_write_t *write, int status)
{
    struct peer_write *w = (struct peer_write *)(void *)write;
    if (status == 0 && w->then == PEER_CLOSE)
        peer_close(w->c);
    mem_free(w->bytes);
    mem_free(w);
}

static void peer_write(struct peer_connection *c, struct str bytes, enum peer_then then)
{
    struct peer_write *w = MEM_NEW(struct peer_write);
    w->bytes = mem_dup(bytes.p, bytes.n);
    w->c = c;
    w->then = then;
    uv_buf_t b = uv_buf_init(w->bytes, (unsigned)bytes.n);
    uv_write(&w->write, (uv_stream_t *)&c->tcp, &b, 1, peer_on_written_cb);
}

static void peer_on_ping_cb(uv_timer_t *timer)
{
    peer_write(timer->data, STR("6\r\n: x\n\n\n\r\n"), PEER_KEEP);
}

static void peer_answer(struct peer_connection *c)
{
    struct peer *peer = c->peer;
    size_t i = peer->requests < peer->answers_n ? peer->requests : peer->answers_n - 1;
    peer->requests++;
    uv_stop(peer->loop);
    peer_write(c, peer->answers[i].bytes, peer->answers[i].then);
    if (peer->answers[i].then == PEER_PING)
        uv_timer_start(&c->ping, peer_on_ping_cb, 5, 5);
}

/* Takes whole requests off what was read. */
static void peer_parse(struct peer_connection *c)
{
    const char *end = strstr(buf_cstr(&c->in), "\r\n\r\n");
    const char *length = end ? strcasestr(c->in.p, "content-length:") : NULL;
    size_t total = end ? (size_t)(end + 4 - c->in.p) + (length ? strtoul(length + 15, NULL, 10) : 0) : 0;
    if (!end || c->in.n < total)
        return;
    buf_clear(&c->peer->request);
    buf_put(&c->peer->request, c->in.p, total);
    buf_consume(&c->in, total);
    peer_answer(c);
}

static void peer_on_read_cb(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes)
{
    struct peer_connection *c = stream->data;
    if (n < 0) {
        c->peer->closed++;
        uv_stop(c->peer->loop);
        peer_close(c);
        return;
    }
    buf_put(&c->in, bytes->base, (size_t)n);
    peer_parse(c);
}

static void peer_on_connection_cb(uv_stream_t *server, int status)
{
    struct peer *peer = server->data;
    struct peer_connection *c = MEM_NEW(struct peer_connection);
    (void)status;
    c->peer = peer;
    c->handles = 2;
    uv_tcp_init(peer->loop, &c->tcp);
    uv_timer_init(peer->loop, &c->ping);
    c->tcp.data = c->ping.data = c;
    uv_accept(server, (uv_stream_t *)&c->tcp);
    uv_read_start((uv_stream_t *)&c->tcp, peer_on_alloc_cb, peer_on_read_cb);
    peer->connections++;
    if (++peer->open > peer->open_most)
        peer->open_most = peer->open;
}

static void peer_open(struct peer *peer, uv_loop_t *loop)
{
    struct sockaddr_in address;
    struct sockaddr_storage name;
    int n = sizeof name;
    *peer = (struct peer){.loop = loop};
    uv_ip4_addr("127.0.0.1", 0, &address);
    uv_tcp_init(loop, &peer->server);
    peer->server.data = peer;
    uv_tcp_bind(&peer->server, (const struct sockaddr *)&address, 0);
    uv_listen((uv_stream_t *)&peer->server, 512, peer_on_connection_cb);
    uv_tcp_getsockname(&peer->server, (struct sockaddr *)&name, &n);
    snprintf(peer->url, sizeof peer->url, "http://127.0.0.1:%d/v1",
             ntohs(((struct sockaddr_in *)(void *)&name)->sin_port));
}

/* The connections are closed by the other side. */
static void peer_shut(struct peer *peer)
{
    if (!uv_is_closing((uv_handle_t *)&peer->server))
        uv_close((uv_handle_t *)&peer->server, NULL);
    buf_free(&peer->request);
}
