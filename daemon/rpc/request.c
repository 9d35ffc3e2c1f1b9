#include <jansson.h>

#include "request.h"

#include "daemon/base/json.h"
#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"
#include "daemon/rpc/subscription.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define ID_BYTES_MAX 1024

/* One request. It lives until it is answered, whether or not its connection does. */
struct rpc_call {
    struct list node;
    struct conn *conn; /* NULL: gone */
    struct buf id;     /* JSON text, as it came */
    enum method method;
    json_t *json; /* the message; strings of params point into it */
    void *params;
    struct proto_arena arena;
    size_t bytes; /* of conn->calls_bytes */
};

/* ---- answers ---- */

static void put_error(struct conn *c, struct str id, enum rpc_error error, struct str detail)
{
    const struct proto_error *e = proto_errors;
    for (size_t i = 0; i < proto_errors_n; i++) {
        if (proto_errors[i].code == (int)error)
            e = &proto_errors[i];
    }
    CLEANUP(buf_free) struct buf message = {0};
    if (detail.p && detail.n)
        utf8_put_valid(&message, detail, false);
    else /* "disk full"; what to do is in the hint */
        for (const char *p = e->name; *p; p++)
            buf_putc(&message, *p == '_' ? ' ' : *p);
    struct buf *b = &c->out;
    buf_printf(b, "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"error\":{\"code\":%d,\"message\":", STR_ARG(id),
               e->code);
    json_put_string(b, buf_view(&message));
    buf_printf(b, ",\"data\":{\"name\":\"%s\",\"hint\":", e->name);
    json_put_string(b, str_of(e->hint));
    buf_puts(b, "}}}\n");
    conn_touch(c);
}

static void call_free(struct rpc_call *call)
{
    if (call->conn) {
        call->conn->calls_n--;
        call->conn->calls_bytes -= call->bytes;
        conn_touch(call->conn);
    }
    list_remove(&call->node);
    buf_free(&call->id);
    mem_free(call->params);
    proto_arena_free(&call->arena);
    json_decref(call->json);
    mem_free(call);
}

void rpc_reply(struct rpc_call *call, struct str result)
{
    if (call->conn) {
        struct buf *b = &call->conn->out;
        buf_puts(b, "{\"jsonrpc\":\"2.0\",\"id\":");
        buf_str(b, buf_view(&call->id));
        buf_puts(b, ",\"result\":");
        buf_str(b, result);
        buf_puts(b, "}\n");
    }
    call_free(call);
}

void rpc_fail(struct rpc_call *call, enum rpc_error error, struct str detail)
{
    if (call->conn)
        put_error(call->conn, buf_view(&call->id), error, detail);
    call_free(call);
}

void rpc_fail_unreadable(struct rpc_call *call)
{
    CLEANUP(buf_free) struct buf detail = {0};
    if (call->conn)
        rpc_put_unreadable(call->conn->rpc, &detail);
    rpc_fail(call, RPC_STATE_UNREADABLE, buf_view(&detail));
}

void rpc_fail_no_task(struct rpc_call *call, enum rpc_error error, struct str ref)
{
    CLEANUP(buf_free) struct buf detail = {0};
    if (error == RPC_STATE_UNREADABLE) {
        rpc_fail_unreadable(call);
        return;
    }
    if (error == RPC_TASK_NOT_FOUND)
        buf_printf(&detail, "there is no task \"%.*s\"", STR_ARG(ref));
    else if (error == RPC_TASK_AMBIGUOUS)
        buf_printf(&detail, "more than one task's id begins with \"%.*s\"", STR_ARG(ref));
    rpc_fail(call, error, buf_view(&detail));
}

void requests_abandon(struct conn *c)
{
    struct rpc_call *call;
    LIST_EACH(call, &c->calls, struct rpc_call, node)
    {
        list_remove(&call->node);
        call->conn = NULL;
    }
}

struct conn *request_conn(const struct rpc_call *call)
{
    return call->conn;
}

const void *request_params(const struct rpc_call *call)
{
    return call->params;
}

/* ---- the form of a message ---- */

