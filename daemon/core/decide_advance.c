/* What follows from the state and the time alone: a turn begins, a step begins, a turn ends. One move at a time; the pump asks
 * again until nothing follows. */
#include "daemon/core/internal.h"

#include <inttypes.h>

static void plan_deliver(const struct steer *s, int64_t step, struct plan *p)
{
    plan_context(p, CONTEXT_USER, str_of(s->text));
    struct plan_op *op = plan_event(p, EVENT_STEER_DELIVERED);
    op->event.steer_delivered = (struct event_steer_delivered){
        .steer = text_id(p, 's', s->n), .item = text_id(p, 'i', ++p->items), .step = step};
    op->fact.number = s->n;
}

/* Everything that the model has not been told yet goes into the request that is about to be made. */
static void plan_step(const struct task *t, int64_t step, int64_t attempt, struct plan *p)
{
    const struct note *note;
    LIST_EACH(note, (struct list *)&t->notes, struct note, node)
    {
        if (note->image_run) {
            struct plan_op *op = plan_context(p, CONTEXT_IMAGE, STR_NONE);
            op->item.run = note->image_run;
            op->item.media_type = str_of(note->media_type);
        } else {
            plan_context(p, CONTEXT_NOTE, str_of(note->text));
        }
    }
    bool turn_begins = t->turn_fresh;
    const struct steer *s;
    LIST_EACH(s, (struct list *)&t->steers, struct steer, node)
    {
        if (s->delivered_step == 0 && (s->delivery != DELIVERY_QUEUE || turn_begins))
            plan_deliver(s, step, p);
    }
    plan_event(p, EVENT_STEP_STARTED)->event.step_started =
        (struct event_step_started){.step = step, .turn = t->turns, .attempt = attempt};
}

static void plan_turn(const struct core *c, const struct task *t, struct plan *p)
{
    if (t->state != TASK_STATE_QUEUED && t->state != TASK_STATE_RUNNING) {
        plan_state(p, t, TASK_STATE_QUEUED, STR("new input"));
        return;
    }
    if (t->state == TASK_STATE_QUEUED) {
        if (c->running_n >= c->limits.tasks_running_max)
            return;
        plan_state(p, t, TASK_STATE_RUNNING, STR("started"));
    }
    plan_event(p, EVENT_TURN_STARTED)->event.turn_started.turn = t->turns + 1;
}

static void plan_rest(const struct task *t, struct plan *p)
{
    plan_turn_end(p, t, TURN_OUTCOME_COMPLETED, str_of(t->last_text ? t->last_text : ""));
    if (t->steers_pending > 0)
        return; /* those for the end of the turn: the next turn begins */
    if (!t->keep_open) {
        plan_state(p, t, TASK_STATE_COMPLETED, STR("nothing left to do"));
        return;
    }
    struct event_task_state *state = plan_state(p, t, TASK_STATE_WAITING, STR("the turn ended"));
    state->has_waiting = true;
    state->waiting = (struct proto_waiting){.for_ = WAITING_FOR_INPUT, .detail = STR("waits for input")};
}

static void plan_idle(const struct task *t, struct plan *p)
{
    struct plan_op *op = plan_event(p, EVENT_NOTICE);
    op->event.notice.severity = SEVERITY_INFO;
    op->event.notice.text = plan_printf(p, "%" PRId64 " background process(es) are ended: the task has been over for long.",
                                        t->runs_open);
    op->fact.end_runs = true;
    op->fact.noted = true; /* should the task be taken up again: the model thinks that its server still runs */
}

static bool due(const struct clock_deadline *d, const struct clock_now *now)
{
    return !clock_deadline_set(d) || clock_deadline_left(d, now) == 0;
}

/* A turn that was interrupted, and waits for a place. */
static void plan_go_on(const struct core *c, const struct task *t, struct plan *p)
{
    if (task_only_waits(t))
        plan_waiting(p, t);
    else if (core_goes_on(c, t) == TASK_STATE_RUNNING)
        plan_state(p, t, TASK_STATE_RUNNING, STR("goes on"));
}

void decide_advance(const struct core *c, const struct task *t, const struct input *in, struct plan *p)
{
    (void)in;
    if (plan_wait_over(p, c, t)) /* also while it is paused: what it waited for has come, and the answer waits for the next step */
        return;
    if (clock_deadline_set(&t->idle_at) && clock_deadline_left(&t->idle_at, p->now) == 0 && t->runs_open > 0) {
        plan_idle(t, p);
        return;
    }
    if (t->state == TASK_STATE_PAUSED)
        return;
    if (t->state == TASK_STATE_QUEUED && t->phase != PHASE_IDLE) {
        plan_go_on(c, t, p);
        return;
    }
    switch (t->phase) {
    case PHASE_IDLE:
        if (t->steers_pending > 0 || t->turn_wants_step)
            plan_turn(c, t, p);
        return;
    case PHASE_NEXT:
        if (t->turn_wants_step || task_steers_due(t) > 0)
            plan_step(t, t->steps + 1, 1, p);
        else
            plan_rest(t, p);
        return;
    case PHASE_BACKOFF:
        if (due(&t->retry_at, p->now))
            plan_step(t, t->steps, t->attempt + 1, p);
        return;
    case PHASE_TOOLS:
        if (t->state == TASK_STATE_RUNNING && task_only_waits(t))
            plan_waiting(p, t);
        return;
    case PHASE_REQUEST:
        return;
    }
}
