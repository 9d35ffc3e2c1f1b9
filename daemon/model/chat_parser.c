/* OpenAI Chat Completions: how a stream is read. There is no final message on this wire, so it is put
 * together from the pieces of the stream, each as it was escaped. Servers differ in what they leave out: ids
 * and numbers of calls, [DONE], usage.
 *
 * Reasoning goes back under the name under which it came: DeepSeek and Kimi refuse a history without it, vLLM
 * and llama.cpp give it to the model's template, and OpenAI, which has no such member, never sends it. */
#include "daemon/model/chat.h"
#include "daemon/model/parts.h"
#include "daemon/model/wire.h"

#include "daemon/base/mem.h"

struct provider_parser {
    const struct limits *limits;
    struct parts parts;
    struct fault fault;
    struct part *content, *refusal, *reasoning;
    const char *reasoning_name; /* the member in which it comes */
    bool started, finished, done;
    enum finish finish;
    struct proto_usage usage;
    struct buf message; /* what goes into the context */
};

struct provider_parser *chat_parser_new(const struct limits *limits, const struct model_callbacks *callbacks,
                                        void *arg)
{
    struct provider_parser *p = MEM_NEW(struct provider_parser);
    p->limits = limits;
    parts_init(&p->parts, callbacks, arg);
    return p;
}

void chat_parser_free(struct provider_parser *p)
{
    if (!p)
        return;
    parts_free(&p->parts);
    fault_free(&p->fault);
    buf_free(&p->message);
    mem_free(p);
}

static enum provider_event malformed(struct provider_parser *p, const char *what)
{
    fault_set(&p->fault, MODEL_FAULT_MALFORMED, "the stream cannot be read: %s", what);
    return PROVIDER_FAILED;
}

/* ---- pieces ---- */

/* A piece of text for the part in *slot, which is made when the first one comes. */
static enum provider_event put_piece(struct provider_parser *p, struct part **slot, enum part_kind kind,
                                     struct str value)
{
    struct str inside = wire_inside(value);
    if (inside.n == 0)
        return PROVIDER_QUIET;
    if (!*slot && !(*slot = parts_add(&p->parts, true, kind, -1)))
        return malformed(p, "too many parts");
    parts_put(&p->parts, *slot, inside);
    return PROVIDER_PROGRESS;
}

static enum provider_event put_reasoning(struct provider_parser *p, struct str delta)
{
    static const char *const names[] = {"reasoning_content", "reasoning"};
    for (size_t i = 0; !p->reasoning_name && i < sizeof names / sizeof *names; i++)
        if (wire_inside(json_find(delta, names[i])).n > 0)
            p->reasoning_name = names[i];
    if (!p->reasoning_name)
        return PROVIDER_QUIET;
    return put_piece(p, &p->reasoning, PART_REASONING, json_find(delta, p->reasoning_name));
}

static struct part *call_with_id(struct provider_parser *p, struct str id)
{
    for (size_t i = 0; i < p->parts.n; i++)
        if (p->parts.all[i]->kind == PART_CALL && str_eq(buf_view(&p->parts.all[i]->id_raw), id))
            return p->parts.all[i];
    return NULL;
}

static struct part *last_call(struct provider_parser *p)
{
    for (size_t i = p->parts.n; i-- > 0;)
        if (p->parts.all[i]->kind == PART_CALL)
            return p->parts.all[i];
    return NULL;
}

/* The call that a piece belongs to; NULL: a new one. The number decides, unless another id shows that the
 * server gives all calls the same; without a number the id does; without both, a name begins a new call. */
static struct part *find_call(struct provider_parser *p, int64_t index, struct str id, struct str name)
{
    struct part *part = NULL;
    if (index >= 0) {
        for (size_t i = p->parts.n; !part && i-- > 0;)
            if (p->parts.all[i]->kind == PART_CALL && p->parts.all[i]->index == index)
                part = p->parts.all[i];
        bool other = part && id.n > 0 && part->id_raw.n > 0 && !str_eq(buf_view(&part->id_raw), id);
        return other && name.n > 0 ? call_with_id(p, id) : part;
    }
    if (id.n > 0)
        return call_with_id(p, id);
    return name.n > 0 ? NULL : last_call(p);
}

static void put_arguments(struct provider_parser *p, struct part *part, struct str arguments)
{
    struct str inside = wire_inside(arguments);
    if (inside.n > 0) {
        parts_put(&p->parts, part, inside);
    } else if (!inside.p && !wire_is_null(arguments)) { /* an object where a string should be */
        struct buf escaped = {0};
        json_put_escaped(&escaped, arguments);
        parts_put(&p->parts, part, buf_view(&escaped));
        buf_free(&escaped);
    }
}

