#include "daemon/model/http.h"

#include "daemon/base/list.h"
#include "daemon/base/mem.h"
#include "daemon/model/curl_api.h"

#include <sodium.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#define DRAIN_MS 1000         /* how long the end of an answer may take after its last event */
#define DRAIN_BYTES_MAX 65536 /* and how much may still come */
#define READ_BYTES 4096       /* libcurl's buffer of a call; a thousand streams must be affordable */
#define UPLOAD_BYTES 32768
#define IDLE_CONNECTIONS_MAX 64L

struct http {
    uv_loop_t *loop;
    CURLM *multi;
    uv_timer_t timer, drain_timer;
    size_t handles; /* of libuv that are not closed yet */
    struct list polls, calls, draining;
    struct list ready; /* calls that have something to hand over */
    bool closing;
};

/* A socket of libcurl. */
struct poll {
    struct list node;
    struct http *h;
    uv_poll_t poll;
    curl_socket_t socket;
};

struct http_call {
    struct list node;  /* in calls or draining */
    struct list ready; /* in ready */
    struct http *h;
    CURL *easy;
    struct curl_slist *headers;
    const struct http_callbacks *callbacks;
    void *arg;
    struct http_head head;
    struct buf in; /* bytes to hand over */
    size_t body_bytes;
    int64_t bytes, bytes_max;
    bool ended, too_large, draining;
    bool busy, closed; /* in a callback; closed meanwhile */
    uint64_t drain_until_ms;
    CURLcode code;
    char error[CURL_ERROR_SIZE];
};

/* ---- calls ---- */

/* Takes it off libcurl. The headers hold the key. */
static void call_detach(struct http_call *call)
{
    list_remove(&call->node);
    list_remove(&call->ready);
    if (call->easy) {
        curl_api.multi_remove_handle(call->h->multi, call->easy);
        curl_api.easy_cleanup(call->easy);
        call->easy = NULL;
    }
    for (struct curl_slist *it = call->headers; it; it = it->next)
        sodium_memzero(it->data, strlen(it->data));
    curl_api.slist_free_all(call->headers);
    call->headers = NULL;
}

static void call_free(struct http_call *call)
{
    call_detach(call);
    buf_free(&call->in);
    mem_free(call);
}

void http_call_close(struct http_call *call)
{
    call_detach(call);
    call->closed = true;
    if (!call->busy)
        call_free(call);
}

static void on_drain_timer_cb(uv_timer_t *timer)
{
    struct http *h = timer->data;
    struct http_call *call;
    LIST_EACH(call, &h->draining, struct http_call, node)
    {
        uint64_t now = uv_now(h->loop);
        if (call->drain_until_ms > now) {
            uv_timer_start(timer, on_drain_timer_cb, call->drain_until_ms - now, 0);
            return;
        }
        http_call_close(call);
    }
}

void http_call_drain(struct http_call *call)
{
    struct http *h = call->h;
    curl_off_t sent = 0;
    bool uploaded = call->easy &&
                    curl_api.easy_getinfo(call->easy, CURLINFO_SIZE_UPLOAD_T, &sent) == CURLE_OK &&
                    sent == (curl_off_t)call->body_bytes;
    if (call->ended || !uploaded) {
        http_call_close(call);
        return;
    }
    buf_free(&call->in);
    call->bytes = 0;
    call->draining = true;
    call->drain_until_ms = uv_now(h->loop) + DRAIN_MS;
    list_remove(&call->node);
    list_append(&h->draining, &call->node);
    if (!uv_is_active((uv_handle_t *)&h->drain_timer))
        uv_timer_start(&h->drain_timer, on_drain_timer_cb, DRAIN_MS, 0);
}

const struct http_head *http_call_head(const struct http_call *call)
{
    return &call->head;
}

/* ---- what libcurl calls ---- */

static void call_ready(struct http_call *call)
{
    list_remove(&call->ready);
    list_append(&call->h->ready, &call->ready);
}

