/* The state of a task as bytes, and back (base/pack.h). Names of fields are stored: they are never given another meaning. A field
 * that is not known is skipped; one that is missing is zero. Numbers of enums are stored, and never reused. */
#include "daemon/core/internal.h"

#include "daemon/base/mem.h"
#include "daemon/base/pack.h"

#include <stdio.h>

static void pack_deadline(struct buf *b, const char *name, const struct clock_deadline *d)
{
    if (!clock_deadline_set(d))
        return;
    size_t mark = pack_open(b, name);
    pack_i64(b, "wall", d->wall_ms);
    pack_i64(b, "boot", d->boot_ms);
    pack_i64(b, "delay", d->delay_ms);
    pack_str(b, "id", str_of(d->boot_id));
    pack_close(b, mark);
}

static void pack_usage(struct buf *b, const struct proto_usage *u)
{
    size_t mark = pack_open(b, "usage");
    pack_i64(b, "input", u->input_tokens);
    pack_i64(b, "cached", u->cached_input_tokens);
    pack_i64(b, "output", u->output_tokens);
    pack_i64(b, "reasoning", u->reasoning_tokens);
    pack_i64(b, "cost", u->cost_usd);
    pack_i64(b, "uncertain", u->uncertain_usd);
    pack_close(b, mark);
}

static void pack_steer(struct buf *b, const struct steer *s)
{
    size_t mark = pack_open(b, "steer");
    pack_i64(b, "n", s->n);
    pack_i64(b, "delivery", s->delivery);
    pack_str(b, "text", str_of(s->text));
    pack_i64(b, "delivered", s->delivered_step);
    pack_close(b, mark);
}

static void pack_note(struct buf *b, const struct note *n)
{
    size_t mark = pack_open(b, "note");
    pack_str(b, "text", str_of(n->text));
    pack_i64(b, "image", n->image_run);
    pack_str(b, "type", str_of(n->media_type));
    pack_close(b, mark);
}

static void pack_call(struct buf *b, const struct call *c)
{
    size_t mark = pack_open(b, "call");
    pack_i64(b, "n", c->n);
    pack_i64(b, "step", c->step);
    pack_i64(b, "sort", c->sort);
    pack_str(b, "wire", str_of(c->wire_id));
    pack_str(b, "tool", str_of(c->tool));
    pack_i64(b, "run", c->run);
    if (c->input.n)
        pack_str(b, "input", buf_view(&c->input));
    pack_i64(b, "yield", c->yield_ms);
    pack_i64(b, "output", c->output_bytes);
    pack_deadline(b, "at", &c->yield_at);
    pack_close(b, mark);
}

static void pack_run(struct buf *b, const struct run *r)
{
    size_t mark = pack_open(b, "run");
    pack_i64(b, "n", r->n);
    pack_i64(b, "call", r->call);
    pack_i64(b, "program", r->program);
    pack_str(b, "command", str_of(r->command));
    pack_str(b, "workdir", str_of(r->workdir));
    if (r->payload.n)
        pack_str(b, "payload", buf_view(&r->payload));
    pack_i64(b, "tty", r->tty);
    pack_str(b, "boot", str_of(r->boot_id));
    pack_i64(b, "started", r->started_wall_ms);
    pack_i64(b, "seen", r->seen_bytes);
    pack_i64(b, "ended", r->ended);
    pack_i64(b, "gone", r->gone);
    pack_i64(b, "kill", r->kill);
    pack_i64(b, "code", r->exit_code);
    pack_i64(b, "signal", r->signal);
    pack_i64(b, "has_code", r->has_exit_code);
    pack_i64(b, "has_signal", r->has_signal);
    pack_i64(b, "outcome", r->outcome);
    pack_i64(b, "duration", r->duration_ms);
    pack_i64(b, "bytes", r->output_bytes);
    pack_close(b, mark);
}

static void pack_condition(struct buf *b, const struct condition *c)
{
    size_t mark = pack_open(b, "condition");
    pack_i64(b, "kind", c->kind);
    pack_i64(b, "delay", c->delay_ms);
    pack_deadline(b, "at", &c->at);
    pack_i64(b, "wall", c->wall_ms);
    pack_i64(b, "run", c->run);
    pack_str(b, "path", c->path);
    pack_i64(b, "exists", c->stamp.exists);
    pack_i64(b, "size", c->stamp.size);
    pack_i64(b, "mtime", c->stamp.mtime_ns);
    pack_i64(b, "inode", c->stamp.inode);
    pack_close(b, mark);
}

static void pack_wait(struct buf *b, const struct wait *w)
{
    size_t mark = pack_open(b, "wait");
    pack_i64(b, "n", w->n);
    pack_i64(b, "call", w->call);
    for (size_t i = 0; i < w->conditions_n; i++)
        pack_condition(b, &w->conditions[i]);
    pack_close(b, mark);
}

