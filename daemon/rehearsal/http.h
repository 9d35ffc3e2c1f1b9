#pragma once
/* A parser of HTTP/1.1 requests (RFC 9112) without I/O: feed bytes in whatever pieces they come, take
 * requests. Strict: what could be read in two ways is refused. */
#include "daemon/base/buf.h"

#include <stdbool.h>

#define HTTP_HEAD_BYTES_MAX 65536
#define HTTP_FIELDS_MAX 100
#define HTTP_BODY_BYTES_MAX (128 << 20)

struct http_field {
    struct str name, value;
};

enum http_state {
    HTTP_HEAD,
    HTTP_LENGTH,
    HTTP_CHUNK_SIZE,
    HTTP_CHUNK,
    HTTP_CHUNK_END,
    HTTP_TRAILER,
    HTTP_READY
};

struct http_parser {
    enum http_state state;
    struct buf head;
    struct buf line; /* of a chunk size or a trailer */
    size_t left;     /* bytes of the body or chunk */
    size_t trailer_bytes;

    /* Valid from the end of the head until http_parser_reset(). */
    struct str method, target, path;
    int minor; /* of HTTP/1.minor */
    struct http_field fields[HTTP_FIELDS_MAX];
    size_t fields_n;
    bool keep_alive;
    bool wants_continue; /* the client waits for "100 Continue"; the server clears it */
    struct buf body;

    const char *error; /* static text, with the status that says it */
};

/* Takes bytes until a request is complete. 1: state is HTTP_READY; 0: more is needed; -status: refused, see
 * `error`; nothing more can be read. *ret_used: bytes taken. */
int http_parser_feed(struct http_parser *p, const char *data, size_t n, size_t *ret_used);
/* Ready for the next request. */
void http_parser_reset(struct http_parser *p);
void http_parser_free(struct http_parser *p);
/* The text for a status. */
const char *http_reason(int status);