static size_t on_write_cb(char *p, size_t size, size_t n, void *arg)
{
    struct http_call *call = arg;
    n *= size;
    call->bytes += (int64_t)n;
    if (call->draining)
        return call->bytes > DRAIN_BYTES_MAX ? 0 : n;
    if (call->bytes > call->bytes_max) {
        call->too_large = true;
        return 0; /* libcurl ends the transfer */
    }
    buf_put(&call->in, p, n);
    call_ready(call);
    return n;
}

static struct str trim(struct str s)
{
    while (s.n > 0 && strchr(" \t\r\n", s.p[s.n - 1]))
        s.n--;
    while (s.n > 0 && (*s.p == ' ' || *s.p == '\t'))
        s = str_n(s.p + 1, s.n - 1);
    return s;
}

static int64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void read_header(struct http_head *head, struct str line)
{
    const char *colon = memchr(line.p, ':', line.n);
    if (!colon)
        return;
    struct str name = str_n(line.p, (size_t)(colon - line.p));
    struct str value = trim(str_n(colon + 1, line.n - name.n - 1));
    if (name.n == 12 && strncasecmp(name.p, "content-type", 12) == 0)
        snprintf(head->content_type, sizeof head->content_type, "%.*s", STR_ARG(value));
    else
        hint_header(&head->hint, name, value, wall_ms());
}

static size_t on_header_cb(char *p, size_t size, size_t n, void *arg)
{
    struct http_call *call = arg;
    struct str line = trim(str_n(p, n * size));
    if (str_starts(line, "HTTP/")) { /* once more after each 1xx */
        const char *space = memchr(line.p, ' ', line.n);
        call->head = (struct http_head){.status = space ? strtol(space, NULL, 10) : 0};
        if (call->head.status < 200)
            call->head.status = 0;
    } else {
        read_header(&call->head, line);
    }
    return n * size;
}

/* ---- handing over ---- */

static enum http_end end_of(const struct http_call *call)
{
    if (call->too_large)
        return HTTP_END_TOO_LARGE;
    if (call->code == CURLE_OK)
        return HTTP_END_WHOLE;
    /* An answer that is not HTTP is an unsupported protocol to libcurl, too. */
    long sent = 0;
    curl_api.easy_getinfo(call->easy, CURLINFO_REQUEST_SIZE, &sent);
    if (sent == 0 && (call->code == CURLE_URL_MALFORMAT || call->code == CURLE_UNSUPPORTED_PROTOCOL))
        return HTTP_END_BAD_URL;
    return call->head.status == 0 ? HTTP_END_UNREACHED : HTTP_END_CUT;
}

static void call_deliver(struct http_call *call)
{
    if (call->draining) {
        if (call->ended)
            call_free(call);
        return;
    }
    call->busy = true;
    if (call->in.n > 0) {
        struct buf in = call->in;
        call->in = (struct buf){0};
        call->callbacks->data(call->arg, buf_view(&in));
        buf_free(&in);
    }
    if (call->ended && !call->closed && !call->draining) {
        const char *error = call->error[0] ? call->error : curl_api.easy_strerror(call->code);
        call->callbacks->end(call->arg, end_of(call), call->code == CURLE_OK ? "" : error);
    }
    call->busy = false;
    if (call->closed || (call->draining && call->ended))
        call_free(call);
}

static void http_deliver(struct http *h)
{
    int left;
    CURLMsg *message;
    while (!h->closing && (message = curl_api.multi_info_read(h->multi, &left))) {
        struct http_call *call = NULL;
        if (message->msg != CURLMSG_DONE)
            continue;
        curl_api.easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
        call->ended = true;
        call->code = message->data.result;
        call_ready(call);
    }
    while (!list_empty(&h->ready) && !h->closing) {
        struct http_call *call = LIST_ENTRY(h->ready.next, struct http_call, ready);
        list_remove(&call->ready);
        call_deliver(call);
    }
}

static void http_act(struct http *h, curl_socket_t socket, int events)
{
    int running;
    curl_api.multi_socket_action(h->multi, socket, events, &running);
    http_deliver(h);
}

