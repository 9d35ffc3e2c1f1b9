/* OpenAI Responses: how a stream is read. An item is kept as the bytes of `response.output_item.done`; deltas
 * are for the eyes, and for what a stream leaves unfinished. Servers differ (llama.cpp, vLLM, gateways): a
 * missing output_index, ids that change and items that are only in the closing event are all put up with. */
#include "daemon/model/parts.h"
#include "daemon/model/responses.h"
#include "daemon/model/wire.h"

#include "daemon/base/mem.h"

struct provider_parser {
    const struct limits *limits;
    struct parts parts;
    struct fault fault;
    unsigned stages; /* bits: which stages were announced */
    bool done;
};

enum { STAGE_CREATED = 1, STAGE_QUEUED = 2, STAGE_IN_PROGRESS = 4 };

struct provider_parser *responses_parser_new(const struct limits *limits,
                                             const struct model_callbacks *callbacks, void *arg)
{
    struct provider_parser *p = MEM_NEW(struct provider_parser);
    p->limits = limits;
    parts_init(&p->parts, callbacks, arg);
    return p;
}

void responses_parser_free(struct provider_parser *p)
{
    if (!p)
        return;
    parts_free(&p->parts);
    fault_free(&p->fault);
    mem_free(p);
}

static enum provider_event malformed(struct provider_parser *p, const char *what)
{
    fault_set(&p->fault, MODEL_FAULT_MALFORMED, "the stream cannot be read: %s", what);
    return PROVIDER_FAILED;
}

static bool item_kind(struct str item, enum part_kind *ret)
{
    struct str type = json_find(item, "type");
    if (wire_is(type, "message"))
        *ret = PART_MESSAGE;
    else if (wire_is(type, "reasoning"))
        *ret = PART_REASONING;
    else if (wire_is(type, "function_call"))
        *ret = PART_CALL;
    else
        return false;
    return true;
}

/* What is no object would stand in every later request, and be refused each time. */
static bool is_object(struct str item)
{
    return item.n > 0 && item.p[0] == '{';
}

static bool is_of_kind(const struct part *part, struct str item)
{
    enum part_kind kind = part->kind;
    return item_kind(item, &kind) == part->shown && kind == part->kind;
}

static struct part *part_find(struct provider_parser *p, struct str data, struct str id)
{
    int64_t index = wire_int(json_find(data, "output_index"), -1);
    if (index < 0 && id.n == 0)
        return p->parts.last;
    return parts_find(&p->parts, index, id);
}

static struct part *part_add_item(struct provider_parser *p, int64_t index, struct str item)
{
    enum part_kind kind = PART_MESSAGE;
    bool shown = item_kind(item, &kind);
    struct part *part = parts_add(&p->parts, shown, kind, index);
    if (part)
        wire_put_string(&part->item_id, json_find(item, "id"));
    return part;
}

/* ---- items ---- */

static void read_message(struct provider_parser *p, struct part *part, struct str item)
{
    struct buf text = {0};
    struct str content = json_find(item, "content"), piece, phase = json_find(item, "phase");
    for (size_t state = 0; wire_each(content, &state, &piece);)
        wire_put_string(&text,
                        json_find(piece, wire_is(json_find(piece, "type"), "refusal") ? "refusal" : "text"));
    wire_put_string(&text, content); /* a plain string */
    parts_finish_text(&p->parts, part, &text);
    part->has_phase = wire_is(phase, "commentary") || wire_is(phase, "final_answer");
    part->phase = wire_is(phase, "final_answer") ? PHASE_FINAL : PHASE_COMMENTARY;
}

static void put_texts(struct buf *b, struct str pieces)
{
    struct str piece;
    for (size_t state = 0; wire_each(pieces, &state, &piece);) {
        if (b->n > 0)
            buf_puts(b, "\n\n");
        wire_put_string(b, json_find(piece, "text"));
    }
}

/* The summary, or the reasoning itself where a model shows it; what was told already stays. */
static void read_reasoning(struct provider_parser *p, struct part *part, struct str item)
{
    struct buf text = {0};
    if (part->text.n > 0)
        return;
    put_texts(&text, json_find(item, "summary"));
    if (text.n == 0)
        put_texts(&text, json_find(item, "content"));
    parts_finish_text(&p->parts, part, &text);
}

