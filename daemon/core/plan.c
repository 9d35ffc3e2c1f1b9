#include "daemon/core/plan.h"

#include "daemon/base/mem.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

void plan_begin(struct plan *p, const struct task *t, const struct clock_now *now)
{
    *p = (struct plan){.now = now};
    if (t) {
        p->items = t->items_n;
        p->calls = t->calls_n;
        p->runs = t->runs_n;
        p->waits = t->waits_n;
    }
}

void plan_free(struct plan *p)
{
    for (size_t i = 0; i < p->texts_n; i++)
        mem_free(p->texts[i]);
    mem_free(p->texts);
    mem_free(p->ops);
    buf_free(&p->error_text);
    *p = (struct plan){0};
}

static struct plan_op *plan_op(struct plan *p)
{
    assert(p->n < PLAN_OPS_MAX);
    if (p->n == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 8;
        p->ops = mem_realloc(p->ops, p->cap * sizeof *p->ops);
    }
    struct plan_op *op = &p->ops[p->n++];
    *op = (struct plan_op){0};
    return op;
}

struct plan_op *plan_event(struct plan *p, enum event_kind kind)
{
    struct plan_op *op = plan_op(p);
    op->event.kind = kind;
    op->fact.seen_bytes = -1;
    return op;
}

struct plan_op *plan_context(struct plan *p, enum context_kind kind, struct str text)
{
    struct plan_op *op = plan_op(p);
    op->is_context = true;
    op->item.kind = kind;
    op->item.text = text;
    return op;
}

struct str plan_take(struct plan *p, struct buf *b)
{
    if (p->texts_n == p->texts_cap) {
        p->texts_cap = p->texts_cap ? p->texts_cap * 2 : 8;
        p->texts = mem_realloc(p->texts, p->texts_cap * sizeof *p->texts);
    }
    size_t n;
    char *text = buf_take(b, &n);
    p->texts[p->texts_n++] = text;
    return str_n(text, n);
}

struct str plan_printf(struct plan *p, const char *format, ...)
{
    char text[4096]; /* callers bound what they pass: a cut here would not look at characters */
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct buf b = {0};
    buf_puts(&b, text);
    return plan_take(p, &b);
}

void plan_refuse(struct plan *p, enum rpc_error error, const char *format, ...)
{
    p->error = error;
    if (!format)
        return;
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    buf_clear(&p->error_text);
    buf_puts(&p->error_text, text);
}
