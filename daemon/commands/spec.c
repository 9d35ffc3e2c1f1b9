#include "spec.h"

#include "daemon/base/json.h"

#include <jansson.h>

static void put_text(struct buf *b, const char *name, struct str value)
{
    buf_printf(b, "%s\"%s\":", b->p[b->n - 1] == '{' ? "" : ",", name);
    json_put_string(b, value.p ? value : STR(""));
}

static void put_int(struct buf *b, const char *name, int64_t value)
{
    buf_printf(b, ",\"%s\":%lld", name, (long long)value);
}

static void put_env(struct buf *b, char *const *env)
{
    buf_puts(b, ",\"env\":{");
    for (size_t i = 0; env && env[i]; i++) {
        const char *equals = strchr(env[i], '=');
        if (i)
            buf_putc(b, ',');
        json_put_string(b, str_n(env[i], (size_t)(equals - env[i])));
        buf_putc(b, ':');
        json_put_string(b, str_of(equals + 1));
    }
    buf_putc(b, '}');
}

void spec_encode(const struct task_spec *spec, struct buf *b)
{
    buf_putc(b, '{');
    put_text(b, "wire", spec->model.wire);
    put_text(b, "base_url", spec->model.base_url);
    put_text(b, "provider", str_of(spec->provider));
    put_text(b, "name", spec->model.name);
    put_int(b, "context_window", spec->model.context_window);
    put_int(b, "max_output_tokens", spec->model.max_output_tokens);
    put_int(b, "price_input", spec->model.price_input);
    put_int(b, "price_cached_input", spec->model.price_cached_input);
    put_int(b, "price_output", spec->model.price_output);
    put_text(b, "workspace", str_of(spec->workspace));
    put_text(b, "instructions", str_of(spec->instructions));
    put_env(b, spec->env);
    buf_putc(b, '}');
}

/* ---- reading ---- */

static char *copy(struct proto_arena *arena, const char *p, size_t n)
{
    char *to = proto_arena_alloc(arena, n + 1);
    memcpy(to, p, n);
    return to;
}

static char *text(struct proto_arena *arena, const json_t *json, const char *name)
{
    const json_t *value = json_object_get(json, name);
    return json_is_string(value) ? copy(arena, json_string_value(value), json_string_length(value)) : NULL;
}

static int64_t integer(const json_t *json, const char *name)
{
    return json_integer_value(json_object_get(json, name));
}

static char **read_env(struct proto_arena *arena, const json_t *json)
{
    char **env = proto_arena_alloc(arena, (json_object_size(json) + 1) * sizeof *env);
    size_t n = 0;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)json, name, value)
    {
        const char *end = json_string_value(value);
        if (!end)
            continue;
        size_t name_n = strlen(name), end_n = strlen(end);
        env[n] = proto_arena_alloc(arena, name_n + end_n + 2);
        memcpy(env[n], name, name_n);
        env[n][name_n] = '=';
        memcpy(env[n++] + name_n + 1, end, end_n);
    }
    return env;
}

static void read_spec(const json_t *json, struct task_spec *ret)
{
    struct proto_arena *arena = &ret->arena;
    ret->model = (struct model_spec){
        .wire = str_of(text(arena, json, "wire")),
        .base_url = str_of(text(arena, json, "base_url")),
        .name = str_of(text(arena, json, "name")),
        .context_window = integer(json, "context_window"),
        .max_output_tokens = integer(json, "max_output_tokens"),
        .price_input = integer(json, "price_input"),
        .price_cached_input = integer(json, "price_cached_input"),
        .price_output = integer(json, "price_output"),
    };
    ret->provider = text(arena, json, "provider");
    ret->workspace = text(arena, json, "workspace");
    ret->instructions = text(arena, json, "instructions");
    ret->env = read_env(arena, json_object_get(json, "env"));
}

int spec_decode(struct str json_text, struct task_spec *ret)
{
    json_t *json = json_text.p ? json_loadb(json_text.p, json_text.n, JSON_ALLOW_NUL, NULL) : NULL;
    struct task_spec spec = {0};
    if (json)
        read_spec(json, &spec);
    json_decref(json);
    if (!spec.model.wire.p || !spec.model.base_url.p || !spec.model.name.p || !spec.provider ||
        !spec.workspace) {
        spec_free(&spec);
        return -1;
    }
    *ret = spec;
    return 0;
}

void spec_free(struct task_spec *spec)
{
    proto_arena_free(&spec->arena);
    *spec = (struct task_spec){0};
}
