#include "daemon/model/model.h"

#include "daemon/base/list.h"
#include "daemon/base/mem.h"
#include "daemon/model/http.h"
#include "daemon/model/provider.h"
#include "daemon/model/sse.h"
#include "daemon/model/wire.h"

#include <sodium.h>
#include <string.h>
#include <strings.h>

#define ERROR_BODY_BYTES_MAX 65536
#define MESSAGE_KEY_MIN 4 /* shorter keys are placeholders, and words */

struct model {
    uv_loop_t *loop;
    const struct limits *limits;
    struct http *http;
    uv_timer_t tick;     /* due for the first of `active`, or at once for `refused` */
    struct list line;    /* wait until fewer are under way */
    struct list active;  /* under way, the one without progress for longest first */
    struct list refused; /* failed before they began: told from the loop, never from model_send() */
    int64_t active_n;
    bool closing;
};

/*~ One attempt: it stands in line, is under way, and ends in exactly one callback unless it is cancelled
 * before:
 *
 *     model_send -> line -> active -> done or failed -> freed
 *               \-> refused ---------------/
 */
struct model_transfer {
    struct list node;
    struct model *m;
    const struct provider *provider;
    struct model_spec spec; /* its strings are below */
    struct buf url;
    char *key;
    struct buf body;
    const struct model_callbacks *callbacks;
    void *arg;

    struct http_call *call;
    struct provider_parser *parser;
    struct sse sse;
    struct buf error_body;
    struct fault fault;
    uint64_t progress_ms; /* when there was progress last */
    bool active;
    bool busy; /* its parser is at work, further up the stack */
    bool dead; /* cancelled meanwhile */
    bool over; /* its last callback is being called */
};

static void on_tick_cb(uv_timer_t *timer);
static void line_advance(struct model *m);

/* ---- life ---- */

static void key_wipe(char *key)
{
    if (key)
        sodium_memzero(key, strlen(key));
    mem_free(key);
}

/* Takes it off every list and off the network. */
static void transfer_detach(struct model_transfer *t)
{
    list_remove(&t->node);
    if (t->active)
        t->m->active_n--;
    t->active = false;
    if (t->call)
        http_call_close(t->call);
    t->call = NULL;
}

static void transfer_free(struct model_transfer *t)
{
    transfer_detach(t);
    if (t->parser)
        t->provider->parser_free(t->parser);
    sse_free(&t->sse);
    buf_free(&t->url);
    key_wipe(t->key);
    buf_free(&t->body);
    buf_free(&t->error_body);
    fault_free(&t->fault);
    mem_free(t);
}

static void transfer_over(struct model_transfer *t)
{
    struct model *m = t->m;
    transfer_free(t);
    if (!m->closing)
        line_advance(m);
}

/* ---- the two ends ---- */

/* How many bytes of the key a message ends with that was cut within it. */
static size_t key_cut(struct str message, const char *key, size_t key_n)
{
    size_t n = message.n < key_n ? message.n : key_n;
    while (n >= MESSAGE_KEY_MIN && memcmp(message.p + message.n - n, key, n) != 0)
        n--;
    return n >= MESSAGE_KEY_MIN ? n : 0;
}

/* Some servers repeat the key that they refuse. */
static void put_without_key(struct buf *b, struct str message, const char *key)
{
    size_t key_n = key ? strlen(key) : 0;
    const char *found;
    while (key_n >= MESSAGE_KEY_MIN && (found = memmem(message.p, message.n, key, key_n))) {
        size_t before = (size_t)(found - message.p);
        buf_put(b, message.p, before);
        buf_puts(b, "[key]");
        message = str_n(found + key_n, message.n - before - key_n);
    }
    bool cut = message.n > 3 && memcmp(message.p + message.n - 3, "...", 3) == 0;
    size_t end = message.n - (cut ? 3 : 0), half = cut ? key_cut(str_n(message.p, end), key ? key : "", key_n) : 0;
    buf_put(b, message.p, end - half);
    buf_puts(b, half ? "[key]" : "");
    buf_put(b, message.p + end, message.n - end);
}

static void transfer_fail(struct model_transfer *t, const struct fault *fault)
{
    struct buf message = {0};
    int64_t retry_after_ms = t->call ? hint_retry_after_ms(&http_call_head(t->call)->hint) : 0;
    if (retry_after_ms == 0)
        retry_after_ms = fault->retry_after_ms;
    put_without_key(&message, buf_view(&fault->message), t->key);
    transfer_detach(t);
    t->over = true;
    t->callbacks->failed(t->arg, fault->kind, retry_after_ms, buf_cstr(&message));
    buf_free(&message);
    transfer_over(t);
}