static void read_call(struct provider_parser *p, struct part *part, struct str item)
{
    struct buf text = {0};
    struct str arguments = json_find(item, "arguments");
    part_set_id(part, json_find(item, "call_id"));
    part_set_name(part, json_find(item, "name"));
    if (wire_inside(arguments).p)
        wire_put_string(&text, arguments);
    else
        wire_put_raw(&text, arguments);
    parts_finish_text(&p->parts, part, &text);
}

static enum provider_event item_done(struct provider_parser *p, struct part *part, struct str item)
{
    if (part->done)
        return PROVIDER_QUIET;
    part->done = true;
    wire_put_raw(&part->item, item);
    if (!part->shown)
        return PROVIDER_PROGRESS;
    switch (part->kind) {
    case PART_MESSAGE:
        read_message(p, part, item);
        break;
    case PART_REASONING:
        read_reasoning(p, part, item);
        break;
    case PART_CALL:
        read_call(p, part, item);
        if (part->id.n == 0 || part->name.n == 0)
            return malformed(p, "a function call without call_id or name");
        break;
    }
    return PROVIDER_PROGRESS;
}

/* ---- events ---- */

static enum provider_event on_stage(struct provider_parser *p, unsigned stage)
{
    bool is_new = !(p->stages & stage);
    p->stages |= stage;
    return is_new ? PROVIDER_PROGRESS : PROVIDER_QUIET;
}

static enum provider_event on_created(struct provider_parser *p, struct str data)
{
    (void)data;
    return on_stage(p, STAGE_CREATED);
}

static enum provider_event on_queued(struct provider_parser *p, struct str data)
{
    (void)data;
    return on_stage(p, STAGE_QUEUED);
}

static enum provider_event on_in_progress(struct provider_parser *p, struct str data)
{
    (void)data;
    return on_stage(p, STAGE_IN_PROGRESS);
}

static enum provider_event on_item_added(struct provider_parser *p, struct str data)
{
    struct str item = json_find(data, "item");
    struct part *part = part_add_item(p, wire_int(json_find(data, "output_index"), -1), item);
    if (!part)
        return malformed(p, "too many items");
    part_set_id(part, json_find(item, "call_id"));
    part_set_name(part, json_find(item, "name"));
    return PROVIDER_PROGRESS;
}

static enum provider_event on_item_done(struct provider_parser *p, struct str data)
{
    struct str item = json_find(data, "item");
    if (!is_object(item))
        return malformed(p, "an item that is no object");
    struct buf id = {0};
    wire_put_string(&id, json_find(item, "id"));
    struct part *part = part_find(p, data, buf_view(&id));
    buf_free(&id);
    if (!part || part->done || !is_of_kind(part, item))
        part = part_add_item(p, wire_int(json_find(data, "output_index"), -1), item);
    return part ? item_done(p, part, item) : malformed(p, "too many items");
}

static enum provider_event on_delta(struct provider_parser *p, struct str data, enum part_kind kind,
                                    int64_t section)
{
    struct str delta = wire_inside(json_find(data, "delta")), id = wire_inside(json_find(data, "item_id"));
    struct part *part = part_find(p, data, id);
    if (delta.n == 0)
        return PROVIDER_QUIET;
    if (!part) {
        part = parts_add(&p->parts, true, kind, wire_int(json_find(data, "output_index"), -1));
        if (!part)
            return malformed(p, "too many items");
        wire_put_text(&part->item_id, id, false);
    }
    if (!part->shown || part->done || part->kind != kind)
        return PROVIDER_QUIET;
    if (part->text.n > 0 && part->section != section)
        parts_put(&p->parts, part, STR("\\n\\n"));
    part->section = section;
    parts_put(&p->parts, part, delta);
    return PROVIDER_PROGRESS;
}

static enum provider_event on_text_delta(struct provider_parser *p, struct str data)
{
    return on_delta(p, data, PART_MESSAGE, 0);
}

