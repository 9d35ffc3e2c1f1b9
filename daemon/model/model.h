#pragma once
/* The model edge: sends one request to a provider over HTTP and reads its stream. It knows attempts, not
 * tasks' logic: what happens is told through callbacks on the loop thread. Retry, back-off and budgets are
 * the core's. Calls: base, proto, jansson, libcurl, libuv, provider.h. */
#include "daemon/core/types.h"

#include <uv.h>

struct model;
struct model_transfer;

/* What a task keeps of its model when it is created (law 6). Credentials are not in it: they resolve live. */
struct model_spec {
    struct str wire;     /* openai-responses, openai-chat */
    struct str base_url; /* up to and with the version, no trailing slash: "https://api.example/v1" */
    struct str name;     /* the provider's name for the model */
    int64_t context_window, max_output_tokens;             /* 0: not known */
    int64_t price_input, price_cached_input, price_output; /* nano-USD a token */
};

struct model_callbacks {
    /* Live text. `part` counts the parts of the response from 0, in the order in which they will be in the
     * response. `text` is valid UTF-8 and ends on a character. For a call: kind tool.delta, text is a piece
     * of the arguments. */
    void (*delta)(void *arg, enum delta_kind kind, size_t part, struct str text);
    /* Exactly one of these two ends a transfer, which is freed when it returns. The calls in the response
     * have wire_id, tool and raw `arguments` only: the receiver runs tools_prepare(). Strings live for the
     * call. */
    void (*done)(void *arg, const struct model_response *response);
    void (*failed)(void *arg, enum model_fault fault, int64_t retry_after_ms, const char *message);
};

/* 0 or -1 (libcurl could not start). */
int model_new(uv_loop_t *loop, const struct limits *limits, struct model **ret);
void model_free(struct model *m); /* cancels what is under way, without callbacks */

/* Sends `body` (taken over) to the spec's endpoint with the key (may be empty: no Authorization header). The
 * spec is copied. Never calls back from inside the call. More than transfers_max wait in line. */
struct model_transfer *model_send(struct model *m, const struct model_spec *spec, const char *key,
                                  struct buf *body, const struct model_callbacks *callbacks, void *arg);
/* Aborts at once; no callback. */
void model_cancel(struct model_transfer *t);
/* The text of the message that is streaming now (all message parts so far), for a steer that cuts it. */
struct str model_partial(const struct model_transfer *t);
