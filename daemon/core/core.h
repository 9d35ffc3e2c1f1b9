#pragma once
/* The pure machine: which events follow from an input (core_decide), what an event does to the state (core_apply), and
 * which effects should be in flight for a state (core_effects). It owns the live tasks in memory and nothing else. It knows no
 * socket, file, clock, database, JSON library or random number: time, ids and randomness come in with the input. Calls base
 * only (and the protocol's plain types).
 *
 * One input walks like this: core_decide() fills a plan of events and context items; the pump stamps and applies each event;
 * then it asks core_decide() with INPUT_ADVANCE again and again until nothing more follows. All of it is one commit. */
#include "daemon/base/buf.h"
#include "daemon/base/list.h"
#include "daemon/core/types.h"

struct core;

/* ---- state: read by anybody, changed by core_apply() alone ---- */

/*~ What a task does between its inputs. The moves:
 *
 *            turn.started
 *     IDLE ---------------> NEXT <-----------------------------+
 *      ^                     | step.started                    | all calls answered
 *      | turn.ended          v                                 |
 *      +-------- NEXT <-- REQUEST --- step.ended, calls --> TOOLS
 *                         |    ^
 *              step.retry v    | step.started (attempt + 1)
 *                        BACKOFF
 */
enum task_phase { PHASE_IDLE = 0, PHASE_NEXT = 1, PHASE_REQUEST = 2, PHASE_BACKOFF = 3, PHASE_TOOLS = 4 };

struct steer {
    struct list node;
    int64_t n; /* "s<n>" */
    enum delivery delivery;
    char *text;
    int64_t delivered_step; /* 0: not delivered */
};

/* Something that the next request tells the model. */
struct note {
    struct list node;
    char *text;        /* of agentd */
    int64_t image_run; /* not 0: the image that this run printed, instead of a text */
    char *media_type;
};

struct call {
    struct list node;
    int64_t n; /* "c<n>" */
    int64_t step;
    enum call_sort sort;
    char *wire_id, *tool;
    int64_t run;         /* the run that it waits for; 0: none */
    struct buf input;    /* CALL_SORT_INPUT: bytes to be written; dropped when the runner has them */
    int64_t yield_ms, output_bytes;
    struct clock_deadline yield_at;
};

/*~ A durable wake condition. It ends once: by the first of its conditions that is seen to be true, by input, or by the user. Which of
 * two that come true together is as good as the other; the state that it leaves is committed with its end. */
struct wait {
    struct list node;
    int64_t n;    /* "w<n>" */
    int64_t call; /* which its end answers */
    struct condition *conditions;
    size_t conditions_n;
};

struct run {
    struct list node;
    int64_t n; /* "r<n>" */
    int64_t call;
    enum run_program program;
    char *command, *workdir;
    struct buf payload; /* dropped when it ended */
    bool tty;
    char boot_id[CLOCK_BOOT_ID_SIZE]; /* of the row */
    int64_t started_wall_ms;
    int64_t seen_bytes; /* how much of its output the model was shown */
    bool ended;         /* run.ended is in the journal; its runner may live on */
    bool gone;          /* its runner is gone too; known from its lock, not from the journal */
    bool kill;          /* it is to be ended */
    int64_t exit_code, signal;
    bool has_exit_code, has_signal;
    enum run_outcome outcome;
    int64_t duration_ms, output_bytes;
};

struct task {
    struct list node;
    char id[TASK_ID_SIZE];
    char *name, *objective, *workspace, *model, *policy;
    bool keep_open;
    enum task_state state;
    enum waiting_for waiting_for; /* if state is waiting */
    char *waiting_detail;
    int64_t waiting_until_ms;
    int64_t created_ms, updated_ms;

    int64_t seq;
    int64_t turns, steps, runs_n, calls_n, steers_n, items_n, waits_n; /* counters: the last number given out */
    struct proto_usage usage;
    int64_t price_input, price_output; /* nano-USD a token; for what an attempt whose end is unknown may have cost */
    int64_t max_output_tokens;

    enum task_phase phase;
    int64_t attempt;
    int64_t failures; /* attempts in a row that failed */
    struct clock_deadline retry_at;
    bool turn_wants_step; /* the model has something new to answer */
    bool turn_fresh;      /* no request of this turn was made yet */
    char *last_text;      /* the last message of this turn, bounded */

    int64_t epoch;
    int64_t context_n;     /* elements of the prompt, the head counted */
    int64_t context_bytes; /* their bytes, commas counted */
    int64_t tail_bytes;
    int64_t prefix_bytes; /* context_bytes when the last request was made; 0: none yet in this epoch */

    struct list steers, notes, calls, runs, waits;
    int64_t steers_pending; /* accepted, not delivered */
    int64_t calls_open;
    int64_t runs_open; /* whose runner lives, as far as is known */

