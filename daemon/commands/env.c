#include "env.h"

#include "daemon/base/envname.h"
#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"

#include <jansson.h>
#include <stdlib.h>

struct env {
    char **p;
    size_t n;
    size_t bytes;
};

static void add(struct env *env, const char *name, struct str value)
{
    struct buf line = {0};
    buf_puts(&line, name);
    buf_putc(&line, '=');
    buf_str(&line, value);
    env->bytes += line.n + 1;
    env->p = mem_realloc(env->p, (env->n + 2) * sizeof *env->p);
    env->p[env->n++] = buf_take(&line, NULL);
    env->p[env->n] = NULL;
}

static int add_member(struct env *env, const char *name, const json_t *value, struct buf *error)
{
    struct str text = str_n(json_string_value(value), json_string_length(value));
    if (!json_is_string(value) || memchr(text.p, 0, text.n)) {
        buf_printf(error, "\"env\": the value of \"%.64s\" must be a string without U+0000", name);
        return -1;
    }
    if (!envname_allowed(str_of(name)))
        return 0;
    add(env, name, text);
    if (env->n <= ENV_NAMES_MAX && env->bytes <= ENV_BYTES_MAX)
        return 0;
    buf_printf(error, "\"env\" may hold %d names and %d bytes; send less of the environment", ENV_NAMES_MAX,
               ENV_BYTES_MAX);
    return -1;
}

static int add_members(struct env *env, const json_t *json, struct buf *error)
{
    if (!json_is_object(json)) {
        buf_puts(error, "\"env\" must be an object of strings");
        return -1;
    }
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)json, name, value)
    {
        if (add_member(env, name, value, error) < 0)
            return -1;
    }
    return 0;
}

static void add_default(struct env *env, const char *name, const char *otherwise)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < env->n; i++) {
        if (strncmp(env->p[i], name, n) == 0 && env->p[i][n] == '=')
            return;
    }
    const char *ours = getenv(name);
    add(env, name, str_of(ours && utf8_valid(str_of(ours)) ? ours : otherwise));
}

int env_read(struct str text, char ***ret, struct buf *error)
{
    struct env env = {0};
    int rc = 0;
    if (text.p) {
        json_t *json = json_loadb(text.p, text.n, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
        rc = add_members(&env, json, error);
        json_decref(json);
    }
    if (rc < 0) {
        env_free(env.p);
        return -1;
    }
    add_default(&env, "PATH", "/usr/local/bin:/usr/bin:/bin");
    add_default(&env, "HOME", "/");
    *ret = env.p;
    return 0;
}

void env_free(char **env)
{
    for (size_t i = 0; env && env[i]; i++)
        mem_free(env[i]);
    mem_free(env);
}