static enum provider_event put_call(struct provider_parser *p, struct str call)
{
    struct str function = json_find(call, "function");
    struct str id = json_find(call, "id"), name = json_find(function, "name");
    int64_t index = wire_int(json_find(call, "index"), -1);
    struct part *part = find_call(p, index, wire_inside(id), wire_inside(name));
    if (!part && !(part = parts_add(&p->parts, true, PART_CALL, index)))
        return malformed(p, "too many calls");
    part_set_id(part, id);
    part_set_name(part, name);
    struct str extra =
        json_find(call, "extra_content"); /* Gemini's thought signature, without which it refuses the call */
    if (part->extra.n == 0 && !wire_is_null(extra))
        wire_put_raw(&part->extra, extra);
    put_arguments(p, part, json_find(function, "arguments"));
    return PROVIDER_PROGRESS;
}

/* ---- the end ---- */

/* Servers parse the arguments of earlier calls when they fill a template, and refuse the whole request where
 * they cannot: a call with broken arguments would make every later step fail. The model still sees what it
 * wrote. */
static void put_message_arguments(struct buf *b, const struct part *part, size_t depth_max)
{
    struct str text = buf_view(&part->text);
    if (part->text.n == 0) {
        buf_puts(b, "{}");
    } else if (text.p[0] != '{' || !wire_json_valid(text, depth_max)) {
        struct buf wrapped = {0};
        buf_puts(&wrapped, "{\"arguments_that_were_not_json\":");
        json_put_string(&wrapped, text);
        buf_putc(&wrapped, '}');
        json_put_escaped(b, buf_view(&wrapped));
        buf_free(&wrapped);
    } else {
        buf_str(b, buf_view(&part->raw));
    }
}

static void put_message_call(struct buf *b, const struct part *part, size_t depth_max)
{
    buf_puts(b, "{\"id\":\"");
    buf_str(b, buf_view(&part->id_raw));
    buf_puts(b, "\",\"type\":\"function\",\"function\":{\"name\":\"");
    buf_str(b, buf_view(&part->name_raw));
    buf_puts(b, "\",\"arguments\":\"");
    put_message_arguments(b, part, depth_max);
    buf_puts(b, "\"}");
    if (part->extra.n > 0) {
        buf_puts(b, ",\"extra_content\":");
        buf_str(b, buf_view(&part->extra));
    }
    buf_putc(b, '}');
}

static void put_member(struct buf *b, const char *name, const struct part *part)
{
    buf_printf(b, ",\"%s\":\"", name);
    buf_str(b, buf_view(&part->raw));
    buf_putc(b, '"');
}

static size_t put_message_calls(struct buf *b, const struct parts *parts, size_t depth_max)
{
    size_t n = 0;
    for (size_t i = 0; i < parts->n; i++) {
        if (parts->all[i]->kind != PART_CALL)
            continue;
        buf_puts(b, n++ == 0 ? ",\"tool_calls\":[" : ",");
        put_message_call(b, parts->all[i], depth_max);
    }
    if (n > 0)
        buf_putc(b, ']');
    return n;
}

/* Returns the number of calls. */
static size_t put_message(struct provider_parser *p)
{
    struct buf *b = &p->message;
    buf_puts(b, "{\"role\":\"assistant\"");
    if (p->content)
        put_member(b, "content", p->content);
    else
        buf_puts(b, p->parts.n == (p->reasoning ? 1 : 0) ? ",\"content\":\"\"" : ",\"content\":null");
    if (p->refusal)
        put_member(b, "refusal", p->refusal);
    if (p->reasoning)
        put_member(b, p->reasoning_name, p->reasoning);
    size_t calls = put_message_calls(b, &p->parts, (size_t)p->limits->depth_max);
    buf_putc(b, '}');
    return calls;
}

static bool complete_calls(struct provider_parser *p)
{
    for (size_t i = 0; i < p->parts.n; i++) {
        struct part *part = p->parts.all[i];
        if (part->kind != PART_CALL)
            continue;
        if (part->name.n == 0)
            return false;
        if (part->id.n == 0) {
            provider_put_call_id(&part->id);
            buf_str(&part->id_raw, buf_view(&part->id));
        }
    }
    return true;
}

static enum provider_event finish(struct provider_parser *p)
{
    struct str raw = STR_NONE;
    if (!p->started)
        return malformed(p, "it ended before it began");
    if (!complete_calls(p))
        return malformed(p, "a call without the name of its tool");
    if (p->parts.n > 0) {
        size_t calls = put_message(p);
        if (calls > 0 && p->finish == FINISH_STOP)
            p->finish = FINISH_TOOL_CALLS;
        raw = buf_view(&p->message);
    }
    parts_respond(&p->parts, raw, p->finish, &p->usage);
    p->done = true;
    return PROVIDER_DONE;
}

