#include "view.h"

#include "client/say.h"
#include "client/text.h"

#include "daemon/base/clock.h"
#include "daemon/base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#define ITEMS_MAX 16      /* items that are streamed at once */
#define RUNS_MAX 16       /* runs whose output is shown live at once */
#define CALLS_MAX 64      /* calls that wait for their result */
#define HEAD_LINES 6      /* of a command's output */
#define TAIL_LINES 4
#define LINE_BYTES_MAX 4096
#define NAME_SIZE 32

struct view_item {
    char id[NAME_SIZE];
    int64_t shown; /* bytes of its text */
};

struct view_run {
    char id[NAME_SIZE];
    struct buf line; /* not complete yet */
    int64_t end;     /* offset behind what came */
    int64_t lines;   /* complete lines so far */
    char *tail[TAIL_LINES]; /* the last ones behind the head, a ring */
};

struct view_call {
    char id[NAME_SIZE];
    char tool[NAME_SIZE];
    char run[NAME_SIZE];
    struct buf ended; /* what to say of its run once its result is shown */
};

struct view {
    struct view_options options;
    struct view_item items[ITEMS_MAX];
    struct view_run runs[RUNS_MAX];
    struct view_call calls[CALLS_MAX];
    size_t items_n, runs_n, calls_n; /* given out so far; the oldest is taken again */
    bool open;                       /* the last line on the screen is not complete */
    char time[16];
};

struct view *view_new(const struct view_options *options)
{
    struct view *v = MEM_NEW(struct view);
    v->options = *options;
    return v;
}

static void run_clear(struct view_run *r)
{
    buf_free(&r->line);
    for (size_t i = 0; i < TAIL_LINES; i++)
        mem_free(r->tail[i]);
    *r = (struct view_run){0};
}

static void call_clear(struct view_call *c)
{
    buf_free(&c->ended);
    *c = (struct view_call){0};
}

void view_free(struct view *v)
{
    if (!v)
        return;
    for (size_t i = 0; i < RUNS_MAX; i++)
        run_clear(&v->runs[i]);
    for (size_t i = 0; i < CALLS_MAX; i++)
        call_clear(&v->calls[i]);
    mem_free(v);
}

/* ---- reading ---- */

static struct str get(const json_t *o, const char *name)
{
    const json_t *s = json_object_get(o, name);
    return json_is_string(s) ? str_n(json_string_value(s), json_string_length(s)) : STR("");
}

static int64_t get_int(const json_t *o, const char *name)
{
    return json_integer_value(json_object_get(o, name));
}

static void copy_name(char ret[NAME_SIZE], struct str s)
{
    size_t n = s.n < NAME_SIZE - 1 ? s.n : NAME_SIZE - 1;
    memcpy(ret, s.p, n);
    ret[n] = 0;
}

/* ---- the little that is remembered ---- */

static struct view_item *item_of(struct view *v, struct str id, bool make)
{
    for (size_t i = 0; i < ITEMS_MAX; i++) {
        if (id.n > 0 && str_eqz(id, v->items[i].id))
            return &v->items[i];
    }
    if (!make)
        return NULL;
    struct view_item *item = &v->items[v->items_n++ % ITEMS_MAX];
    copy_name(item->id, id);
    item->shown = 0;
    return item;
}

static struct view_run *run_of(struct view *v, struct str id, bool make)
{
    for (size_t i = 0; i < RUNS_MAX; i++) {
        if (id.n > 0 && str_eqz(id, v->runs[i].id))
            return &v->runs[i];
    }
    if (!make)
        return NULL;
    struct view_run *r = &v->runs[v->runs_n++ % RUNS_MAX];
    run_clear(r);
    copy_name(r->id, id);
    return r;
}

static struct view_call *call_of(struct view *v, struct str id, bool make)
{
    for (size_t i = 0; i < CALLS_MAX; i++) {
        if (id.n > 0 && str_eqz(id, v->calls[i].id))
            return &v->calls[i];
    }
    if (!make)
        return NULL;
    struct view_call *c = &v->calls[v->calls_n++ % CALLS_MAX];
    call_clear(c);
    copy_name(c->id, id);
    return c;
}

/* ---- writing ---- */

void view_break(struct view *v)
{
    if (v->open)
        say_data(STR("\n"));
    v->open = false;
}

static size_t columns(const struct view *v, size_t used)
{
    size_t all = say_columns() - (v->options.times ? 10 : 0);
    return all > used + 20 ? all - used : 20;
}

