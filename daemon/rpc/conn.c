/* A connection: bytes in, bytes out, and its end. What a message means is request.c's. */
#include "server.h"

#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/rpc/request.h"
#include "daemon/rpc/subscription.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define KEEP_BYTES 16384 /* an idle connection holds no bigger buffers */

static void on_closed(uv_handle_t *handle)
{
    struct conn *c = handle->data;
    struct rpc *r = c->rpc;
    frame_free(&c->frames);
    buf_free(&c->out);
    buf_free(&c->sending);
    mem_free(c->client);
    mem_free(c);
    rpc_unref(r);
}

void conn_close(struct conn *c)
{
    if (c->closing)
        return;
    c->closing = true;
    requests_abandon(c);
    subscriptions_end(c);
    list_remove(&c->node);
    list_remove(&c->dirty_node);
    c->rpc->conns_n--;
    uv_close((uv_handle_t *)&c->pipe, on_closed);
}

void conn_touch(struct conn *c)
{
    if (c->closing)
        return;
    list_remove(&c->dirty_node);
    list_append(&c->rpc->dirty, &c->dirty_node);
    rpc_wake(c->rpc);
}

size_t conn_queued(const struct conn *c)
{
    return c->out.n + (c->writing ? uv_stream_get_write_queue_size((const uv_stream_t *)&c->pipe) : 0);
}

bool conn_has_room(const struct conn *c)
{
    return conn_queued(c) < (size_t)c->rpc->d->config->limits.client_queue_bytes_max / 4;
}

/* ---- out ---- */

static void trim(struct buf *b)
{
    if (b->cap > KEEP_BYTES)
        buf_free(b);
    else
        buf_clear(b);
}

static void on_written(uv_write_t *write, int status)
{
    struct conn *c = write->data;
    c->writing = false;
    trim(&c->sending);
    if (status < 0)
        conn_close(c);
    else
        conn_touch(c);
}

/* Most of the time the socket takes it all at once. */
void conn_flush(struct conn *c)
{
    if (c->writing || c->out.n == 0)
        return;
    uv_buf_t bytes = uv_buf_init(c->out.p, (unsigned)c->out.n);
    int n = uv_try_write((uv_stream_t *)&c->pipe, &bytes, 1);
    if (n < 0 && n != UV_EAGAIN) {
        conn_close(c);
        return;
    }
    size_t sent = n > 0 ? (size_t)n : 0;
    if (sent == c->out.n) {
        trim(&c->out);
        return;
    }
    struct buf empty = c->sending;
    c->sending = c->out;
    c->out = empty;
    bytes = uv_buf_init(c->sending.p + sent, (unsigned)(c->sending.n - sent));
    c->writing = true;
    if (uv_write(&c->write, (uv_stream_t *)&c->pipe, &bytes, 1, on_written) < 0) {
        c->writing = false;
        conn_close(c);
    }
}

/* ---- in ---- */

/* Waiting in the socket loses nothing, so a client that asks faster than it reads is slowed down rather than
 * refused. */
static bool must_wait(const struct conn *c)
{
    const struct limits *limits = &c->rpc->d->config->limits;
    return conn_queued(c) + c->calls_bytes >= (size_t)limits->client_queue_bytes_max ||
           c->calls_n >= (size_t)limits->client_requests_max;
}

static void take_messages(struct conn *c)
{
    while (!c->closing && !(c->waiting = must_wait(c))) {
        struct str message;
        switch (frame_next(&c->frames, &message)) {
        case FRAME_NONE:
            return;
        case FRAME_MESSAGE:
            request_take(c, message);
            break;
        case FRAME_TOO_LARGE:
            request_too_large(c);
            break;
        }
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
    struct conn *c = handle->data;
    (void)suggested;
    *ret = uv_buf_init(c->rpc->read_buffer, READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes)
{
    struct conn *c = stream->data;
    if (n == UV_EOF) {
        c->eof = true;
        c->reading = false;
        uv_read_stop(stream);
        conn_touch(c);
    } else if (n < 0) {
        conn_close(c);
    } else if (n > 0) {
        frame_feed(&c->frames, str_n(bytes->base, (size_t)n));
        take_messages(c);
        conn_touch(c);
    }
}

static void read_on_or_stop(struct conn *c)
{
    if (c->waiting && c->reading) {
        c->reading = false;
        uv_read_stop((uv_stream_t *)&c->pipe);
    } else if (!c->waiting && !c->reading && !c->eof) {
        c->reading = uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read) == 0;
        if (!c->reading)
            conn_close(c);
    }
}

/* A client that sent its end gets what it asked for; then nothing more, its subscriptions end. */
static bool finished(const struct conn *c)
{
    return c->eof && !c->waiting && c->calls_n == 0 && conn_queued(c) == 0;
}

void conn_service(struct conn *c)
{
    conn_flush(c);
    if (c->waiting)
        take_messages(c);
    if (c->eof && !c->waiting && frame_cut(&c->frames))
        request_cut(c);
    if (!c->closing)
        subscriptions_feed(c);
    if (!c->closing)
        conn_flush(c);
    if (c->closing)
        return;
    read_on_or_stop(c);
    if (!c->closing && finished(c))
        conn_close(c);
    else if (!c->closing && ((c->waiting && !must_wait(c)) || subscriptions_hungry(c)))
        conn_touch(c);
}

/* ---- beginning ---- */

static struct conn *conn_new(struct rpc *r)
{
    struct conn *c = MEM_NEW(struct conn);
    c->rpc = r;
    c->role = ROLE_OWNER;
    frame_init(&c->frames, (size_t)r->d->config->limits.frame_bytes_max);
    list_init(&c->dirty_node);
    list_init(&c->calls);
    list_init(&c->subscriptions);
    uv_pipe_init(r->d->loop, &c->pipe, 0);
    c->pipe.data = c->write.data = c;
    list_append(&r->conns, &c->node);
    r->conns_n++;
    r->handles_n++;
    return c;
}

static bool same_user(const struct conn *c)
{
    struct ucred peer;
    socklen_t n = sizeof peer;
    uv_os_fd_t fd;
    return uv_fileno((const uv_handle_t *)&c->pipe, &fd) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && peer.uid == geteuid();
}

void conn_accept(struct rpc *r)
{
    struct conn *c = conn_new(r);
    if (uv_accept((uv_stream_t *)r->listener.pipe, (uv_stream_t *)&c->pipe) < 0) {
        conn_close(c);
        return;
    }
    enum rpc_error refusal = RPC_OK;
    if (!same_user(c))
        refusal = RPC_FORBIDDEN;
    else if (r->conns_n > (size_t)r->d->config->limits.clients_max)
        refusal = RPC_LIMIT_REACHED;
    if (refusal == RPC_OK) {
        read_on_or_stop(c);
        return;
    }
    request_refuse_client(c, refusal);
    conn_flush(c);
    conn_close(c);
}
