#include "view.h"

#include "client/say.h"
#include "client/text.h"
#include "client/view_internal.h"

#include "daemon/base/clock.h"
#include "daemon/base/mem.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct view *view_new(const struct view_options *options)
{
    struct view *v = MEM_NEW(struct view);
    v->options = *options;
    return v;
}

void view_run_clear(struct view_run *r)
{
    buf_free(&r->line);
    for (size_t i = 0; i < TAIL_LINES; i++)
        mem_free(r->tail[i]);
    *r = (struct view_run){0};
}

void view_call_clear(struct view_call *c)
{
    buf_free(&c->ended);
    *c = (struct view_call){0};
}

void view_free(struct view *v)
{
    if (!v)
        return;
    for (size_t i = 0; i < RUNS_MAX; i++)
        view_run_clear(&v->runs[i]);
    for (size_t i = 0; i < CALLS_MAX; i++)
        view_call_clear(&v->calls[i]);
    mem_free(v);
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
    view_copy_name(item->id, id);
    item->shown = 0;
    item->open = false;
    return item;
}

struct view_run *view_run_of(struct view *v, struct str id, bool make)
{
    for (size_t i = 0; i < RUNS_MAX; i++) {
        if (id.n > 0 && str_eqz(id, v->runs[i].id))
            return &v->runs[i];
    }
    if (!make)
        return NULL;
    struct view_run *r = &v->runs[v->runs_n++ % RUNS_MAX];
    view_run_clear(r);
    view_copy_name(r->id, id);
    return r;
}

struct view_call *view_call_of(struct view *v, struct str id, bool make)
{
    for (size_t i = 0; i < CALLS_MAX; i++) {
        if (id.n > 0 && str_eqz(id, v->calls[i].id))
            return &v->calls[i];
    }
    if (!make)
        return NULL;
    struct view_call *c = &v->calls[v->calls_n++ % CALLS_MAX];
    view_call_clear(c);
    view_copy_name(c->id, id);
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

/* `width` 0: uncut. */
static void put_line(struct view *v, enum say_style style, const char *before, struct str text, size_t width)
{
    CLEANUP(buf_free) struct buf b = {0};
    view_break(v);
    put_margin(v, &b);
    buf_puts(&b, style == SAY_PLAIN ? "" : say_style(style));
    buf_puts(&b, before);
    text_put_line(&b, text, width);
    buf_puts(&b, style == SAY_PLAIN ? "" : say_style(SAY_PLAIN));
    buf_putc(&b, '\n');
    say_data(buf_view(&b));
}

void view_line(struct view *v, enum say_style style, const char *before, struct str text)
{
    put_line(v, style, before, text, columns(v, strlen(before)));
}

static void __attribute__((format(printf, 4, 0)))
put_linef(struct view *v, enum say_style style, bool whole, const char *format, va_list args)
{
    CLEANUP(buf_free) struct buf b = {0};
    CLEANUP(buf_free) struct buf text = {0};
    buf_vprintf(&text, format, args);
    size_t indent = strspn(buf_cstr(&text), " ");
    buf_put(&b, "        ", indent < 8 ? indent : 8);
    put_line(v, style, buf_cstr(&b), str_n(text.p + indent, text.n - indent), whole ? 0 : columns(v, indent));
}

void view_linef(struct view *v, enum say_style style, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    put_linef(v, style, false, format, args);
    va_end(args);
}

/* What must be read to its end, however narrow the terminal: it wraps. */
static void __attribute__((format(printf, 3, 4))) wholef(struct view *v, enum say_style style, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    put_linef(v, style, true, format, args);
    va_end(args);
}

/* Text of several lines, uncut: every line with `before`. */
static void view_block(struct view *v, enum say_style style, const char *before, struct str text)
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

/* ---- messages ---- */

/* More of an item. Where other lines came between, its own line is taken up again. */
static void put_more(struct view *v, struct view_item *item, struct str text)
{
    CLEANUP(buf_free) struct buf safe = {0};
    text_put_safe(&safe, text);
    if (safe.n == 0)
        return;
    if (item->open && !v->open)
        say_data(STR("... "));
    say_data(buf_view(&safe));
    v->open = item->open = safe.p[safe.n - 1] != '\n';
}

static void message_delta(struct view *v, const json_t *delta)
{
    struct str text = view_get(delta, "text");
    struct view_item *item = item_of(v, view_get(delta, "item"), true);
    int64_t offset = view_get_int(delta, "offset"), known = item->shown - offset;
    if (known > 0 && (size_t)known >= text.n)
        return;
    if (known > 0)
        text = str_n(text.p + known, text.n - (size_t)known);
    item->shown = (known > 0 ? item->shown : offset) + (int64_t)text.n;
    put_more(v, item, text);
}

static void message(struct view *v, const json_t *e)
{
    struct str text = view_get(e, "text");
    struct view_item *item = item_of(v, view_get(e, "item"), false);
    bool partial = json_is_true(json_object_get(e, "partial"));
    if (item && item->shown > 0) {
        if ((size_t)item->shown < text.n)
            put_more(v, item, str_n(text.p + item->shown, text.n - (size_t)item->shown));
        view_break(v);
        *item = (struct view_item){0};
    } else if (text.n > 0) {
        view_block(v, SAY_PLAIN, "", text);
    }
    if (partial)
        view_line(v, SAY_DIM, "  ", STR("(cut here by a steer)"));
}

static void reasoning(struct view *v, const json_t *e)
{
    struct str text = view_get(e, "summary");
    if (text.n > 0)
        view_line(v, SAY_DIM, "  (thinks) ", text);
}

static void plan(struct view *v, const json_t *e)
{
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(e, "entries"), i, entry)
    {
        struct str status = view_get(entry, "status");
        const char *mark = str_eqz(status, "completed") ? "[x]" : str_eqz(status, "in_progress") ? "[>]" : "[ ]";
        CLEANUP(buf_free) struct buf before = {0};
        buf_printf(&before, "  %s %s ", i == 0 ? "plan" : "    ", mark);
        view_line(v, str_eqz(status, "completed") ? SAY_DIM : SAY_PLAIN, buf_cstr(&before), view_get(entry, "text"));
    }
}