    struct clock_deadline idle_at; /* when background runs of a final task are ended */
    char activity[128];            /* one line of what it does now */
};

/* Why a start of the daemon is looking: how the last one ended. */
struct recover_probe {
    int64_t run;
    enum run_probe probe;
    struct run_exit exit;
    struct run_output output; /* for a call that waits on it */
};

enum input_kind {
    INPUT_TASK_CREATE,
    INPUT_STEER,
    INPUT_CANCEL,
    INPUT_PAUSE,
    INPUT_RESUME,
    INPUT_MODEL_DONE,
    INPUT_MODEL_FAILED,
    INPUT_RUN_ENDED,
    INPUT_RUN_GONE,   /* the runner of an ended run is gone: the run needs no memory any more */
    INPUT_CALL_YIELD, /* the time of a waiting call is up: answer it with what there is */
    INPUT_INPUT_DONE, /* what became of a call's input */
    INPUT_FILE_CHANGED, /* what EFFECT_WATCH looks at is no longer what it was */
    INPUT_RECOVER,    /* once per live task at start */
    INPUT_ADVANCE,    /* made by the pump: what follows from the state alone? */
};

struct input {
    enum input_kind kind;
    const char *task; /* id; of INPUT_TASK_CREATE the new one */
    uint64_t random;  /* for jitter; filled by the pump */
    struct str client; /* who caused it; absent: nobody */
    enum role role;
    union {
        struct {
            struct str name; /* unique among live tasks: the caller has checked */
            struct str prompt, workspace, model, policy;
            bool keep_open;
            int64_t head_bytes, tail_bytes; /* of the prompt; the head itself is committed by the world */
            int64_t price_input, price_output, max_output_tokens; /* see struct task */
        } create;
        struct {
            struct str text, key;
            enum delivery delivery;
            struct str partial; /* what the cut stream said so far; filled by the pump */
        } steer;
        struct {
            int64_t step, attempt;
            const struct model_response *response;
        } model_done;
        struct {
            int64_t step, attempt;
            enum model_fault fault;
            int64_t retry_after_ms; /* 0: not said */
            struct str message;
        } model_failed;
        struct {
            int64_t run;
            const struct run_exit *exit;
            struct run_output output; /* for the call that waits on it; filled by the pump */
        } run_ended;
        struct {
            int64_t run;
        } run_gone;
        struct {
            int64_t call;
            struct run_output output; /* filled by the pump */
        } call_yield;
        struct {
            int64_t call;
            bool ok;
            struct str error;
        } input_done;
        struct {
            int64_t wait, condition; /* as in struct effect */
        } file_changed;
        struct {
            enum previous_end previous_end;
            const struct recover_probe *probes; /* one for each open run */
            size_t probes_n;
        } recover;
    };
};

/* What a client's change is answered with. */
struct outcome {
    int64_t seq;   /* the event that holds it */
    int64_t steer; /* INPUT_STEER: its number */
};

/* What the core wants in flight. Two effects are the same if all members are. */
enum effect_kind {
    EFFECT_MODEL, /* a = step, b = attempt: send the request, report done or failed */
    EFFECT_RUN,   /* a = run: start it if it was never started, else follow it; report ended, gone */
    EFFECT_KILL,  /* a = run: end it */
    EFFECT_INPUT, /* a = call: hand its input to its run; report input_done */
    EFFECT_WATCH, /* a = wait, b = index of its condition: report file_changed when the path differs from its stamp, at once if so */
};

struct effect {
    enum effect_kind kind;
    int64_t a, b;
};

struct plan;

struct core *core_new(const struct limits *limits);
void core_free(struct core *c);
/* NULL if it is not in memory. */
const struct task *core_task(const struct core *c, const char *id);
/* A live task by name, or NULL. */
const struct task *core_task_named(const struct core *c, struct str name);
struct list *core_tasks(struct core *c); /* of struct task, by node */
size_t core_tasks_n(const struct core *c);

/* Not final, or with living runs: it is kept in memory. */
bool task_live(const struct task *t);
bool task_final(const struct task *t);
const struct run *task_run(const struct task *t, int64_t n);
const struct call *task_call(const struct task *t, int64_t n);
const struct wait *task_wait(const struct task *t, int64_t n);
/* Fills the view; its strings live as long as the task is not changed. */
void task_view(const struct task *t, struct proto_task *ret);

/* The state as bytes, and back. restore puts the task into memory and returns it; NULL if the bytes are damaged. */
void task_snapshot(const struct task *t, struct buf *b);
struct task *core_restore(struct core *c, struct str snapshot);
/* A task that belongs to nobody's core, for views of what is not in memory; NULL if damaged. */
struct task *task_from_snapshot(struct str snapshot);
void task_free(struct task *t);
/* Frees a task that is not live. */
void core_evict(struct core *c, const char *id);