static enum provider_event on_summary_delta(struct provider_parser *p, struct str data)
{
    return on_delta(p, data, PART_REASONING, wire_int(json_find(data, "summary_index"), 0));
}

/* Numbered apart from the summaries. */
static enum provider_event on_reasoning_delta(struct provider_parser *p, struct str data)
{
    return on_delta(p, data, PART_REASONING, -1 - wire_int(json_find(data, "content_index"), 0));
}

static enum provider_event on_arguments_delta(struct provider_parser *p, struct str data)
{
    return on_delta(p, data, PART_CALL, 0);
}

/* ---- the end ---- */

static bool has_encrypted(struct str item)
{
    return wire_inside(json_find(item, "encrypted_content")).n > 0;
}

/* Takes from the closing event what the stream did not bring, or brought without its encrypted reasoning. */
static enum provider_event fill_from_output(struct provider_parser *p, struct str output)
{
    struct str item;
    bool none = p->parts.n == 0;
    int64_t index = 0;
    for (size_t state = 0; wire_each(output, &state, &item); index++) {
        if (!is_object(item))
            continue;
        struct buf id = {0};
        wire_put_string(&id, json_find(item, "id"));
        struct part *part = parts_find(&p->parts, index, buf_view(&id));
        buf_free(&id);
        if (!part && none && !(part = part_add_item(p, index, item)))
            return malformed(p, "too many items");
        if (!part || !is_of_kind(part, item))
            continue;
        if (!part->done && item_done(p, part, item) == PROVIDER_FAILED)
            return PROVIDER_FAILED;
        if (part->kind == PART_REASONING && !has_encrypted(buf_view(&part->item)) && has_encrypted(item)) {
            buf_clear(&part->item);
            wire_put_raw(&part->item, item);
        }
    }
    return PROVIDER_PROGRESS;
}

/* An item whose end never came, though the response has one: written from its pieces, so that no text and no
 * call is lost. */
static void finish_open(struct part *part)
{
    if (part->done || !part->shown)
        return;
    if (part->kind == PART_MESSAGE && part->raw.n > 0) {
        buf_puts(&part->item, "{\"type\":\"message\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_"
                              "text\",\"text\":\"");
        buf_str(&part->item, buf_view(&part->raw));
        buf_puts(&part->item, "\"}]}");
    } else if (part->kind == PART_CALL && part->id.n > 0 && part->name.n > 0) {
        buf_puts(&part->item, "{\"type\":\"function_call\",\"call_id\":\"");
        buf_str(&part->item, buf_view(&part->id_raw));
        buf_puts(&part->item, "\",\"name\":\"");
        buf_str(&part->item, buf_view(&part->name_raw));
        buf_puts(&part->item, "\",\"arguments\":\"");
        buf_str(&part->item, buf_view(&part->raw));
        buf_puts(&part->item, "\"}");
    } else if (part->kind != PART_REASONING) {
        part->shown = false;
    }
}

/* The API refuses reasoning that nothing follows ("provided without its required following item"), and
 * reasoning that is but an id, since nothing is stored. */
static void drop_refused(struct parts *parts)
{
    bool followed = false;
    for (size_t i = parts->n; i-- > 0;) {
        struct part *part = parts->all[i];
        if (!part->shown || part->kind != PART_REASONING) {
            followed = followed || part->item.n > 0;
            continue;
        }
        struct str item = buf_view(&part->item), content = json_find(item, "content"), piece;
        size_t state = 0;
        if (!followed || (!has_encrypted(item) && !wire_each(content, &state, &piece)))
            buf_clear(&part->item);
    }
}

static struct proto_usage read_usage(struct str usage)
{
    struct str in = json_find(usage, "input_tokens_details"), out = json_find(usage, "output_tokens_details");
    return (struct proto_usage){.input_tokens = wire_int(json_find(usage, "input_tokens"), 0),
                                .cached_input_tokens = wire_int(json_find(in, "cached_tokens"), 0),
                                .output_tokens = wire_int(json_find(usage, "output_tokens"), 0),
                                .reasoning_tokens = wire_int(json_find(out, "reasoning_tokens"), 0)};
}

