#include "stream.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"
#include "daemon/model/sse.h"
#include "daemon/model/wire.h"
#include "daemon/tools/tools.h"

#define PARTS_SEEN_MAX 4096

static const struct model_spec spec = {
    .name = STR("m"), .wire = STR("w"), .base_url = STR("http://localhost/v1")};

struct reading {
    const struct provider *provider;
    size_t parts; /* that deltas were told of */
    unsigned char kinds[PARTS_SEEN_MAX];
    bool done, failed;
    struct buf log;
};

static void delta_cb(void *arg, enum delta_kind kind, size_t part, struct str text)
{
    struct reading *r = arg;
    HOLDS(text.n > 0 && utf8_valid(text));
    HOLDS(part < PARTS_SEEN_MAX);
    HOLDS(part >= r->parts || r->kinds[part] == 0 || r->kinds[part] == kind + 1);
    if (part >= r->parts)
        r->parts = part + 1;
    r->kinds[part] = (unsigned char)(kind + 1);
}

/* ---- a response ---- */

static void check_call(const struct call_spec *call)
{
    struct limits limits = limits_default();
    CLEANUP(proto_arena_free) struct proto_arena arena = {0};
    struct call_spec prepared = {.wire_id = call->wire_id};
    HOLDS(call->wire_id.n > 0 && utf8_valid(call->wire_id) && utf8_valid(call->tool) &&
          utf8_valid(call->arguments));
    tools_prepare(call->tool, call->arguments, STR("/w"), &limits, &arena, &prepared);
    HOLDS(fuzz_json(prepared.arguments) || wire_json_valid(prepared.arguments, 64));
}

static void check_parts(struct reading *r, const struct model_response *response)
{
    static const unsigned char kinds[] = {[PART_MESSAGE] = DELTA_KIND_MESSAGE_DELTA + 1,
                                          [PART_REASONING] = DELTA_KIND_REASONING_DELTA + 1,
                                          [PART_CALL] = DELTA_KIND_TOOL_DELTA + 1};
    /* Responses drops what was announced and stayed without content, so what comes behind it moves up. */
    bool numbered = r->provider == &provider_chat;
    HOLDS(!numbered || r->parts <= response->parts_n);
    for (size_t i = 0; i < response->parts_n; i++) {
        const struct model_part *part = &response->parts[i];
        HOLDS(utf8_valid(part->text));
        HOLDS(!numbered || i >= r->parts || r->kinds[i] == 0 || r->kinds[i] == kinds[part->kind]);
        buf_printf(&r->log, "%d %zu %zu\n", (int)part->kind, part->text.n, part->call.arguments.n);
        if (part->kind == PART_CALL)
            check_call(&part->call);
    }
}

/* Law 6: the bytes of the response stand in every later request. */
static void check_next_request(const struct reading *r, const struct model_response *response)
{
    CLEANUP(buf_free) struct buf body = {0};
    size_t depth_max = (size_t)limits_default().depth_max;
    struct context_item item = {.kind = CONTEXT_USER, .text = STR("go on")};
    r->provider->put_head(&body, &spec, NULL, 0, STR("instructions"), STR("key"));
    for (size_t i = 0; i < response->raw_n; i++) {
        HOLDS(wire_json_valid(response->raw[i], depth_max + 8) && response->raw[i].p[0] == '{');
        HOLDS(!memchr(response->raw[i].p, '\n', response->raw[i].n));
        buf_str(&body, response->raw[i]);
        buf_putc(&body, ',');
    }
    r->provider->put_item(&body, &item);
    r->provider->put_tail(&body, &spec);
    HOLDS(wire_json_valid(buf_view(&body), depth_max + 16));
}

static void check_response(struct reading *r, struct provider_parser *p)
{
    const struct model_response *response = r->provider->parser_response(p);
    const struct proto_usage *u = &response->usage;
    HOLDS(u->input_tokens >= 0 && u->cached_input_tokens >= 0 && u->output_tokens >= 0 &&
          u->reasoning_tokens >= 0);
    check_parts(r, response);
    check_next_request(r, response);
    r->done = true;
}

/* ---- a stream ---- */

static bool take_event(struct reading *r, struct provider_parser *p, const struct sse_event *event)
{
    enum provider_event found = r->provider->parser_event(p, event->event, event->data);
    r->failed = found == PROVIDER_FAILED;
    HOLDS(r->failed == r->provider->parser_fault(p)->set);
    HOLDS(utf8_valid(r->provider->parser_partial(p)));
    if (found == PROVIDER_DONE)
        check_response(r, p);
    return !r->done && !r->failed;
}

static void check_fault(const struct fault *f)
{
    HOLDS(f->message.n > 0 && fuzz_one_line(buf_view(&f->message)));
    HOLDS(f->retry_after_ms >= 0);
}

static void read_pieces(struct reading *r, struct str bytes, size_t piece)
{
    static const struct model_callbacks callbacks = {.delta = delta_cb};
    struct limits limits = limits_default();
    struct provider_parser *p = r->provider->parser_new(&limits, &callbacks, r);
    struct sse s;
    struct sse_event event;
    bool more = true;
    sse_init(&s, 1 << 20, 1 << 20);
    for (size_t i = 0; i < bytes.n && more; i += piece) {
        sse_feed(&s, str_n(bytes.p + i, piece < bytes.n - i ? piece : bytes.n - i));
        while (more && sse_next(&s, &event) == 1)
            more = take_event(r, p, &event);
    }
    if (more && r->provider->parser_complete(p))
        check_response(r, p);
    if (r->failed)
        check_fault(r->provider->parser_fault(p));
    sse_free(&s);
    r->provider->parser_free(p);
}

void stream_check(const struct provider *provider, struct str in)
{
    size_t piece = 1 + fuzz_byte(&in);
    struct reading whole = {.provider = provider}, pieces = {.provider = provider};
    read_pieces(&whole, in, in.n + 1);
    read_pieces(&pieces, in, piece);
    HOLDS(whole.done == pieces.done && whole.failed == pieces.failed);
    HOLDS(str_eq(buf_view(&whole.log), buf_view(&pieces.log)));
    buf_free(&whole.log);
    buf_free(&pieces.log);
}
