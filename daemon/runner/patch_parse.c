/* Patch text -> operations. Lenient where models are sloppy and the meaning is clear. */
#include "daemon/runner/patch.h"

#include "daemon/base/mem.h"

#include <ctype.h>

struct reader {
    struct str rest;
    size_t number; /* of the line taken last */
    bool crlf;     /* every line of the patch ends in CR LF: the CRs are not meant */
    struct buf *error;
};

#define GROW(array, n) ((array) = mem_realloc((array), ((n) + 1) * sizeof *(array)), &(array)[(n)++])

static struct str trim(struct str s)
{
    while (s.n && isspace((unsigned char)s.p[0]))
        s = str_n(s.p + 1, s.n - 1);
    while (s.n && isspace((unsigned char)s.p[s.n - 1]))
        s.n--;
    return s;
}

static struct str trim_end(struct str s)
{
    while (s.n && isspace((unsigned char)s.p[s.n - 1]))
        s.n--;
    return s;
}

static struct str peek(const struct reader *r, size_t *ret_size)
{
    const char *lf = r->rest.n ? memchr(r->rest.p, '\n', r->rest.n) : NULL;
    size_t n = lf ? (size_t)(lf - r->rest.p) : r->rest.n;
    *ret_size = n + (lf != NULL);
    if (r->crlf && n && r->rest.p[n - 1] == '\r')
        n--;
    return str_n(r->rest.p, n);
}

static struct str next(struct reader *r)
{
    size_t size;
    struct str line = peek(r, &size);
    r->rest = str_n(r->rest.p + size, r->rest.n - size);
    r->number++;
    return line;
}

static int fail(const struct reader *r, const char *what)
{
    buf_printf(r->error, "The patch cannot be read, at its line %zu: %s", r->number, what);
    return -1;
}

static bool all_crlf(struct str text)
{
    size_t lines = 0;
    for (const char *p = text.p, *end = text.p + text.n, *lf; p < end && (lf = memchr(p, '\n', (size_t)(end - p))); p = lf + 1) {
        if (lf == p || lf[-1] != '\r')
            return false;
        lines++;
    }
    return lines > 0;
}

/* A header like `*** Add File: path`, blanks around it and other case forgiven. */
static bool header(struct str line, const char *head, struct str *ret)
{
    line = trim(line);
    size_t n = strlen(head);
    if (line.n < n || strncasecmp(line.p, head, n) != 0)
        return false;
    *ret = trim(str_n(line.p + n, line.n - n));
    return true;
}

static bool is_header(struct str line)
{
    struct str ignored;
    return header(line, "*** Add File:", &ignored) || header(line, "*** Delete File:", &ignored) ||
           header(line, "*** Update File:", &ignored) || header(line, "*** End Patch", &ignored);
}

static bool end_of_file(struct str line)
{
    return str_eqz(trim(line), "*** End of File");
}

/* ---- hunks ---- */

/* `@@ -12,3 +12,4 @@ text`: the numbers of other tools, which models get wrong; only the text is of use. */
static struct str without_ranges(struct str s)
{
    size_t at = 0;
    if (s.n < 4 || s.p[0] != '-' || !isdigit((unsigned char)s.p[1]))
        return s;
    while (at < s.n && (isdigit((unsigned char)s.p[at]) || strchr("-+, ", s.p[at])))
        at++;
    if (at + 2 > s.n || memcmp(s.p + at, "@@", 2) != 0)
        return s;
    return trim(str_n(s.p + at + 2, s.n - at - 2));
}

static void take_anchor(struct patch_hunk *h, struct str line)
{
    struct str text = trim_end(str_n(line.p + 2, line.n - 2));
    if (text.n && text.p[0] == ' ')
        text = str_n(text.p + 1, text.n - 1);
    text = without_ranges(text);
    if (text.n >= 3 && memcmp(text.p + text.n - 3, " @@", 3) == 0)
        text = trim_end(str_n(text.p, text.n - 3));
    if (trim(text).n)
        *GROW(h->anchors, h->anchors_n) = text;
}

/* An empty line stands for an empty line of context: editors and models strip the blank. */
static bool take_hunk_line(struct patch_hunk *h, struct str line)
{
    if (line.n && !strchr(" +-", line.p[0]))
        return false;
    struct patch_line *l = GROW(h->lines, h->lines_n);
    l->sign = line.n ? line.p[0] : ' ';
    l->text = line.n ? str_n(line.p + 1, line.n - 1) : line;
    return true;
}

/* Blank lines that only separate sections are no context. */
static void drop_blank_end(struct patch_hunk *h, const struct reader *r)
{
    size_t size;
    struct str line = peek(r, &size);
    if (r->rest.n && !is_header(line) && !str_starts(line, "@@"))
        return;
    while (h->lines_n && h->lines[h->lines_n - 1].sign == ' ' && h->lines[h->lines_n - 1].text.n == 0 &&
           h->lines[h->lines_n - 1].text.p[-1] == '\n')
        h->lines_n--;
}

