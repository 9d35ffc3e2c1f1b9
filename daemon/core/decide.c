/*~ The tour starts here: one input comes in, and the events that follow from it go out. No state is changed; the state is what
 * apply.c makes of the events. Each input has its own function; inputs about things that are over (a completion that lost a race
 * against a cancel) plan nothing. */
#include "daemon/core/internal.h"

#include <assert.h>
#include <inttypes.h>

static void plan_by(const struct input *in, struct proto_by *by, bool *has_by)
{
    *has_by = in->client.p != NULL;
    *by = (struct proto_by){.client = in->client, .role = in->role};
}

struct event_task_state *plan_state(struct plan *p, const struct task *t, enum task_state to, struct str reason)
{
    struct event_task_state *e = &plan_event(p, EVENT_TASK_STATE)->event.task_state;
    e->from = t->state;
    e->has_from = true;
    e->to = to;
    e->reason = reason;
    return e;
}

struct plan_op *plan_result(struct plan *p, const struct call *call, struct str output, int64_t output_bytes, bool is_error)
{
    struct plan_op *item = plan_context(p, CONTEXT_TOOL_OUTPUT, output);
    item->item.wire_id = str_of(call->wire_id);
    item->item.tool = str_of(call->tool);
    item->item.is_error = is_error;
    struct plan_op *op = plan_event(p, EVENT_TOOL_RESULT);
    op->event.tool_result = (struct event_tool_result){
        .call = text_id(p, 'c', call->n), .output = output, .output_bytes = output_bytes, .is_error = is_error};
    op->fact.number = call->n;
    op->fact.run = call->run;
    return op;
}

/* ---- what clients ask for ---- */

void decide_create(const struct core *c, const struct input *in, struct plan *p)
{
    if (core_task_named(c, in->create.name)) {
        plan_refuse(p, RPC_NAME_TAKEN, "a live task is named \"%.*s\"; choose another name", STR_ARG(in->create.name));
        return;
    }
    if (c->live_n >= c->limits.tasks_live_max) {
        plan_refuse(p, RPC_LIMIT_REACHED, "%" PRId64 " tasks are live; limits.tasks_live_max allows no more", c->live_n);
        return;
    }
    struct plan_op *created = plan_event(p, EVENT_TASK_CREATED);
    created->event.task = str_of(in->task);
    created->event.task_created = (struct event_task_created){.name = in->create.name,
                                                              .objective = in->create.prompt,
                                                              .workspace = in->create.workspace,
                                                              .model = in->create.model,
                                                              .policy = in->create.policy,
                                                              .keep_open = in->create.keep_open};
    plan_by(in, &created->event.task_created.by, &created->event.task_created.has_by);
    created->fact.created = in;
    p->outcome.seq = 1;

    struct event_context_epoch *epoch = &plan_event(p, EVENT_CONTEXT_EPOCH)->event.context_epoch;
    *epoch = (struct event_context_epoch){.epoch = 1, .reason = EPOCH_REASON_CREATED, .model = in->create.model};
    plan_context(p, CONTEXT_USER, in->create.prompt);
}

/* A final task that gets input is live again, and live names are unique. */
static void plan_free_name(const struct core *c, const struct task *t, struct plan *p)
{
    if (!task_final(t) || !core_task_named(c, str_of(t->name)))
        return;
    for (int i = 2;; i++) {
        struct str name = plan_printf(p, "%.48s-%d", t->name, i);
        if (core_task_named(c, name))
            continue;
        plan_event(p, EVENT_TASK_UPDATED)->event.task_updated.name = name;
        return;
    }
}