/* The column of times: the time where an event begins, blank below. */
static void put_margin(struct view *v, struct buf *b)
{
    if (!v->options.times)
        return;
    buf_printf(b, "%s%-10s%s", say_style(SAY_DIM), v->time, say_style(SAY_PLAIN));
    v->time[0] = 0;
}

/* One line: `text` is shown safely, in one style, cut to the width. */
static void line(struct view *v, enum say_style style, const char *before, struct str text)
{
    CLEANUP(buf_free) struct buf b = {0};
    view_break(v);
    put_margin(v, &b);
    buf_puts(&b, style == SAY_PLAIN ? "" : say_style(style));
    buf_puts(&b, before);
    text_put_line(&b, text, columns(v, strlen(before)));
    buf_puts(&b, style == SAY_PLAIN ? "" : say_style(SAY_PLAIN));
    buf_putc(&b, '\n');
    say_data(buf_view(&b));
}

static void __attribute__((format(printf, 3, 4))) linef(struct view *v, enum say_style style, const char *format, ...)
{
    CLEANUP(buf_free) struct buf b = {0};
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    size_t indent = n > 0 ? strspn(text, " ") : 0;
    buf_put(&b, "        ", indent < 8 ? indent : 8);
    if (n >= 0)
        line(v, style, buf_cstr(&b), str_n(text + indent, (size_t)n - indent));
    free(text);
}

/* Text of several lines, uncut: every line with `before`. */
static void block(struct view *v, enum say_style style, const char *before, struct str text)
{
    CLEANUP(buf_free) struct buf safe = {0}, b = {0};
    struct str rest, one;
    text_put_safe(&safe, text);
    view_break(v);
    for (rest = buf_view(&safe); text_next_line(&rest, &one);) {
        put_margin(v, &b);
        buf_printf(&b, "%s%s%.*s%s\n", style == SAY_PLAIN ? "" : say_style(style), before, STR_ARG(one),
                   style == SAY_PLAIN ? "" : say_style(SAY_PLAIN));
    }
    say_data(buf_view(&b));
}

/* ---- output of commands ---- */

static void output_line(struct view *v, struct str text)
{
    line(v, SAY_DIM, "  | ", text);
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

static void output_delta(struct view *v, const json_t *delta)
{
    struct str text = get(delta, "text"), one;
    struct view_run *r = run_of(v, get(delta, "run"), true);
    int64_t offset = get_int(delta, "offset");
    if (offset < r->end || text.n == 0) /* seen before a new connection was made */
        return;
    r->end = offset + get_int(delta, "bytes");
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
        linef(v, SAY_DIM, "  | ... %" PRId64 " more lines", hidden);
    int64_t from = hidden > 0 ? r->lines - TAIL_LINES : HEAD_LINES;
    for (int64_t i = from; i < r->lines; i++) {
        const char *text = r->tail[(size_t)i % TAIL_LINES];
        if (text)
            output_line(v, str_of(text));
    }
    run_clear(r);
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
            linef(v, SAY_DIM, "  | ... %" PRId64 " more lines", hidden);
    }
}

/* ---- messages ---- */

static void message_delta(struct view *v, const json_t *delta)
{
    CLEANUP(buf_free) struct buf safe = {0};
    struct str text = get(delta, "text");
    struct view_item *item = item_of(v, get(delta, "item"), true);
    int64_t offset = get_int(delta, "offset"), known = item->shown - offset;
    if (known > 0 && (size_t)known >= text.n)
        return;
    if (known > 0)
        text = str_n(text.p + known, text.n - (size_t)known);
    item->shown = (known > 0 ? item->shown : offset) + (int64_t)text.n;
    text_put_safe(&safe, text);
    say_data(buf_view(&safe));
    v->open = safe.n > 0 ? safe.p[safe.n - 1] != '\n' : v->open;
}

static void message(struct view *v, const json_t *e)
{
    struct str text = get(e, "text");
    struct view_item *item = item_of(v, get(e, "item"), false);
    bool partial = json_is_true(json_object_get(e, "partial"));
    if (item && item->shown > 0) {
        CLEANUP(buf_free) struct buf safe = {0};
        if ((size_t)item->shown < text.n)
            text_put_safe(&safe, str_n(text.p + item->shown, text.n - (size_t)item->shown));
        say_data(buf_view(&safe));
        v->open = safe.n > 0 ? safe.p[safe.n - 1] != '\n' : v->open;
        view_break(v);
        *item = (struct view_item){0};
    } else if (text.n > 0) {
        block(v, SAY_PLAIN, "", text);
    }
    if (partial)
        line(v, SAY_DIM, "  ", STR("(cut here by a steer)"));
}

