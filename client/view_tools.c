#include "view_internal.h"

#include "client/text.h"

#include "daemon/base/mem.h"

#include <inttypes.h>

/* ---- output of commands ---- */

static void output_line(struct view *v, struct str text)
{
    view_line(v, SAY_DIM, "  | ", text);
}

static void output_line_live(struct view *v, struct view_run *r, struct str text)
{
    if (r->lines++ < HEAD_LINES) {
        output_line(v, text);
        return;
    }
    size_t at = (size_t)(r->lines - 1) % TAIL_LINES;
    mem_free(r->tail[at]);
    r->tail[at] = mem_dup(text.p, text.n);
}

void view_output_delta(struct view *v, const json_t *delta)
{
    struct str text = view_get(delta, "text"), one;
    struct view_run *r = view_run_of(v, view_get(delta, "run"), true);
    int64_t offset = view_get_int(delta, "offset");
    if (offset < r->end || text.n == 0) /* seen before a new connection was made */
        return;
    r->end = offset + view_get_int(delta, "bytes");
    for (;;) {
        const char *end = memchr(text.p, '\n', text.n);
        size_t n = end ? (size_t)(end - text.p) : text.n;
        if (r->line.n + n <= LINE_BYTES_MAX)
            buf_put(&r->line, text.p, n);
        if (!end)
            return;
        struct str whole = buf_view(&r->line);
        if (!text_next_line(&whole, &one))
            one = STR("");
        output_line_live(v, r, one);
        buf_clear(&r->line);
        text = str_n(end + 1, text.n - n - 1);
    }
}

/* What live output left out, once its command has been answered. */
static void output_rest(struct view *v, struct view_run *r)
{
    if (r->line.n > 0)
        output_line_live(v, r, buf_view(&r->line));
    int64_t hidden = r->lines - HEAD_LINES - TAIL_LINES;
    if (hidden > 0)
        view_linef(v, SAY_DIM, "  | ... %" PRId64 " more lines", hidden);
    int64_t from = hidden > 0 ? r->lines - TAIL_LINES : HEAD_LINES;
    for (int64_t i = from; i < r->lines; i++) {
        const char *text = r->tail[(size_t)i % TAIL_LINES];
        if (text)
            output_line(v, str_of(text));
    }
    view_run_clear(r);
}

/* An answer about a process begins with lines for the model, up to "Output:"; people are told the same in another way. */
static struct str without_head(struct str text)
{
    struct str rest = text, one;
    for (int i = 0; i < 4 && text_next_line(&rest, &one); i++) {
        if (str_eqz(one, "Output:"))
            return rest;
    }
    return text;
}

/* The answer that the model got: its first and last lines. */
static void output_text(struct view *v, struct str text)
{
    struct str one;
    int64_t lines = 0, i = 0;
    for (struct str rest = text; text_next_line(&rest, &one);)
        lines++;
    for (struct str rest = text; text_next_line(&rest, &one); i++) {
        int64_t hidden = lines - HEAD_LINES - TAIL_LINES;
        if (hidden <= 1 || i < HEAD_LINES || i >= lines - TAIL_LINES)
            output_line(v, one);
        else if (i == HEAD_LINES)
            view_linef(v, SAY_DIM, "  | ... %" PRId64 " more lines", hidden);
    }
}

/* ---- tools ---- */

/* "src/a.c, src/b.c" of a patch. */
static void put_patch_files(struct buf *b, struct str patch)
{
    static const char *const marks[] = {"*** Add File: ", "*** Update File: ", "*** Delete File: "};
    struct str one;
    int files = 0;
    while (text_next_line(&patch, &one)) {
        for (size_t i = 0; i < 3; i++) {
            if (!str_starts(one, marks[i]))
                continue;
            buf_puts(b, files++ ? ", " : "");
            buf_str(b, str_n(one.p + strlen(marks[i]), one.n - strlen(marks[i])));
        }
    }
}

/* "name=value name=value" */
static void put_arguments(struct buf *b, const json_t *arguments)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)arguments, name, value)
    {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        buf_printf(b, " %s=", name);
        text_put_line(b, json_is_string(value) ? str_of(json_string_value(value)) : str_of(text), 40);
        mem_free(text);
    }
}

static struct str get_first(const json_t *o, const char *a, const char *b)
{
    struct str s = view_get(o, a);
    return s.n > 0 ? s : view_get(o, b);
}

