#pragma once
/* What core_decide() fills: events and context items in the order in which they happen, and what the client is told. Strings may be
 * views of the state, so an item of the context stands before the event that uses it up. */
#include "daemon/core/core.h"

/* What apply must know of an event beyond its public members. It lives in memory only: recovery reads snapshots. */
struct fact {
    int64_t number;               /* of the call, run, steer or wait that the event is about */
    int64_t run;                  /* of a call: the run that it waits for */
    int64_t seen_bytes;           /* tool.result: how far the run's output was shown; -1: not at all */
    const struct call_spec *spec; /* tool.called, run.started */
    const struct input *created;  /* task.created: INPUT_TASK_CREATE */
    bool spent;                   /* step.retry: the provider may have worked on the attempt */
    bool failed;                  /* step.retry: it was the provider's failure, not a pause or our own end */
    struct clock_deadline deadline; /* step.retry */
    bool noted;                     /* notice: the model is told, too, with the next request */
    bool end_runs;                  /* notice: the task's processes are to be ended */
};

struct plan_op {
    bool is_context; /* else an event */
    struct event event;
    struct fact fact;
    struct context_item item;
};

/* Only a loop in the core could reach it: the largest plans are a response of thousands of calls (each is answered, even if it is not
 * carried out), a step that delivers steers_pending_max steers, and a start that finds runs_per_task_max patches ended. */
#define PLAN_OPS_MAX (1 << 22)

struct plan {
    const struct clock_now *now;
    struct plan_op *ops;
    size_t n, cap;
    char **texts; /* strings made for this plan */
    size_t texts_n, texts_cap;
    struct outcome outcome;
    enum rpc_error error;
    struct buf error_text;
    /* Numbers given out so far, from the task's counters on. */
    int64_t items, calls, runs, waits;
};

void plan_begin(struct plan *p, const struct task *t, const struct clock_now *now);
void plan_free(struct plan *p);
struct plan_op *plan_event(struct plan *p, enum event_kind kind);
struct plan_op *plan_context(struct plan *p, enum context_kind kind, struct str text);
/* A string that lives as long as the plan. */
struct str plan_printf(struct plan *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Takes the buffer's bytes over. */
struct str plan_take(struct plan *p, struct buf *b);
/* Refuses the input. `format` may be NULL: the error's own hint says enough. */
void plan_refuse(struct plan *p, enum rpc_error error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* ---- the machine, as the pump calls it ---- */

void core_decide(const struct core *c, const struct clock_now *now, const struct input *input, struct plan *plan);
/* Gives the event its seq, its time and what only the state knows (sizes of the request). It is journaled in between: what it says may
 * be a view of the state that applying it changes. */
void core_stamp(const struct core *c, const struct clock_now *now, struct event *event);
/* Does to the state what the event says; task.created makes the task. */
void core_apply(struct core *c, const struct clock_now *now, const struct event *event, const struct fact *fact);
/* A context item was rendered to so many bytes. */
void core_apply_context(struct core *c, const char *task, int64_t bytes);
/* Which runners still live is not a fact of the journal: their locks say it. */
void core_run_gone(struct core *c, const char *task, int64_t run);
/* Nor which input was written: the runner's own record says it, and makes a repeat harmless. */
void core_input_written(struct core *c, const char *task, int64_t call);

/* A start: deadlines of another boot go on in this one, and the wait for input that was not under way meanwhile begins anew. Whether there
 * was one: the task is to be written then. */
bool core_adopt(struct core *c, const char *task, const struct clock_now *now);

/* What should be in flight for a task: writes at most `max` effects, returns how many there are. */
size_t core_effects(const struct task *t, struct effect *ret, size_t max);
/* Milliseconds until time alone makes something follow; INT64_MAX: never. */
int64_t core_wake(const struct core *c, const struct task *t, const struct clock_now *now);
/* A call of the task whose time is up, or NULL. */
const struct call *core_call_due(const struct task *t, const struct clock_now *now);
/* The next task that may leave the queue, or NULL. */
const struct task *core_admissible(const struct core *c);
/* NULL if all is well, else the sentence that says which rule the state breaks. */
const char *core_invariant(const struct core *c, const struct task *t);
