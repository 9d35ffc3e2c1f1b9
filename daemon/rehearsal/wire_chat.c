/* OpenAI Chat Completions: POST /v1/chat/completions. Shapes as in OpenAI's SDK types (npm `openai`,
 * resources/chat/completions/completions.d.ts); reasoning as vLLM, DeepSeek and llama.cpp stream it
 * (`reasoning_content`). */
#include "wire.h"

#include "daemon/base/json.h"

struct writer {
    struct reply *reply;
    const struct request *request;
    const struct answer *answer;
    const char *member; /* of the delta that is being written */
    size_t call;
};

/* Reading */

/* The calls of the last assistant message that have no answer yet. */
static int calls_answered(json_t *open, struct buf *error)
{
    const char *id = json_object_iter_key(json_object_iter(open));
    if (!id)
        return 0;
    buf_printf(error,
               "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
               "'tool_call_id'. "
               "The following tool_call_ids did not have response messages: %s",
               id);
    return -1;
}

static int calls_note(json_t *message, size_t i, json_t *open, struct buf *error)
{
    size_t j;
    json_t *call;
    json_array_foreach(json_object_get(message, "tool_calls"), j, call)
    {
        json_t *function = json_object_get(call, "function");
        const char *id = json_string_value(json_object_get(call, "id"));
        if (!id || !json_is_string(json_object_get(function, "name")) ||
            !json_is_string(json_object_get(function, "arguments"))) {
            buf_printf(
                error,
                "Missing required parameter: 'messages[%zu].tool_calls[%zu]' needs id, function.name and "
                "function.arguments.",
                i, j);
            return -1;
        }
        json_object_set_new(open, id, json_true());
    }
    return 0;
}

static int output_note(struct request *r, json_t *message, size_t i, json_t *open, struct buf *error)
{
    const char *id = json_string_value(json_object_get(message, "tool_call_id"));
    if (!id || json_object_del(open, id) < 0) {
        buf_printf(
            error,
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
            "'tool_calls' (messages[%zu]).",
            i);
        return -1;
    }
    request_output(r, json_object_get(message, "content"));
    return 0;
}

static int message_read(struct request *r, json_t *message, size_t i, json_t *open, struct buf *error)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    json_t *content = json_object_get(message, "content");
    if (!role) {
        buf_printf(error, "Missing required parameter: 'messages[%zu].role'.", i);
        return -1;
    }
    if (strcmp(role, "tool") == 0)
        return output_note(r, message, i, open, error);
    if (calls_answered(open, error) < 0)
        return -1;
    if (strcmp(role, "assistant") == 0) {
        request_assistant(r);
        return calls_note(message, i, open, error);
    }
    if (!json_is_string(content) && !json_is_array(content)) {
        buf_printf(error,
                   "Invalid value for 'content' of messages[%zu]: expected a string or a list of parts.", i);
        return -1;
    }
    if (strcmp(role, "user") == 0)
        request_user(r, content);
    else
        request_other(r);
    return 0;
}

static int chat_read(struct request *r, struct buf *error)
{
    json_t *messages = json_object_get(r->json, "messages"), *message, *open = json_object();
    r->include_usage =
        json_is_true(json_object_get(json_object_get(r->json, "stream_options"), "include_usage"));
    int rc = 0;
    size_t i;
    if (json_array_size(messages) == 0) {
        buf_puts(error, "Missing required parameter: 'messages'.");
        rc = -1;
    }
    json_array_foreach(messages, i, message)
    {
        rc = message_read(r, message, i, open, error);
        if (rc < 0)
            break;
    }
    if (rc == 0)
        rc = calls_answered(open, error);
    json_decref(open);
    if (rc == 0)
        request_finish(r, json_object_get(r->json, "prompt_cache_key"));
    return rc;
}

/* Writing */

static const char *finish_reason(const struct answer *a)
{
    return a->finish_length ? "length" : a->calls_n > 0 ? "tool_calls" : "stop";
}

static void put_usage(struct buf *b, const struct usage *u)
{
    buf_printf(b, "{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,\"total_tokens\":%lld,",
               (long long)u->input_tokens, (long long)u->output_tokens,
               (long long)(u->input_tokens + u->output_tokens));
    buf_printf(b,
               "\"prompt_tokens_details\":{\"cached_tokens\":%lld},\"completion_tokens_details\":{"
               "\"reasoning_tokens\":%lld}}",
               (long long)u->cached_input_tokens, (long long)u->reasoning_tokens);
}

static void put_call(struct buf *b, const struct writer *w, size_t i, struct str arguments)
{
    const struct call *call = &w->answer->calls[i];
    buf_puts(b, "\"id\":");
    wire_put_id(b, "call", w->request, w->answer, i);
    buf_puts(b, ",\"type\":\"function\",\"function\":{\"name\":");
    json_put_string(b, call->tool);
    buf_puts(b, ",\"arguments\":");
    json_put_string(b, arguments);
    buf_putc(b, '}');
}

