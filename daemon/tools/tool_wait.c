/* wait: ends the turn's work until something has come true, without a request in between. */
#include "daemon/tools/arguments.h"
#include "daemon/tools/tools.h"

#include <limits.h>
#include <stdlib.h>

const struct tool tool_wait = {
    .name = "wait",
    .description =
        "Waits until the first of what you name comes true, for hours or days if need be, at no cost. New input from the user ends it "
        "early. A process or file may keep you waiting for ever: give seconds, too, unless that is what you want.",
    .parameters =
        "{\"type\":\"object\",\"properties\":{"
        "\"seconds\":{\"type\":\"number\",\"description\":\"At most so long.\"},"
        "\"until\":{\"type\":\"string\",\"description\":\"At most until this moment, in UTC: 2026-01-02T15:04:05Z.\"},"
        "\"session_id\":{\"type\":\"integer\",\"description\":\"Until this process of exec_command has ended.\"},"
        "\"path\":{\"type\":\"string\",\"description\":\"Until this file changes, appears or goes away; what is there already must "
        "change from now on. Of a folder: until one of its own entries appears or goes away. Relative to the workspace.\"}},"
        "\"additionalProperties\":false}",
};

/* Each with what other harnesses call it. A `timeout` is in seconds here and in milliseconds there: it is not guessed. */
#define SECONDS "seconds,duration"
#define UNTIL "until,at"
#define SESSION "session_id,session,run"
#define PATHS "path,file,paths"

struct list_of {
    struct arguments *a;
    struct condition *conditions;
    size_t n;
};

/* NULL with a sentence in the error: there are too many. */
static struct condition *add(struct list_of *l, enum condition_kind kind)
{
    if ((int64_t)l->n >= l->a->limits->wait_conditions_max) {
        buf_clear(l->a->error);
        buf_printf(l->a->error, "more than %lld conditions in one wait are not possible",
                   (long long)l->a->limits->wait_conditions_max);
        return NULL;
    }
    struct condition *c = &l->conditions[l->n++];
    *c = (struct condition){.kind = kind};
    return c;
}

static int refuse(struct arguments *a, const char *sentence)
{
    buf_clear(a->error);
    buf_puts(a->error, sentence);
    return -1;
}

/* A number is in seconds, also as text; with a unit it says itself what it is. */
static int read_seconds(const struct list_of *l, const json_t *v, double *ret)
{
    const char *text = json_string_value(v);
    *ret = json_number_value(v);
    if (json_is_number(v))
        return 0;
    char *end = NULL;
    if (!text || (*ret = strtod(text, &end), end == text))
        return refuse(l->a, "`seconds` must be a number");
    if (!end[strspn(end, " ")])
        return 0;
    int64_t ms;
    if (argument_number(l->a, SECONDS, &ms) != 1)
        return -1;
    *ret = (double)ms / 1000;
    return 0;
}

static int take_seconds(struct list_of *l)
{
    const json_t *v = argument(l->a, SECONDS);
    double s;
    if (!v)
        return 0;
    if (read_seconds(l, v, &s) < 0)
        return -1;
    if (!(s >= 0 && s * 1000 <= (double)l->a->limits->wait_ms_max)) {
        buf_clear(l->a->error);
        buf_printf(l->a->error, "`seconds` must be a number from 0 to %lld", (long long)l->a->limits->wait_ms_max / 1000);
        return -1;
    }
    struct condition *c = add(l, CONDITION_TIME);
    if (c)
        c->delay_ms = (int64_t)(s * 1000);
    return c ? 0 : -1;
}