static void reasoning(struct view *v, const json_t *e)
{
    struct str text = get(e, "summary");
    if (text.n > 0)
        line(v, SAY_DIM, "  (thinks) ", text);
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
    struct str s = get(o, a);
    return s.n > 0 ? s : get(o, b);
}

static void tool_called(struct view *v, const json_t *e)
{
    CLEANUP(buf_free) struct buf b = {0};
    const json_t *arguments = json_object_get(e, "arguments");
    struct str tool = get(e, "tool"), input;
    copy_name(call_of(v, get(e, "call"), true)->tool, tool);
    if (str_eqz(tool, "exec_command")) {
        line(v, SAY_PLAIN, "  $ ", get_first(arguments, "cmd", "command"));
    } else if (str_eqz(tool, "write_stdin")) {
        input = get_first(arguments, "chars", "input");
        buf_printf(&b, "(session %" PRId64 ") ", get_int(arguments, "session_id"));
        buf_str(&b, input.n > 0 ? input : STR("waits for output"));
        line(v, SAY_PLAIN, input.n > 0 ? "  < " : "  . ", buf_view(&b));
    } else if (str_eqz(tool, "apply_patch")) {
        input = json_is_string(arguments) ? str_of(json_string_value(arguments)) : get_first(arguments, "input", "patch");
        put_patch_files(&b, input);
        line(v, SAY_PLAIN, "  * patch ", buf_view(&b));
    } else if (str_eqz(tool, "view_image")) {
        line(v, SAY_PLAIN, "  * looks at ", get(arguments, "path"));
    } else if (!str_eqz(tool, "update_plan")) {
        buf_str(&b, tool);
        put_arguments(&b, arguments);
        line(v, SAY_PLAIN, "  * ", buf_view(&b));
    }
}

static void put_run_end(struct buf *b, const json_t *e)
{
    const json_t *code = json_object_get(e, "exit_code"), *sig = json_object_get(e, "signal");
    struct str outcome = get(e, "outcome"), detail = get(e, "detail");
    if (json_is_integer(code))
        buf_printf(b, "exit %" PRId64, (int64_t)json_integer_value(code));
    else if (json_is_integer(sig))
        buf_printf(b, "ended by signal %" PRId64, (int64_t)json_integer_value(sig));
    if (!str_eqz(outcome, "done") || b->n == 0) {
        buf_puts(b, b->n ? ", " : "");
        buf_str(b, str_eqz(outcome, "in_doubt") ? STR("in doubt: nobody knows how it ended")
                   : str_eqz(outcome, "not_started") ? STR("not started") : outcome);
    }
    buf_puts(b, " in ");
    text_put_duration(b, get_int(e, "duration_ms"));
    if (get_int(e, "output_bytes") > 0) {
        buf_puts(b, ", ");
        text_put_bytes(b, get_int(e, "output_bytes"));
    }
    if (detail.n > 0)
        buf_printf(b, " (%.*s)", STR_ARG(detail));
}

static void run_started(struct view *v, const json_t *e)
{
    struct view_call *c = call_of(v, get(e, "call"), false);
    if (c)
        copy_name(c->run, get(e, "run"));
}

/* Normally said after the output, which comes with the call's result; a run that outlived its call is news of its own. */
static void run_ended(struct view *v, const json_t *e)
{
    CLEANUP(buf_free) struct buf b = {0};
    struct str id = get(e, "run");
    struct view_call *c = call_of(v, get(e, "call"), false);
    put_run_end(&b, e);
    if (c) {
        buf_clear(&c->ended);
        buf_str(&c->ended, buf_view(&b));
        return;
    }
    struct view_run *r = run_of(v, id, false);
    if (r)
        output_rest(v, r);
    linef(v, SAY_DIM, "  = %.*s: %s", STR_ARG(id), buf_cstr(&b));
}

