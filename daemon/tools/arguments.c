#include "daemon/tools/arguments.h"

#include "daemon/base/utf8.h"

#include <ctype.h>
#include <stdlib.h>

#define TITLE_BYTES_MAX 400
#define BYTES_PER_TOKEN 4
#define NUMBER_MAX 1000000000000000.0

struct str arena_copy(struct proto_arena *arena, struct str s)
{
    char *p = proto_arena_alloc(arena, s.n + 1);
    if (s.n)
        memcpy(p, s.p, s.n);
    p[s.n] = 0;
    return str_n(p, s.n);
}

const json_t *argument(const struct arguments *a, const char *names)
{
    while (*names) {
        char name[32];
        size_t n = strcspn(names, ",");
        if (n < sizeof name) {
            memcpy(name, names, n);
            name[n] = 0;
            const json_t *v = json_object_get(a->root, name);
            if (v && !json_is_null(v))
                return v;
        }
        names += n + (names[n] == ',');
    }
    return NULL;
}

static int refuse(const struct arguments *a, const char *names, const char *what)
{
    buf_clear(a->error);
    buf_printf(a->error, "`%.*s` must be %s", (int)strcspn(names, ","), names, what);
    return -1;
}

int argument_text(const struct arguments *a, const char *names, struct str *ret)
{
    const json_t *v = argument(a, names);
    if (!v)
        return 0;
    if (!json_is_string(v))
        return refuse(a, names, "a string");
    *ret = str_n(json_string_value(v), json_string_length(v));
    return 1;
}

/* The unit behind a number, as a factor to milliseconds; 0: no such unit. */
static double unit_of(const char *unit)
{
    while (isspace((unsigned char)*unit))
        unit++;
    if (!*unit || strcmp(unit, "ms") == 0)
        return 1;
    if (strcmp(unit, "s") == 0 || strcmp(unit, "sec") == 0 || strcmp(unit, "seconds") == 0)
        return 1000;
    if (strcmp(unit, "m") == 0 || strcmp(unit, "min") == 0 || strcmp(unit, "minutes") == 0)
        return 60000;
    return 0;
}

int argument_number(const struct arguments *a, const char *names, int64_t *ret)
{
    const json_t *v = argument(a, names);
    if (!v)
        return 0;
    double d;
    if (json_is_number(v)) {
        d = json_number_value(v);
    } else if (json_is_string(v) && json_string_length(v) > 0) {
        char *end;
        d = strtod(json_string_value(v), &end);
        double unit = end == json_string_value(v) ? 0 : unit_of(end);
        if (unit == 0)
            return refuse(a, names, "a number");
        d *= unit;
    } else {
        return refuse(a, names, "a number");
    }
    if (!(d > -NUMBER_MAX && d < NUMBER_MAX)) /* not a number fails this too */
        return refuse(a, names, "a number of sensible size");
    *ret = (int64_t)d;
    return 1;
}

int argument_flag(const struct arguments *a, const char *names, bool *ret)
{
    const json_t *v = argument(a, names);
    if (!v)
        return 0;
    struct str s = str_of(json_string_value(v));
    if (json_is_boolean(v))
        *ret = json_is_true(v);
    else if (json_is_integer(v))
        *ret = json_integer_value(v) != 0;
    else if (str_eqz(s, "true") || str_eqz(s, "True") || str_eqz(s, "1"))
        *ret = true;
    else if (str_eqz(s, "false") || str_eqz(s, "False") || str_eqz(s, "0") || (s.p && s.n == 0))
        *ret = false;
    else
        return refuse(a, names, "true or false");
    return 1;
}

struct str argument_path(const struct arguments *a, struct str path)
{
    while (str_starts(path, "./"))
        path = str_n(path.p + 2, path.n - 2);
    if (path.n == 0 || str_eqz(path, "."))
        return arena_copy(a->arena, a->workspace);
    if (path.p[0] == '/')
        return arena_copy(a->arena, path);
    struct buf b = {0};
    buf_str(&b, a->workspace);
    if (b.n == 0 || b.p[b.n - 1] != '/')
        buf_putc(&b, '/');
    buf_str(&b, path);
    struct str joined = arena_copy(a->arena, buf_view(&b));
    buf_free(&b);
    return joined;
}

static int64_t within(int64_t v, int64_t least, int64_t most)
{
    return v < least ? least : v > most ? most : v;
}

#define YIELD_MS_MIN 250
#define OUTPUT_BYTES_MIN 1024

int argument_waits(const struct arguments *a, int64_t yield_ms_default)
{
    int64_t yield_ms = yield_ms_default, tokens = 0;
    int got = argument_number(a, "yield_time_ms,timeout_ms,yield_ms", &yield_ms);
    if (got == 0) {
        /* A timeout without a unit is in seconds, unless nobody would wait that long. */
        got = argument_number(a, "timeout,timeout_s,timeout_sec,timeout_seconds", &yield_ms);
        if (got == 1 && yield_ms < 1000)
            yield_ms *= 1000;
    }
    if (got < 0)
        return -1;
    a->spec->yield_ms = within(yield_ms, YIELD_MS_MIN, a->limits->yield_ms_max);
    a->spec->output_bytes = a->limits->tool_output_bytes;
    got = argument_number(a, "max_output_tokens", &tokens);
    if (got < 0)
        return -1;
    if (got == 1)
        a->spec->output_bytes = within(tokens * BYTES_PER_TOKEN, OUTPUT_BYTES_MIN, a->limits->tool_output_bytes_max);
    return 0;
}

struct str argument_title(struct proto_arena *arena, struct str text)
{
    while (text.n && isspace((unsigned char)text.p[0]))
        text = str_n(text.p + 1, text.n - 1);
    while (text.n && isspace((unsigned char)text.p[text.n - 1]))
        text.n--;
    size_t n = text.n, lines = 0;
    const char *lf = text.n ? memchr(text.p, '\n', text.n) : NULL;
    if (lf)
        n = (size_t)(lf - text.p);
    for (size_t i = n; i < text.n; i++)
        lines += text.p[i] == '\n';
    bool cut = n > TITLE_BYTES_MAX;
    if (cut)
        n = utf8_floor(text, TITLE_BYTES_MAX);
    struct buf b = {0};
    buf_put(&b, text.p, n);
    if (cut)
        buf_puts(&b, " ...");
    if (lines)
        buf_printf(&b, " [+%zu line%s]", lines, lines == 1 ? "" : "s");
    struct str title = arena_copy(arena, buf_view(&b));
    buf_free(&b);
    return title;
}