/* ---- the loop ---- */

static void handle_closed(struct http *h)
{
    if (--h->handles == 0)
        mem_free(h);
}

static void on_timer_closed_cb(uv_handle_t *handle)
{
    handle_closed(handle->data);
}

static void on_poll_closed_cb(uv_handle_t *handle)
{
    struct poll *poll = handle->data;
    struct http *h = poll->h;
    mem_free(poll);
    handle_closed(h);
}

static void poll_close(struct poll *poll)
{
    list_remove(&poll->node);
    uv_poll_stop(&poll->poll);
    uv_close((uv_handle_t *)&poll->poll, on_poll_closed_cb);
}

static void on_timer_cb(uv_timer_t *timer)
{
    http_act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int on_curl_timer_cb(CURLM *multi, long timeout_ms, void *arg)
{
    struct http *h = arg;
    (void)multi;
    if (h->closing)
        return 0;
    if (timeout_ms < 0)
        uv_timer_stop(&h->timer);
    else
        uv_timer_start(&h->timer, on_timer_cb, (uint64_t)timeout_ms, 0);
    return 0;
}

static void on_poll_cb(uv_poll_t *handle, int status, int events)
{
    struct poll *poll = handle->data;
    int flags = status < 0 ? CURL_CSELECT_ERR : 0;
    if (events & UV_READABLE)
        flags |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE)
        flags |= CURL_CSELECT_OUT;
    http_act(poll->h, poll->socket, flags);
}

static struct poll *poll_new(struct http *h, curl_socket_t socket)
{
    struct poll *poll = MEM_NEW(struct poll);
    *poll = (struct poll){.h = h, .socket = socket};
    if (uv_poll_init_socket(h->loop, &poll->poll, socket) != 0) {
        mem_free(poll);
        return NULL;
    }
    poll->poll.data = poll;
    h->handles++;
    list_append(&h->polls, &poll->node);
    curl_api.multi_assign(h->multi, socket, poll);
    return poll;
}

static int on_curl_socket_cb(CURL *easy, curl_socket_t socket, int what, void *arg, void *socket_arg)
{
    struct http *h = arg;
    struct poll *poll = socket_arg;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (poll)
            poll_close(poll);
        curl_api.multi_assign(h->multi, socket, NULL);
        return 0;
    }
    if (!poll && !(poll = poll_new(h, socket)))
        return -1;
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    return uv_poll_start(&poll->poll, events, on_poll_cb) == 0 ? 0 : -1;
}

int http_new(uv_loop_t *loop, struct http **ret)
{
    if (curl_api_load() != 0)
        return -1;
    CURLM *multi = curl_api.multi_init();
    if (!multi)
        return -1;
    struct http *h = MEM_NEW(struct http);
    *h = (struct http){.loop = loop, .multi = multi, .handles = 2};
    list_init(&h->polls);
    list_init(&h->calls);
    list_init(&h->draining);
    list_init(&h->ready);
    uv_timer_init(loop, &h->timer);
    uv_timer_init(loop, &h->drain_timer);
    h->timer.data = h->drain_timer.data = h;
    curl_api.multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket_cb);
    curl_api.multi_setopt(multi, CURLMOPT_SOCKETDATA, h);
    curl_api.multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_curl_timer_cb);
    curl_api.multi_setopt(multi, CURLMOPT_TIMERDATA, h);
    curl_api.multi_setopt(multi, CURLMOPT_MAXCONNECTS, IDLE_CONNECTIONS_MAX);
    *ret = h;
    return 0;
}

void http_free(struct http *h)
{
    struct http_call *call;
    struct poll *poll;
    if (!h)
        return;
    h->closing = true;
    LIST_EACH(call, &h->calls, struct http_call, node)
    http_call_close(call);
    LIST_EACH(call, &h->draining, struct http_call, node)
    http_call_close(call);
    curl_api.multi_cleanup(h->multi);
    LIST_EACH(poll, &h->polls, struct poll, node)
    poll_close(poll);
    uv_close((uv_handle_t *)&h->timer, on_timer_closed_cb);
    uv_close((uv_handle_t *)&h->drain_timer, on_timer_closed_cb);
}