static enum rpc_error parse(const struct conn *c, struct str message, json_t **ret, struct buf *detail)
{
    size_t depth_max = (size_t)c->rpc->d->config->limits.depth_max;
    if (json_depth(message, depth_max) > depth_max) {
        buf_printf(detail, "this message nests deeper than %zu (depth_max)", depth_max);
        return RPC_TOO_DEEP;
    }
    json_error_t error;
    *ret =
        json_loadb(message.p, message.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
    if (*ret)
        return RPC_OK;
    buf_printf(detail, "this line is not JSON: %s at byte %d", error.text, error.position);
    return RPC_PARSE_ERROR;
}

/* As it was sent, so that the client finds its own spelling in the answer. */
static enum rpc_error read_id(const json_t *json, struct str message, struct buf *ret, struct buf *detail)
{
    const json_t *id = json_object_get(json, "id");
    if (!id)
        return RPC_OK;
    struct str text = json_find(message, "id");
    if ((json_is_string(id) || json_is_integer(id)) && text.p && text.n <= ID_BYTES_MAX) {
        buf_str(ret, text);
        return RPC_OK;
    }
    buf_printf(detail, "the id must be an integer or a string of at most %d bytes", ID_BYTES_MAX);
    return RPC_INVALID_REQUEST;
}

static enum rpc_error check_form(const json_t *json, struct buf *detail)
{
    const char *version = json_string_value(json_object_get(json, "jsonrpc"));
    if (!version || strcmp(version, "2.0") != 0) {
        buf_puts(detail, "\"jsonrpc\" must be \"2.0\"");
        return RPC_INVALID_REQUEST;
    }
    if (!json_is_string(json_object_get(json, "method"))) {
        buf_puts(detail, "\"method\" must be a string");
        return RPC_INVALID_REQUEST;
    }
    return RPC_OK;
}

static int method_find(const char *name)
{
    for (int i = 1; i <= METHOD_MAX; i++) {
        if (method_descriptors[i].name && strcmp(method_descriptors[i].name, name) == 0)
            return i;
    }
    return 0;
}

/* Every right of a connection is checked here and nowhere else. */
static enum rpc_error check_method(const struct conn *c, const json_t *json, enum method *ret,
                                   struct buf *detail)
{
    const char *name = json_string_value(json_object_get(json, "method"));
    int method = method_find(name);
    if (!c->client && method != METHOD_INITIALIZE)
        return RPC_NOT_INITIALIZED;
    if (method == 0) {
        buf_printf(detail, "there is no method \"%.64s\"", name);
        return RPC_METHOD_NOT_FOUND;
    }
    if (c->role > method_descriptors[method].role) {
        buf_printf(detail, "%s needs the role %s", name,
                   proto_enum_name(&role_enum, (int)method_descriptors[method].role));
        return RPC_FORBIDDEN;
    }
    if (c->client && method == METHOD_INITIALIZE) {
        buf_puts(detail, "this connection is initialized already");
        return RPC_INVALID_REQUEST;
    }
    *ret = (enum method)method;
    return RPC_OK;
}

/* ---- params ---- */

/* Texts become C strings on their way; one with U+0000 would lose its end without a word. */
static const char *find_nul(const struct proto_object *type, const char *p)
{
    for (size_t i = 0; i < type->n; i++) {
        const struct proto_field *f = &type->fields[i];
        const struct str *s = (const struct str *)(const void *)(p + f->offset);
        const char *found = NULL;
        if (f->type == PROTO_STRING && s->p && memchr(s->p, 0, s->n))
            found = f->name;
        else if (f->type == PROTO_OBJECT)
            found = find_nul(f->object, p + f->offset);
        if (found)
            return found;
    }
    return NULL;
}

/* Comes before the strict check: a newer client is told of the protocol, not of a member that it added. */
static bool other_protocol(const struct rpc_call *call, const json_t *params)
{
    const json_t *protocol = json_object_get(params, "protocol");
    return call->method == METHOD_INITIALIZE && json_is_integer(protocol) &&
           json_integer_value(protocol) > 0 && json_integer_value(protocol) != PROTOCOL_VERSION;
}

static enum rpc_error read_params(struct rpc_call *call, struct buf *detail)
{
    const struct proto_object *type = method_descriptors[call->method].params;
    const json_t *params = json_object_get(call->json, "params");
    if (params && !json_is_object(params)) {
        buf_puts(detail, "\"params\" must be an object");
        return RPC_INVALID_PARAMS;
    }
    if (other_protocol(call, params))
        return RPC_PROTOCOL_UNSUPPORTED;
    call->params = mem_alloc(type->size);
    if (proto_decode(type, params, PROTO_STRICT, call->params, &call->arena, detail) < 0)
        return RPC_INVALID_PARAMS;
    const char *nul = find_nul(type, call->params);
    if (!nul)
        return RPC_OK;
    buf_printf(detail, "\"%s\" must not hold the character U+0000", nul);
    return RPC_INVALID_PARAMS;
}

/* ---- running ---- */

static void initialize(struct rpc_call *call, const struct params_initialize *params)
{
    struct conn *c = call->conn;
    c->client = mem_dup(params->client.name.p, params->client.name.n);
    CLEANUP(buf_free) struct buf state_dir = {0};
    const struct daemon *d = c->rpc->d;
    char start[48];
    snprintf(start, sizeof start, "%" PRId64 "-%ld", d->started_ms, (long)getpid());
    utf8_put_valid(&state_dir, str_of(d->state_dir), false);
    struct result_initialize result = {
        .protocol = PROTOCOL_VERSION,
        .server = {.name = STR("agentd"), .version = STR(AGENTD_VERSION)},
        .state_dir = buf_view(&state_dir),
        .role = c->role,
        .read_only = d->read_only ? str_of(d->read_only->reason) : STR_NONE,
        .start = str_of(start),
        .previous_end = d->previous_end,
        .has_previous_end = d->recovered,
    };
    CLEANUP(buf_free) struct buf json = {0};
    proto_encode(&json, &result_initialize_type, &result);
    rpc_reply(call, buf_view(&json));
}

/* The same params in any order and spacing give the same text. Only a keyed change needs it. The environment of who asks is no part
 * of what was asked: the same key may come again from another terminal. */
static void canonical(const struct rpc_call *call, struct buf *ret)
{
    const json_t *whole = json_object_get(call->json, "params");
    if (!method_descriptors[call->method].changes || !json_object_get(whole, "key"))
        return;
    json_auto_t *params = json_copy((json_t *)whole);
    json_object_del(params, "env");
    char *text = json_dumps(params, JSON_COMPACT | JSON_SORT_KEYS);
    if (text)
        buf_puts(ret, text);
    mem_free(text);
}

static void run(struct rpc_call *call)
{
    if (call->method == METHOD_INITIALIZE) {
        initialize(call, call->params);
    } else if (call->method == METHOD_EVENTS_SUBSCRIBE) {
        subscription_begin(call, call->params);
    } else if (call->method == METHOD_EVENTS_UNSUBSCRIBE) {
        subscription_stop(call, call->params);
    } else {
        struct conn *c = call->conn;
        struct command_client client = {.name = str_of(c->client), .role = c->role};
        CLEANUP(buf_free) struct buf text = {0};
        canonical(call, &text);
        commands_run(c->rpc->d, call, &client, call->method, call->params, buf_view(&text));
    }
}

/* What the answer may take is counted while it waits, so that many questions at once cannot pile up more than
 * one big answer. */
static size_t answer_bytes(const struct rpc_call *call)
{
    if (call->method == METHOD_TASK_EVENTS)
        return (size_t)((const struct params_task_events *)call->params)->bytes;
    return call->method == METHOD_RPC_DESCRIBE ? proto_schema_n : 0;
}

static struct rpc_call *call_new(struct conn *c, json_t *json, struct buf *id, enum method method)
{
    struct rpc_call *call = MEM_NEW(struct rpc_call);
    call->json = json_incref(json);
    call->method = method;
    call->id = *id;
    *id = (struct buf){0};
    call->conn = c;
    list_append(&c->calls, &call->node);
    c->calls_n++;
    return call;
}

static void take_object(struct conn *c, json_t *json, struct str message)
{
    CLEANUP(buf_free) struct buf detail = {0};
    CLEANUP(buf_free) struct buf id = {0};
    enum method method = METHOD_INITIALIZE;
    enum rpc_error error = read_id(json, message, &id, &detail);
    if (error == RPC_OK)
        error = check_form(json, &detail);
    if (error == RPC_OK && id.n == 0)
        return; /* a notification: there is none that a client could tell us */
    if (error == RPC_OK)
        error = check_method(c, json, &method, &detail);
    if (error != RPC_OK) {
        put_error(c, id.n ? buf_view(&id) : STR("null"), error, buf_view(&detail));
        return;
    }
    struct rpc_call *call = call_new(c, json, &id, method);
    error = read_params(call, &detail);
    if (error != RPC_OK) {
        rpc_fail(call, error, buf_view(&detail));
        return;
    }
    call->bytes = message.n + answer_bytes(call);
    c->calls_bytes += call->bytes;
    run(call);
}

void request_take(struct conn *c, struct str message)
{
    CLEANUP(buf_free) struct buf detail = {0};
    json_t *json = NULL;
    enum rpc_error error = parse(c, message, &json, &detail);
    if (error == RPC_OK && json_is_array(json)) {
        error = RPC_INVALID_REQUEST;
        buf_puts(&detail, "batches are not taken; send one request object a line");
    } else if (error == RPC_OK && !json_is_object(json)) {
        error = RPC_INVALID_REQUEST;
        buf_puts(&detail, "a request is a JSON object");
    }
    if (error == RPC_OK)
        take_object(c, json, message);
    else
        put_error(c, STR("null"), error, buf_view(&detail));
    json_decref(json);
}

void request_too_large(struct conn *c)
{
    CLEANUP(buf_free) struct buf detail = {0};
    buf_printf(&detail, "a message may have %lld bytes (frame_bytes_max); this one was skipped",
               (long long)c->rpc->d->config->limits.frame_bytes_max);
    put_error(c, STR("null"), RPC_FRAME_TOO_LARGE, buf_view(&detail));
}

void request_cut(struct conn *c)
{
    put_error(c, STR("null"), RPC_PARSE_ERROR, STR("the last message has no line feed behind it; it was not run"));
}

void request_refuse_client(struct conn *c, enum rpc_error error)
{
    CLEANUP(buf_free) struct buf detail = {0};
    if (error == RPC_LIMIT_REACHED)
        buf_printf(&detail, "%lld clients are connected (clients_max); close one, or raise the limit",
                   (long long)c->rpc->d->config->limits.clients_max);
    else
        buf_puts(&detail, "this daemon serves the user who runs it, and nobody else");
    put_error(c, STR("null"), error, buf_view(&detail));
}
