/* A wait begins with a call and ends once; its end answers the call. */
#include "daemon/core/internal.h"

#include <inttypes.h>

struct str wait_gate(const struct core *c, const struct task *t, const struct call_spec *spec, struct plan *p)
{
    int64_t open = p->waits - t->waits_n; /* of this response: a request is made when no call is open, and so no wait */
    if (open >= c->limits.waits_per_task_max)
        return plan_printf(p, "%" PRId64 " waits of this task are not over yet, which is the limit. Ask for several conditions in one.",
                           open);
    for (size_t i = 0; i < spec->conditions_n; i++) {
        int64_t run = spec->conditions[i].run;
        if (spec->conditions[i].kind != CONDITION_RUN || task_run(t, run))
            continue;
        if (run > 0 && run <= t->runs_n) /* forgotten: see forget_runs() */
            return plan_printf(p, "Session %" PRId64 " ended long ago: there is nothing to wait for.", run);
        return plan_printf(p, "There is no session %" PRId64 ". Sessions are numbered as exec_command returned them.", run);
    }
    return STR_NONE;
}

void plan_wait_started(struct plan *p, const struct call_spec *spec)
{
    struct buf list = {0};
    for (size_t i = 0; i < spec->conditions_n; i++) {
        struct str text = text_condition(p, &spec->conditions[i]);
        buf_put(&list, &text, sizeof text);
    }
    struct plan_op *op = plan_event(p, EVENT_WAIT_STARTED);
    op->event.wait_started.wait = text_id(p, 'w', ++p->waits);
    op->event.wait_started.conditions = (const struct str *)(const void *)plan_take(p, &list).p;
    op->event.wait_started.conditions_n = spec->conditions_n;
    op->fact.number = p->waits;
    op->fact.run = p->calls;
    op->fact.spec = spec;
}

static void plan_wait_ended(struct plan *p, const struct task *t, const struct wait *w, struct str fired, struct str answer)
{
    struct plan_op *op = plan_event(p, EVENT_WAIT_ENDED);
    op->event.wait_ended = (struct event_wait_ended){.wait = text_id(p, 'w', w->n), .fired = fired};
    op->fact.number = w->n;
    const struct call *call = task_call(t, w->call);
    if (call)
        plan_result(p, call, answer, (int64_t)answer.n, false);
}

/* It waited, and goes on; should another wait be left, it says so once more. */
static void plan_awake(struct plan *p, const struct core *c, const struct task *t, struct str reason)
{
    if (t->state == TASK_STATE_WAITING)
        plan_state(p, t, core_goes_on(c, t), reason);
}

bool plan_wait_over(struct plan *p, const struct core *core, const struct task *t)
{
    const struct wait *w;
    LIST_EACH(w, (struct list *)&t->waits, struct wait, node)
    {
        const struct condition *c = wait_true(t, w, p->now);
        if (!c && task_steers_due(t) == 0)
            continue;
        struct str fired = c ? text_condition(p, c) : STR("input");
        plan_awake(p, core, t, fired);
        plan_wait_ended(p, t, w, fired, c ? text_wait_over(p, c) : STR("The wait was ended early: there is new input."));
        return true;
    }
    return false;
}

void decide_file_changed(const struct core *c, const struct task *t, const struct input *in, struct plan *p)
{
    const struct wait *w = task_wait(t, in->file_changed.wait);
    int64_t i = in->file_changed.condition;
    if (!w || i < 0 || (size_t)i >= w->conditions_n || w->conditions[i].kind != CONDITION_FILE)
        return;
    struct str fired = text_condition(p, &w->conditions[i]);
    plan_awake(p, c, t, fired);
    plan_wait_ended(p, t, w, fired, text_wait_over(p, &w->conditions[i]));
}

void plan_waits_end(struct plan *p, const struct task *t, struct str reason, struct str answer)
{
    const struct wait *w;
    LIST_EACH(w, (struct list *)&t->waits, struct wait, node)
    plan_wait_ended(p, t, w, reason, answer);
}

static enum waiting_for waiting_for_of(enum condition_kind kind)
{
    switch (kind) {
    case CONDITION_TIME:
    case CONDITION_CLOCK:
        return WAITING_FOR_TIMER;
    case CONDITION_RUN:
        return WAITING_FOR_RUN;
    case CONDITION_FILE:
        return WAITING_FOR_FILE;
    case CONDITION_ANSWER:
        return WAITING_FOR_QUESTION;
    case CONDITION_QUOTA:
        return WAITING_FOR_QUOTA;
    }
    return WAITING_FOR_TIMER;
}

/* When it ends by itself at the latest, by the wall clock; 0: nobody knows. */
static int64_t wait_until_ms(const struct wait *w)
{
    int64_t until = 0;
    for (size_t i = 0; i < w->conditions_n; i++) {
        const struct condition *c = &w->conditions[i];
        int64_t ms = c->kind == CONDITION_CLOCK ? c->wall_ms : c->at.wall_ms;
        if (ms > 0 && (until == 0 || ms < until))
            until = ms;
    }
    return until;
}

struct event_task_state *plan_waiting(struct plan *p, const struct task *t)
{
    const struct wait *w = LIST_ENTRY(t->waits.next, struct wait, node);
    struct str detail = text_conditions(p, w);
    struct event_task_state *e = plan_state(p, t, TASK_STATE_WAITING, detail);
    e->has_waiting = true;
    e->waiting = (struct proto_waiting){
        .for_ = waiting_for_of(w->conditions[0].kind), .until = wait_until_ms(w), .detail = detail};
    return e;
}