void task_snapshot(const struct task *t, struct buf *b)
{
    pack_str(b, "id", str_of(t->id));
    pack_str(b, "name", str_of(t->name));
    pack_str(b, "objective", str_of(t->objective));
    pack_str(b, "workspace", str_of(t->workspace));
    pack_str(b, "model", str_of(t->model));
    pack_str(b, "policy", str_of(t->policy));
    pack_i64(b, "keep_open", t->keep_open);
    pack_i64(b, "state", t->state);
    pack_i64(b, "waiting", t->waiting_for);
    pack_str(b, "waiting_detail", str_of(t->waiting_detail));
    pack_i64(b, "waiting_until", t->waiting_until_ms);
    pack_i64(b, "created", t->created_ms);
    pack_i64(b, "updated", t->updated_ms);
    pack_i64(b, "seq", t->seq);
    pack_i64(b, "turns", t->turns);
    pack_i64(b, "steps", t->steps);
    pack_i64(b, "runs", t->runs_n);
    pack_i64(b, "calls", t->calls_n);
    pack_i64(b, "steers", t->steers_n);
    pack_i64(b, "items", t->items_n);
    pack_i64(b, "waits", t->waits_n);
    pack_usage(b, &t->usage);
    pack_i64(b, "price_input", t->price_input);
    pack_i64(b, "price_output", t->price_output);
    pack_i64(b, "max_output", t->max_output_tokens);
    pack_i64(b, "phase", t->phase);
    pack_i64(b, "attempt", t->attempt);
    pack_i64(b, "failures", t->failures);
    pack_deadline(b, "retry_at", &t->retry_at);
    pack_i64(b, "wants_step", t->turn_wants_step);
    pack_i64(b, "fresh", t->turn_fresh);
    pack_str(b, "last_text", str_of(t->last_text));
    pack_i64(b, "epoch", t->epoch);
    pack_i64(b, "context_n", t->context_n);
    pack_i64(b, "context_bytes", t->context_bytes);
    pack_i64(b, "tail_bytes", t->tail_bytes);
    pack_i64(b, "prefix_bytes", t->prefix_bytes);
    pack_deadline(b, "idle_at", &t->idle_at);
    pack_str(b, "activity", str_of(t->activity));
    const struct steer *s;
    LIST_EACH(s, (struct list *)&t->steers, struct steer, node)
    pack_steer(b, s);
    const struct note *n;
    LIST_EACH(n, (struct list *)&t->notes, struct note, node)
    pack_note(b, n);
    const struct call *c;
    LIST_EACH(c, (struct list *)&t->calls, struct call, node)
    pack_call(b, c);
    const struct run *r;
    LIST_EACH(r, (struct list *)&t->runs, struct run, node)
    pack_run(b, r);
    const struct wait *w;
    LIST_EACH(w, (struct list *)&t->waits, struct wait, node)
    pack_wait(b, w);
}

/* ---- back ---- */

static char *unpack_text(const struct pack_field *f)
{
    return mem_dup(f->bytes.p, f->bytes.n);
}

static void unpack_chars(const struct pack_field *f, char *to, size_t size)
{
    snprintf(to, size, "%.*s", STR_ARG(f->bytes));
}

#define TAKE_I64(name, to)                                                                                   \
    if (pack_is(&f, name)) {                                                                                 \
        to = f.i64;                                                                                          \
        continue;                                                                                            \
    }
#define TAKE_ENUM(name, to, type)                                                                            \
    if (pack_is(&f, name)) {                                                                                 \
        to = (type)f.i64;                                                                                    \
        continue;                                                                                            \
    }
#define TAKE_BOOL(name, to)                                                                                  \
    if (pack_is(&f, name)) {                                                                                 \
        to = f.i64 != 0;                                                                                     \
        continue;                                                                                            \
    }
#define TAKE_TEXT(name, to)                                                                                  \
    if (pack_is(&f, name)) {                                                                                 \
        mem_free(to);                                                                                        \
        to = unpack_text(&f);                                                                                \
        continue;                                                                                            \
    }

static int unpack_deadline(struct str in, struct clock_deadline *d)
{
    struct pack_field f;
    int more;
    while ((more = pack_next(&in, &f)) > 0) {
        TAKE_I64("wall", d->wall_ms)
        TAKE_I64("boot", d->boot_ms)
        TAKE_I64("delay", d->delay_ms)
        if (pack_is(&f, "id"))
            unpack_chars(&f, d->boot_id, sizeof d->boot_id);
    }
    return more;
}