/* ---- starting ---- */

/* A proxy from the environment is for the world outside: without this a model server on this machine would be
 * asked for through it unless no_proxy says otherwise. CURLE_OUT_OF_MEMORY if it could not be looked at. */
static CURLcode look_at_host(const char *url, bool *ret_loopback)
{
    char *host = NULL;
    CURLU *parsed = curl_api.url();
    CURLUcode rc = parsed ? curl_api.url_set(parsed, CURLUPART_URL, url, 0) : CURLUE_OUT_OF_MEMORY;
    if (rc == CURLUE_OK)
        rc = curl_api.url_get(parsed, CURLUPART_HOST, &host, 0);
    *ret_loopback = rc == CURLUE_OK && (strcasecmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 || strcmp(host, "[::1]") == 0);
    curl_api.free(host);
    curl_api.url_cleanup(parsed);
    return rc == CURLUE_OUT_OF_MEMORY ? CURLE_OUT_OF_MEMORY : CURLE_OK;
}

/* Each option counts: a request that lacks one would be another than was meant, without its key, say. */
#define SET(option, value)                                                                                   \
    do {                                                                                                     \
        CURLcode code_ = curl_api.easy_setopt(easy, option, value);                                          \
        if (code_ != CURLE_OK)                                                                               \
            return code_;                                                                                    \
    } while (0)

static CURLcode set_connection(CURL *easy, const struct http_request *request)
{
    bool loopback;
    SET(CURLOPT_URL, request->url);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)request->connect_ms_max);
    SET(CURLOPT_TCP_NODELAY, 1L);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_QUICK_EXIT, 1L); /* a cancelled name look-up must not hold the loop */
    SET(CURLOPT_BUFFERSIZE, (long)READ_BYTES);
    SET(CURLOPT_UPLOAD_BUFFERSIZE, (long)UPLOAD_BYTES);
    CURLcode code = look_at_host(request->url, &loopback);
    if (code == CURLE_OK && loopback)
        SET(CURLOPT_PROXY, "");
    return code;
}

static CURLcode set_request(struct http_call *call, const struct http_request *request)
{
    CURL *easy = call->easy;
    for (const char *const *it = request->headers; *it; it++) {
        struct curl_slist *grown = curl_api.slist_append(call->headers, *it);
        if (!grown)
            return CURLE_OUT_OF_MEMORY;
        call->headers = grown;
    }
    SET(CURLOPT_HTTPHEADER, call->headers);
    SET(CURLOPT_USERAGENT, "agentd/" AGENTD_VERSION);
    SET(CURLOPT_POSTFIELDS, request->body.p);
    SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.n);
    SET(CURLOPT_WRITEFUNCTION, on_write_cb);
    SET(CURLOPT_WRITEDATA, call);
    SET(CURLOPT_HEADERFUNCTION, on_header_cb);
    SET(CURLOPT_HEADERDATA, call);
    SET(CURLOPT_ERRORBUFFER, call->error);
    SET(CURLOPT_PRIVATE, call);
    return CURLE_OK;
}

struct http_call *http_start(struct http *h, const struct http_request *request,
                             const struct http_callbacks *callbacks, void *arg)
{
    struct http_call *call = MEM_NEW(struct http_call);
    *call = (struct http_call){.h = h,
                               .callbacks = callbacks,
                               .arg = arg,
                               .body_bytes = request->body.n,
                               .bytes_max = request->response_bytes_max,
                               .easy = curl_api.easy_init()};
    list_init(&call->node);
    list_init(&call->ready);
    if (call->easy && set_connection(call->easy, request) == CURLE_OK && set_request(call, request) == CURLE_OK &&
        curl_api.multi_add_handle(h->multi, call->easy) == CURLM_OK) {
        list_append(&h->calls, &call->node);
        return call;
    }
    call_free(call);
    return NULL;
}
