/* OpenAI Responses: how a request is written. The reading half is responses_parser.c. Source: the types of
 * npm `openai`, resources/responses. */
#include "daemon/model/responses.h"

#include "daemon/base/json.h"

static void put_tools(struct buf *b, const struct provider_tool *tools, size_t n)
{
    buf_puts(b, ",\"tools\":[");
    for (size_t i = 0; i < n; i++) {
        buf_puts(b, i > 0 ? ",{\"type\":\"function\",\"name\":" : "{\"type\":\"function\",\"name\":");
        json_put_string(b, str_of(tools[i].name));
        buf_puts(b, ",\"description\":");
        json_put_string(b, str_of(tools[i].description));
        buf_puts(b, ",\"strict\":false,\"parameters\":");
        buf_puts(b, tools[i].parameters);
        buf_putc(b, '}');
    }
    buf_puts(b, "],\"parallel_tool_calls\":true");
}

/* Nothing is stored at the provider, so the reasoning has to come along, encrypted, for the next step to go
 * on from it. */
static void put_head(struct buf *b, const struct model_spec *spec, const struct provider_tool *tools,
                     size_t tools_n, struct str instructions, struct str cache_key)
{
    buf_puts(b, "{\"model\":");
    json_put_string(b, spec->name);
    buf_puts(b, ",\"stream\":true,\"store\":false,\"include\":[\"reasoning.encrypted_content\"]");
    if (spec->max_output_tokens > 0)
        buf_printf(b, ",\"max_output_tokens\":%lld", (long long)spec->max_output_tokens);
    if (cache_key.n > 0) {
        buf_puts(b, ",\"prompt_cache_key\":");
        json_put_string(b, cache_key);
    }
    if (tools_n > 0)
        put_tools(b, tools, tools_n);
    if (instructions.n > 0) {
        buf_puts(b, ",\"instructions\":");
        json_put_string(b, instructions);
    }
    buf_puts(b, ",\"input\":[");
}

static void put_message(struct buf *b, const char *role, const char *type, const char *mark, struct str text)
{
    buf_printf(b, "{\"type\":\"message\",\"role\":\"%s\",\"content\":[{\"type\":\"%s\",\"text\":\"%s", role,
               type, mark);
    json_put_escaped(b, text);
    buf_puts(b, "\"}]}");
}

static void put_output(struct buf *b, const struct context_item *item)
{
    buf_puts(b, "{\"type\":\"function_call_output\",\"call_id\":");
    json_put_string(b, item->wire_id);
    buf_puts(b, ",\"output\":");
    json_put_string(b, item->text);
    buf_putc(b, '}');
}

static void put_image(struct buf *b, const struct context_item *item)
{
    buf_puts(
        b,
        "{\"type\":\"message\",\"role\":\"user\",\"content\":[{\"type\":\"input_image\",\"detail\":\"auto\","
        "\"image_url\":");
    provider_put_data_url(b, item->media_type, item->text);
    buf_puts(b, "}]}");
}

static void put_item(struct buf *b, const struct context_item *item)
{
    switch (item->kind) {
    case CONTEXT_RAW:
        buf_str(b, item->text);
        break;
    case CONTEXT_USER:
        put_message(b, "user", "input_text", "", item->text);
        break;
    case CONTEXT_NOTE:
        put_message(b, "user", "input_text", PROVIDER_NOTE_MARK, item->text);
        break;
    case CONTEXT_ASSISTANT:
        put_message(b, "assistant", "output_text", "", item->text);
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

const struct provider provider_responses = {
    .wire = "openai-responses",
    .path = "/responses",
    .key_header = "Authorization: Bearer ",
    .put_head = put_head,
    .put_item = put_item,
    .put_tail = put_tail,
    .parser_new = responses_parser_new,
    .parser_free = responses_parser_free,
    .parser_event = responses_parser_event,
    .parser_fault = responses_parser_fault,
    .parser_complete = responses_parser_complete,
    .parser_response = responses_parser_response,
    .parser_partial = responses_parser_partial,
};
