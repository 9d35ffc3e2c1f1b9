/* What is always true of a state between two inputs. The simulation checks it at every step. */
#include "daemon/core/internal.h"

static int64_t list_length(const struct list *head)
{
    int64_t n = 0;
    for (const struct list *it = head->next; it != head; it = it->next)
        n++;
    return n;
}

static const char *check_counts(const struct task *t)
{
    int64_t pending = 0, open = 0;
    const struct steer *s;
    LIST_EACH(s, (struct list *)&t->steers, struct steer, node)
    pending += s->delivered_step == 0;
    const struct run *r;
    LIST_EACH(r, (struct list *)&t->runs, struct run, node)
    open += !r->gone;
    if (pending != t->steers_pending)
        return "steers_pending counts the steers that were not delivered";
    if (open != t->runs_open)
        return "runs_open counts the runs whose runner lives";
    if (list_length(&t->calls) != t->calls_open)
        return "calls_open counts the calls";
    return NULL;
}

static const char *check_phase(const struct task *t)
{
    if ((t->phase == PHASE_TOOLS) != (t->calls_open > 0))
        return "calls are open if and only if the phase is TOOLS";
    if (task_final(t) && t->phase != PHASE_IDLE)
        return "a final task has no open turn";
    if (t->phase != PHASE_IDLE && t->turns == 0)
        return "an open turn has a number";
    if ((t->phase == PHASE_REQUEST || t->phase == PHASE_BACKOFF) && (t->steps == 0 || t->attempt == 0))
        return "an attempt has a step";
    if (t->phase == PHASE_REQUEST && !task_holds_place(t))
        return "a task that asks the model holds a place";
    if (t->state == TASK_STATE_QUEUED && t->phase == PHASE_IDLE && t->steers_pending == 0 && !t->turn_wants_step)
        return "a queued task has something to do";
    return NULL;
}

static const char *check_links(const struct task *t)
{
    const struct call *c;
    LIST_EACH(c, (struct list *)&t->calls, struct call, node)
    {
        if (c->sort == CALL_SORT_WAIT)
            continue;
        if (!c->run || !task_run(t, c->run))
            return "an open call waits for a run that is known";
        const struct run *r = task_run(t, c->run);
        if (r->ended && c->sort == CALL_SORT_RUN && r->call == c->n)
            return "a call is answered when its run ends";
    }
    const struct run *r;
    LIST_EACH(r, (struct list *)&t->runs, struct run, node)
    {
        if (r->gone && !r->ended)
            return "a runner that is gone has ended its run";
    }
    return NULL;
}

/* What ends a wait has ended it: only a moment and a file are waited for while the state stays as it is. */
static const char *check_condition(const struct task *t, const struct condition *c)
{
    const struct run *r = c->kind == CONDITION_RUN ? task_run(t, c->run) : NULL;
    if (r && r->ended)
        return "a wait ends with its run";
    if (c->kind == CONDITION_ANSWER && t->steers_pending > 0)
        return "an answer ends its wait";
    return NULL;
}

static bool says_condition(const struct task *t)
{
    return t->state == TASK_STATE_WAITING && t->waiting_for != WAITING_FOR_INPUT && t->waiting_for != WAITING_FOR_OUTAGE &&
           t->waiting_for != WAITING_FOR_CREDENTIALS;
}

static const char *check_waiting(const struct task *t)
{
    bool only = t->phase == PHASE_TOOLS && task_only_waits(t);
    if (only && t->state != TASK_STATE_WAITING && t->state != TASK_STATE_PAUSED)
        return "a task with nothing but waits says that it waits";
    if (t->phase == PHASE_TOOLS && !only && t->state == TASK_STATE_WAITING)
        return "a task that says that it waits has no process to wait for";
    bool waits = !list_empty((struct list *)&t->waits);
    if (says_condition(t) && !waits)
        return "a task that says what it waits for has a wait";
    if (waits && task_steers_due(t) > 0)
        return "input ends a wait";
    return NULL;
}

static const char *check_waits(const struct task *t)
{
    int64_t calls = 0;
    const struct call *c;
    LIST_EACH(c, (struct list *)&t->calls, struct call, node)
    calls += c->sort == CALL_SORT_WAIT;
    const struct wait *w;
    LIST_EACH(w, (struct list *)&t->waits, struct wait, node)
    {
        c = task_call(t, w->call);
        if (!c || c->sort != CALL_SORT_WAIT)
            return "a wait has a call that it answers";
        if (w->conditions_n == 0)
            return "a wait has a condition";
        for (size_t i = 0; i < w->conditions_n; i++) {
            const char *broken = check_condition(t, &w->conditions[i]);
            if (broken)
                return broken;
        }
    }
    if (calls != list_length(&t->waits))
        return "a call that waits has one wait";
    return check_waiting(t);
}

const char *core_invariant(const struct core *c, const struct task *t)
{
    const char *broken = check_counts(t);
    if (!broken)
        broken = check_phase(t);
    if (!broken)
        broken = check_links(t);
    if (!broken)
        broken = check_waits(t);
    if (!broken && c->running_n > c->limits.tasks_running_max)
        broken = "no more tasks run than limits.tasks_running_max";
    if (!broken && !task_final(t) && !core_task_named(c, str_of(t->name)))
        broken = "a live task is found by its name";
    return broken;
}
