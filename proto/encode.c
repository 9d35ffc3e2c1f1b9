#include "proto/types.h"

#include "daemon/base/clock.h"
#include "daemon/base/json.h"
#include "daemon/base/mem.h"

#include <assert.h>

const char *proto_enum_name(const struct proto_enum *e, int value)
{
    assert(value >= 0 && (size_t)value < e->n);
    return e->values[value];
}

int proto_enum_value(const struct proto_enum *e, struct str name)
{
    for (size_t i = 0; i < e->n; i++) {
        if (str_eqz(name, e->values[i]))
            return (int)i;
    }
    return -1;
}

static void put_usd(struct buf *b, int64_t nano)
{
    uint64_t u = nano < 0 ? 0 - (uint64_t)nano : (uint64_t)nano;
    buf_printf(b, "%s%llu.%09llu", nano < 0 ? "-" : "", (unsigned long long)(u / 1000000000u),
               (unsigned long long)(u % 1000000000u));
    /* 0.250000000 -> 0.25, 1.000000000 -> 1.0 */
    while (b->p[b->n - 1] == '0' && b->p[b->n - 2] != '.')
        b->n--;
    b->p[b->n] = 0;
}

static void put_string_array(struct buf *b, const struct str *items, size_t n, bool raw)
{
    buf_putc(b, '[');
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_putc(b, ',');
        if (raw)
            buf_str(b, items[i]);
        else
            json_put_string(b, items[i]);
    }
    buf_putc(b, ']');
}

static bool field_absent(const struct proto_field *f, const char *p)
{
    if (f->flags & PROTO_HAS)
        return !*(const bool *)(p + f->extra);
    switch (f->type) {
    case PROTO_STRING:
    case PROTO_JSON:
        return ((const struct str *)(const void *)(p + f->offset))->p == NULL;
    case PROTO_TIME:
        return *(const int64_t *)(const void *)(p + f->offset) == 0;
    case PROTO_INT: /* a default may lie outside the bounds: it stands for "not given" */
        return (f->flags & PROTO_DEFAULT) && *(const int64_t *)(const void *)(p + f->offset) == f->def;
    case PROTO_BOOL:
    case PROTO_USD:
    case PROTO_ENUM:
    case PROTO_OBJECT:
    case PROTO_ARRAY_OBJECT:
    case PROTO_ARRAY_STRING:
    case PROTO_ARRAY_JSON:
        return false;
    }
    return false;
}

static void put_value(struct buf *b, const struct proto_field *f, const char *p)
{
    const void *at = p + f->offset;
    switch (f->type) {
    case PROTO_STRING:
        json_put_string(b, *(const struct str *)at);
        break;
    case PROTO_JSON:
        buf_str(b, ((const struct str *)at)->p ? *(const struct str *)at : STR("null"));
        break;
    case PROTO_INT:
        buf_i64(b, *(const int64_t *)at);
        break;
    case PROTO_BOOL:
        buf_puts(b, *(const bool *)at ? "true" : "false");
        break;
    case PROTO_TIME: {
        char text[CLOCK_TEXT_SIZE];
        clock_format(*(const int64_t *)at, text);
        buf_printf(b, "\"%s\"", text);
        break;
    }
    case PROTO_USD:
        put_usd(b, *(const int64_t *)at);
        break;
    case PROTO_ENUM:
        buf_printf(b, "\"%s\"", proto_enum_name(f->enumeration, *(const int *)at));
        break;
    case PROTO_OBJECT:
        proto_encode(b, f->object, at);
        break;
    case PROTO_ARRAY_STRING:
    case PROTO_ARRAY_JSON:
        put_string_array(b, *(const struct str *const *)at, *(const size_t *)(const void *)(p + f->extra),
                         f->type == PROTO_ARRAY_JSON);
        break;
    case PROTO_ARRAY_OBJECT: {
        const char *items = *(const char *const *)at;
        size_t n = *(const size_t *)(const void *)(p + f->extra);
        buf_putc(b, '[');
        for (size_t i = 0; i < n; i++) {
            if (i)
                buf_putc(b, ',');
            proto_encode(b, f->object, items + i * f->object->size);
        }
        buf_putc(b, ']');
        break;
    }
    }
}

void proto_encode_members(struct buf *b, const struct proto_object *type, const void *p)
{
    bool first = true;
    for (size_t i = 0; i < type->n; i++) {
        const struct proto_field *f = &type->fields[i];
        bool absent = (f->flags & (PROTO_OPTIONAL | PROTO_NULLABLE)) && field_absent(f, p);
        if (absent && (f->flags & PROTO_OPTIONAL))
            continue;
        if (!first)
            buf_putc(b, ',');
        first = false;
        buf_printf(b, "\"%s\":", f->name);
        if (absent || (f->type == PROTO_STRING && field_absent(f, p)))
            buf_puts(b, absent ? "null" : "\"\"");
        else
            put_value(b, f, p);
    }
}

void proto_encode(struct buf *b, const struct proto_object *type, const void *p)
{
    buf_putc(b, '{');
    proto_encode_members(b, type, p);
    buf_putc(b, '}');
}

void *proto_arena_alloc(struct proto_arena *a, size_t n)
{
    if (a->n == a->cap) {
        a->cap = a->cap ? a->cap * 2 : 8;
        a->p = mem_realloc(a->p, a->cap * sizeof *a->p);
    }
    return a->p[a->n++] = mem_alloc(n);
}

void proto_arena_free(struct proto_arena *a)
{
    for (size_t i = 0; i < a->n; i++)
        mem_free(a->p[i]);
    mem_free(a->p);
    *a = (struct proto_arena){0};
}

void event_encode(struct buf *b, const struct event *event)
{
    const struct event_descriptor *d = &event_descriptors[event->kind];
    char at[CLOCK_TEXT_SIZE];
    clock_format(event->at, at);
    buf_printf(b, "{\"seq\":%lld,\"pos\":%lld,\"task\":", (long long)event->seq, (long long)event->pos);
    json_put_string(b, event->task);
    buf_printf(b, ",\"at\":\"%s\",\"kind\":\"%s\"", at, d->kind);
    if (d->type->n > 0) {
        size_t comma = b->n;
        buf_putc(b, ',');
        proto_encode_members(b, d->type, (const char *)event + d->offset);
        if (b->n == comma + 1)
            b->n--;
    }
    buf_putc(b, '}');
}
