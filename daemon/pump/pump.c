/*~ decide -> apply -> journal -> release. See pump.h.
 *
 * Two batches exist: the one that fills and the one that commits. What was made to wait (callbacks, starts and ends of effects,
 * publications) is kept in the order in which it came, in the batch that holds its facts. */
#include "daemon/pump/pump.h"

#include "daemon/base/failpoint.h"
#include "daemon/base/map.h"
#include "daemon/base/mem.h"
#include "daemon/core/plan.h"
#include "daemon/pump/wakes.h"

#include <assert.h>
#include <stdio.h>

#define EFFECTS_MAX 8192 /* of one task: all that its runs, calls and waits may want, at their limits, is below */
#define MOVES_MAX 1000   /* of one task in a row without an input: more is a loop in the core */

enum release_kind { RELEASE_AFTER, RELEASE_START, RELEASE_CANCEL };

struct release {
    enum release_kind kind;
    pump_after_cb *fn;
    void *arg;
    char task[TASK_ID_SIZE];
    struct effect effect;
};

struct batch {
    struct release *releases;
    size_t releases_n, releases_cap;
    struct pump_event *events;
    char (*event_tasks)[TASK_ID_SIZE];
    size_t events_n, events_cap;
    bool dirty;
};

/* The effects of a task that were started, or wait for their batch to be. */
struct flight {
    char task[TASK_ID_SIZE];
    struct effect *effects;
    size_t n;
};

struct pump {
    struct core *core;
    struct world world;
    struct limits limits;
    int64_t pos;
    struct batch batches[2];
    struct batch *filling;
    bool committing; /* the other one */
    struct map flights;
    struct wakes wakes;
    int64_t wake_at_ms; /* what the world was asked for; in boot time */
    bool advancing;
};

struct pump *pump_new(struct core *core, const struct world *world, const struct limits *limits, int64_t pos_last)
{
    struct pump *p = MEM_NEW(struct pump);
    p->core = core;
    p->world = *world;
    p->limits = *limits;
    p->pos = pos_last;
    p->filling = &p->batches[0];
    p->wake_at_ms = INT64_MAX;
    return p;
}

static void flight_free(struct flight *f)
{
    mem_free(f->effects);
    mem_free(f);
}

void pump_free(struct pump *p)
{
    if (!p)
        return;
    for (int i = 0; i < 2; i++) {
        mem_free(p->batches[i].releases);
        mem_free(p->batches[i].events);
        mem_free(p->batches[i].event_tasks);
    }
    for (size_t i = 0; i < p->flights.cap; i++) {
        if (p->flights.slots[i].key.p)
            flight_free(p->flights.slots[i].value);
    }
    map_free(&p->flights);
    wakes_free(&p->wakes);
    mem_free(p);
}

/* ---- batches ---- */

static bool batch_empty(const struct batch *b)
{
    return !b->dirty && b->releases_n == 0 && b->events_n == 0;
}

static struct release *batch_release(struct batch *b, enum release_kind kind)
{
    if (b->releases_n == b->releases_cap) {
        b->releases_cap = b->releases_cap ? b->releases_cap * 2 : 16;
        b->releases = mem_realloc(b->releases, b->releases_cap * sizeof *b->releases);
    }
    struct release *r = &b->releases[b->releases_n++];
    *r = (struct release){.kind = kind};
    return r;
}

static void batch_event(struct batch *b, const struct event *e)
{
    if (b->events_n == b->events_cap) {
        b->events_cap = b->events_cap ? b->events_cap * 2 : 16;
        b->events = mem_realloc(b->events, b->events_cap * sizeof *b->events);
        b->event_tasks = mem_realloc(b->event_tasks, b->events_cap * sizeof *b->event_tasks);
    }
    snprintf(b->event_tasks[b->events_n], TASK_ID_SIZE, "%.*s", STR_ARG(e->task));
    b->events[b->events_n++] = (struct pump_event){.pos = e->pos, .seq = e->seq, .kind = e->kind};
}

