#include "http.h"

#include <ctype.h>
#include <strings.h>

#define LINE_BYTES_MAX 4096

void http_parser_free(struct http_parser *p)
{
    buf_free(&p->head);
    buf_free(&p->line);
    buf_free(&p->body);
}

void http_parser_reset(struct http_parser *p)
{
    buf_clear(&p->head);
    buf_clear(&p->line);
    buf_free(&p->body); /* one large request must not stay */
    p->state = HTTP_HEAD;
    p->left = p->trailer_bytes = p->fields_n = 0;
    p->wants_continue = false;
}

static int refuse(struct http_parser *p, int status, const char *error)
{
    p->error = error;
    return -status;
}

/* Head */

static bool is_token(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!isalnum((unsigned char)s.p[i]) && !memchr("!#$%&'*+-.^_`|~", s.p[i], 15))
            return false;
    return s.n > 0;
}

static bool is_name(struct str s, const char *name)
{
    return s.n == strlen(name) && strncasecmp(s.p, name, s.n) == 0;
}

static struct str trim(struct str s)
{
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = str_n(s.p + 1, s.n - 1);
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/* Takes the text before `mark` off `*s`, and the mark. */
static bool split(struct str *s, const char *mark, struct str *ret)
{
    size_t n = strlen(mark);
    const char *at = memmem(s->p, s->n, mark, n);
    if (!at)
        return false;
    *ret = str_n(s->p, (size_t)(at - s->p));
    *s = str_n(at + n, s->n - ret->n - n);
    return true;
}

static int request_line_read(struct http_parser *p, struct str line)
{
    if (!split(&line, " ", &p->method) || !split(&line, " ", &p->target) || !is_token(p->method) ||
        p->target.n == 0)
        return refuse(p, 400, "the request line is not METHOD TARGET HTTP/1.1");
    if (!str_eqz(line, "HTTP/1.1") && !str_eqz(line, "HTTP/1.0"))
        return refuse(p, 505, "only HTTP/1.1 and HTTP/1.0 are spoken");
    p->minor = line.p[line.n - 1] - '0';
    p->path = p->target;
    const char *query = memchr(p->target.p, '?', p->target.n);
    if (query)
        p->path.n = (size_t)(query - p->target.p);
    return 0;
}

static int field_read(struct http_parser *p, struct str line)
{
    struct str name;
    if (p->fields_n == HTTP_FIELDS_MAX)
        return refuse(p, 431, "too many header fields");
    if (!split(&line, ":", &name) || !is_token(name) || memchr(line.p, 0, line.n) ||
        memchr(line.p, '\n', line.n))
        return refuse(p, 400, "a header field is not NAME: VALUE");
    p->fields[p->fields_n++] = (struct http_field){name, trim(line)};
    return 0;
}

static int length_read(struct http_parser *p, struct str value, size_t *ret)
{
    size_t v = 0;
    for (size_t i = 0; i < value.n; i++) {
        if (!isdigit((unsigned char)value.p[i]))
            return refuse(p, 400, "Content-Length is not a number");
        v = v * 10 + (size_t)(value.p[i] - '0');
        if (v > HTTP_BODY_BYTES_MAX)
            return refuse(p, 413, "the body is larger than 128 MiB");
    }
    *ret = v;
    return value.n > 0 ? 0 : refuse(p, 400, "Content-Length is not a number");
}

struct framing {
    bool has_length, chunked, close, keep_alive;
    size_t length;
};

static int framing_field(struct http_parser *p, const struct http_field *f, struct framing *ret)
{
    if (is_name(f->name, "content-length")) {
        size_t length;
        int rc = length_read(p, f->value, &length);
        if (rc < 0)
            return rc;
        if (ret->has_length && ret->length != length)
            return refuse(p, 400, "Content-Length is there twice");
        ret->has_length = true;
        ret->length = length;
    } else if (is_name(f->name, "transfer-encoding")) {
        if (!is_name(f->value, "chunked") || ret->chunked)
            return refuse(p, 501, "no Transfer-Encoding but chunked is known");
        ret->chunked = true;
    } else if (is_name(f->name, "content-encoding") && !is_name(f->value, "identity")) {
        return refuse(p, 415, "no Content-Encoding is known");
    } else if (is_name(f->name, "connection")) {
        ret->close = ret->close || is_name(f->value, "close");
        ret->keep_alive = ret->keep_alive || is_name(f->value, "keep-alive");
    } else if (is_name(f->name, "expect")) {
        if (!is_name(f->value, "100-continue"))
            return refuse(p, 417, "no expectation but 100-continue is known");
        p->wants_continue = p->minor > 0;
    }
    return 0;
}

static int head_end(struct http_parser *p)
{
    struct framing framing = {0};
    for (size_t i = 0; i < p->fields_n; i++) {
        int rc = framing_field(p, &p->fields[i], &framing);
        if (rc < 0)
            return rc;
    }
    if (framing.chunked && (framing.has_length || p->minor == 0))
        return refuse(p, 400, "Transfer-Encoding does not go with Content-Length or HTTP/1.0");
    p->keep_alive = p->minor > 0 ? !framing.close : framing.keep_alive;
    p->left = framing.length;
    p->state = framing.chunked ? HTTP_CHUNK_SIZE : framing.length > 0 ? HTTP_LENGTH : HTTP_READY;
    if (p->state == HTTP_READY)
        p->wants_continue = false;
    return 0;
}

static int head_read(struct http_parser *p)
{
    struct str head = str_n(p->head.p, p->head.n - 2), line; /* without the empty line */
    if (!split(&head, "\r\n", &line))
        return refuse(p, 400, "there is no request line");
    int rc = request_line_read(p, line);
    while (rc == 0 && split(&head, "\r\n", &line))
        rc = field_read(p, line);
    return rc == 0 ? head_end(p) : rc;
}

static int head_feed(struct http_parser *p, const char *data, size_t n, size_t *ret_used)
{
    size_t from = p->head.n > 3 ? p->head.n - 3 : 0, before = p->head.n;
    size_t take = n < HTTP_HEAD_BYTES_MAX + 1 - before ? n : HTTP_HEAD_BYTES_MAX + 1 - before;
    while (before == 0 && take > 1 && data[0] == '\r' && data[1] == '\n') { /* RFC 9112, section 2.2 */
        data += 2, n -= 2, take -= 2;
        *ret_used += 2;
    }
    buf_put(&p->head, data, take);
    const char *end = memmem(buf_cstr(&p->head) + from, p->head.n - from, "\r\n\r\n", 4);
    if (!end) {
        *ret_used += take;
        return p->head.n > HTTP_HEAD_BYTES_MAX ? refuse(p, 431, "the head is larger than 64 KiB") : 0;
    }
    size_t head_bytes = (size_t)(end - p->head.p) + 4;
    *ret_used += head_bytes - before;
    buf_consume(&p->head, 0);
    p->head.n = head_bytes;
    p->head.p[head_bytes] = 0;
    return head_read(p);
}

/* Body */

static int body_feed(struct http_parser *p, const char *data, size_t n, size_t *ret_used)
{
    size_t take = n < p->left ? n : p->left;
    buf_put(&p->body, data, take);
    p->left -= take;
    *ret_used += take;
    if (p->left == 0)
        p->state = p->state == HTTP_LENGTH ? HTTP_READY : HTTP_CHUNK_END;
    return 0;
}

static int chunk_size_read(struct http_parser *p, struct str line)
{
    size_t v = 0, i = 0;
    for (; i < line.n && isxdigit((unsigned char)line.p[i]); i++) {
        int c = tolower((unsigned char)line.p[i]);
        v = v * 16 + (size_t)(c <= '9' ? c - '0' : c - 'a' + 10);
        if (v > HTTP_BODY_BYTES_MAX - p->body.n)
            return refuse(p, 413, "the body is larger than 128 MiB");
    }
    if (i == 0 || (i < line.n && line.p[i] != ';' && line.p[i] != ' '))
        return refuse(p, 400, "the size of a chunk is not a hexadecimal number");
    p->left = v;
    p->state = v > 0 ? HTTP_CHUNK : HTTP_TRAILER;
    return 0;
}

static int line_read(struct http_parser *p, struct str line)
{
    if (p->state == HTTP_CHUNK_SIZE)
        return chunk_size_read(p, line);
    if (p->state == HTTP_CHUNK_END) {
        p->state = HTTP_CHUNK_SIZE;
        return line.n == 0 ? 0 : refuse(p, 400, "a chunk does not end where its size says");
    }
    p->trailer_bytes += line.n;
    if (p->trailer_bytes > HTTP_HEAD_BYTES_MAX)
        return refuse(p, 431, "the trailer is larger than 64 KiB");
    if (line.n == 0)
        p->state = HTTP_READY;
    return 0;
}

static int line_feed(struct http_parser *p, const char *data, size_t n, size_t *ret_used)
{
    const char *end = memchr(data, '\n', n);
    size_t take = end ? (size_t)(end - data) + 1 : n;
    if (p->line.n + take > LINE_BYTES_MAX)
        return refuse(p, 400, "a line of the body's framing is too long");
    buf_put(&p->line, data, take);
    *ret_used += take;
    if (!end)
        return 0;
    if (p->line.n < 2 || p->line.p[p->line.n - 2] != '\r')
        return refuse(p, 400, "a line of the body's framing does not end with CR LF");
    int rc = line_read(p, str_n(p->line.p, p->line.n - 2));
    buf_clear(&p->line);
    return rc;
}

static int step(struct http_parser *p, const char *data, size_t n, size_t *ret_used)
{
    switch (p->state) {
    case HTTP_HEAD:
        return head_feed(p, data, n, ret_used);
    case HTTP_LENGTH:
    case HTTP_CHUNK:
        return body_feed(p, data, n, ret_used);
    case HTTP_CHUNK_SIZE:
    case HTTP_CHUNK_END:
    case HTTP_TRAILER:
        return line_feed(p, data, n, ret_used);
    case HTTP_READY:
        return 1;
    }
    return 0;
}

int http_parser_feed(struct http_parser *p, const char *data, size_t n, size_t *ret_used)
{
    *ret_used = 0;
    while (p->state != HTTP_READY && *ret_used < n) {
        int rc = step(p, data + *ret_used, n - *ret_used, ret_used);
        if (rc < 0)
            return rc;
    }
    return p->state == HTTP_READY;
}

const char *http_reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 413:
        return "Content Too Large";
    case 429:
        return "Too Many Requests";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 502:
        return "Bad Gateway";
    case 503:
        return "Service Unavailable";
    case 529:
        return "Overloaded";
    default:
        return status >= 500 ? "Server Error" : "Client Error";
    }
}
