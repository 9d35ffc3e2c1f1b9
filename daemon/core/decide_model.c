/* What follows from the end of a model attempt: the response with its calls, or a fault and its back-off. */
#include "daemon/core/internal.h"

#include <inttypes.h>

static bool attempt_is_open(const struct task *t, int64_t step, int64_t attempt)
{
    return t->phase == PHASE_REQUEST && t->steps == step && t->attempt == attempt;
}

static void plan_seen(const struct task *t, struct plan *p)
{
    const struct steer *s;
    LIST_EACH(s, (struct list *)&t->steers, struct steer, node)
    {
        if (s->delivered_step == 0)
            continue;
        struct plan_op *op = plan_event(p, EVENT_STEER_SEEN);
        op->event.steer_seen = (struct event_steer_seen){.steer = text_id(p, 's', s->n), .step = t->steps};
        op->fact.number = s->n;
    }
}

static void plan_part(const struct task *t, const struct model_part *part, bool calls_follow, struct plan *p)
{
    int64_t item = ++p->items;
    struct plan_op *op;
    switch (part->kind) {
    case PART_MESSAGE:
        op = plan_event(p, EVENT_MESSAGE);
        op->event.message = (struct event_message){
            .item = text_id(p, 'i', item),
            .step = t->steps,
            .text = part->text,
            .phase = part->has_phase ? part->phase : calls_follow ? PHASE_COMMENTARY : PHASE_FINAL,
        };
        op->fact.number = item;
        return;
    case PART_REASONING:
        op = plan_event(p, EVENT_REASONING);
        op->event.reasoning =
            (struct event_reasoning){.item = text_id(p, 'i', item), .step = t->steps, .summary = part->text};
        op->fact.number = item;
        return;
    case PART_CALL:
        return; /* takes its item number; planned behind step.ended */
    }
}

/* Says why a call may not go on, or leaves `spec` as it is. Every call passes here: the one gate for policy and limits. */
static struct str gate(const struct core *c, const struct task *t, const struct call_spec *spec, int64_t index, int64_t runs,
                       struct plan *p)
{
    if (index >= c->limits.calls_per_step_max)
        return plan_printf(p, "Too many calls in one response: only the first %" PRId64 " were carried out. Ask again for "
                              "the others.",
                           c->limits.calls_per_step_max);
    if (spec->sort == CALL_SORT_RUN && t->runs_open + runs >= c->limits.runs_per_task_max)
        return plan_printf(p, "%" PRId64 " processes of this task are still running, which is the limit. End some first.",
                           t->runs_open);
    if (spec->sort == CALL_SORT_INPUT && !task_run(t, spec->session))
        return plan_printf(p, "There is no session %" PRId64 ". Sessions are numbered as exec_command returned them.",
                           spec->session);
    if (spec->sort == CALL_SORT_WAIT)
        return wait_gate(c, t, spec, p);
    return STR_NONE;
}

static void plan_called(const struct task *t, const struct call_spec *spec, int64_t run, struct plan *p)
{
    struct plan_op *op = plan_event(p, EVENT_TOOL_CALLED);
    op->event.tool_called = (struct event_tool_called){.call = text_id(p, 'c', ++p->calls),
                                                       .step = t->steps,
                                                       .tool = spec->tool,
                                                       .arguments = spec->arguments};
    op->fact.number = p->calls;
    op->fact.run = run;
    op->fact.spec = spec;
}

static void plan_answer(const struct call_spec *spec, struct str answer, bool is_error, struct plan *p)
{
    struct plan_op *op = plan_event(p, EVENT_TOOL_RESULT);
    op->event.tool_result = (struct event_tool_result){.call = text_id(p, 'c', p->calls),
                                                       .output = answer,
                                                       .output_bytes = (int64_t)answer.n,
                                                       .is_error = is_error};
    op->fact.number = p->calls;
    struct plan_op *item = plan_context(p, CONTEXT_TOOL_OUTPUT, answer);
    item->item.wire_id = spec->wire_id;
    item->item.tool = spec->tool;
    item->item.is_error = is_error;
}

static void plan_call(const struct core *c, const struct task *t, const struct call_spec *spec, int64_t index,
                      int64_t *runs, struct plan *p)
{
    struct str refusal = gate(c, t, spec, index, *runs, p);
    if (refusal.p || spec->sort == CALL_SORT_ANSWER) {
        plan_called(t, spec, 0, p);
        if (!refusal.p && spec->plan) {
            struct event_plan *plan = &plan_event(p, EVENT_PLAN)->event.plan;
            plan->entries = spec->plan;
            plan->entries_n = spec->plan_n;
        }
        plan_answer(spec, refusal.p ? refusal : spec->answer, refusal.p || spec->is_error, p);
        return;
    }
    if (spec->sort == CALL_SORT_INPUT) {
        plan_called(t, spec, spec->session, p);
        return;
    }
    if (spec->sort == CALL_SORT_WAIT) {
        plan_called(t, spec, 0, p);
        plan_wait_started(p, spec);
        return;
    }
    ++*runs;
    plan_called(t, spec, ++p->runs, p);
    struct plan_op *op = plan_event(p, EVENT_RUN_STARTED);
    op->event.run_started = (struct event_run_started){.run = text_id(p, 'r', p->runs),
                                                       .call = text_id(p, 'c', p->calls),
                                                       .command = spec->command,
                                                       .workdir = spec->workdir};
    op->fact.number = p->runs;
    op->fact.run = p->calls;
    op->fact.spec = spec;
}