static int take_hunk(struct reader *r, struct patch_op *op)
{
    struct patch_hunk *h = GROW(op->hunks, op->hunks_n);
    *h = (struct patch_hunk){.number = r->number + 1};
    size_t size;
    while (r->rest.n && str_starts(peek(r, &size), "@@"))
        take_anchor(h, next(r));
    while (r->rest.n) {
        struct str line = peek(r, &size);
        if (str_starts(line, "@@") || is_header(line))
            break;
        if (str_starts(line, "***") && end_of_file(line)) {
            next(r);
            h->at_end = true;
            break;
        }
        next(r);
        if (!take_hunk_line(h, line))
            return fail(r, "a line of a hunk must begin with a blank (context), '-' or '+'");
    }
    if (!h->at_end)
        drop_blank_end(h, r);
    if (h->lines_n == 0)
        return fail(r, "a hunk has no lines");
    return 0;
}

/* ---- operations ---- */

static int take_update(struct reader *r, struct patch_op *op)
{
    size_t size;
    if (r->rest.n && header(peek(r, &size), "*** Move to:", &op->move_to)) {
        next(r);
        if (op->move_to.n == 0)
            return fail(r, "`*** Move to:` needs a path");
    }
    while (r->rest.n && !is_header(peek(r, &size))) {
        if (trim(peek(r, &size)).n == 0)
            next(r);
        else if (take_hunk(r, op) < 0)
            return -1;
    }
    if (op->hunks_n == 0 && !op->move_to.p)
        return fail(r, "an update has no hunk and no `*** Move to:`");
    return 0;
}

static int take_add(struct reader *r, struct patch_op *op)
{
    size_t size, blank = 0;
    buf_reserve(&op->content, 1);
    while (r->rest.n && !is_header(peek(r, &size))) {
        struct str line = next(r);
        if (line.n == 0) { /* an empty line without its '+', unless nothing follows */
            blank++;
            continue;
        }
        if (end_of_file(line))
            continue;
        if (line.p[0] != '+')
            return fail(r, "each line of an added file must begin with '+'");
        for (; blank; blank--)
            buf_putc(&op->content, '\n');
        buf_put(&op->content, line.p + 1, line.n - 1);
        buf_putc(&op->content, '\n');
    }
    return 0;
}

static int take_delete(struct reader *r)
{
    size_t size;
    while (r->rest.n && !is_header(peek(r, &size)))
        if (trim(next(r)).n)
            return fail(r, "nothing may follow `*** Delete File:`");
    return 0;
}

static int take_op(struct reader *r, struct patch *p)
{
    if (p->ops_n == PATCH_OPS_MAX)
        return fail(r, "too many files; send it in parts");
    struct patch_op *op = GROW(p->ops, p->ops_n);
    *op = (struct patch_op){0};
    struct str line = next(r);
    if (header(line, "*** Add File:", &op->path))
        op->verb = PATCH_ADD;
    else if (header(line, "*** Delete File:", &op->path))
        op->verb = PATCH_DELETE;
    else if (header(line, "*** Update File:", &op->path))
        op->verb = PATCH_UPDATE;
    else
        return fail(r, "expected `*** Add File: PATH`, `*** Delete File: PATH` or `*** Update File: PATH`");
    if (op->path.n == 0 || memchr(op->path.p, 0, op->path.n))
        return fail(r, "the header needs a path");
    switch (op->verb) {
    case PATCH_ADD:
        return take_add(r, op);
    case PATCH_DELETE:
        return take_delete(r);
    case PATCH_UPDATE:
        return take_update(r, op);
    }
    return -1;
}

int patch_parse(struct str text, struct patch *ret, struct buf *error)
{
    *ret = (struct patch){0};
    struct reader r = {.rest = text, .crlf = all_crlf(text), .error = error};
    struct str end;
    /* Whatever stands before: a heredoc's first line, a code fence. */
    while (r.rest.n && !str_eqz(trim(next(&r)), "*** Begin Patch"))
        continue;
    if (r.rest.n == 0) {
        buf_puts(error, "The patch has no line `*** Begin Patch`, or nothing follows it");
        return -1;
    }
    for (;;) {
        size_t size;
        while (r.rest.n && trim(peek(&r, &size)).n == 0)
            next(&r);
        if (r.rest.n == 0)
            return fail(&r, "it ends without a line `*** End Patch`; was it cut off?");
        if (header(peek(&r, &size), "*** End Patch", &end))
            break;
        if (take_op(&r, ret) < 0)
            return -1;
    }
    if (ret->ops_n == 0)
        return fail(&r, "it changes no file");
    return 0;
}

void patch_free(struct patch *p)
{
    for (size_t i = 0; i < p->ops_n; i++) {
        for (size_t k = 0; k < p->ops[i].hunks_n; k++) {
            mem_free(p->ops[i].hunks[k].anchors);
            mem_free(p->ops[i].hunks[k].lines);
        }
        mem_free(p->ops[i].hunks);
        buf_free(&p->ops[i].content);
    }
    mem_free(p->ops);
    *p = (struct patch){0};
}
