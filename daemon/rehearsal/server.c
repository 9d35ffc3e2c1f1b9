#include "server.h"

#include "daemon/base/clock.h"
#include "daemon/base/json.h"
#include "daemon/base/list.h"
#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"
#include "daemon/rehearsal/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES 65536

struct server {
    struct server_options options;
    uv_tcp_t tcp;
    struct list connections;
    size_t connections_n;
    int64_t requests;
    char read_bytes[READ_BYTES]; /* libuv reads and delivers at once: all connections share it */
};

/*
 *   READING --request--> REPLYING --sent, keep-alive--> READING
 *      |                    |  \--sent, close---> closed
 *      |                    \--client gone--> closed
 *      \--not HTTP--> REPLYING (last) --sent--> LINGERING --end of input, time--> closed
 */
enum connection_state { CONNECTION_READING, CONNECTION_REPLYING, CONNECTION_LINGERING, CONNECTION_CLOSED };

struct connection {
    struct list node;
    struct server *server;
    enum connection_state state;
    uv_tcp_t tcp;
    uv_timer_t timer;
    int handles; /* not closed yet */

    struct http_parser parser;
    struct buf pending; /* received while replying */
    bool paused;        /* reading is stopped: pending is full */
    bool taking;        /* input_take() is at work */

    int64_t number; /* of the request */
    struct reply reply;
    bool last; /* the connection ends with this reply */
    bool linger;
    bool head_sent, chunked;
    size_t sent;       /* bytes of the reply's body */
    size_t pause_next; /* index */
    struct buf out;    /* being written */
    uv_write_t write;
};

static void reply_continue(struct connection *c);
static void input_take(struct connection *c);

/* Log */

static void put_time(struct buf *b)
{
    struct timespec ts;
    char text[CLOCK_TEXT_SIZE];
    clock_gettime(CLOCK_REALTIME, &ts);
    clock_format((int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000, text);
    buf_printf(b, "\"at\":\"%s\"", text);
}

static void put_text(struct buf *b, struct str text)
{
    CLEANUP(buf_free) struct buf valid = {0};
    utf8_put_valid(&valid, text, false);
    json_put_string(b, buf_view(&valid));
}

static bool is_secret(struct str name)
{
    static const char *const secrets[] = {"authorization", "proxy-authorization", "x-api-key", "api-key",
                                          "cookie"};
    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++)
        if (name.n == strlen(secrets[i]) && strncasecmp(name.p, secrets[i], name.n) == 0)
            return true;
    return false;
}

static void put_fields(struct buf *b, const struct http_parser *p)
{
    buf_putc(b, '{');
    for (size_t i = 0; i < p->fields_n; i++) {
        if (i > 0)
            buf_putc(b, ',');
        put_text(b, p->fields[i].name);
        buf_putc(b, ':');
        put_text(b, is_secret(p->fields[i].name) ? STR("(hidden)") : p->fields[i].value);
    }
    buf_putc(b, '}');
}

static void log_line(const struct server *s, const struct buf *line)
{
    if (fwrite(line->p, 1, line->n, s->options.log) != line->n || fflush(s->options.log) != 0)
        fprintf(stderr, "agentd-rehearsal: cannot write the log: %s\n", strerror(errno));
}

static void log_request(const struct connection *c)
{
    if (!c->server->options.log)
        return;
    CLEANUP(buf_free) struct buf b = {0};
    const struct reply *r = &c->reply;
    buf_puts(&b, "{\"event\":\"request\",");
    put_time(&b);
    buf_printf(&b, ",\"number\":%lld,\"wire\":", (long long)c->number);
    buf_printf(&b, r->wire ? "\"%s\"" : "null", r->wire);
    buf_puts(&b, ",\"method\":");
    put_text(&b, c->parser.method);
    buf_puts(&b, ",\"path\":");
    put_text(&b, c->parser.path);
    buf_puts(&b, ",\"step\":");
    buf_printf(&b, r->step >= 0 ? "%lld" : "null", (long long)r->step);
    buf_printf(&b, ",\"status\":%d,\"fault\":", r->status);
    buf_printf(&b, r->fault ? "\"%s\"" : "null", r->fault);
    buf_printf(&b, ",\"request_bytes\":%zu,\"response_bytes\":%zu,\"headers\":", c->parser.body.n, r->body.n);
    put_fields(&b, &c->parser);
    buf_puts(&b, "}\n");
    log_line(c->server, &b);
}