static bool has_calls(const struct parts *parts)
{
    for (size_t i = 0; i < parts->n; i++)
        if (parts->all[i]->shown && parts->all[i]->kind == PART_CALL)
            return true;
    return false;
}

static enum provider_event finish(struct provider_parser *p, struct str response, enum finish reason)
{
    if (response.n == 0 || response.p[0] != '{')
        return malformed(p, "an end without its response");
    if (fill_from_output(p, json_find(response, "output")) == PROVIDER_FAILED)
        return PROVIDER_FAILED;
    for (size_t i = 0; i < p->parts.n; i++)
        finish_open(p->parts.all[i]);
    drop_refused(&p->parts);
    if (reason == FINISH_STOP && has_calls(&p->parts))
        reason = FINISH_TOOL_CALLS;
    struct proto_usage usage = read_usage(json_find(response, "usage"));
    parts_respond(&p->parts, STR_NONE, reason, &usage);
    p->done = true;
    return PROVIDER_DONE;
}

static enum provider_event on_failed(struct provider_parser *p, struct str data)
{
    struct str response = json_find(data, "response"), error = json_find(response, "error");
    fault_set_error(&p->fault, MODEL_FAULT_SERVER, wire_is_null(error) ? response : error);
    return PROVIDER_FAILED;
}

static enum provider_event on_error(struct provider_parser *p, struct str data)
{
    fault_set_error(&p->fault, MODEL_FAULT_SERVER, data);
    return PROVIDER_FAILED;
}

static enum provider_event on_incomplete(struct provider_parser *p, struct str data)
{
    struct str response = json_find(data, "response");
    struct str reason = json_find(json_find(response, "incomplete_details"), "reason");
    return finish(p, response, wire_is(reason, "content_filter") ? FINISH_CONTENT_FILTER : FINISH_LENGTH);
}

/* Some servers close with `response.completed` whatever the status is. */
static enum provider_event on_completed(struct provider_parser *p, struct str data)
{
    struct str response = json_find(data, "response"), status = json_find(response, "status");
    if (wire_is(status, "failed"))
        return on_failed(p, data);
    if (wire_is(status, "incomplete"))
        return on_incomplete(p, data);
    return finish(p, response, FINISH_STOP);
}

enum provider_event responses_parser_event(struct provider_parser *p, struct str event, struct str data)
{
    static const struct {
        const char *type;
        enum provider_event (*read)(struct provider_parser *p, struct str data);
    } events[] = {
        {"response.output_text.delta", on_text_delta},
        {"response.function_call_arguments.delta", on_arguments_delta},
        {"response.reasoning_summary_text.delta", on_summary_delta},
        {"response.reasoning_text.delta", on_reasoning_delta},
        {"response.refusal.delta", on_text_delta},
        {"response.created", on_created},
        {"response.queued", on_queued},
        {"response.in_progress", on_in_progress},
        {"response.output_item.added", on_item_added},
        {"response.output_item.done", on_item_done},
        {"response.completed", on_completed},
        {"response.incomplete", on_incomplete},
        {"response.failed", on_failed},
        {"error", on_error},
    };
    if (p->fault.set)
        return PROVIDER_FAILED;
    if (p->done || str_eqz(data, "[DONE]"))
        return p->done ? PROVIDER_DONE : PROVIDER_QUIET;
    if (!wire_json_valid(data, (size_t)p->limits->depth_max))
        return malformed(p, "an event that is not JSON, or is nested too deeply");
    struct str type = wire_inside(json_find(data, "type"));
    if (!type.p && !wire_is_null(json_find(data, "error")))
        return on_error(p, data);
    if (!type.p)
        type = event;
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (str_eqz(type, events[i].type))
            return events[i].read(p, data);
    return PROVIDER_QUIET;
}

const struct fault *responses_parser_fault(struct provider_parser *p)
{
    return &p->fault;
}

bool responses_parser_complete(struct provider_parser *p)
{
    return p->done;
}

const struct model_response *responses_parser_response(struct provider_parser *p)
{
    return &p->parts.response;
}

struct str responses_parser_partial(struct provider_parser *p)
{
    return parts_partial(&p->parts);
}