/* RFC 3339 in UTC, with or without a fraction of three digits. */
static int take_until(struct list_of *l)
{
    struct str text = STR_NONE;
    int got = argument_text(l->a, UNTIL, &text);
    if (got <= 0)
        return got;
    int64_t wall_ms;
    struct buf b = {0};
    buf_put(&b, text.p, text.n == 20 ? 19 : text.n);
    if (text.n == 20)
        buf_puts(&b, text.p[19] == 'Z' ? ".000Z" : "?");
    int bad = memchr(text.p, 0, text.n) ? -1 : clock_parse(buf_cstr(&b), &wall_ms);
    buf_free(&b);
    if (bad)
        return refuse(l->a, "`until` must be a moment in UTC like 2026-01-02T15:04:05Z");
    struct condition *c = add(l, CONDITION_CLOCK);
    if (c)
        c->wall_ms = wall_ms;
    return c ? 0 : -1;
}

/* 3, "3", or "r3" as events name it. */
static int take_session(struct list_of *l, const json_t *v)
{
    const char *text = json_string_value(v);
    char *end = NULL;
    int64_t n = json_integer_value(v);
    if (text) {
        text += text[0] == 'r';
        n = strtoll(text, &end, 10);
    }
    if (n <= 0 || (end && *end))
        return refuse(l->a, "`session_id` must be the number that exec_command returned");
    struct condition *c = add(l, CONDITION_RUN);
    if (c)
        c->run = n;
    return c ? 0 : -1;
}

/* What no file can be called would be waited for in vain. */
static bool can_be(struct str path)
{
    size_t name = 0;
    for (size_t i = 0; i < path.n && name <= NAME_MAX; i++)
        name = path.p[i] == '/' ? 0 : name + 1;
    return name <= NAME_MAX && path.n < PATH_MAX;
}

static int take_path(struct list_of *l, const json_t *v)
{
    struct str path = str_n(json_string_value(v), json_string_length(v));
    if (!json_is_string(v) || path.n == 0 || memchr(path.p, 0, path.n))
        return refuse(l->a, "`path` must be the path of a file or folder");
    path = argument_path(l->a, path);
    if ((int64_t)path.n > l->a->limits->wait_path_bytes_max || !can_be(path))
        return refuse(l->a, "`path` is too long");
    struct condition *c = add(l, CONDITION_FILE);
    if (c)
        c->path = path;
    return c ? 0 : -1;
}

/* One, or an array of several: more than was offered, but it is plain what is meant. */
static int take_each(struct list_of *l, const char *names, int (*take)(struct list_of *l, const json_t *v))
{
    const json_t *v = argument(l->a, names);
    if (!v)
        return 0;
    if (!json_is_array(v))
        return take(l, v);
    for (size_t i = 0; i < json_array_size(v); i++) {
        if (take(l, json_array_get(v, i)) < 0)
            return -1;
    }
    return 0;
}

static bool named(const char *names, const char *name)
{
    size_t n = strlen(name);
    for (; *names; names += strcspn(names, ",") + (names[strcspn(names, ",")] == ','))
        if (strcspn(names, ",") == n && memcmp(names, name, n) == 0)
            return true;
    return false;
}

/* A bound that is not understood must not be left out: the wait would have none. */
static int refuse_others(const struct arguments *a)
{
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)a->root, name, v)
    {
        if (json_is_null(v) || named(SECONDS "," UNTIL "," SESSION "," PATHS, name))
            continue;
        buf_clear(a->error);
        buf_printf(a->error, "`%.40s` is not known; name `seconds`, `until`, `session_id` or `path`", name);
        return -1;
    }
    return 0;
}

int tool_wait_prepare(struct arguments *a)
{
    struct list_of l = {.a = a};
    l.conditions = proto_arena_alloc(a->arena, (size_t)a->limits->wait_conditions_max * sizeof *l.conditions);
    /* What happens stands before what only bounds the wait: the first names it to people. */
    if (refuse_others(a) < 0 || take_each(&l, SESSION, take_session) < 0 || take_each(&l, PATHS, take_path) < 0 ||
        take_until(&l) < 0 || take_seconds(&l) < 0)
        return -1;
    if (l.n == 0)
        return refuse(a, "it must say what to wait for: `seconds`, `until`, `session_id` or `path`");
    a->spec->sort = CALL_SORT_WAIT;
    a->spec->conditions = l.conditions;
    a->spec->conditions_n = l.n;
    return 0;
}