static void log_gone(const struct connection *c)
{
    if (!c->server->options.log)
        return;
    CLEANUP(buf_free) struct buf b = {0};
    buf_puts(&b, "{\"event\":\"client_gone\",");
    put_time(&b);
    buf_printf(&b, ",\"number\":%lld,\"sent_bytes\":%zu}\n", (long long)c->number, c->sent);
    log_line(c->server, &b);
}

static void body_keep(const struct connection *c)
{
    if (!c->server->options.bodies)
        return;
    CLEANUP(buf_free) struct buf path = {0};
    buf_printf(&path, "%s/%06lld.json", c->server->options.bodies, (long long)c->number);
    int fd = open(buf_cstr(&path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    size_t done = 0;
    ssize_t n = fd < 0 ? -1 : 0;
    while (n >= 0 && done < c->parser.body.n) {
        n = write(fd, c->parser.body.p + done, c->parser.body.n - done);
        done += n > 0 ? (size_t)n : 0;
    }
    if (n < 0)
        fprintf(stderr, "agentd-rehearsal: cannot write %s: %s\n", buf_cstr(&path), strerror(errno));
    if (fd >= 0)
        close(fd);
}

/* The end of a connection */

static void connection_closed_cb(uv_handle_t *handle)
{
    struct connection *c = handle->data;
    if (--c->handles > 0)
        return;
    http_parser_free(&c->parser);
    buf_free(&c->pending);
    buf_free(&c->out);
    reply_free(&c->reply);
    c->server->connections_n--;
    list_remove(&c->node);
    mem_free(c);
}

static void connection_close(struct connection *c)
{
    if (c->state == CONNECTION_CLOSED)
        return;
    c->state = CONNECTION_CLOSED;
    uv_close((uv_handle_t *)&c->tcp, connection_closed_cb);
    uv_close((uv_handle_t *)&c->timer, connection_closed_cb);
}

static void timer_close_cb(uv_timer_t *timer)
{
    connection_close(timer->data);
}

static void connection_gone(struct connection *c)
{
    if (c->state == CONNECTION_REPLYING)
        log_gone(c);
    connection_close(c);
}

/* Writing */

static void reply_end(struct connection *c)
{
    reply_free(&c->reply);
    reply_init(&c->reply);
    http_parser_reset(&c->parser);
    if (c->linger) {
        /* Closing with unread input would reset the connection, and the client would never see the reply. */
        c->state = CONNECTION_LINGERING;
        uv_os_fd_t fd;
        if (uv_fileno((uv_handle_t *)&c->tcp, &fd) == 0)
            shutdown(fd, SHUT_WR);
        uv_timer_start(&c->timer, timer_close_cb, SERVER_LINGER_MS, 0);
    } else if (c->last) {
        connection_close(c);
    } else {
        c->state = CONNECTION_READING;
        uv_timer_start(&c->timer, timer_close_cb, SERVER_IDLE_MS, 0);
    }
}

static void put_head(struct connection *c)
{
    const struct reply *r = &c->reply;
    bool stream = strncmp(r->content_type, "text/event-stream", 17) == 0;
    c->chunked = c->parser.minor > 0 && (stream || r->cut);
    c->last = c->last || r->cut || !c->parser.keep_alive || (!c->chunked && stream);
    buf_printf(&c->out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\n", r->status, http_reason(r->status),
               r->content_type);
    if (r->retry_after_s >= 0)
        buf_printf(&c->out, "Retry-After: %lld\r\n", (long long)r->retry_after_s);
    if (c->chunked)
        buf_puts(&c->out, "Transfer-Encoding: chunked\r\n");
    else if (!stream && !r->cut)
        buf_printf(&c->out, "Content-Length: %zu\r\n", r->body.n);
    buf_printf(&c->out, "X-Request-Id: rehearsal-%lld\r\n", (long long)c->number);
    buf_puts(&c->out, c->last ? "Connection: close\r\n\r\n" : "\r\n");
}

static void put_segment(struct connection *c)
{
    const struct reply *r = &c->reply;
    size_t end = c->pause_next < r->pauses_n ? r->pauses[c->pause_next].at : r->body.n;
    if (!c->head_sent)
        put_head(c);
    c->head_sent = true;
    if (end > c->sent && c->chunked)
        buf_printf(&c->out, "%zx\r\n", end - c->sent);
    buf_put(&c->out, r->body.p + c->sent, end - c->sent);
    if (end > c->sent && c->chunked)
        buf_puts(&c->out, "\r\n");
    c->sent = end;
    if (c->pause_next == r->pauses_n && c->chunked && !r->cut)
        buf_puts(&c->out, "0\r\n\r\n");
}

static void write_cb(uv_write_t *write, int status)
{
    struct connection *c = write->data;
    buf_clear(&c->out);
    if (c->state == CONNECTION_CLOSED)
        return;
    if (status < 0)
        connection_gone(c);
    else
        reply_continue(c);
}

/* 0: written; 1: write_cb() goes on; -1: the client has gone. */
static int out_write(struct connection *c)
{
    uv_buf_t buf = uv_buf_init(c->out.p, (unsigned)c->out.n);
    int n = uv_try_write((uv_stream_t *)&c->tcp, &buf, 1);
    if (n == (int)c->out.n) {
        buf_clear(&c->out);
        return 0;
    }
    if (n < 0 && n != UV_EAGAIN)
        return -1;
    buf_consume(&c->out, n > 0 ? (size_t)n : 0);
    buf = uv_buf_init(c->out.p, (unsigned)c->out.n);
    c->write.data = c;
    return uv_write(&c->write, (uv_stream_t *)&c->tcp, &buf, 1, write_cb) < 0 ? -1 : 1;
}

static void pause_over_cb(uv_timer_t *timer)
{
    reply_continue(timer->data);
}

/* Goes on from wherever the reply stands. */
static void reply_continue(struct connection *c)
{
    struct reply *r = &c->reply;
    for (;;) {
        if (c->head_sent && c->pause_next < r->pauses_n) {
            uv_timer_start(&c->timer, pause_over_cb, (uint64_t)r->pauses[c->pause_next++].ms, 0);
            return;
        }
        if (c->head_sent && c->sent == r->body.n)
            break;
        put_segment(c);
        int rc = out_write(c);
        if (rc < 0)
            connection_gone(c);
        if (rc != 0)
            return;
    }
    reply_end(c);
    input_take(c);
}

static void reply_begin(struct connection *c)
{
    c->state = CONNECTION_REPLYING;
    c->head_sent = false;
    c->sent = c->pause_next = 0;
    uv_timer_stop(&c->timer);
    if (c->reply.delay_ms > 0)
        uv_timer_start(&c->timer, pause_over_cb, (uint64_t)c->reply.delay_ms, 0);
    else
        reply_continue(c);
}

/* Reading */

static void request_take(struct connection *c)
{
    c->number = ++c->server->requests;
    body_keep(c);
    player_reply(&c->server->options.player, c->parser.method, c->parser.path, buf_view(&c->parser.body),
                 time(NULL), &c->reply);
    log_request(c);
    reply_begin(c);
}

static void request_refuse(struct connection *c, int status)
{
    c->number = ++c->server->requests;
    wire_put_error(&c->reply, status, NULL, str_of(c->parser.error));
    c->reply.fault = "http";
    c->parser.method = c->parser.path = STR("");
    c->parser.fields_n = 0;
    c->parser.minor = 1;
    c->last = c->linger = true;
    log_request(c);
    reply_begin(c);
}

static void continue_put(struct connection *c)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)text, sizeof text - 1);
    c->parser.wants_continue = false;
    /* The socket is empty before the first reply byte: this fits, or the client has gone and the next read
     * says so. */
    uv_try_write((uv_stream_t *)&c->tcp, &buf, 1);
}