/* The stream that is cut: what it said so far stays as a partial message; its calls never run. */
static void plan_cut(const struct task *t, struct str partial, struct plan *p)
{
    if (partial.n) {
        struct plan_op *op = plan_event(p, EVENT_MESSAGE);
        op->event.message = (struct event_message){.item = text_id(p, 'i', ++p->items),
                                                   .step = t->steps,
                                                   .text = partial,
                                                   .phase = PHASE_COMMENTARY,
                                                   .partial = true};
        op->fact.number = p->items;
        plan_context(p, CONTEXT_ASSISTANT, partial);
    }
    struct plan_op *op = plan_event(p, EVENT_STEP_ENDED);
    op->event.step_ended = (struct event_step_ended){.step = t->steps,
                                                     .turn = t->turns,
                                                     .attempt = t->attempt,
                                                     .finish = FINISH_CUT,
                                                     .usage.uncertain_usd = task_attempt_cost_max(t)};
}

void decide_steer(const struct core *c, const struct task *t, const struct input *in, struct plan *p)
{
    if (t->steers_pending >= c->limits.steers_pending_max) {
        plan_refuse(p, RPC_LIMIT_REACHED, "%" PRId64 " steers wait to be delivered; limits.steers_pending_max allows no more",
                    t->steers_pending);
        return;
    }
    if (task_final(t) && c->live_n >= c->limits.tasks_live_max) {
        plan_refuse(p, RPC_LIMIT_REACHED, "%" PRId64 " tasks are live; limits.tasks_live_max allows no more", c->live_n);
        return;
    }
    plan_free_name(c, t, p);
    struct plan_op *op = plan_event(p, EVENT_STEER_ACCEPTED);
    op->event.steer_accepted = (struct event_steer_accepted){.steer = text_id(p, 's', t->steers_n + 1),
                                                             .text = in->steer.text,
                                                             .delivery = in->steer.delivery,
                                                             .key = in->steer.key};
    plan_by(in, &op->event.steer_accepted.by, &op->event.steer_accepted.has_by);
    op->fact.number = t->steers_n + 1;
    p->outcome.steer = t->steers_n + 1;
    p->outcome.seq = t->seq + (int64_t)p->n;
    if (in->steer.delivery == DELIVERY_NOW && t->phase == PHASE_REQUEST)
        plan_cut(t, in->steer.partial, p);
}

void plan_turn_end(struct plan *p, const struct task *t, enum turn_outcome outcome, struct str text)
{
    plan_event(p, EVENT_TURN_ENDED)->event.turn_ended =
        (struct event_turn_ended){.turn = t->turns, .outcome = outcome, .text = text};
}

void decide_cancel(const struct core *c, const struct task *t, const struct input *in, struct plan *p)
{
    (void)c;
    if (t->state == TASK_STATE_CANCELLED || (task_final(t) && t->runs_open == 0 && t->steers_pending == 0)) {
        plan_refuse(p, RPC_BAD_STATE, "the task is already %s", proto_enum_name(&task_state_enum, (int)t->state));
        return;
    }
    /* Every call of the context needs its answer, should the task be taken up again. */
    plan_waits_end(p, t, STR("cancelled"), STR("The user cancelled the task."));
    const struct call *call;
    LIST_EACH(call, (struct list *)&t->calls, struct call, node)
    {
        if (call->run)
            plan_result(p, call, STR("The user cancelled the task. The process of this call is being ended."), 0, true);
    }
    if (t->phase == PHASE_REQUEST)
        plan_cut(t, STR_NONE, p);
    if (t->phase != PHASE_IDLE)
        plan_turn_end(p, t, TURN_OUTCOME_CANCELLED, str_of(t->last_text ? t->last_text : ""));
    struct event_task_state *state = plan_state(p, t, TASK_STATE_CANCELLED, STR("cancelled"));
    plan_by(in, &state->by, &state->has_by);
    p->outcome.seq = 0; /* the last event, see core_decide() */
}

static bool task_pausable(const struct task *t)
{
    return t->state == TASK_STATE_RUNNING || t->state == TASK_STATE_QUEUED ||
           (t->state == TASK_STATE_WAITING && t->phase != PHASE_IDLE);
}