bool pump_settled(const struct pump *p)
{
    return !p->committing && batch_empty(p->filling);
}

void pump_after(struct pump *p, pump_after_cb *fn, void *arg)
{
    if (pump_settled(p)) {
        fn(arg);
        return;
    }
    /* With nothing filling, what it rests on is in the commit under way; an empty batch behind it costs nothing. */
    struct release *r = batch_release(p->filling, RELEASE_AFTER);
    r->fn = fn;
    r->arg = arg;
}

void pump_abandon(struct pump *p)
{
    for (int i = 0; i < 2; i++) {
        struct batch *b = &p->batches[i];
        for (size_t n = 0; n < b->releases_n; n++) {
            struct release r = b->releases[n]; /* the callback may move them */
            if (r.kind == RELEASE_AFTER)
                r.fn(r.arg);
        }
        b->releases_n = 0;
    }
}

void pump_dirty(struct pump *p)
{
    p->filling->dirty = true;
}

/* ---- effects ---- */

static struct flight *flight_of(struct pump *p, const struct task *t)
{
    struct flight *f = map_get(&p->flights, str_of(t->id));
    if (!f) {
        f = MEM_NEW(struct flight);
        memcpy(f->task, t->id, sizeof f->task);
        map_put(&p->flights, str_of(f->task), f);
    }
    return f;
}

static bool effect_in(const struct effect *list, size_t n, const struct effect *e)
{
    for (size_t i = 0; i < n; i++) {
        if (list[i].kind == e->kind && list[i].a == e->a && list[i].b == e->b)
            return true;
    }
    return false;
}

static void release_effect(struct pump *p, enum release_kind kind, const struct task *t, const struct effect *e)
{
    struct release *r = batch_release(p->filling, kind);
    memcpy(r->task, t->id, sizeof r->task);
    r->effect = *e;
}

/* When time alone may make something follow. A moment that is here already and was looked at is looked at again a little later. */
static void note_wake(struct pump *p, const struct clock_now *now, const struct task *t, int64_t least_ms)
{
    int64_t left = core_wake(p->core, t, now);
    wakes_set(&p->wakes, t->id, left == INT64_MAX ? left : now->boot_ms + (left > least_ms ? left : least_ms));
}

/* Compares what should be in flight with what is: its effects, and the time for which it waits. */
static void reconcile(struct pump *p, const struct clock_now *now, const struct task *t)
{
    note_wake(p, now, t, 0);
    struct effect small[16], *wanted = small;
    size_t n = core_effects(t, small, 16);
    if (n > 16) {
        assert(n <= EFFECTS_MAX);
        wanted = mem_alloc(n * sizeof *wanted);
        core_effects(t, wanted, n);
    }
    struct flight *f = flight_of(p, t);
    for (size_t i = 0; i < f->n; i++) {
        if (!effect_in(wanted, n, &f->effects[i]))
            release_effect(p, RELEASE_CANCEL, t, &f->effects[i]);
    }
    for (size_t i = 0; i < n; i++) {
        if (!effect_in(f->effects, f->n, &wanted[i]))
            release_effect(p, RELEASE_START, t, &wanted[i]);
    }
    if (n == 0) {
        map_remove(&p->flights, str_of(f->task));
        flight_free(f);
    } else {
        f->effects = mem_realloc(f->effects, n * sizeof *wanted);
        memcpy(f->effects, wanted, n * sizeof *wanted);
        f->n = n;
    }
    if (wanted != small)
        mem_free(wanted);
}

/* ---- one input ---- */

static void apply_context(struct pump *p, const char *task, const struct context_item *item)
{
    const struct task *t = core_task(p->core, task);
    int64_t bytes = p->world.journal_context(p->world.ctx, t, t->context_n, item);
    core_apply_context(p->core, task, bytes);
}

