/* What we write into a context: for each wire, a request of any texts is JSON, the same bytes each time, and
 * says those texts. Input, separated by 0x1e: the name of the model, the instructions, then items: a letter
 * for the kind with the text behind it, and, for an output, the id of its call. */
#include <jansson.h>

#include "fuzz.h"

#include "daemon/base/mem.h"
#include "daemon/model/provider.h"
#include "daemon/model/wire.h"

struct request {
    const struct provider *provider;
    struct buf body;
    bool raw; /* it holds an item of somebody else: only as strict as that */
    size_t items;
    struct buf last; /* the text of the last message */
};

static void put_one(struct request *r, struct context_item *item)
{
    if (item->kind == CONTEXT_RAW && !wire_json_valid(item->text, 32))
        return;
    r->raw |= item->kind == CONTEXT_RAW;
    if (r->items++)
        buf_putc(&r->body, ',');
    r->provider->put_item(&r->body, item);
    buf_clear(&r->last);
    if (item->kind == CONTEXT_USER || item->kind == CONTEXT_ASSISTANT)
        buf_str(&r->last, item->text);
}

static void put_items(struct request *r, struct str in)
{
    static const enum context_kind kinds[] = {CONTEXT_RAW,       CONTEXT_USER,        CONTEXT_NOTE,
                                              CONTEXT_ASSISTANT, CONTEXT_TOOL_OUTPUT, CONTEXT_IMAGE};
    static const char letters[] = "runati";
    while (in.n || r->items == 0) {
        CLEANUP(buf_free) struct buf text = {0}, id = {0};
        unsigned char c = (unsigned char)fuzz_byte(&in);
        const char *letter = c ? strchr(letters, c) : NULL;
        struct context_item item = {.kind = kinds[letter ? letter - letters : c % 5 + 1], .tool = STR("t")};
        struct str bytes = fuzz_field(&in);
        item.text = item.kind == CONTEXT_IMAGE ? bytes : fuzz_utf8(&text, bytes);
        item.media_type = STR("image/png");
        if (item.kind == CONTEXT_TOOL_OUTPUT)
            item.wire_id = fuzz_utf8(&id, fuzz_field(&in));
        put_one(r, &item);
    }
}

static void put_request(struct request *r, struct str in)
{
    static const struct provider_tool tool = {
        .name = "t", .description = "d", .parameters = "{\"type\":\"object\"}"};
    CLEANUP(buf_free) struct buf name = {0}, instructions = {0};
    struct model_spec spec = {.max_output_tokens = 7};
    spec.name = fuzz_utf8(&name, fuzz_field(&in));
    r->provider->put_head(&r->body, &spec, &tool, 1, fuzz_utf8(&instructions, fuzz_field(&in)), spec.name);
    put_items(r, in);
    r->provider->put_tail(&r->body, &spec);
}

/* The text of the last item, as a provider would read it. */
static const json_t *last_text(const struct request *r, const json_t *body)
{
    const json_t *items = json_object_get(body, r->provider == &provider_chat ? "messages" : "input");
    const json_t *last = json_array_get(items, json_array_size(items) - 1);
    const json_t *content = json_object_get(last, "content");
    return json_is_array(content) ? json_object_get(json_array_get(content, 0), "text") : content;
}

static void check(const struct provider *provider, struct str in)
{
    struct request r = {.provider = provider}, again = {.provider = provider};
    put_request(&r, in);
    put_request(&again, in);
    HOLDS(str_eq(buf_view(&r.body), buf_view(&again.body)));
    HOLDS(wire_json_valid(buf_view(&r.body), 64));
    json_t *body = json_loadb(r.body.p, r.body.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    HOLDS(body || r.raw);
    if (body && r.last.n) {
        const json_t *text = last_text(&r, body);
        HOLDS(str_eq(buf_view(&r.last), str_n(json_string_value(text), json_string_length(text))));
    }
    json_decref(body);
    buf_free(&r.body);
    buf_free(&r.last);
    buf_free(&again.body);
    buf_free(&again.last);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check(&provider_responses, fuzz_input(data, size));
    check(&provider_chat, fuzz_input(data, size));
    return 0;
}