/* Returns the number of bytes that were taken: all, but where a request ends before them. */
static size_t bytes_take(struct connection *c, const char *data, size_t n)
{
    size_t used;
    int rc = http_parser_feed(&c->parser, data, n, &used);
    if (rc < 0) {
        request_refuse(c, -rc);
        return n;
    }
    if (rc > 0)
        request_take(c);
    else if (c->parser.wants_continue)
        continue_put(c);
    return used;
}

static void pending_add(struct connection *c, const char *data, size_t n)
{
    buf_put(&c->pending, data, n);
    if (c->pending.n > SERVER_PENDING_BYTES_MAX && !c->paused) {
        c->paused = true;
        uv_read_stop((uv_stream_t *)&c->tcp);
    }
}

static void alloc_cb(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
    (void)suggested;
    struct connection *c = handle->data;
    *ret = uv_buf_init(c->server->read_bytes, READ_BYTES);
}

static void read_cb(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct connection *c = stream->data;
    if (n < 0) {
        connection_gone(c);
        return;
    }
    if (c->state == CONNECTION_LINGERING || n == 0)
        return;
    if (c->state == CONNECTION_READING)
        uv_timer_start(&c->timer, timer_close_cb, SERVER_IDLE_MS, 0);
    size_t used = 0;
    if (c->state == CONNECTION_READING && c->pending.n == 0)
        used = bytes_take(c, buf->base, (size_t)n);
    if (c->state == CONNECTION_CLOSED || used == (size_t)n)
        return;
    pending_add(c, buf->base + used, (size_t)n - used);
    input_take(c);
}