/* In nano-USD; what cannot be counted is INT64_MAX rather than little. */
static int64_t cost(const struct model_spec *spec, const struct proto_usage *usage)
{
    int64_t cached = usage->cached_input_tokens, fresh = usage->input_tokens - cached;
    int64_t a, b, c, sum;
    if (fresh < 0)
        fresh = 0;
    if (__builtin_mul_overflow(fresh, spec->price_input, &a) ||
        __builtin_mul_overflow(cached, spec->price_cached_input, &b) ||
        __builtin_mul_overflow(usage->output_tokens, spec->price_output, &c) ||
        __builtin_add_overflow(a, b, &sum) || __builtin_add_overflow(sum, c, &sum))
        return INT64_MAX;
    return sum;
}

static void transfer_done(struct model_transfer *t)
{
    struct model_response response = *t->provider->parser_response(t->parser);
    response.usage.cost_usd = cost(&t->spec, &response.usage);
    if (t->call)
        http_call_drain(t->call);
    t->call = NULL;
    transfer_detach(t);
    t->over = true;
    t->callbacks->done(t->arg, &response);
    transfer_over(t);
}

static bool is_good(const struct http_head *head)
{
    return head->status >= 200 && head->status < 300;
}

/* Anything but what is plainly something else: servers name the type of their streams as they like. */
static bool is_stream(const struct http_head *head)
{
    return is_good(head) && strncasecmp(head->content_type, "application/json", 16) != 0 &&
           strncasecmp(head->content_type, "text/html", 9) != 0;
}

static void fault_from_body(struct model_transfer *t, const struct http_head *head)
{
    struct str body = buf_view(&t->error_body);
    if (!is_good(head))
        fault_set_status(&t->fault, head->status, body, (size_t)t->m->limits->depth_max);
    else if (wire_json_valid(body, (size_t)t->m->limits->depth_max) &&
             !wire_is_null(json_find(body, "error")))
        fault_set_error(&t->fault, MODEL_FAULT_SERVER, body);
    else
        fault_set(&t->fault, MODEL_FAULT_MALFORMED,
                  "the provider answered with %s instead of an event stream", head->content_type);
}

static void fault_from_end(struct model_transfer *t, enum http_end end, const char *error)
{
    switch (end) {
    case HTTP_END_WHOLE:
    case HTTP_END_CUT:
        fault_set(&t->fault, MODEL_FAULT_CUT, "the stream ended before the response was complete%s%s",
                  *error ? ": " : "", error);
        break;
    case HTTP_END_UNREACHED:
        fault_set(&t->fault, MODEL_FAULT_NETWORK, "%.*s cannot be reached: %s", STR_ARG(t->spec.base_url),
                  error);
        break;
    case HTTP_END_TOO_LARGE:
        fault_set(&t->fault, MODEL_FAULT_MALFORMED, "the response is larger than response_bytes_max (%lld)",
                  (long long)t->m->limits->response_bytes_max);
        break;
    case HTTP_END_BAD_URL:
        fault_set(&t->fault, MODEL_FAULT_REQUEST, "base_url %.*s cannot be used: %s",
                  STR_ARG(t->spec.base_url), error);
        break;
    }
}

/* ---- the stream ---- */

static void on_http_end(void *arg, enum http_end end, const char *error)
{
    struct model_transfer *t = arg;
    const struct http_head *head = http_call_head(t->call);
    if (t->provider->parser_complete(t->parser)) {
        transfer_done(t);
        return;
    }
    const struct fault *fault = t->provider->parser_fault(t->parser);
    if (fault->set) {
        transfer_fail(t, fault);
        return;
    }
    if (head->status > 0 && !is_stream(head) && end != HTTP_END_TOO_LARGE)
        fault_from_body(t, head);
    else
        fault_from_end(t, end, error);
    transfer_fail(t, &t->fault);
}

static void progress(struct model_transfer *t)
{
    t->progress_ms = uv_now(t->m->loop);
    list_remove(&t->node);
    list_append(&t->m->active, &t->node);
}