/* ---- events ---- */

static enum finish read_finish(struct str reason)
{
    if (wire_is(reason, "tool_calls") || wire_is(reason, "function_call"))
        return FINISH_TOOL_CALLS;
    if (wire_is(reason, "length"))
        return FINISH_LENGTH;
    return wire_is(reason, "content_filter") ? FINISH_CONTENT_FILTER : FINISH_STOP;
}

static void read_usage(struct provider_parser *p, struct str usage)
{
    struct str in = json_find(usage, "prompt_tokens_details"),
               out = json_find(usage, "completion_tokens_details");
    int64_t hit = wire_int(json_find(usage, "prompt_cache_hit_tokens"), 0); /* DeepSeek */
    if (usage.n == 0 || usage.p[0] != '{')
        return;
    p->usage = (struct proto_usage){.input_tokens = wire_int(json_find(usage, "prompt_tokens"), 0),
                                    .cached_input_tokens = wire_int(json_find(in, "cached_tokens"), hit),
                                    .output_tokens = wire_int(json_find(usage, "completion_tokens"), 0),
                                    .reasoning_tokens = wire_int(json_find(out, "reasoning_tokens"), 0)};
}

/* The more telling of two results: a failure, then progress. */
static enum provider_event both(enum provider_event a, enum provider_event b)
{
    if (a == PROVIDER_FAILED || b == PROVIDER_FAILED)
        return PROVIDER_FAILED;
    return a > b ? a : b;
}

static enum provider_event read_delta(struct provider_parser *p, struct str delta)
{
    enum provider_event result = put_reasoning(p, delta);
    struct str call;
    result = both(result, put_piece(p, &p->content, PART_MESSAGE, json_find(delta, "content")));
    result = both(result, put_piece(p, &p->refusal, PART_MESSAGE, json_find(delta, "refusal")));
    struct str calls = json_find(delta, "tool_calls");
    for (size_t state = 0; result != PROVIDER_FAILED && wire_each(calls, &state, &call);)
        result = both(result, put_call(p, call));
    return result;
}

static enum provider_event read_choice(struct provider_parser *p, struct str choice)
{
    struct str reason = json_find(choice, "finish_reason");
    if (wire_int(json_find(choice, "index"), 0) != 0)
        return PROVIDER_QUIET;
    enum provider_event result = p->started ? PROVIDER_QUIET : PROVIDER_PROGRESS;
    p->started = true;
    result = both(result, read_delta(p, json_find(choice, "delta")));
    read_usage(p, json_find(choice, "usage")); /* Moonshot */
    if (wire_is_null(reason) || result == PROVIDER_FAILED)
        return result;
    if (wire_is(reason, "error")) {
        fault_set(&p->fault, MODEL_FAULT_SERVER,
                  "the provider ended the response with an error that it does not explain");
        return PROVIDER_FAILED;
    }
    if (!p->finished)
        p->finish = read_finish(reason);
    p->finished = true;
    return PROVIDER_PROGRESS;
}

enum provider_event chat_parser_event(struct provider_parser *p, struct str event, struct str data)
{
    struct str choice, usage;
    size_t state = 0;
    if (p->fault.set)
        return PROVIDER_FAILED;
    if (p->done || str_eqz(data, "[DONE]"))
        return p->done ? PROVIDER_DONE : finish(p);
    if (!wire_json_valid(data, (size_t)p->limits->depth_max))
        return malformed(p, "an event that is not JSON, or is nested too deeply");
    if (!wire_is_null(json_find(data, "error")) || str_eqz(event, "error")) {
        fault_set_error(&p->fault, MODEL_FAULT_SERVER, data);
        return PROVIDER_FAILED;
    }
    usage = json_find(data, "usage");
    read_usage(p, usage);
    enum provider_event result = PROVIDER_QUIET;
    struct str choices = json_find(data, "choices");
    while (result != PROVIDER_FAILED && wire_each(choices, &state, &choice))
        result = both(result, read_choice(p, choice));
    if (state == 0 && !wire_is_null(usage))
        result = PROVIDER_PROGRESS;
    return result;
}

const struct fault *chat_parser_fault(struct provider_parser *p)
{
    return &p->fault;
}

bool chat_parser_complete(struct provider_parser *p)
{
    if (!p->done && p->finished && !p->fault.set)
        finish(p);
    return p->done;
}

const struct model_response *chat_parser_response(struct provider_parser *p)
{
    return &p->parts.response;
}

struct str chat_parser_partial(struct provider_parser *p)
{
    return parts_partial(&p->parts);
}