/* ---- the task ---- */

static void task_created(struct view *v, const json_t *e)
{
    if (v->options.hide_objective)
        return;
    view_linef(v, SAY_DIM, "task %.*s (%.*s) in %.*s, model %.*s", STR_ARG(view_get(e, "name")), STR_ARG(view_get(e, "task")),
          STR_ARG(view_get(e, "workspace")), STR_ARG(view_get(e, "model")));
    view_block(v, SAY_BOLD, "> ", view_get(e, "objective"));
}

const char *view_waiting_detail(const json_t *waiting)
{
    CLEANUP(buf_free) struct buf plain = {0};
    const char *detail = json_string_value(json_object_get(waiting, "detail"));
    buf_printf(&plain, "waits for %.*s", STR_ARG(view_get(waiting, "for")));
    return !detail || strcmp(detail, buf_cstr(&plain)) == 0 ? "" : detail;
}

static void task_state(struct view *v, const json_t *e)
{
    const json_t *waiting = json_object_get(e, "waiting");
    struct str to = view_get(e, "to"), reason = view_get(e, "reason"), detail = str_of(view_waiting_detail(waiting));
    if (v->options.hide_end && (str_eqz(to, "completed") || str_eqz(to, "cancelled")))
        return;
    if (str_eqz(to, "waiting")) {
        wholef(v, SAY_WARN, "waits for %.*s%s%.*s", STR_ARG(view_get(waiting, "for")), detail.n ? ": " : "", STR_ARG(detail));
        return;
    }
    if (str_eqz(to, "queued") || (str_eqz(to, "running") && !json_is_string(json_object_get(e, "from"))))
        return;
    bool queued = str_eqz(view_get(e, "from"), "queued");
    if (str_eqz(to, "running") && queued)
        return;
    enum say_style style = str_eqz(to, "completed") ? SAY_GOOD : str_eqz(to, "failed") ? SAY_BAD : SAY_WARN;
    if (str_eq(to, reason)) /* "cancelled: cancelled" */
        reason = STR("");
    wholef(v, str_eqz(to, "running") ? SAY_DIM : style, "%.*s%s%.*s", STR_ARG(to), reason.n ? ": " : "", STR_ARG(reason));
}

static void steer_accepted(struct view *v, const json_t *e)
{
    struct str key = view_get(e, "key");
    if (v->options.own_key && str_starts(key, v->options.own_key)) {
        view_linef(v, SAY_DIM, "  (%.*s accepted)", STR_ARG(view_get(e, "steer")));
        return;
    }
    view_block(v, SAY_BOLD, "> ", view_get(e, "text"));
}

