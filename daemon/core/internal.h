#pragma once
/* What the files of the core share and nobody else needs. */
#include "daemon/base/map.h"
#include "daemon/core/plan.h"

#define MESSAGE_BYTES_MAX 2000 /* of what an edge says about a failure */

struct core {
    struct limits limits;
    struct list tasks; /* by node, in the order in which they came into memory */
    struct map by_id;
    struct map by_name; /* not final ones */
    size_t tasks_n;
    int64_t live_n;    /* not final */
    int64_t running_n; /* that hold a place, see task_holds_place() */
    int64_t queued_n;
};

/* ---- task.c ---- */
struct task *task_new(const char *id);
struct run *task_run_mut(struct task *t, int64_t n);
struct call *task_call_mut(struct task *t, int64_t n);
struct wait *task_wait_mut(struct task *t, int64_t n);
void steer_free(struct steer *s);
void note_free(struct note *n);
void call_free(struct call *c);
void run_free(struct run *r);
void wait_free(struct wait *w);
void task_set_text(char **to, struct str text);
/* What the core counts of a task; taken off before a change and put on after it. */
void core_count(struct core *c, const struct task *t, int sign);
void core_index_name(struct core *c, struct task *t);
void core_unindex_name(struct core *c, struct task *t);

/* It is at work, or its provider makes it wait: it counts for tasks_running_max. A turn that somebody paused, or that waits for what
 * may take days, holds no place; when it goes on it needs one, and is queued until there is. */
bool task_holds_place(const struct task *t);
/* The state of a turn that goes on: running, or queued where no place is free. */
enum task_state core_goes_on(const struct core *c, const struct task *t);
/* Pending steers that may be delivered before the next request. */
int64_t task_steers_due(const struct task *t);
/* What the attempt under way may cost at most, in nano-USD. */
int64_t task_attempt_cost_max(const struct task *t);

/* ---- wait.c ---- */
/* Makes a wait of what a call asks for; its durations count from now. */
void wait_begin(struct task *t, int64_t n, const struct clock_now *now, int64_t call, const struct call_spec *spec);
/* The first of its conditions that the state and the time make true, or NULL. */
const struct condition *wait_true(const struct task *t, const struct wait *w, const struct clock_now *now);
/* Milliseconds until time alone may end a wait of the task. */
int64_t waits_wake(const struct task *t, const struct clock_now *now);
bool waits_adopt(struct task *t, const struct clock_now *now);
/* Calls are open, and nothing but waits would answer them. */
bool task_only_waits(const struct task *t);

/* ---- decide_*.c ---- */
void decide_create(const struct core *c, const struct input *in, struct plan *p);
void decide_steer(const struct core *c, const struct task *t, const struct input *in, struct plan *p);
void decide_cancel(const struct core *c, const struct task *t, const struct input *in, struct plan *p);
void decide_pause(const struct task *t, const struct input *in, struct plan *p);
void decide_resume(const struct core *c, const struct task *t, const struct input *in, struct plan *p);
void decide_model_done(const struct core *c, const struct task *t, const struct input *in, struct plan *p);
void decide_model_failed(const struct core *c, const struct task *t, const struct input *in, struct plan *p);
void decide_run_ended(const struct task *t, const struct input *in, struct plan *p);
void decide_call_yield(const struct task *t, const struct input *in, struct plan *p);
void decide_input_done(const struct task *t, const struct input *in, struct plan *p);
void decide_file_changed(const struct core *c, const struct task *t, const struct input *in, struct plan *p);
void decide_recover(const struct task *t, const struct input *in, struct plan *p);
void decide_advance(const struct core *c, const struct task *t, const struct input *in, struct plan *p);

/* Shared moves. */
struct event_task_state *plan_state(struct plan *p, const struct task *t, enum task_state to, struct str reason);
/* Answers a call: the item of the context and the event, which is returned. */
struct plan_op *plan_result(struct plan *p, const struct call *call, struct str output, int64_t output_bytes, bool is_error);
/* Why a call's wait cannot begin, or STR_NONE. */
struct str wait_gate(const struct core *c, const struct task *t, const struct call_spec *spec, struct plan *p);
void plan_wait_started(struct plan *p, const struct call_spec *spec);
/* The one wait that is over by the state and the time, if there is one: false if not. */
bool plan_wait_over(struct plan *p, const struct core *core, const struct task *t);
/* Ends all of them, for a reason that is none of their conditions. */
void plan_waits_end(struct plan *p, const struct task *t, struct str reason, struct str answer);
/* The task waits from now on: says for what, and until when. */
struct event_task_state *plan_waiting(struct plan *p, const struct task *t);
void plan_turn_end(struct plan *p, const struct task *t, enum turn_outcome outcome, struct str text);

/* ---- text.c: sentences for the model ---- */
/* `exit` NULL: it is still running. */
struct str text_run_result(struct plan *p, const struct run *r, const struct run_exit *exit,
                           const struct run_output *output);
struct str text_run_note(struct plan *p, const struct run *r, const struct run_exit *exit);
/* A condition as events name it ("run r3"), and for people ("the end of session 3"). */
struct str text_condition(struct plan *p, const struct condition *c);
struct str text_conditions(struct plan *p, const struct wait *w);
/* What its call is answered with when it has come true. */
struct str text_wait_over(struct plan *p, const struct condition *c);
struct str text_id(struct plan *p, char letter, int64_t n);
/* At most n bytes of it, and no part of a character. */
struct str text_cut(struct str text, size_t n);