static int unpack_usage(struct str in, struct proto_usage *u)
{
    struct pack_field f;
    int more;
    while ((more = pack_next(&in, &f)) > 0) {
        TAKE_I64("input", u->input_tokens)
        TAKE_I64("cached", u->cached_input_tokens)
        TAKE_I64("output", u->output_tokens)
        TAKE_I64("reasoning", u->reasoning_tokens)
        TAKE_I64("cost", u->cost_usd)
        TAKE_I64("uncertain", u->uncertain_usd)
    }
    return more;
}

static int unpack_steer(struct str in, struct task *t)
{
    struct steer *s = MEM_NEW(struct steer);
    list_append(&t->steers, &s->node);
    struct pack_field f;
    int more;
    while ((more = pack_next(&in, &f)) > 0) {
        TAKE_I64("n", s->n)
        TAKE_ENUM("delivery", s->delivery, enum delivery)
        TAKE_TEXT("text", s->text)
        TAKE_I64("delivered", s->delivered_step)
    }
    t->steers_pending += s->delivered_step == 0;
    return s->text ? more : -1;
}

static int unpack_note(struct str in, struct task *t)
{
    struct note *n = MEM_NEW(struct note);
    list_append(&t->notes, &n->node);
    struct pack_field f;
    int more;
    while ((more = pack_next(&in, &f)) > 0) {
        TAKE_TEXT("text", n->text)
        TAKE_I64("image", n->image_run)
        TAKE_TEXT("type", n->media_type)
    }
    return more;
}

static int unpack_call(struct str in, struct task *t)
{
    struct call *c = MEM_NEW(struct call);
    list_append(&t->calls, &c->node);
    t->calls_open++;
    struct pack_field f;
    int more;
    while ((more = pack_next(&in, &f)) > 0) {
        TAKE_I64("n", c->n)
        TAKE_I64("step", c->step)
        TAKE_ENUM("sort", c->sort, enum call_sort)
        TAKE_TEXT("wire", c->wire_id)
        TAKE_TEXT("tool", c->tool)
        TAKE_I64("run", c->run)
        TAKE_I64("yield", c->yield_ms)
        TAKE_I64("output", c->output_bytes)
        if (pack_is(&f, "input"))
            buf_str(&c->input, f.bytes);
        if (pack_is(&f, "at") && unpack_deadline(f.bytes, &c->yield_at) < 0)
            return -1;
    }
    return c->wire_id && c->tool ? more : -1;
}

static int unpack_run(struct str in, struct task *t)
{
    struct run *r = MEM_NEW(struct run);
    list_append(&t->runs, &r->node);
    struct pack_field f;
    int more;
    while ((more = pack_next(&in, &f)) > 0) {
        TAKE_I64("n", r->n)
        TAKE_I64("call", r->call)
        TAKE_ENUM("program", r->program, enum run_program)
        TAKE_TEXT("command", r->command)
        TAKE_TEXT("workdir", r->workdir)
        TAKE_BOOL("tty", r->tty)
        TAKE_I64("started", r->started_wall_ms)
        TAKE_I64("seen", r->seen_bytes)
        TAKE_BOOL("ended", r->ended)
        TAKE_BOOL("gone", r->gone)
        TAKE_BOOL("kill", r->kill)
        TAKE_I64("code", r->exit_code)
        TAKE_I64("signal", r->signal)
        TAKE_BOOL("has_code", r->has_exit_code)
        TAKE_BOOL("has_signal", r->has_signal)
        TAKE_ENUM("outcome", r->outcome, enum run_outcome)
        TAKE_I64("duration", r->duration_ms)
        TAKE_I64("bytes", r->output_bytes)
        if (pack_is(&f, "payload"))
            buf_str(&r->payload, f.bytes);
        else if (pack_is(&f, "boot"))
            unpack_chars(&f, r->boot_id, sizeof r->boot_id);
    }
    t->runs_open += !r->gone;
    return r->command && r->workdir ? more : -1;
}

/* A kind of a later version would never come true. */
static bool condition_known(const struct condition *c)
{
    return c->kind >= CONDITION_TIME && c->kind <= CONDITION_QUOTA && (c->kind != CONDITION_FILE || c->path.p);
}

static int unpack_condition(struct str in, struct wait *w)
{
    w->conditions = mem_realloc(w->conditions, (w->conditions_n + 1) * sizeof *w->conditions);
    struct condition *c = &w->conditions[w->conditions_n++];
    *c = (struct condition){0};
    struct pack_field f;
    int more;
    while ((more = pack_next(&in, &f)) > 0) {
        TAKE_ENUM("kind", c->kind, enum condition_kind)
        TAKE_I64("delay", c->delay_ms)
        TAKE_I64("wall", c->wall_ms)
        TAKE_I64("run", c->run)
        TAKE_BOOL("exists", c->stamp.exists)
        TAKE_I64("size", c->stamp.size)
        TAKE_I64("mtime", c->stamp.mtime_ns)
        TAKE_I64("inode", c->stamp.inode)
        if (pack_is(&f, "path")) {
            mem_free((char *)c->path.p);
            c->path = str_n(unpack_text(&f), f.bytes.n);
        }
        if (pack_is(&f, "at") && unpack_deadline(f.bytes, &c->at) < 0)
            return -1;
    }
    return condition_known(c) ? more : -1;
}

