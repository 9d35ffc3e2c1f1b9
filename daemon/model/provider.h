#pragma once
/* A provider is a pure translator between items and one wire format. It does no I/O and keeps no state but its parser's.
 *
 * The body of a request is head, then the context items separated by commas, then tail; stored bytes, only ever appended to
 * (law 6). So head ends with the opening of the array and tail begins with its closing; nothing in the tail may depend on
 * anything but the spec. Sources: OpenAI's SDK types (npm `openai`: responses, chat/completions). */
#include "daemon/core/types.h"
#include "daemon/model/model.h"

struct provider_tool {
    const char *name, *description, *parameters;
};

/* Collects one response. Fed with the events of a stream; says deltas as they come. */
struct provider_parser;

struct provider {
    const char *wire;
    const char *path; /* appended to base_url: "/responses" */

    void (*put_head)(struct buf *b, const struct model_spec *spec, const struct provider_tool *tools, size_t tools_n,
                     struct str instructions, struct str cache_key);
    /* One item as one or more JSON values separated by commas. */
    void (*put_item)(struct buf *b, const struct context_item *item);
    void (*put_tail)(struct buf *b, const struct model_spec *spec);

    struct provider_parser *(*parser_new)(const struct limits *limits, const struct model_callbacks *callbacks, void *arg);
    void (*parser_free)(struct provider_parser *p);
    /* One server-sent event. 0: go on; 1: the response is complete; -1: failed, see parser_fault(). Unknown events are
     * ignored. */
    int (*parser_event)(struct provider_parser *p, struct str event, struct str data);
    /* The body of a non-2xx answer, to find a message and a retry time. */
    void (*parser_error_body)(struct provider_parser *p, long status, struct str body);
    enum model_fault (*parser_fault)(struct provider_parser *p, const char **ret_message, int64_t *ret_retry_after_ms);
    /* Whether a stream that ends now is complete (Chat Completions without [DONE] but with a finish reason). */
    bool (*parser_complete)(struct provider_parser *p);
    /* Valid until parser_free(). */
    const struct model_response *(*parser_response)(struct provider_parser *p);
    struct str (*parser_partial)(struct provider_parser *p);
};

/* NULL if there is none for that wire. */
const struct provider *provider_find(struct str wire);