static void tool_result(struct view *v, const json_t *e)
{
    struct view_call *c = call_of(v, get(e, "call"), false);
    struct view_run *r = c && c->run[0] ? run_of(v, str_of(c->run), false) : NULL;
    bool is_error = json_is_true(json_object_get(e, "is_error"));
    struct str output = get(e, "output"), ended = c ? buf_view(&c->ended) : STR("");
    bool good = str_starts(ended, "exit 0 ") && !is_error;
    /* A plan and a patch that fit are told by events of their own. */
    bool told = c && !is_error && (strcmp(c->tool, "update_plan") == 0 || (good && strcmp(c->tool, "apply_patch") == 0));
    if (told) {
        call_clear(c);
        return;
    }
    if (r && r->lines > 0 && !is_error)
        output_rest(v, r);
    else
        output_text(v, c && (c->run[0] || strcmp(c->tool, "write_stdin") == 0) ? without_head(output) : output);
    if (ended.n > 0)
        line(v, good ? SAY_DIM : SAY_WARN, "  = ", ended);
    else if (is_error)
        line(v, SAY_BAD, "  = ", STR("refused, or failed"));
    else if (c && c->run[0])
        line(v, SAY_DIM, "  = ", STR("still running"));
    if (c)
        call_clear(c);
}

static void plan(struct view *v, const json_t *e)
{
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(e, "entries"), i, entry)
    {
        struct str status = get(entry, "status");
        const char *mark = str_eqz(status, "completed") ? "[x]" : str_eqz(status, "in_progress") ? "[>]" : "[ ]";
        CLEANUP(buf_free) struct buf before = {0};
        buf_printf(&before, "  %s %s ", i == 0 ? "plan" : "    ", mark);
        line(v, str_eqz(status, "completed") ? SAY_DIM : SAY_PLAIN, buf_cstr(&before), get(entry, "text"));
    }
}

/* ---- the task ---- */

static void task_created(struct view *v, const json_t *e)
{
    if (v->options.hide_objective)
        return;
    linef(v, SAY_DIM, "task %.*s (%.*s) in %.*s, model %.*s", STR_ARG(get(e, "name")), STR_ARG(get(e, "task")),
          STR_ARG(get(e, "workspace")), STR_ARG(get(e, "model")));
    block(v, SAY_BOLD, "> ", get(e, "objective"));
}

static void task_state(struct view *v, const json_t *e)
{
    const json_t *waiting = json_object_get(e, "waiting");
    struct str to = get(e, "to"), reason = get(e, "reason"), detail = get(waiting, "detail");
    if (v->options.hide_end && (str_eqz(to, "completed") || str_eqz(to, "cancelled")))
        return;
    if (str_eqz(to, "waiting")) {
        linef(v, SAY_WARN, "waits for %.*s%s%.*s", STR_ARG(get(waiting, "for")), detail.n ? ": " : "", STR_ARG(detail));
        return;
    }
    if (str_eqz(to, "queued") || (str_eqz(to, "running") && !json_is_string(json_object_get(e, "from"))))
        return;
    bool queued = str_eqz(get(e, "from"), "queued");
    if (str_eqz(to, "running") && queued)
        return;
    enum say_style style = str_eqz(to, "completed") ? SAY_GOOD : str_eqz(to, "failed") ? SAY_BAD : SAY_WARN;
    linef(v, str_eqz(to, "running") ? SAY_DIM : style, "%.*s%s%.*s", STR_ARG(to), reason.n ? ": " : "", STR_ARG(reason));
}

static void steer_accepted(struct view *v, const json_t *e)
{
    struct str key = get(e, "key");
    if (v->options.own_key && str_starts(key, v->options.own_key)) {
        linef(v, SAY_DIM, "  (%.*s accepted)", STR_ARG(get(e, "steer")));
        return;
    }
    block(v, SAY_BOLD, "> ", get(e, "text"));
}

static void step_retry(struct view *v, const json_t *e)
{
    bool voided = v->open;
    for (size_t i = 0; i < ITEMS_MAX; i++) {
        voided |= v->items[i].shown > 0;
        v->items[i] = (struct view_item){0};
    }
    linef(v, SAY_WARN, "  ! the model's answer failed: %.*s; it is asked again%s", STR_ARG(get(e, "reason")),
          voided ? " (what was shown of it is void)" : "");
}

static void recovered(struct view *v, const json_t *e)
{
    struct str how = get(e, "previous_end");
    size_t i;
    json_t *entry;
    linef(v, SAY_WARN, "  ! the daemon was started again (%.*s)", STR_ARG(how));
    json_array_foreach(json_object_get(e, "in_flight"), i, entry)
    {
        linef(v, SAY_DIM, "    %.*s %.*s: %.*s", STR_ARG(get(entry, "what")), STR_ARG(get(entry, "id")),
              STR_ARG(get(entry, "became")));
    }
}

