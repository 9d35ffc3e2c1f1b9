/* OpenAI Responses: POST /v1/responses. Shapes and order of events as in OpenAI's SDK types (npm `openai`,
 * resources/responses/responses.d.ts). What only echoes the request (instructions, tools) is left out of the
 * answers. */
#include "wire.h"

#include "daemon/base/json.h"
#include "daemon/base/mem.h"

struct writer {
    struct reply *reply;
    const struct request *request;
    const struct answer *answer;
    bool stream;
    struct buf output; /* finished items, separated by commas */
    size_t index;      /* of the item that is being written */
    struct str item;   /* its id, with quotes */
};

/* Reading */

static int calls_pair(json_t *calls, json_t *outputs, struct buf *error)
{
    const char *id;
    json_t *value;
    json_object_foreach(calls, id, value)
    {
        if (!json_object_get(outputs, id)) {
            buf_printf(error, "No tool output found for function call %s.", id);
            return -1;
        }
    }
    json_object_foreach(outputs, id, value)
    {
        if (!json_object_get(calls, id)) {
            buf_printf(error, "No tool call found for function call output with call_id %s.", id);
            return -1;
        }
    }
    return 0;
}

static int call_note(json_t *ids, json_t *item, size_t i, struct buf *error)
{
    const char *id = json_string_value(json_object_get(item, "call_id"));
    if (id) {
        json_object_set_new(ids, id, json_true());
        return 0;
    }
    buf_printf(error, "Missing required parameter: 'input[%zu].call_id'.", i);
    return -1;
}

static int message_read(struct request *r, json_t *item, size_t i, struct buf *error)
{
    const char *role = json_string_value(json_object_get(item, "role"));
    json_t *content = json_object_get(item, "content");
    if (!role || (!json_is_string(content) && !json_is_array(content))) {
        buf_printf(error, "Invalid value: 'input[%zu]' must have a role and a content.", i);
        return -1;
    }
    if (strcmp(role, "assistant") == 0)
        request_assistant(r);
    else if (strcmp(role, "user") == 0)
        request_user(r, content);
    else
        request_other(r);
    return 0;
}

static int item_read(struct request *r, json_t *item, size_t i, json_t *calls, json_t *outputs,
                     struct buf *error)
{
    const char *type = json_string_value(json_object_get(item, "type"));
    if (!type || strcmp(type, "message") == 0)
        return message_read(r, item, i, error);
    if (strcmp(type, "function_call") == 0) {
        request_assistant(r);
        if (!json_is_string(json_object_get(item, "name")) ||
            !json_is_string(json_object_get(item, "arguments"))) {
            buf_printf(error,
                       "Missing required parameter: 'input[%zu].name' and '.arguments' must be strings.", i);
            return -1;
        }
        return call_note(calls, item, i, error);
    }
    if (strcmp(type, "function_call_output") == 0) {
        request_output(r, json_object_get(item, "output"));
        return call_note(outputs, item, i, error);
    }
    if (strcmp(type, "reasoning") == 0)
        request_assistant(r);
    else
        request_other(r);
    return 0;
}

static int input_read(struct request *r, json_t *input, struct buf *error)
{
    json_t *calls = json_object(), *outputs = json_object(), *item;
    size_t i;
    int rc = 0;
    json_array_foreach(input, i, item)
    {
        rc = item_read(r, item, i, calls, outputs, error);
        if (rc < 0)
            break;
    }
    if (rc == 0)
        rc = calls_pair(calls, outputs, error);
    json_decref(calls);
    json_decref(outputs);
    return rc;
}

static int responses_read(struct request *r, struct buf *error)
{
    json_t *input = json_object_get(r->json, "input"), *include = json_object_get(r->json, "include"), *value;
    size_t i;
    json_array_foreach(include, i, value)
    {
        const char *text = json_string_value(value);
        if (text && strcmp(text, "reasoning.encrypted_content") == 0)
            r->include_encrypted = true;
    }
    if (json_is_string(input)) {
        request_user(r, input);
    } else if (!json_is_array(input)) {
        buf_puts(error, "Missing required parameter: 'input'.");
        return -1;
    } else if (input_read(r, input, error) < 0) {
        return -1;
    }
    request_finish(r, json_object_get(r->json, "prompt_cache_key"));
    return 0;
}

/* Writing */

static void event_open(struct writer *w, const char *type)
{
    buf_printf(&w->reply->body, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%lld", type, type,
               (long long)w->reply->sequence++);
}

static void event_close(struct writer *w)
{
    buf_puts(&w->reply->body, "}\n\n");
}

/* An event about the item at hand; NULL for an event that carries the item itself. */
static bool item_event(struct writer *w, const char *type, const char *part_index)
{
    if (!w->stream)
        return false;
    event_open(w, type);
    buf_printf(&w->reply->body, ",\"output_index\":%zu", w->index);
    if (part_index) {
        buf_puts(&w->reply->body, ",\"item_id\":");
        buf_str(&w->reply->body, w->item);
        buf_puts(&w->reply->body, part_index);
    }
    return true;
}

