#include <jansson.h>

#include "proto.h"

#include "daemon/base/clock.h"
#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"

#include <inttypes.h>

#define NAME_BYTES_SHOWN 64 /* of a member that is not known */
#define USD_MAX 9e9         /* beyond it nano-dollars do not fit into 64 bits */

struct decoder {
    unsigned flags;
    struct proto_arena *arena;
    struct buf *error;
};

static int decode_object(struct decoder *d, const struct proto_object *type, const json_t *json, void *ret);

static int fail(struct decoder *d, const struct proto_field *f, const char *what)
{
    buf_clear(d->error);
    buf_printf(d->error, "\"%s\" must be %s", f->name, what);
    return -1;
}

static int fail_range(struct decoder *d, const struct proto_field *f, const char *unit)
{
    buf_clear(d->error);
    buf_printf(d->error, "\"%s\" must have ", f->name);
    if (f->type != PROTO_STRING) {
        buf_clear(d->error);
        buf_printf(d->error, "\"%s\" must be ", f->name);
    }
    if (f->min != INT64_MIN)
        buf_printf(d->error, "at least %" PRId64 "%s", f->min, unit);
    if (f->min != INT64_MIN && f->max != INT64_MAX)
        buf_puts(d->error, " and ");
    if (f->max != INT64_MAX)
        buf_printf(d->error, "at most %" PRId64 "%s", f->max, unit);
    return -1;
}

static struct str string_of(const json_t *json)
{
    return str_n(json_string_value(json), json_string_length(json));
}

static int decode_array(struct decoder *d, const struct proto_field *f, const json_t *json, char *ret)
{
    if (!json_is_array(json))
        return fail(d, f, "an array");
    size_t n = json_array_size(json);
    size_t size = f->type == PROTO_ARRAY_OBJECT ? f->object->size : sizeof(struct str);
    char *items = n ? proto_arena_alloc(d->arena, n * size) : NULL;
    for (size_t i = 0; i < n; i++) {
        const json_t *element = json_array_get(json, i);
        struct str *text = (struct str *)(void *)(items + i * size);
        if (f->type == PROTO_ARRAY_OBJECT) {
            if (!json_is_object(element))
                return fail(d, f, "an array of objects");
            if (decode_object(d, f->object, element, items + i * size) < 0)
                return -1;
        } else if (f->type == PROTO_ARRAY_STRING) {
            if (!json_is_string(element))
                return fail(d, f, "an array of strings");
            *text = string_of(element);
        } else {
            char *dump = json_dumps(element, JSON_COMPACT | JSON_ENCODE_ANY);
            if (!dump)
                return fail(d, f, "an array");
            char *copy = proto_arena_alloc(d->arena, strlen(dump) + 1);
            memcpy(copy, dump, strlen(dump) + 1);
            mem_free(dump);
            *text = str_of(copy);
        }
    }
    *(void **)(void *)(ret + f->offset) = items;
    *(size_t *)(void *)(ret + f->extra) = n;
    return 0;
}

/* What cannot be counted is as much as can be, as where it was written. */
static int64_t nano_usd(double usd)
{
    double nano = usd * 1e9 + (usd < 0 ? -0.5 : 0.5);
    if (nano >= 0x1p63)
        return INT64_MAX;
    return nano <= -0x1p63 ? -INT64_MAX : (int64_t)nano;
}