static void step_retry(struct view *v, const json_t *e)
{
    bool voided = v->open;
    for (size_t i = 0; i < ITEMS_MAX; i++) {
        voided |= v->items[i].shown > 0;
        v->items[i] = (struct view_item){0};
    }
    bool again = json_is_string(json_object_get(e, "next_at")); /* else the turn ends, and says so itself */
    if (again || voided)
        wholef(v, SAY_WARN, "  ! the model's answer failed: %.*s%s%s", STR_ARG(view_get(e, "reason")),
               again ? "; it is asked again" : "", voided ? " (what was shown of it is void)" : "");
}

static void recovered(struct view *v, const json_t *e)
{
    struct str how = view_get(e, "previous_end");
    size_t i;
    json_t *entry;
    view_linef(v, SAY_WARN, "  ! the daemon was started again (%.*s)", STR_ARG(how));
    json_array_foreach(json_object_get(e, "in_flight"), i, entry)
    {
        view_linef(v, SAY_DIM, "    %.*s %.*s: %.*s", STR_ARG(view_get(entry, "what")), STR_ARG(view_get(entry, "id")),
              STR_ARG(view_get(entry, "became")));
    }
}

static void notice(struct view *v, const json_t *e)
{
    struct str severity = view_get(e, "severity");
    enum say_style style = str_eqz(severity, "error") ? SAY_BAD : str_eqz(severity, "warning") ? SAY_WARN : SAY_DIM;
    view_block(v, style, "  ! ", view_get(e, "text"));
}

static void epoch(struct view *v, const json_t *e)
{
    struct str reason = view_get(e, "reason");
    if (!str_eqz(reason, "created"))
        view_linef(v, SAY_DIM, "  (the context begins anew: %.*s)", STR_ARG(reason));
}

static void steer_delivered(struct view *v, const json_t *e)
{
    view_linef(v, SAY_DIM, "  (%.*s delivered)", STR_ARG(view_get(e, "steer")));
}

static void steer_seen(struct view *v, const json_t *e)
{
    view_linef(v, SAY_DIM, "  (%.*s seen)", STR_ARG(view_get(e, "steer")));
}

static void asked(struct view *v, const json_t *e)
{
    view_block(v, SAY_BOLD, "? ", view_get(e, "text"));
}

static void answered(struct view *v, const json_t *e)
{
    view_block(v, SAY_PLAIN, "= ", view_get(e, "text"));
}

static void approval_requested(struct view *v, const json_t *e)
{
    wholef(v, SAY_WARN, "! approval %.*s is needed: %.*s", STR_ARG(view_get(e, "approval")), STR_ARG(view_get(e, "title")));
    view_block(v, SAY_PLAIN, "  ", view_get(e, "detail"));
}

static void approval_answered(struct view *v, const json_t *e)
{
    view_linef(v, SAY_DIM, "  (%.*s %.*s)", STR_ARG(view_get(e, "approval")), STR_ARG(view_get(e, "decision")));
}

static void compaction_ended(struct view *v, const json_t *e)
{
    CLEANUP(buf_free) struct buf b = {0};
    text_put_count(&b, view_get_int(e, "tokens_after"));
    view_linef(v, SAY_DIM, "  (the context was compacted to %s tokens)", buf_cstr(&b));
}

static void file_changed(struct view *v, const json_t *e)
{
    view_linef(v, SAY_DIM, "  ~ %.*s %.*s", STR_ARG(view_get(e, "path")), STR_ARG(view_get(e, "change")));
}

static void wait_ended(struct view *v, const json_t *e)
{
    view_linef(v, SAY_DIM, "  (woken by: %.*s)", STR_ARG(view_get(e, "fired")));
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
    {"tool.called", view_tool_called},
    {"tool.result", view_tool_result},
    {"run.started", view_run_started},
    {"run.ended", view_run_ended},
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
    struct str kind = view_get(event, "kind");
    if (v->options.times)
        set_time(v, view_get(event, "at"));
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (str_eqz(kind, kinds[i].kind)) {
            kinds[i].show(v, event);
            return;
        }
    }
}

void view_delta(struct view *v, const json_t *delta)
{
    struct str kind = view_get(delta, "kind");
    if (str_eqz(kind, "message.delta"))
        message_delta(v, delta);
    else if (str_eqz(kind, "run.output"))
        view_output_delta(v, delta);
}