static void text_event(struct writer *w, const char *type, const char *part_index, const char *member,
                       struct str text)
{
    if (!item_event(w, type, part_index))
        return;
    buf_printf(&w->reply->body, ",\"%s\":", member);
    json_put_string(&w->reply->body, text);
    event_close(w);
}

static void part_event(struct writer *w, const char *type, const char *part_index, const char *part,
                       struct str text)
{
    if (!item_event(w, type, part_index))
        return;
    buf_printf(&w->reply->body, ",\"part\":{\"type\":\"%s\",", part);
    if (strcmp(part, "output_text") == 0)
        buf_puts(&w->reply->body, "\"annotations\":[],\"logprobs\":[],");
    buf_puts(&w->reply->body, "\"text\":");
    json_put_string(&w->reply->body, text);
    buf_putc(&w->reply->body, '}');
    event_close(w);
}

static void item_begin(struct writer *w, const struct buf *item)
{
    if (!item_event(w, "response.output_item.added", NULL))
        return;
    buf_puts(&w->reply->body, ",\"item\":");
    buf_str(&w->reply->body, buf_view(item));
    event_close(w);
}

static void item_end(struct writer *w, const struct buf *item)
{
    if (item_event(w, "response.output_item.done", NULL)) {
        buf_puts(&w->reply->body, ",\"item\":");
        buf_str(&w->reply->body, buf_view(item));
        event_close(w);
    }
    if (w->output.n > 0)
        buf_putc(&w->output, ',');
    buf_str(&w->output, buf_view(item));
    w->index++;
}

struct deltas {
    struct writer *w;
    const char *type, *part_index;
};

static void delta_put(void *arg, struct str piece)
{
    const struct deltas *d = arg;
    if (!item_event(d->w, d->type, d->part_index))
        return;
    buf_puts(&d->w->reply->body, ",\"delta\":");
    json_put_string(&d->w->reply->body, piece);
    if (strcmp(d->type, "response.output_text.delta") == 0)
        buf_puts(&d->w->reply->body, ",\"logprobs\":[]");
    event_close(d->w);
    reply_delta_end(d->w->reply);
}

static void deltas_put(struct writer *w, const char *type, const char *part_index, struct str text)
{
    struct deltas d = {w, type, part_index};
    reply_pieces(text, delta_put, &d);
}

static void reasoning_item(struct writer *w, struct buf *b, bool whole)
{
    buf_puts(b, "{\"id\":");
    buf_str(b, w->item);
    buf_puts(b, ",\"type\":\"reasoning\",\"summary\":[");
    if (whole) {
        buf_puts(b, "{\"type\":\"summary_text\",\"text\":");
        json_put_string(b, w->answer->reasoning);
        buf_putc(b, '}');
    }
    buf_putc(b, ']');
    if (w->request->include_encrypted) {
        buf_puts(b, ",\"encrypted_content\":");
        wire_put_id(b, "gAAAAABrehearsal", w->request, w->answer, w->index);
    }
    buf_putc(b, '}');
}

static void put_reasoning(struct writer *w)
{
    static const char at[] = ",\"summary_index\":0";
    CLEANUP(buf_free) struct buf id = {0}, item = {0};
    wire_put_id(&id, "rs", w->request, w->answer, w->index);
    w->item = buf_view(&id);
    reasoning_item(w, &item, false);
    item_begin(w, &item);
    part_event(w, "response.reasoning_summary_part.added", at, "summary_text", STR(""));
    deltas_put(w, "response.reasoning_summary_text.delta", at, w->answer->reasoning);
    text_event(w, "response.reasoning_summary_text.done", at, "text", w->answer->reasoning);
    part_event(w, "response.reasoning_summary_part.done", at, "summary_text", w->answer->reasoning);
    buf_clear(&item);
    reasoning_item(w, &item, true);
    item_end(w, &item);
}

