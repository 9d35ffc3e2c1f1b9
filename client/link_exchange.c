/* One exchange on one connection: a request and its reply, and the errors of both ends. */
#include "client/link_state.h"

#include "daemon/base/json.h"
#include "daemon/base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- errors ---- */

int __attribute__((format(printf, 3, 4))) link_fail(struct link *l, int rc, const char *format, ...)
{
    va_list args;
    char text[2048];
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    buf_clear(&l->error);
    buf_clear(&l->hint);
    buf_puts(&l->error, text);
    l->error_code = 0;
    l->absent = false;
    return rc;
}

const char *link_error(const struct link *l)
{
    return buf_cstr(&l->error);
}

const char *link_error_hint(const struct link *l)
{
    return buf_cstr(&l->hint);
}

bool link_error_is_absence(const struct link *l)
{
    return l->absent;
}

int link_error_code(const struct link *l)
{
    return l->error_code;
}

/* What it does not know, an older one never knew: we make no mistakes in methods and parameters. */
static bool other_version(const struct link *l, int code)
{
    return (code == RPC_METHOD_NOT_FOUND || code == RPC_INVALID_PARAMS) && l->version.n > 0 &&
           !str_eqz(buf_view(&l->version), AGENTD_VERSION);
}

static int fail_remote(struct link *l, const json_t *error)
{
    const json_t *data = json_object_get(error, "data");
    const char *message = json_string_value(json_object_get(error, "message"));
    const char *hint = json_string_value(json_object_get(data, "hint"));
    link_fail(l, 0, "%s", message ? message : "the daemon answered with an error without a message");
    int code = (int)json_integer_value(json_object_get(error, "code"));
    if (other_version(l, code))
        buf_printf(&l->hint, "The daemon is %s and this agentctl " AGENTD_VERSION ": agentctl daemon restart brings them together.",
                   buf_cstr(&l->version));
    else if (hint && strcmp(hint, link_error(l)) != 0)
        buf_puts(&l->hint, hint);
    l->error_code = code;
    return LINK_E_REMOTE;
}

int link_from_wire(struct link *l, enum wire_rc rc)
{
    switch (rc) {
    case WIRE_OK:
        return LINK_OK;
    case WIRE_TIMEOUT:
        return LINK_TIMEOUT;
    case WIRE_INPUT:
        return LINK_INPUT;
    case WIRE_LOST:
        return link_fail(l, LINK_E_LOST, "the connection to the daemon was lost");
    case WIRE_INTERRUPTED:
        return link_fail(l, LINK_E_INTERRUPTED, "interrupted");
    case WIRE_TOO_LONG:
        return link_fail(l, LINK_E_BROKEN, "the daemon sent a message of more than %d bytes", LINK_FRAME_BYTES_MAX);
    }
    return LINK_E_BROKEN;
}

struct wire_wait link_wait(const struct link *l, int64_t deadline_ms, int fd)
{
    return (struct wire_wait){
        .fd = fd, .deadline_ms = deadline_ms, .interrupted = l->options.interrupted, .mask = l->options.mask};
}

void link_drop_queue(struct link *l)
{
    struct link_queued *q;
    LIST_EACH(q, &l->queue, struct link_queued, node)
    {
        list_remove(&q->node);
        mem_free(q->line);
        mem_free(q);
    }
    l->queue_bytes = 0;
}

bool link_dequeue(struct link *l, char **ret, size_t *ret_n)
{
    if (list_empty(&l->queue))
        return false;
    struct link_queued *q = LIST_ENTRY(l->queue.next, struct link_queued, node);
    *ret = q->line;
    *ret_n = q->n;
    l->queue_bytes -= q->n;
    list_remove(&q->node);
    mem_free(q);
    return true;
}

/* ---- one exchange ---- */

json_t *link_parse(const char *line, size_t n)
{
    return json_loadb(line, n, JSON_ALLOW_NUL, NULL);
}

static void enqueue(struct link *l, char *line, size_t n)
{
    struct link_queued *q = MEM_NEW(struct link_queued);
    q->line = line;
    q->n = n;
    l->queue_bytes += n;
    list_append(&l->queue, &q->node);
}

static bool is_notification(const char *line, size_t n)
{
    return json_find(str_n(line, n), "method").p != NULL;
}

/* The next line that is a reply; notifications go to the queue. */
static int receive_reply(struct link *l, int64_t deadline_ms, char **ret, size_t *ret_n)
{
    struct wire_wait wait = link_wait(l, deadline_ms, -1);
    for (;;) {
        int rc = link_from_wire(l, wire_receive(&l->wire, LINK_FRAME_BYTES_MAX, &wait, ret, ret_n));
        if (rc != LINK_OK)
            return rc;
        if (!is_notification(*ret, *ret_n))
            return LINK_OK;
        enqueue(l, *ret, *ret_n);
        /* It is all in the journal: a new connection will bring it again, at our pace. */
        if (l->queue_bytes > LINK_QUEUE_BYTES_MAX)
            return link_fail(l, LINK_E_LOST, "more notifications came than could be kept");
    }
}

static int take_reply(struct link *l, int64_t id, char *line, size_t n, struct link_reply *ret)
{
    CLEANUP(link_reply_free) struct link_reply reply = {.line = line};
    json_t *whole = link_parse(line, n);
    const json_t *reply_id = json_object_get(whole, "id");
    const json_t *error = json_object_get(whole, "error");
    reply.json = json_incref(json_object_get(whole, "result"));
    reply.text = json_find(str_n(line, n), "result");
    int rc = LINK_OK;
    if (error && (!reply_id || json_is_null(reply_id) || json_integer_value(reply_id) == id))
        rc = fail_remote(l, error);
    else if (json_integer_value(reply_id) != id || !reply.json)
        rc = link_fail(l, LINK_E_BROKEN, "what answers at %s does not speak agentd's protocol", link_socket(l));
    json_decref(whole);
    if (rc == LINK_OK) {
        *ret = reply;
        reply = (struct link_reply){0};
    }
    return rc;
}

int link_exchange(struct link *l, enum method method, const void *params, int64_t deadline_ms, struct link_reply *ret)
{
    CLEANUP(buf_free) struct buf b = {0};
    const struct method_descriptor *m = &method_descriptors[method];
    int64_t id = ++l->next_id;
    buf_printf(&b, "{\"jsonrpc\":\"2.0\",\"id\":%lld,\"method\":\"%s\",\"params\":", (long long)id, m->name);
    proto_encode(&b, m->params, params);
    buf_puts(&b, "}\n");
    struct wire_wait wait = link_wait(l, deadline_ms, -1);
    int rc = link_from_wire(l, wire_send(&l->wire, buf_view(&b), &wait));
    char *line = NULL;
    size_t n = 0;
    if (rc == LINK_OK)
        rc = receive_reply(l, deadline_ms, &line, &n);
    if (rc != LINK_OK)
        return rc;
    return take_reply(l, id, line, n, ret);
}

void link_reply_free(struct link_reply *r)
{
    json_decref(r->json);
    mem_free(r->line);
    *r = (struct link_reply){0};
}