void decide_model_done(const struct core *c, const struct task *t, const struct input *in, struct plan *p)
{
    if (!attempt_is_open(t, in->model_done.step, in->model_done.attempt))
        return;
    const struct model_response *r = in->model_done.response;
    int64_t calls = 0, index = 0, runs = 0;
    for (size_t i = 0; i < r->parts_n; i++)
        calls += r->parts[i].kind == PART_CALL;
    if (t->state == TASK_STATE_WAITING)
        plan_state(p, t, TASK_STATE_RUNNING, STR("the provider answers again"));
    for (size_t i = 0; i < r->raw_n; i++)
        plan_context(p, CONTEXT_RAW, r->raw[i]);
    for (size_t i = 0; i < r->parts_n; i++)
        plan_part(t, &r->parts[i], calls > 0, p);
    struct event_step_ended *ended = &plan_event(p, EVENT_STEP_ENDED)->event.step_ended;
    *ended = (struct event_step_ended){
        .step = t->steps, .turn = t->turns, .attempt = t->attempt, .finish = r->finish, .usage = r->usage};
    plan_seen(t, p);
    for (size_t i = 0; i < r->parts_n; i++) {
        if (r->parts[i].kind == PART_CALL)
            plan_call(c, t, &r->parts[i].call, index++, &runs, p);
    }
    if (calls == 0 && r->finish == FINISH_LENGTH)
        plan_event(p, EVENT_NOTICE)->event.notice = (struct event_notice){
            .severity = SEVERITY_WARNING, .text = STR("The model's answer was cut at its output limit.")};
}

/* ---- faults ---- */

#define MALFORMED_MAX 5     /* in a row; what cannot be read so often will not be read later */
#define OUTAGE_FAILURES 4   /* in a row, before the task says that it waits */

static int64_t backoff_ms(const struct core *c, const struct task *t, const struct input *in)
{
    int64_t ms = c->limits.retry_ms_min;
    for (int64_t i = 0; i < t->failures && ms < c->limits.retry_ms_max; i++)
        ms *= 2;
    if (ms > c->limits.retry_ms_max)
        ms = c->limits.retry_ms_max;
    ms = ms / 2 + (int64_t)(in->random % (uint64_t)(ms / 2 + 1)); /* between half and all of it */
    int64_t asked = in->model_failed.retry_after_ms;
    return asked > ms ? asked : ms;
}

static const char *fault_name(enum model_fault fault)
{
    static const char *const names[] = {
        [MODEL_FAULT_RATE_LIMIT] = "rate limit",
        [MODEL_FAULT_SERVER] = "provider error",
        [MODEL_FAULT_NETWORK] = "network",
        [MODEL_FAULT_CUT] = "stream cut",
        [MODEL_FAULT_STALL] = "stream stalled",
        [MODEL_FAULT_MALFORMED] = "unreadable stream",
        [MODEL_FAULT_CREDENTIALS] = "credentials",
        [MODEL_FAULT_REQUEST] = "request refused",
    };
    return names[fault];
}

/* What the provider worked on may be charged, whether or not it arrived. */
static bool fault_spends(enum model_fault fault)
{
    return fault == MODEL_FAULT_CUT || fault == MODEL_FAULT_STALL || fault == MODEL_FAULT_MALFORMED;
}

static void plan_give_up(const struct task *t, enum model_fault fault, struct str reason, struct plan *p)
{
    struct plan_op *op = plan_event(p, EVENT_STEP_RETRY);
    op->event.step_retry = (struct event_step_retry){.step = t->steps, .attempt = t->attempt, .reason = reason};
    op->fact.spent = fault_spends(fault);
    plan_turn_end(p, t, TURN_OUTCOME_FAILED, reason);
    plan_state(p, t, TASK_STATE_FAILED, reason);
}

void decide_model_failed(const struct core *c, const struct task *t, const struct input *in, struct plan *p)
{
    if (!attempt_is_open(t, in->model_failed.step, in->model_failed.attempt))
        return;
    enum model_fault fault = in->model_failed.fault;
    struct str message = text_cut(in->model_failed.message, MESSAGE_BYTES_MAX);
    struct str reason = plan_printf(p, "%s: %.*s", fault_name(fault), STR_ARG(message));
    if (fault == MODEL_FAULT_REQUEST || (fault == MODEL_FAULT_MALFORMED && t->failures >= MALFORMED_MAX)) {
        plan_give_up(t, fault, reason, p);
        return;
    }
    int64_t delay_ms = fault == MODEL_FAULT_CREDENTIALS ? c->limits.retry_ms_max : backoff_ms(c, t, in);
    struct plan_op *op = plan_event(p, EVENT_STEP_RETRY);
    op->fact.deadline = clock_deadline_in(p->now, delay_ms);
    op->fact.spent = fault_spends(fault);
    op->fact.failed = true;
    op->event.step_retry = (struct event_step_retry){
        .step = t->steps, .attempt = t->attempt, .reason = reason, .next_at = op->fact.deadline.wall_ms};

    bool credentials = fault == MODEL_FAULT_CREDENTIALS;
    if (t->state != TASK_STATE_RUNNING || (!credentials && t->failures + 1 < OUTAGE_FAILURES))
        return;
    int64_t until = clock_deadline_in(p->now, delay_ms).wall_ms;
    struct event_task_state *state = plan_state(p, t, TASK_STATE_WAITING, reason);
    state->has_waiting = true;
    state->waiting = (struct proto_waiting){
        .for_ = credentials ? WAITING_FOR_CREDENTIALS : WAITING_FOR_OUTAGE, .until = until, .detail = reason};
}
