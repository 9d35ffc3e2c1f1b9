/* The parameters of every method: what was read can be written and read again, and gives the same; no text
 * that becomes a C string holds a NUL. Input: the name of a method, a line feed, JSON. */
#include <jansson.h>

#include "fuzz.h"

#include "daemon/base/json.h"
#include "daemon/base/limits.h"
#include "daemon/base/mem.h"
#include "proto/types.h"

static const struct method_descriptor *find(struct str name)
{
    for (int i = 1; i <= METHOD_MAX; i++)
        if (method_descriptors[i].name && str_eqz(name, method_descriptors[i].name))
            return &method_descriptors[i];
    return &method_descriptors[METHOD_TASK_CREATE];
}

static void check_text(struct str s)
{
    HOLDS(!s.p || s.n == 0 || !memchr(s.p, 0, s.n));
}

static void check_texts(const struct proto_object *type, const char *p)
{
    for (size_t i = 0; i < type->n; i++) {
        const struct proto_field *f = &type->fields[i];
        const void *at = p + f->offset;
        size_t n = f->type >= PROTO_ARRAY_OBJECT ? *(const size_t *)(const void *)(p + f->extra) : 0;
        if (f->type == PROTO_STRING)
            check_text(*(const struct str *)at);
        if (f->type == PROTO_OBJECT)
            check_texts(f->object, at);
        for (size_t k = 0; k < n && f->type == PROTO_ARRAY_STRING; k++)
            check_text((*(const struct str *const *)at)[k]);
        for (size_t k = 0; k < n && f->type == PROTO_ARRAY_OBJECT; k++)
            check_texts(f->object, *(const char *const *)at + k * f->object->size);
    }
}

/* As rpc/request.c reads. Appends what was understood; false if it was refused. */
static bool read_params(const struct proto_object *type, struct str text, struct buf *ret)
{
    size_t depth_max = (size_t)limits_default().depth_max;
    CLEANUP(buf_free) struct buf error = {0};
    CLEANUP(proto_arena_free) struct proto_arena arena = {0};
    if (json_depth(text, depth_max) > depth_max)
        return false;
    json_t *json =
        json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
    if (!json_is_object(json)) {
        json_decref(json);
        return false;
    }
    void *params = mem_alloc(type->size);
    bool good = proto_decode(type, json, PROTO_STRICT, params, &arena, &error) == 0;
    if (good) {
        check_texts(type, params);
        proto_encode(ret, type, params);
    }
    HOLDS(good == (error.n == 0));
    mem_free(params);
    json_decref(json);
    return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = fuzz_input(data, size);
    const struct proto_object *type = find(fuzz_line(&in))->params;
    CLEANUP(buf_free) struct buf first = {0}, second = {0};
    if (!read_params(type, in, &first))
        return 0;
    HOLDS(!memchr(first.p, '\n', first.n));
    HOLDS(read_params(type, buf_view(&first), &second));
    HOLDS(str_eq(buf_view(&first), buf_view(&second)));
    return 0;
}
