/* OpenAI Chat Completions, as vLLM, llama.cpp, Ollama and OpenRouter understand it too: how a request is
 * written. The reading half is chat_parser.c. Only members that all of them take are sent; what is the
 * default is left out. Source: the types of npm `openai`, resources/chat/completions. */
#include "daemon/model/chat.h"

#include "daemon/base/json.h"

static void put_tools(struct buf *b, const struct provider_tool *tools, size_t n)
{
    buf_puts(b, ",\"tools\":[");
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buf_putc(b, ',');
        buf_puts(b, "{\"type\":\"function\",\"function\":{\"name\":");
        json_put_string(b, str_of(tools[i].name));
        buf_puts(b, ",\"description\":");
        json_put_string(b, str_of(tools[i].description));
        buf_puts(b, ",\"strict\":false,\"parameters\":");
        buf_puts(b, tools[i].parameters);
        buf_puts(b, "}}");
    }
    buf_puts(b, "],\"parallel_tool_calls\":true"); /* llama.cpp's default is false */
}

static void put_head(struct buf *b, const struct model_spec *spec, const struct provider_tool *tools,
                     size_t tools_n, struct str instructions, struct str cache_key)
{
    (void)cache_key; /* not every server takes an unknown member, and those with a cache find the prefix by
                        themselves */
    buf_puts(b, "{\"model\":");
    json_put_string(b, spec->name);
    buf_puts(b, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    if (spec->max_output_tokens > 0)
        buf_printf(b, ",\"max_completion_tokens\":%lld", (long long)spec->max_output_tokens);
    if (tools_n > 0)
        put_tools(b, tools, tools_n);
    buf_puts(b, ",\"messages\":[");
    if (instructions.n > 0) {
        buf_puts(b, "{\"role\":\"system\",\"content\":");
        json_put_string(b, instructions);
        buf_puts(b, "},");
    }
}

static void put_message(struct buf *b, const char *role, const char *mark, struct str text)
{
    buf_printf(b, "{\"role\":\"%s\",\"content\":\"%s", role, mark);
    json_put_escaped(b, text);
    buf_puts(b, "\"}");
}

static void put_output(struct buf *b, const struct context_item *item)
{
    buf_puts(b, "{\"role\":\"tool\",\"tool_call_id\":");
    json_put_string(b, item->wire_id);
    buf_puts(b, ",\"content\":");
    json_put_string(b, item->text);
    buf_putc(b, '}');
}

static void put_image(struct buf *b, const struct context_item *item)
{
    buf_puts(b, "{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":");
    provider_put_data_url(b, item->media_type, item->text);
    buf_puts(b, "}}]}");
}

static void put_item(struct buf *b, const struct context_item *item)
{
    switch (item->kind) {
    case CONTEXT_RAW:
        buf_str(b, item->text);
        break;
    case CONTEXT_USER:
        put_message(b, "user", "", item->text);
        break;
    case CONTEXT_NOTE:
        put_message(b, "user", PROVIDER_NOTE_MARK, item->text);
        break;
    case CONTEXT_ASSISTANT:
        put_message(b, "assistant", "", item->text);
        break;
    case CONTEXT_TOOL_OUTPUT:
        put_output(b, item);
        break;
    case CONTEXT_IMAGE:
        put_image(b, item);
        break;
    }
}

static void put_tail(struct buf *b, const struct model_spec *spec)
{
    (void)spec;
    buf_puts(b, "]}");
}

const struct provider provider_chat = {
    .wire = "openai-chat",
    .path = "/chat/completions",
    .key_header = "Authorization: Bearer ",
    .put_head = put_head,
    .put_item = put_item,
    .put_tail = put_tail,
    .parser_new = chat_parser_new,
    .parser_free = chat_parser_free,
    .parser_event = chat_parser_event,
    .parser_fault = chat_parser_fault,
    .parser_complete = chat_parser_complete,
    .parser_response = chat_parser_response,
    .parser_partial = chat_parser_partial,
};