static void put_envelope(struct buf *b, const struct writer *w, const char *object)
{
    buf_puts(b, "{\"id\":");
    wire_put_id(b, "chatcmpl", w->request, w->answer, 0);
    buf_printf(b, ",\"object\":\"%s\",\"created\":%lld,\"model\":", object, (long long)w->answer->created);
    json_put_string(b, w->request->model);
    buf_puts(b, ",\"service_tier\":\"default\",\"system_fingerprint\":null,\"choices\":[");
}

/* A chunk is open while its delta is written. */
static struct buf *chunk_open(struct writer *w)
{
    struct buf *b = &w->reply->body;
    buf_puts(b, "data: ");
    put_envelope(b, w, "chat.completion.chunk");
    buf_puts(b, "{\"index\":0,\"delta\":{");
    return b;
}

static void chunk_close(struct writer *w, const char *finish)
{
    struct buf *b = &w->reply->body;
    buf_puts(b, "},\"logprobs\":null,\"finish_reason\":");
    if (finish)
        buf_printf(b, "\"%s\"}]", finish);
    else
        buf_puts(b, "null}]");
    if (w->request->include_usage)
        buf_puts(b, ",\"usage\":null");
    buf_puts(b, "}\n\n");
}

static void text_delta(void *arg, struct str piece)
{
    struct writer *w = arg;
    struct buf *b = chunk_open(w);
    buf_printf(b, "\"%s\":", w->member);
    json_put_string(b, piece);
    chunk_close(w, NULL);
    reply_delta_end(w->reply);
}

static void arguments_delta(void *arg, struct str piece)
{
    struct writer *w = arg;
    struct buf *b = chunk_open(w);
    buf_printf(b, "\"tool_calls\":[{\"index\":%zu,\"function\":{\"arguments\":", w->call);
    json_put_string(b, piece);
    buf_puts(b, "}}]");
    chunk_close(w, NULL);
    reply_delta_end(w->reply);
}

static void put_stream(struct writer *w)
{
    const struct answer *a = w->answer;
    w->reply->content_type = "text/event-stream; charset=utf-8";
    struct buf *b = chunk_open(w);
    buf_puts(b, "\"role\":\"assistant\",\"content\":\"\",\"refusal\":null");
    chunk_close(w, NULL);
    w->member = "reasoning_content";
    reply_pieces(a->reasoning, text_delta, w);
    w->member = "content";
    reply_pieces(a->say, text_delta, w);
    for (w->call = 0; w->call < a->calls_n; w->call++) {
        b = chunk_open(w);
        buf_printf(b, "\"tool_calls\":[{\"index\":%zu,", w->call);
        put_call(b, w, w->call, STR(""));
        buf_puts(b, "}]");
        chunk_close(w, NULL);
        reply_pieces(a->calls[w->call].arguments, arguments_delta, w);
    }
    chunk_open(w);
    chunk_close(w, finish_reason(a));
    if (w->request->include_usage) {
        buf_puts(b, "data: ");
        put_envelope(b, w, "chat.completion.chunk");
        buf_puts(b, "],\"usage\":");
        put_usage(b, &a->usage);
        buf_puts(b, "}\n\n");
    }
    buf_puts(b, "data: [DONE]\n\n");
}

static void put_document(struct writer *w)
{
    const struct answer *a = w->answer;
    struct buf *b = &w->reply->body;
    put_envelope(b, w, "chat.completion");
    buf_puts(b, "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
    if (a->say.p)
        json_put_string(b, a->say);
    else
        buf_puts(b, "null");
    buf_puts(b, ",\"refusal\":null,\"annotations\":[]");
    if (a->reasoning.p) {
        buf_puts(b, ",\"reasoning_content\":");
        json_put_string(b, a->reasoning);
    }
    for (size_t i = 0; i < a->calls_n; i++) {
        buf_puts(b, i == 0 ? ",\"tool_calls\":[{" : ",{");
        put_call(b, w, i, a->calls[i].arguments);
        buf_puts(b, i + 1 == a->calls_n ? "}]" : "}");
    }
    buf_printf(b, "},\"logprobs\":null,\"finish_reason\":\"%s\"}],\"usage\":", finish_reason(a));
    put_usage(b, &a->usage);
    buf_puts(b, "}\n");
}

static void chat_put_answer(struct reply *reply, const struct request *r, const struct answer *a)
{
    struct writer w = {.reply = reply, .request = r, .answer = a};
    if (r->stream)
        put_stream(&w);
    else
        put_document(&w);
}

const struct wire wire_chat = {"openai-chat", "/v1/chat/completions", chat_read, chat_put_answer};