static void apply_plan(struct pump *p, const char *task, const struct clock_now *now, struct plan *plan)
{
    for (size_t i = 0; i < plan->n; i++) {
        struct plan_op *op = &plan->ops[i];
        if (op->is_context) {
            apply_context(p, task, &op->item);
            continue;
        }
        op->event.pos = ++p->pos;
        op->event.task = str_of(task);
        core_stamp(p->core, now, &op->event);
        p->world.journal_event(p->world.ctx, &op->event);
        batch_event(p->filling, &op->event);
        core_apply(p->core, now, &op->event, &op->fact);
    }
    if (plan->n > 0)
        p->filling->dirty = true;
}

/* Decides and applies once; returns how much followed. */
static size_t move(struct pump *p, const struct clock_now *now, struct input *input, struct outcome *ret,
                   enum rpc_error *ret_error, struct buf *error)
{
    struct plan plan;
    input->random = p->world.random(p->world.ctx);
    core_decide(p->core, now, input, &plan);
    size_t n = plan.error ? 0 : plan.n;
    if (plan.error == RPC_OK)
        apply_plan(p, input->task, now, &plan);
    if (ret)
        *ret = plan.outcome;
    if (ret_error)
        *ret_error = plan.error;
    if (error && plan.error && plan.error_text.n) {
        buf_clear(error);
        buf_str(error, buf_view(&plan.error_text));
    }
    plan_free(&plan);
    return n;
}

static void settle(struct pump *p, const struct clock_now *now, const char *task, bool changed)
{
    for (int moves = 0;; moves++) {
        assert(moves < MOVES_MAX);
        struct input advance = {.kind = INPUT_ADVANCE, .task = task};
        if (move(p, now, &advance, NULL, NULL, NULL) == 0)
            break;
        changed = true;
    }
    if (!changed)
        return;
    const struct task *t = core_task(p->core, task);
    p->world.journal_task(p->world.ctx, t);
    p->filling->dirty = true;
    reconcile(p, now, t);
}

/* Tasks that a freed place lets out of the queue. */
static void admit(struct pump *p, const struct clock_now *now)
{
    const struct task *t;
    if (p->advancing)
        return;
    p->advancing = true;
    while ((t = core_admissible(p->core)))
        settle(p, now, t->id, false);
    p->advancing = false;
}

static void collect_for(struct pump *p, const struct task *t, const struct call *call, struct run_output *ret)
{
    const struct run *run = task_run(t, call->run);
    p->world.collect(p->world.ctx, t, run, call->output_bytes, ret);
}

/* What an input needs to know of files and streams is read before the core decides. */
static void complete_input(struct pump *p, const struct task *t, struct input *in)
{
    if (in->kind == INPUT_STEER && in->steer.delivery == DELIVERY_NOW && t->phase == PHASE_REQUEST)
        in->steer.partial = p->world.partial(p->world.ctx, t->id);
    if (in->kind != INPUT_RUN_ENDED)
        return;
    const struct run *run = task_run(t, in->run_ended.run);
    if (run)
        in->run_ended.output = (struct run_output){.end = run->seen_bytes};
    const struct call *call;
    LIST_EACH(call, (struct list *)&t->calls, struct call, node)
    {
        if (run && call->run == run->n) {
            collect_for(p, t, call, &in->run_ended.output);
            return;
        }
    }
}

/* A runner is gone. That is no fact of the journal (a start sees it from the lock), so it needs no commit of its own, unless
 * it was the last thing that kept the task in memory. */
static void run_gone(struct pump *p, const struct clock_now *now, const struct task *t, int64_t run)
{
    core_run_gone(p->core, t->id, run);
    settle(p, now, t->id, !task_live(t));
    reconcile(p, now, t);
}