/* false: the transfer is gone. */
static bool transfer_event(struct model_transfer *t, const struct sse_event *event)
{
    t->busy = true;
    enum provider_event what = t->provider->parser_event(t->parser, event->event, event->data);
    t->busy = false;
    if (t->dead) {
        transfer_free(t);
        return false;
    }
    switch (what) {
    case PROVIDER_QUIET:
        return true;
    case PROVIDER_PROGRESS:
        progress(t);
        return true;
    case PROVIDER_DONE:
        transfer_done(t);
        return false;
    case PROVIDER_FAILED:
        transfer_fail(t, t->provider->parser_fault(t->parser));
        return false;
    }
    return true;
}

static void on_http_data(void *arg, struct str bytes)
{
    struct model_transfer *t = arg;
    struct sse_event event;
    int rc;
    if (!is_stream(http_call_head(t->call))) {
        size_t room = ERROR_BODY_BYTES_MAX - t->error_body.n;
        buf_str(&t->error_body, str_n(bytes.p, bytes.n < room ? bytes.n : room));
        return;
    }
    sse_feed(&t->sse, bytes);
    while ((rc = sse_next(&t->sse, &event)) == 1)
        if (!transfer_event(t, &event))
            return;
    if (rc < 0) {
        fault_set(&t->fault, MODEL_FAULT_MALFORMED, "%s", t->sse.error);
        transfer_fail(t, &t->fault);
    }
}

/* What the parser calls. A delta may cancel the transfer while the parser has more to tell. */
static void on_parser_delta(void *arg, enum delta_kind kind, size_t part, struct str text)
{
    struct model_transfer *t = arg;
    if (!t->dead)
        t->callbacks->delta(t->arg, kind, part, text);
}

static const struct http_callbacks http_callbacks = {.data = on_http_data, .end = on_http_end};
static const struct model_callbacks parser_callbacks = {.delta = on_parser_delta};

/* ---- sending ---- */

static void tick_in(struct model *m, uint64_t delay_ms)
{
    uv_timer_start(&m->tick, on_tick_cb, delay_ms, 0);
}

static void transfer_refuse(struct model_transfer *t)
{
    list_remove(&t->node);
    list_append(&t->m->refused, &t->node);
    tick_in(t->m, 0);
}

#define HEADERS_MAX 16

static struct http_call *transfer_post(struct model_transfer *t)
{
    const char *headers[HEADERS_MAX] = {"Content-Type: application/json", "Accept: text/event-stream",
                                        "Expect:"};
    struct buf key = {0};
    size_t n = 3;
    for (const char *const *it = t->provider->headers; it && *it && n < HEADERS_MAX - 2; it++)
        headers[n++] = *it;
    if (t->key && t->key[0]) {
        buf_reserve(&key,
                    strlen(t->provider->key_header) + strlen(t->key)); /* no copy is left behind by growing */
        buf_puts(&key, t->provider->key_header);
        buf_puts(&key, t->key);
        headers[n++] = buf_cstr(&key);
    }
    struct http_request request = {.url = buf_cstr(&t->url),
                                   .headers = headers,
                                   .body = buf_view(&t->body),
                                   .connect_ms_max = t->m->limits->connect_ms_max,
                                   .response_bytes_max = t->m->limits->response_bytes_max};
    struct http_call *call = http_start(t->m->http, &request, &http_callbacks, t);
    if (key.p)
        sodium_memzero(key.p, key.n);
    buf_free(&key);
    return call;
}

/* A stream tells its text twice, in pieces and in the closing event, which is one line. */
static void transfer_start(struct model_transfer *t)
{
    struct model *m = t->m;
    size_t event_max = (size_t)m->limits->response_bytes_max / 2;
    list_remove(&t->node);
    t->call = transfer_post(t);
    if (!t->call) {
        fault_set(&t->fault, MODEL_FAULT_NETWORK, "there is no memory for a request to %.*s", STR_ARG(t->spec.base_url));
        transfer_refuse(t);
        return;
    }
    t->parser = t->provider->parser_new(m->limits, &parser_callbacks, t);
    sse_init(&t->sse, event_max, event_max);
    t->active = true;
    m->active_n++;
    progress(t);
    if (!uv_is_active((uv_handle_t *)&m->tick))
        tick_in(m, (uint64_t)m->limits->stall_ms_max);
}

static void line_advance(struct model *m)
{
    while (!list_empty(&m->line) && m->active_n < m->limits->transfers_max)
        transfer_start(LIST_ENTRY(m->line.next, struct model_transfer, node));
}