static void plan_void_attempt(struct plan *p, const struct task *t, struct str reason)
{
    struct plan_op *op = plan_event(p, EVENT_STEP_RETRY);
    op->event.step_retry = (struct event_step_retry){.step = t->steps, .attempt = t->attempt, .reason = reason};
    op->fact.spent = true;
}

void decide_pause(const struct task *t, const struct input *in, struct plan *p)
{
    if (!task_pausable(t)) {
        plan_refuse(p, RPC_BAD_STATE, "the task is %s: there is nothing to pause",
                    proto_enum_name(&task_state_enum, (int)t->state));
        return;
    }
    if (t->phase == PHASE_REQUEST)
        plan_void_attempt(p, t, STR("paused"));
    struct event_task_state *state = plan_state(p, t, TASK_STATE_PAUSED, STR("paused"));
    plan_by(in, &state->by, &state->has_by);
}

void decide_resume(const struct core *c, const struct task *t, const struct input *in, struct plan *p)
{
    bool waits = t->state == TASK_STATE_WAITING && t->phase != PHASE_IDLE;
    if (t->state != TASK_STATE_PAUSED && !waits) {
        plan_refuse(p, RPC_BAD_STATE, "the task is %s: there is nothing to resume",
                    proto_enum_name(&task_state_enum, (int)t->state));
        return;
    }
    struct event_task_state *state;
    if (!waits && task_only_waits(t))
        state = plan_waiting(p, t);
    else
        state = plan_state(p, t, t->phase == PHASE_IDLE ? TASK_STATE_QUEUED : core_goes_on(c, t), STR("resumed"));
    plan_by(in, &state->by, &state->has_by);
    if (waits)
        plan_waits_end(p, t, STR("resumed"), STR("The user ended the wait early: go on."));
}

/* ---- dispatch ---- */

static void decide_task_input(const struct core *c, const struct task *t, const struct input *in, struct plan *p)
{
    switch (in->kind) {
    case INPUT_TASK_CREATE:
    case INPUT_RUN_GONE:
        return;
    case INPUT_STEER:
        decide_steer(c, t, in, p);
        return;
    case INPUT_CANCEL:
        decide_cancel(c, t, in, p);
        return;
    case INPUT_PAUSE:
        decide_pause(t, in, p);
        return;
    case INPUT_RESUME:
        decide_resume(c, t, in, p);
        return;
    case INPUT_MODEL_DONE:
        decide_model_done(c, t, in, p);
        return;
    case INPUT_MODEL_FAILED:
        decide_model_failed(c, t, in, p);
        return;
    case INPUT_RUN_ENDED:
        decide_run_ended(t, in, p);
        return;
    case INPUT_CALL_YIELD:
        decide_call_yield(t, in, p);
        return;
    case INPUT_INPUT_DONE:
        decide_input_done(t, in, p);
        return;
    case INPUT_FILE_CHANGED:
        decide_file_changed(c, t, in, p);
        return;
    case INPUT_RECOVER:
        decide_recover(t, in, p);
        return;
    case INPUT_ADVANCE:
        decide_advance(c, t, in, p);
        return;
    }
}

static int64_t count_events(const struct plan *p)
{
    int64_t n = 0;
    for (size_t i = 0; i < p->n; i++)
        n += !p->ops[i].is_context;
    return n;
}

void core_decide(const struct core *c, const struct clock_now *now, const struct input *in, struct plan *plan)
{
    const struct task *t = core_task(c, in->task);
    plan_begin(plan, t, now);
    if (in->kind == INPUT_TASK_CREATE) {
        assert(!t);
        decide_create(c, in, plan);
        return;
    }
    if (!t) {
        plan_refuse(plan, RPC_TASK_NOT_FOUND, NULL);
        return;
    }
    decide_task_input(c, t, in, plan);
    /* A change that names no event of its own is held by its last one. */
    if (plan->outcome.seq == 0)
        plan->outcome.seq = t->seq + count_events(plan);
}