static void message_item(struct writer *w, struct buf *b, const char *status)
{
    bool whole = strcmp(status, "in_progress") != 0;
    buf_puts(b, "{\"id\":");
    buf_str(b, w->item);
    buf_printf(b, ",\"type\":\"message\",\"status\":\"%s\",\"role\":\"assistant\"", status);
    if (w->answer->phase.p)
        buf_printf(b, ",\"phase\":\"%s\"", w->answer->phase.p);
    buf_puts(b, ",\"content\":[");
    if (whole) {
        buf_puts(b, "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":");
        json_put_string(b, w->answer->say);
        buf_putc(b, '}');
    }
    buf_puts(b, "]}");
}

static void put_message(struct writer *w)
{
    static const char at[] = ",\"content_index\":0";
    CLEANUP(buf_free) struct buf id = {0}, item = {0};
    wire_put_id(&id, "msg", w->request, w->answer, w->index);
    w->item = buf_view(&id);
    message_item(w, &item, "in_progress");
    item_begin(w, &item);
    part_event(w, "response.content_part.added", at, "output_text", STR(""));
    deltas_put(w, "response.output_text.delta", at, w->answer->say);
    text_event(w, "response.output_text.done", at, "text", w->answer->say);
    part_event(w, "response.content_part.done", at, "output_text", w->answer->say);
    buf_clear(&item);
    message_item(w, &item, w->answer->finish_length && w->answer->calls_n == 0 ? "incomplete" : "completed");
    item_end(w, &item);
}

static void call_item(struct writer *w, struct buf *b, const struct call *call, bool whole)
{
    buf_puts(b, "{\"id\":");
    buf_str(b, w->item);
    buf_printf(
        b, ",\"type\":\"function_call\",\"status\":\"%s\",\"call_id\":", whole ? "completed" : "in_progress");
    wire_put_id(b, "call", w->request, w->answer, w->index);
    buf_puts(b, ",\"name\":");
    json_put_string(b, call->tool);
    buf_puts(b, ",\"arguments\":");
    json_put_string(b, whole ? call->arguments : STR(""));
    buf_putc(b, '}');
}

static void put_call(struct writer *w, const struct call *call)
{
    CLEANUP(buf_free) struct buf id = {0}, item = {0};
    wire_put_id(&id, "fc", w->request, w->answer, w->index);
    w->item = buf_view(&id);
    call_item(w, &item, call, false);
    item_begin(w, &item);
    deltas_put(w, "response.function_call_arguments.delta", "", call->arguments);
    if (item_event(w, "response.function_call_arguments.done", "")) {
        buf_puts(&w->reply->body, ",\"name\":");
        json_put_string(&w->reply->body, call->tool);
        buf_puts(&w->reply->body, ",\"arguments\":");
        json_put_string(&w->reply->body, call->arguments);
        event_close(w);
    }
    buf_clear(&item);
    call_item(w, &item, call, true);
    item_end(w, &item);
}

static void put_usage(struct buf *b, const struct usage *u)
{
    buf_printf(b, "{\"input_tokens\":%lld,\"input_tokens_details\":{\"cached_tokens\":%lld},",
               (long long)u->input_tokens, (long long)u->cached_input_tokens);
    buf_printf(
        b,
        "\"output_tokens\":%lld,\"output_tokens_details\":{\"reasoning_tokens\":%lld},\"total_tokens\":%lld}",
        (long long)u->output_tokens, (long long)u->reasoning_tokens,
        (long long)(u->input_tokens + u->output_tokens));
}

static void put_response(struct writer *w, const char *status)
{
    struct buf *b = &w->reply->body;
    bool whole = strcmp(status, "in_progress") != 0;
    buf_puts(b, "{\"id\":");
    wire_put_id(b, "resp", w->request, w->answer, 0);
    buf_printf(
        b,
        ",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\",\"background\":false,\"error\":null,",
        (long long)w->answer->created, status);
    buf_puts(b, "\"incomplete_details\":");
    buf_puts(b, strcmp(status, "incomplete") == 0 ? "{\"reason\":\"max_output_tokens\"}" : "null");
    buf_puts(b, ",\"instructions\":null,\"max_output_tokens\":null,\"model\":");
    json_put_string(b, w->request->model);
    buf_puts(b, ",\"output\":[");
    buf_str(b, buf_view(&w->output));
    buf_puts(
        b, "],\"parallel_tool_calls\":true,\"previous_response_id\":null,\"store\":false,\"temperature\":1.0,"
           "\"text\":{\"format\":{\"type\":\"text\"}},\"tool_choice\":\"auto\",\"tools\":[],\"top_p\":1.0,"
           "\"truncation\":\"disabled\",\"usage\":");
    if (whole)
        put_usage(b, &w->answer->usage);
    else
        buf_puts(b, "null");
    buf_puts(b, ",\"metadata\":{}}");
}

static void response_event(struct writer *w, const char *type, const char *status)
{
    event_open(w, type);
    buf_puts(&w->reply->body, ",\"response\":");
    put_response(w, status);
    event_close(w);
}

static void responses_put_answer(struct reply *reply, const struct request *r, const struct answer *a)
{
    struct writer w = {.reply = reply, .request = r, .answer = a, .stream = r->stream};
    const char *status = a->finish_length ? "incomplete" : "completed";
    if (w.stream) {
        reply->content_type = "text/event-stream; charset=utf-8";
        response_event(&w, "response.created", "in_progress");
        response_event(&w, "response.in_progress", "in_progress");
    }
    if (a->reasoning.p)
        put_reasoning(&w);
    if (a->say.p)
        put_message(&w);
    for (size_t i = 0; i < a->calls_n; i++)
        put_call(&w, &a->calls[i]);
    if (w.stream)
        response_event(&w, a->finish_length ? "response.incomplete" : "response.completed", status);
    else
        put_response(&w, status);
    buf_free(&w.output);
}

const struct wire wire_responses = {"openai-responses", "/v1/responses", responses_read,
                                    responses_put_answer};