static int decode_value(struct decoder *d, const struct proto_field *f, const json_t *json, char *ret)
{
    void *at = ret + f->offset;
    switch (f->type) {
    case PROTO_STRING: {
        if (!json_is_string(json))
            return fail(d, f, "a string");
        struct str s = string_of(json);
        if ((d->flags & PROTO_STRICT) && memchr(s.p, 0, s.n))
            return fail(d, f, "a string without U+0000");
        if ((f->min != INT64_MIN && (int64_t)s.n < f->min) || (int64_t)s.n > f->max)
            return fail_range(d, f, " bytes");
        *(struct str *)at = s;
        return 0;
    }
    case PROTO_INT: {
        if (!json_is_integer(json))
            return fail(d, f, "an integer");
        int64_t v = json_integer_value(json);
        if (v < f->min || v > f->max)
            return fail_range(d, f, "");
        *(int64_t *)at = v;
        return 0;
    }
    case PROTO_BOOL:
        if (!json_is_boolean(json))
            return fail(d, f, "true or false");
        *(bool *)at = json_is_true(json);
        return 0;
    case PROTO_TIME:
        if (!json_is_string(json) || clock_parse(json_string_value(json), at) < 0)
            return fail(d, f, "a time like 2026-01-02T03:04:05.678Z");
        return 0;
    case PROTO_USD:
        if (!json_is_number(json))
            return fail(d, f, "a number");
        if ((d->flags & PROTO_STRICT) && !(json_number_value(json) >= -USD_MAX && json_number_value(json) <= USD_MAX))
            return fail(d, f, "an amount between -9e9 and 9e9");
        *(int64_t *)at = nano_usd(json_number_value(json));
        return 0;
    case PROTO_ENUM: {
        int v = json_is_string(json) ? proto_enum_value(f->enumeration, string_of(json)) : -1;
        if (v < 0) {
            buf_clear(d->error);
            buf_printf(d->error, "\"%s\" must be one of", f->name);
            for (size_t i = 0; i < f->enumeration->n; i++)
                buf_printf(d->error, "%s \"%s\"", i ? "," : "", f->enumeration->values[i]);
            return -1;
        }
        *(int *)at = v;
        return 0;
    }
    case PROTO_OBJECT:
        if (!json_is_object(json))
            return fail(d, f, "an object");
        return decode_object(d, f->object, json, at);
    case PROTO_JSON: {
        char *dump = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
        if (!dump)
            return fail(d, f, "JSON");
        char *copy = proto_arena_alloc(d->arena, strlen(dump) + 1);
        memcpy(copy, dump, strlen(dump) + 1);
        mem_free(dump);
        *(struct str *)at = str_of(copy);
        return 0;
    }
    case PROTO_ARRAY_OBJECT:
    case PROTO_ARRAY_STRING:
    case PROTO_ARRAY_JSON:
        return decode_array(d, f, json, ret);
    }
    return -1;
}

static const struct proto_field *find_field(const struct proto_object *type, const char *name)
{
    for (size_t i = 0; i < type->n; i++) {
        if (strcmp(type->fields[i].name, name) == 0)
            return &type->fields[i];
    }
    return NULL;
}

static int check_unknown(struct decoder *d, const struct proto_object *type, const json_t *json)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)json, name, value)
    {
        if (find_field(type, name))
            continue;
        buf_clear(d->error);
        struct str shown = str_of(name);
        shown.n = utf8_floor(shown, NAME_BYTES_SHOWN);
        buf_printf(d->error, "unknown member \"%.*s\"", STR_ARG(shown));
        return -1;
    }
    return 0;
}

static int decode_object(struct decoder *d, const struct proto_object *type, const json_t *json, void *ret)
{
    char *p = ret;
    if ((d->flags & PROTO_STRICT) && json && check_unknown(d, type, json) < 0)
        return -1;
    for (size_t i = 0; i < type->n; i++) {
        const struct proto_field *f = &type->fields[i];
        const json_t *value = json ? json_object_get(json, f->name) : NULL;
        bool null_ok = f->flags & (PROTO_NULLABLE | PROTO_OPTIONAL);
        if (!value || (json_is_null(value) && null_ok && f->type != PROTO_JSON)) {
            if (!value && !(f->flags & PROTO_OPTIONAL) && (d->flags & PROTO_STRICT)) {
                buf_clear(d->error);
                buf_printf(d->error, "\"%s\" is missing", f->name);
                return -1;
            }
            if (f->flags & PROTO_DEFAULT) {
                if (f->type == PROTO_ENUM)
                    *(int *)(void *)(p + f->offset) = (int)f->def;
                else
                    *(int64_t *)(void *)(p + f->offset) = f->def;
            }
            continue;
        }
        if (decode_value(d, f, value, p) < 0)
            return -1;
        if (f->flags & PROTO_HAS)
            *(bool *)(p + f->extra) = true;
    }
    return 0;
}

int proto_decode(const struct proto_object *type, const json_t *json, unsigned flags, void *ret,
                 struct proto_arena *arena, struct buf *error)
{
    struct decoder d = {.flags = flags, .arena = arena, .error = error};
    if (json && !json_is_object(json)) {
        buf_clear(error);
        buf_puts(error, "must be an object");
        return -1;
    }
    return decode_object(&d, type, json, ret);
}
