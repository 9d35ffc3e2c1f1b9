#pragma once
/* POST requests whose answers stream, on the loop: libcurl's multi interface driven by uv_poll and one timer.
 * It knows nothing of models. HTTP/1.1 only: each stream has a connection of its own, so one that is
 * cancelled or slow touches no other, and ones that end well are used again. libcurl never calls out of this
 * file: bytes are collected and handed over once it has returned, so every function here may be called from
 * every callback. */
#include "daemon/base/buf.h"
#include "daemon/model/hint.h"

#include <uv.h>

struct http;
struct http_call;

struct http_request {
    const char *url;
    const char *const *headers; /* "Name: value", up to NULL; copied, and wiped in the end */
    struct str body;            /* not copied: lives until the call is closed or drained */
    int64_t connect_ms_max, response_bytes_max;
};

struct http_head {
    long status; /* 0: none came yet */
    char content_type[64];
    struct hint hint;
};

enum http_end {
    HTTP_END_WHOLE,     /* the body is complete */
    HTTP_END_UNREACHED, /* nothing was answered */
    HTTP_END_CUT,       /* the connection ended within the answer */
    HTTP_END_TOO_LARGE, /* more than response_bytes_max */
    HTTP_END_BAD_URL,
};

struct http_callbacks {
    void (*data)(void *arg, struct str bytes);
    /* The last call; http_call_close() is still due. `error`: a sentence of libcurl, or "". */
    void (*end)(void *arg, enum http_end end, const char *error);
};

/* 0, or -1: libcurl could not start. */
int http_new(uv_loop_t *loop, struct http **ret);
/* Closes all calls without callbacks. The loop has to turn once more to free the handles. */
void http_free(struct http *h);

/* Never calls back from inside. NULL: there is no memory for it. */
struct http_call *http_start(struct http *h, const struct http_request *request,
                             const struct http_callbacks *callbacks, void *arg);
const struct http_head *http_call_head(const struct http_call *call);
/* Ends the call now, and its connection unless the answer is complete. No callback follows. */
void http_call_close(struct http_call *call);
/* Like close, for a caller that has read all it wanted: waits a moment for the end of the answer, so that the
 * connection can be used again. */
void http_call_drain(struct http_call *call);