static int unpack_wait(struct str in, struct task *t)
{
    struct wait *w = MEM_NEW(struct wait);
    list_append(&t->waits, &w->node);
    struct pack_field f;
    int more;
    while ((more = pack_next(&in, &f)) > 0) {
        TAKE_I64("n", w->n)
        TAKE_I64("call", w->call)
        if (pack_is(&f, "condition") && unpack_condition(f.bytes, w) < 0)
            return -1;
    }
    return w->conditions_n > 0 ? more : -1;
}

static int unpack_group(const struct pack_field *f, struct task *t)
{
    if (pack_is(f, "usage"))
        return unpack_usage(f->bytes, &t->usage);
    if (pack_is(f, "retry_at"))
        return unpack_deadline(f->bytes, &t->retry_at);
    if (pack_is(f, "idle_at"))
        return unpack_deadline(f->bytes, &t->idle_at);
    if (pack_is(f, "steer"))
        return unpack_steer(f->bytes, t);
    if (pack_is(f, "note"))
        return unpack_note(f->bytes, t);
    if (pack_is(f, "call"))
        return unpack_call(f->bytes, t);
    if (pack_is(f, "run"))
        return unpack_run(f->bytes, t);
    if (pack_is(f, "wait"))
        return unpack_wait(f->bytes, t);
    return 0;
}

static int unpack_task(struct str in, struct task *t)
{
    struct pack_field f;
    int more;
    while ((more = pack_next(&in, &f)) > 0) {
        if (f.type == PACK_GROUP) {
            if (unpack_group(&f, t) < 0)
                return -1;
            continue;
        }
        TAKE_TEXT("name", t->name)
        TAKE_TEXT("objective", t->objective)
        TAKE_TEXT("workspace", t->workspace)
        TAKE_TEXT("model", t->model)
        TAKE_TEXT("policy", t->policy)
        TAKE_BOOL("keep_open", t->keep_open)
        TAKE_ENUM("state", t->state, enum task_state)
        TAKE_ENUM("waiting", t->waiting_for, enum waiting_for)
        TAKE_TEXT("waiting_detail", t->waiting_detail)
        TAKE_I64("waiting_until", t->waiting_until_ms)
        TAKE_I64("created", t->created_ms)
        TAKE_I64("updated", t->updated_ms)
        TAKE_I64("seq", t->seq)
        TAKE_I64("turns", t->turns)
        TAKE_I64("steps", t->steps)
        TAKE_I64("runs", t->runs_n)
        TAKE_I64("calls", t->calls_n)
        TAKE_I64("steers", t->steers_n)
        TAKE_I64("items", t->items_n)
        TAKE_I64("waits", t->waits_n)
        TAKE_I64("price_input", t->price_input)
        TAKE_I64("price_output", t->price_output)
        TAKE_I64("max_output", t->max_output_tokens)
        TAKE_ENUM("phase", t->phase, enum task_phase)
        TAKE_I64("attempt", t->attempt)
        TAKE_I64("failures", t->failures)
        TAKE_BOOL("wants_step", t->turn_wants_step)
        TAKE_BOOL("fresh", t->turn_fresh)
        TAKE_TEXT("last_text", t->last_text)
        TAKE_I64("epoch", t->epoch)
        TAKE_I64("context_n", t->context_n)
        TAKE_I64("context_bytes", t->context_bytes)
        TAKE_I64("tail_bytes", t->tail_bytes)
        TAKE_I64("prefix_bytes", t->prefix_bytes)
        if (pack_is(&f, "id"))
            unpack_chars(&f, t->id, sizeof t->id);
        else if (pack_is(&f, "activity"))
            unpack_chars(&f, t->activity, sizeof t->activity);
    }
    return more;
}

static bool enums_known(const struct task *t)
{
    return (unsigned)t->state < TASK_STATE_N && (unsigned)t->waiting_for < WAITING_FOR_N &&
           (unsigned)t->phase <= PHASE_TOOLS;
}

struct task *task_from_snapshot(struct str snapshot)
{
    struct task *t = task_new("");
    if (unpack_task(snapshot, t) < 0 || !t->id[0] || !t->name || !t->workspace || !t->model || !t->policy ||
        !t->objective || !enums_known(t)) {
        task_free(t);
        return NULL;
    }
    return t;
}