static void notice(struct view *v, const json_t *e)
{
    struct str severity = get(e, "severity");
    enum say_style style = str_eqz(severity, "error") ? SAY_BAD : str_eqz(severity, "warning") ? SAY_WARN : SAY_DIM;
    block(v, style, "  ! ", get(e, "text"));
}

static void epoch(struct view *v, const json_t *e)
{
    struct str reason = get(e, "reason");
    if (!str_eqz(reason, "created"))
        linef(v, SAY_DIM, "  (the context begins anew: %.*s)", STR_ARG(reason));
}

static void steer_delivered(struct view *v, const json_t *e)
{
    linef(v, SAY_DIM, "  (%.*s delivered)", STR_ARG(get(e, "steer")));
}

static void steer_seen(struct view *v, const json_t *e)
{
    linef(v, SAY_DIM, "  (%.*s seen)", STR_ARG(get(e, "steer")));
}

static void asked(struct view *v, const json_t *e)
{
    block(v, SAY_BOLD, "? ", get(e, "text"));
}

static void answered(struct view *v, const json_t *e)
{
    block(v, SAY_PLAIN, "= ", get(e, "text"));
}

static void approval_requested(struct view *v, const json_t *e)
{
    linef(v, SAY_WARN, "! approval %.*s is needed: %.*s", STR_ARG(get(e, "approval")), STR_ARG(get(e, "title")));
    block(v, SAY_PLAIN, "  ", get(e, "detail"));
}

static void approval_answered(struct view *v, const json_t *e)
{
    linef(v, SAY_DIM, "  (%.*s %.*s)", STR_ARG(get(e, "approval")), STR_ARG(get(e, "decision")));
}

static void compaction_ended(struct view *v, const json_t *e)
{
    CLEANUP(buf_free) struct buf b = {0};
    text_put_count(&b, get_int(e, "tokens_after"));
    linef(v, SAY_DIM, "  (the context was compacted to %s tokens)", buf_cstr(&b));
}

static void file_changed(struct view *v, const json_t *e)
{
    linef(v, SAY_DIM, "  ~ %.*s %.*s", STR_ARG(get(e, "path")), STR_ARG(get(e, "change")));
}

static void wait_ended(struct view *v, const json_t *e)
{
    linef(v, SAY_DIM, "  (woken by: %.*s)", STR_ARG(get(e, "fired")));
}

static const struct {
    const char *kind;
    void (*show)(struct view *v, const json_t *e);
} kinds[] = {
    {"task.created", task_created},
    {"task.state", task_state},
    {"step.retry", step_retry},
    {"context.epoch", epoch},
    {"message", message},
    {"reasoning", reasoning},
    {"plan", plan},
    {"tool.called", tool_called},
    {"tool.result", tool_result},
    {"run.started", run_started},
    {"run.ended", run_ended},
    {"steer.accepted", steer_accepted},
    {"steer.delivered", steer_delivered},
    {"steer.seen", steer_seen},
    {"ask.asked", asked},
    {"ask.answered", answered},
    {"approval.requested", approval_requested},
    {"approval.answered", approval_answered},
    {"question.asked", asked},
    {"question.answered", answered},
    {"compaction.ended", compaction_ended},
    {"wait.ended", wait_ended},
    {"recovered", recovered},
    {"file.changed", file_changed},
    {"notice", notice},
};

static void set_time(struct view *v, struct str at)
{
    char text[CLOCK_TEXT_SIZE] = "";
    int64_t ms;
    struct tm tm;
    memcpy(text, at.p, at.n < sizeof text - 1 ? at.n : sizeof text - 1);
    v->time[0] = 0;
    if (clock_parse(text, &ms) == 0 && localtime_r(&(time_t){ms / 1000}, &tm))
        strftime(v->time, sizeof v->time, "%H:%M:%S", &tm);
}

void view_event(struct view *v, const json_t *event)
{
    struct str kind = get(event, "kind");
    if (v->options.times)
        set_time(v, get(event, "at"));
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (str_eqz(kind, kinds[i].kind)) {
            kinds[i].show(v, event);
            return;
        }
    }
}

void view_delta(struct view *v, const json_t *delta)
{
    struct str kind = get(delta, "kind");
    if (str_eqz(kind, "message.delta"))
        message_delta(v, delta);
    else if (str_eqz(kind, "run.output"))
        output_delta(v, delta);
}