/* Pipelined requests: those that came while a reply was being sent are taken one after the other. */
static void input_take(struct connection *c)
{
    if (c->taking) /* below on the stack: a reply that was sent at once */
        return;
    c->taking = true;
    while (c->state == CONNECTION_READING && c->pending.n > 0)
        buf_consume(&c->pending, bytes_take(c, c->pending.p, c->pending.n));
    c->taking = false;
    if (c->state != CONNECTION_CLOSED && c->paused && c->pending.n <= SERVER_PENDING_BYTES_MAX) {
        c->paused = false;
        uv_read_start((uv_stream_t *)&c->tcp, alloc_cb, read_cb);
    }
}

static void connection_cb(uv_stream_t *stream, int status)
{
    struct server *s = stream->data;
    if (status < 0)
        return;
    struct connection *c = MEM_NEW(struct connection);
    c->server = s;
    c->handles = 2;
    c->tcp.data = c->timer.data = c;
    reply_init(&c->reply);
    uv_tcp_init(s->tcp.loop, &c->tcp);
    uv_timer_init(s->tcp.loop, &c->timer);
    list_append(&s->connections, &c->node);
    s->connections_n++;
    if (uv_accept(stream, (uv_stream_t *)&c->tcp) < 0 || s->connections_n > SERVER_CONNECTIONS_MAX) {
        connection_close(c);
        return;
    }
    uv_tcp_nodelay(&c->tcp, 1);
    uv_timer_start(&c->timer, timer_close_cb, SERVER_IDLE_MS, 0);
    uv_read_start((uv_stream_t *)&c->tcp, alloc_cb, read_cb);
}

/* The server */

static int listen_on(struct server *s, int *ret_port)
{
    struct sockaddr_storage bound;
    int n = sizeof bound;
    int rc = uv_tcp_bind(&s->tcp, (const struct sockaddr *)&s->options.address, 0);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&s->tcp, 1024, connection_cb);
    if (rc == 0)
        rc = uv_tcp_getsockname(&s->tcp, (struct sockaddr *)&bound, &n);
    if (rc == 0)
        *ret_port = ntohs(bound.ss_family == AF_INET ? ((struct sockaddr_in *)&bound)->sin_port
                                                     : ((struct sockaddr_in6 *)&bound)->sin6_port);
    return rc;
}

int server_new(uv_loop_t *loop, const struct server_options *options, struct server **ret, int *ret_port)
{
    struct server *s = MEM_NEW(struct server);
    s->options = *options;
    list_init(&s->connections);
    uv_tcp_init(loop, &s->tcp);
    s->tcp.data = s;
    *ret = s;
    return listen_on(s, ret_port);
}

void server_close(struct server *s)
{
    struct connection *c;
    LIST_EACH(c, &s->connections, struct connection, node)
    connection_close(c);
    if (!uv_is_closing((uv_handle_t *)&s->tcp))
        uv_close((uv_handle_t *)&s->tcp, NULL);
}

void server_free(struct server *s)
{
    mem_free(s);
}