void view_tool_called(struct view *v, const json_t *e)
{
    CLEANUP(buf_free) struct buf b = {0};
    const json_t *arguments = json_object_get(e, "arguments");
    struct str tool = view_get(e, "tool"), input;
    view_copy_name(view_call_of(v, view_get(e, "call"), true)->tool, tool);
    if (str_eqz(tool, "exec_command")) {
        view_line(v, SAY_PLAIN, "  $ ", get_first(arguments, "cmd", "command"));
    } else if (str_eqz(tool, "write_stdin")) {
        input = get_first(arguments, "chars", "input");
        buf_printf(&b, "(session %" PRId64 ") ", view_get_int(arguments, "session_id"));
        buf_str(&b, input.n > 0 ? input : STR("waits for output"));
        view_line(v, SAY_PLAIN, input.n > 0 ? "  < " : "  . ", buf_view(&b));
    } else if (str_eqz(tool, "apply_patch")) {
        input = json_is_string(arguments) ? str_of(json_string_value(arguments)) : get_first(arguments, "input", "patch");
        put_patch_files(&b, input);
        view_line(v, SAY_PLAIN, "  * patch ", buf_view(&b));
    } else if (str_eqz(tool, "view_image")) {
        view_line(v, SAY_PLAIN, "  * looks at ", view_get(arguments, "path"));
    } else if (!str_eqz(tool, "update_plan")) {
        buf_str(&b, tool);
        put_arguments(&b, arguments);
        view_line(v, SAY_PLAIN, "  * ", buf_view(&b));
    }
}

static void put_run_end(struct buf *b, const json_t *e)
{
    const json_t *code = json_object_get(e, "exit_code"), *sig = json_object_get(e, "signal");
    struct str outcome = view_get(e, "outcome"), detail = view_get(e, "detail");
    if (json_is_integer(code))
        buf_printf(b, "exit %" PRId64, (int64_t)json_integer_value(code));
    else if (json_is_integer(sig))
        buf_printf(b, "ended by signal %" PRId64, (int64_t)json_integer_value(sig));
    if (!str_eqz(outcome, "done") || b->n == 0) {
        buf_puts(b, b->n ? ", " : "");
        buf_str(b, str_eqz(outcome, "in_doubt") ? STR("in doubt: nobody knows how it ended")
                   : str_eqz(outcome, "not_started") ? STR("not started") : outcome);
    }
    if (view_get_int(e, "duration_ms") > 0) { /* nobody knows it of a process that was lost */
        buf_puts(b, " in ");
        text_put_duration(b, view_get_int(e, "duration_ms"));
    }
    if (view_get_int(e, "output_bytes") > 0) {
        buf_puts(b, ", ");
        text_put_bytes(b, view_get_int(e, "output_bytes"));
    }
    if (detail.n > 0)
        buf_printf(b, " (%.*s)", STR_ARG(detail));
}

void view_run_started(struct view *v, const json_t *e)
{
    struct view_call *c = view_call_of(v, view_get(e, "call"), false);
    if (c)
        view_copy_name(c->run, view_get(e, "run"));
}

/* Normally said after the output, which comes with the call's result; a run that outlived its call is news of its own. */
void view_run_ended(struct view *v, const json_t *e)
{
    CLEANUP(buf_free) struct buf b = {0};
    struct str id = view_get(e, "run");
    struct view_call *c = view_call_of(v, view_get(e, "call"), false);
    put_run_end(&b, e);
    if (c) {
        buf_clear(&c->ended);
        buf_str(&c->ended, buf_view(&b));
        c->known = view_get(e, "detail").n > 0;
        return;
    }
    struct view_run *r = view_run_of(v, id, false);
    if (r)
        output_rest(v, r);
    view_linef(v, SAY_DIM, "  = %.*s: %s", STR_ARG(id), buf_cstr(&b));
}

void view_tool_result(struct view *v, const json_t *e)
{
    struct view_call *c = view_call_of(v, view_get(e, "call"), false);
    struct view_run *r = c && c->run[0] ? view_run_of(v, str_of(c->run), false) : NULL;
    bool is_error = json_is_true(json_object_get(e, "is_error"));
    struct str output = view_get(e, "output"), ended = c ? buf_view(&c->ended) : STR("");
    bool good = str_starts(ended, "exit 0") && !is_error, known = c && c->known;
    /* A plan and a patch that fit are told by events of their own. */
    bool told = c && !is_error && (strcmp(c->tool, "update_plan") == 0 || (good && strcmp(c->tool, "apply_patch") == 0));
    if (told) {
        if (known)
            view_line(v, SAY_WARN, "  = ", ended);
        view_call_clear(c);
        return;
    }
    /* What the model is told instead of output is told to people by the line below. */
    bool silent = c && c->run[0] && !is_error && json_is_integer(json_object_get(e, "output_bytes")) &&
                  view_get_int(e, "output_bytes") == 0;
    if (r && r->lines > 0 && !is_error)
        output_rest(v, r);
    else if (!silent)
        output_text(v, c && (c->run[0] || strcmp(c->tool, "write_stdin") == 0) ? without_head(output) : output);
    if (ended.n > 0)
        view_line(v, good ? SAY_DIM : SAY_WARN, "  = ", ended);
    else if (is_error)
        view_line(v, SAY_BAD, "  = ", STR("not done"));
    else if (c && c->run[0])
        view_line(v, SAY_DIM, "  = ", STR("still running"));
    if (c)
        view_call_clear(c);
}
