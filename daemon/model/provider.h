#pragma once
/* A provider is a pure translator between items and one wire format. It does no I/O and keeps no state but
 * its parser's.
 *
 * The body of a request is head, then the context items separated by commas, then tail; stored bytes, only
 * ever appended to (law 6). So head ends with the opening of the array and tail begins with its closing;
 * nothing in the tail may depend on anything but the spec. At least one item always follows the head: where
 * the wire wants the instructions as a first element, the head holds it with its comma. Sources: OpenAI's SDK
 * types (npm `openai`: responses, chat/completions). */
#include "daemon/core/types.h"
#include "daemon/model/fault.h"
#include "daemon/model/model.h"

#define PROVIDER_NOTE_MARK                                                                                   \
    "[agentd] " /* before the text of a note, which no wire has a role for that all servers take */

struct provider_tool {
    const char *name, *description, *parameters;
};

/* Collects one response. Fed with the events of a stream; says deltas as they come. */
struct provider_parser;

enum provider_event {
    PROVIDER_FAILED = -1,  /* see parser_fault() */
    PROVIDER_QUIET = 0,    /* nothing in it, or unknown: a sign of life, not progress */
    PROVIDER_PROGRESS = 1, /* content, or the response moved to another stage */
    PROVIDER_DONE = 2,     /* the response is complete: see parser_response() */
};

struct provider {
    const char *wire;
    const char *path;           /* appended to base_url: "/responses" */
    const char *key_header;     /* what stands before the key: "Authorization: Bearer " */
    const char *const *headers; /* further ones, up to NULL; NULL: none */

    void (*put_head)(struct buf *b, const struct model_spec *spec, const struct provider_tool *tools,
                     size_t tools_n, struct str instructions, struct str cache_key);
    /* One item as one or more JSON values separated by commas. */
    void (*put_item)(struct buf *b, const struct context_item *item);
    void (*put_tail)(struct buf *b, const struct model_spec *spec);

    /* `limits` and `callbacks` (of which only `delta` is used) must outlive it. */
    struct provider_parser *(*parser_new)(const struct limits *limits,
                                          const struct model_callbacks *callbacks, void *arg);
    void (*parser_free)(struct provider_parser *p);
    /* One server-sent event. */
    enum provider_event (*parser_event)(struct provider_parser *p, struct str event, struct str data);
    const struct fault *(*parser_fault)(struct provider_parser *p);
    /* Whether a stream that ends now is complete (Chat Completions without [DONE] but with a finish reason).
     */
    bool (*parser_complete)(struct provider_parser *p);
    /* Valid until parser_free(). The cost is not filled in. */
    const struct model_response *(*parser_response)(struct provider_parser *p);
    struct str (*parser_partial)(struct provider_parser *p);
};

extern const struct provider provider_responses, provider_chat;

/* NULL if there is none for that wire. */
const struct provider *provider_find(struct str wire);

/* For the translators: `"data:image/png;base64,..."` as a JSON string. */
void provider_put_data_url(struct buf *b, struct str media_type, struct str bytes);
/* An id for a call that came without one: unlike any other, since it stays in the task's context. */
void provider_put_call_id(struct buf *b);