enum rpc_error pump_input(struct pump *p, struct input *input, struct outcome *ret, struct buf *error)
{
    struct clock_now now = p->world.now(p->world.ctx);
    const struct task *t = core_task(p->core, input->task);
    enum rpc_error result = RPC_OK;
    if (t)
        complete_input(p, t, input);
    bool adopted = t && input->kind == INPUT_RECOVER && core_adopt(p->core, t->id, &now);
    if (t && input->kind == INPUT_RUN_GONE) {
        run_gone(p, &now, t, input->run_gone.run);
        return RPC_OK;
    }
    if (t && input->kind == INPUT_INPUT_DONE && input->input_done.ok) {
        core_input_written(p->core, t->id, input->input_done.call); /* no fact of the journal, either */
        reconcile(p, &now, t);
        return RPC_OK;
    }
    size_t n = move(p, &now, input, ret, &result, error);
    t = core_task(p->core, input->task);
    if (result == RPC_OK && t) {
        settle(p, &now, input->task, n > 0 || adopted);
        if (input->kind == INPUT_RECOVER)
            reconcile(p, &now, t); /* nothing is in flight yet, whether or not something followed */
        else /* a start looks at all tasks before it lets new ones in: see pump_tick() */
            admit(p, &now);
    }
    return result;
}

/* ---- time ---- */

/* The world is asked only when the answer is another than before. */
static void plan_wake(struct pump *p, bool again)
{
    int64_t at_ms = INT64_MAX;
    wakes_first(&p->wakes, &at_ms);
    if (at_ms == p->wake_at_ms && !again)
        return;
    p->wake_at_ms = at_ms;
    struct clock_now now = p->world.now(p->world.ctx);
    int64_t left = at_ms > now.boot_ms ? at_ms - now.boot_ms : 0;
    p->world.wake_in(p->world.ctx, at_ms == INT64_MAX ? INT64_MAX : left);
}

static void tick_task(struct pump *p, const struct clock_now *now, const struct task *t)
{
    const struct call *call;
    bool changed = false;
    while ((call = core_call_due(t, now))) {
        struct input in = {.kind = INPUT_CALL_YIELD, .task = t->id};
        in.call_yield.call = call->n;
        collect_for(p, t, call, &in.call_yield.output);
        if (move(p, now, &in, NULL, NULL, NULL) == 0)
            break;
        changed = true;
    }
    settle(p, now, t->id, changed);
}

void pump_tick(struct pump *p)
{
    struct clock_now now = p->world.now(p->world.ctx);
    const char *task;
    int64_t at_ms;
    while ((task = wakes_first(&p->wakes, &at_ms)) && at_ms <= now.boot_ms) {
        const struct task *t = core_task(p->core, task);
        if (!t) { /* it left memory, so nothing can follow any more */
            wakes_set(&p->wakes, task, INT64_MAX);
            continue;
        }
        if (core_wake(p->core, t, &now) == 0)
            tick_task(p, &now, t);
        note_wake(p, &now, t, 1);
    }
    admit(p, &now);
    plan_wake(p, true);
}

/* ---- commit and release ---- */

void pump_flush(struct pump *p)
{
    if (p->committing || batch_empty(p->filling))
        return;
    plan_wake(p, false);
    struct batch *b = p->filling;
    p->filling = b == &p->batches[0] ? &p->batches[1] : &p->batches[0];
    p->committing = true;
    if (b->dirty)
        p->world.commit(p->world.ctx);
    else
        pump_committed(p); /* only callbacks that waited for the batch before */
}

void pump_committed(struct pump *p)
{
    assert(p->committing);
    struct batch *b = p->filling == &p->batches[0] ? &p->batches[1] : &p->batches[0];
    struct batch done = *b;
    *b = (struct batch){0};
    p->committing = false;

    for (size_t i = 0; i < done.events_n; i++)
        done.events[i].task = done.event_tasks[i];
    if (done.events_n)
        p->world.published(p->world.ctx, done.events, done.events_n);
    FAILPOINT("pump.published");
    for (size_t i = 0; i < done.releases_n; i++) {
        struct release *r = &done.releases[i];
        switch (r->kind) {
        case RELEASE_AFTER:
            r->fn(r->arg);
            FAILPOINT("pump.replied");
            break;
        case RELEASE_START:
            p->world.effect_start(p->world.ctx, r->task, &r->effect);
            break;
        case RELEASE_CANCEL:
            p->world.effect_cancel(p->world.ctx, r->task, &r->effect);
            break;
        }
    }
    mem_free(done.releases);
    mem_free(done.events);
    mem_free(done.event_tasks);
}