static bool key_usable(const char *key)
{
    for (const char *p = key ? key : ""; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    return true;
}

static struct model_transfer *transfer_new(struct model *m, const struct model_spec *spec, const char *key,
                                           struct buf *body)
{
    struct model_transfer *t = MEM_NEW(struct model_transfer);
    *t = (struct model_transfer){.m = m, .spec = *spec, .body = *body, .provider = provider_find(spec->wire)};
    *body = (struct buf){0};
    list_init(&t->node);
    buf_str(&t->url, spec->base_url);
    buf_puts(&t->url, t->provider ? t->provider->path : "");
    t->spec.base_url = str_n(t->url.p, spec->base_url.n);
    t->spec.name = t->spec.wire = STR_NONE; /* not needed any more */
    t->key = mem_strdup(key);
    return t;
}

struct model_transfer *model_send(struct model *m, const struct model_spec *spec, const char *key,
                                  struct buf *body, const struct model_callbacks *callbacks, void *arg)
{
    struct model_transfer *t = transfer_new(m, spec, key, body);
    t->callbacks = callbacks;
    t->arg = arg;
    if (!t->provider)
        fault_set(&t->fault, MODEL_FAULT_REQUEST, "there is no wire \"%.*s\"", STR_ARG(spec->wire));
    else if (!key_usable(key))
        fault_set(
            &t->fault, MODEL_FAULT_CREDENTIALS,
            "the key holds a control character, perhaps a newline at its end; correct it where it is kept");
    if (t->fault.set) {
        transfer_refuse(t);
        return t;
    }
    list_append(&m->line, &t->node);
    line_advance(m);
    return t;
}

void model_cancel(struct model_transfer *t)
{
    struct model *m = t->m;
    if (t->over)
        return;
    transfer_detach(t);
    t->dead = true;
    if (!t->busy)
        transfer_free(t);
    if (!m->closing)
        line_advance(m);
}

struct str model_partial(const struct model_transfer *t)
{
    return t->parser ? t->provider->parser_partial(t->parser) : STR("");
}

/* ---- the clock ---- */

static void transfer_stalled(struct model_transfer *t)
{
    const struct http_head *head = http_call_head(t->call);
    if (t->provider->parser_complete(t->parser)) {
        transfer_done(t);
        return;
    }
    if (head->status > 0 && !is_good(head))
        fault_from_body(t, head);
    else
        fault_set(&t->fault, MODEL_FAULT_STALL, "nothing came from the provider for %lld ms",
                  (long long)t->m->limits->stall_ms_max);
    transfer_fail(t, &t->fault);
}

static void on_tick_cb(uv_timer_t *timer)
{
    struct model *m = timer->data;
    uint64_t stall_ms = (uint64_t)m->limits->stall_ms_max;
    while (!m->closing && !list_empty(&m->refused)) {
        struct model_transfer *t = LIST_ENTRY(m->refused.next, struct model_transfer, node);
        transfer_fail(t, &t->fault);
    }
    while (!m->closing && !list_empty(&m->active)) {
        struct model_transfer *t = LIST_ENTRY(m->active.next, struct model_transfer, node);
        uint64_t due_ms = t->progress_ms + stall_ms, now_ms = uv_now(m->loop);
        if (due_ms > now_ms) {
            tick_in(m, due_ms - now_ms);
            return;
        }
        transfer_stalled(t);
    }
}

static void on_closed_cb(uv_handle_t *handle)
{
    mem_free(handle->data);
}

int model_new(uv_loop_t *loop, const struct limits *limits, struct model **ret)
{
    struct http *http;
    if (sodium_init() < 0 || http_new(loop, &http) != 0)
        return -1;
    struct model *m = MEM_NEW(struct model);
    *m = (struct model){.loop = loop, .limits = limits, .http = http};
    list_init(&m->line);
    list_init(&m->active);
    list_init(&m->refused);
    uv_timer_init(loop, &m->tick);
    m->tick.data = m;
    *ret = m;
    return 0;
}

static void cancel_all(struct list *list)
{
    struct model_transfer *t;
    LIST_EACH(t, list, struct model_transfer, node)
    model_cancel(t);
}

void model_free(struct model *m)
{
    if (!m)
        return;
    m->closing = true;
    cancel_all(&m->line);
    cancel_all(&m->active);
    cancel_all(&m->refused);
    http_free(m->http);
    uv_close((uv_handle_t *)&m->tick, on_closed_cb);
}
