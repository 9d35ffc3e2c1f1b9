#pragma once
/* The simulation: the core and the pump in a fake world with virtual time. Everything random comes from one seed, so a seed replays
 * bit-exact. It links core, pump, base and the protocol's encoder: if it needed more, a layer would have leaked.
 *
 *   queue.c     what happens next
 *   journal.c   a database that commits late, fails with "full", and keeps only what was committed when the daemon crashes
 *   peers.c     the model, the processes and the clients: late, wrong, gone, twice
 *   waits.c     wake conditions, and the files that some are for
 *   check.c     what must be true, at every step, of every event that becomes durable, and at the end
 *   sim.c       crash and start; the command line */
#include "daemon/base/buf.h"
#include "daemon/base/map.h"
#include "daemon/core/plan.h"
#include "daemon/pump/pump.h"

#define MINUTE_MS ((int64_t)60000)
#define HOUR_MS ((int64_t)3600000)
#define DAY_MS ((int64_t)86400000)

#define GROW(array, n, cap)                                                                                  \
    do {                                                                                                     \
        if ((n) == (cap)) {                                                                                  \
            (cap) = (cap) ? (cap) * 2 : 16;                                                                  \
            (array) = mem_realloc((array), (cap) * sizeof *(array));                                         \
        }                                                                                                    \
    } while (0)

#define SIM_FILES 8
#define SIM_CONDITIONS 3 /* of one wait at most */

struct sim;
struct sim_wait; /* waits.c */

enum action_kind {
    ACTION_COMMIT,
    ACTION_TICK,
    ACTION_MODEL,
    ACTION_RUN_END,
    ACTION_RUN_GONE,
    ACTION_INPUT,
    ACTION_CLIENT,
    ACTION_OUTAGE, /* the provider goes away for a while */
    ACTION_FILE,   /* one changes */
    ACTION_FILE_SEEN,
    ACTION_START,  /* the daemon comes back after it was down */
};

struct action {
    int64_t at_ms; /* boot time of the world, which never goes back */
    int64_t order;
    enum action_kind kind;
    int64_t life; /* of the daemon that it belongs to; 0: of the outside */
    char task[TASK_ID_SIZE];
    int64_t a, b;
};

struct queue { /* a binary heap by at_ms, then order */
    struct action *actions;
    size_t n, cap;
    int64_t order;
};

/* How a seed is played: an hour of a few tasks, or days of many that live long. */
struct shape {
    bool days, clock;
    int64_t faulty_ms; /* of faults, then calm until all rests */
    int64_t tasks_max;
    int64_t client_gap_ms;             /* the longest between two things that clients do */
    int64_t crash_in, stop_in, jump_in; /* of so many steps one */
    int64_t actions_max;
};

struct sim_run { /* a process, as the outside knows it */
    char task[TASK_ID_SIZE];
    int64_t n;
    int64_t starts;
    int64_t end_ms, gone_ms;
    int64_t boot;
    bool started, ended, lost; /* lost: its runner died without a record */
    bool killed;
};

struct sim_steer { /* a steer that a client was told is accepted */
    char task[TASK_ID_SIZE];
    int64_t n;
};

struct sim_event {
    int64_t pos, seq;
    char task[TASK_ID_SIZE];
    enum event_kind kind;
    char *json;
    int64_t now_ms, wall_ms, boot; /* when it was decided */
    int64_t delay_ms;              /* step.retry */
    struct sim_wait *wait;         /* wait.started */
};

struct sim_file {
    int64_t version, changed_ms;
};

struct sim_watch { /* what the daemon of a life follows */
    char task[TASK_ID_SIZE];
    int64_t life, wait, condition, file;
};

struct sim_batch { /* rows that wait for their commit */
    struct sim_event *events;
    size_t events_n, events_cap;
    struct sim_state {
        char id[TASK_ID_SIZE];
        struct buf snapshot;
    } *tasks;
    size_t tasks_n, tasks_cap;
    struct sim_context {
        char task[TASK_ID_SIZE];
        int64_t index, bytes;
    } *context;
    size_t context_n, context_cap;
};

/* What the durable events say of one number of a task. */
struct sim_fact {
    uint8_t begun; /* step.started, tool.called, run.started, steer.accepted, wait.started */
    uint8_t ended; /* step.ended, tool.result, run.ended, steer.delivered, wait.ended */
    uint8_t seen;  /* steer.seen; the runner took the input of the call */
    bool waived;   /* a steer that was cancelled with its task */
    bool queued;   /* a steer for the end of the turn */
};

enum sim_number { NUMBER_STEP, NUMBER_CALL, NUMBER_RUN, NUMBER_STEER, NUMBER_WAIT, NUMBER_KINDS };

struct sim_task {
    char id[TASK_ID_SIZE];
    /* the durable row */
    bool durable;
    struct buf snapshot;
    int64_t context_n, context_bytes;
    /* what its durable events say */
    int64_t seq, request_bytes;
    struct sim_facts {
        struct sim_fact *of;
        size_t n;
    } facts[NUMBER_KINDS];
    struct sim_wait **waits; /* by number; NULL: over */
    size_t waits_n;
    int64_t retry_ms, retry_boot; /* when the next attempt may be made; 0: at any time */
    /* the outside */
    struct sim_run **runs; /* by number - 1; NULL: never heard of */
    size_t runs_n;
    int64_t model_life, model_order; /* the request under way: its action */
    /* what the checks last saw */
    bool changed; /* since; it is in the list */
    uint64_t hash;
};

struct sim {
    uint64_t seed, state;
    struct shape shape;
    bool verbose;
    bool calm; /* no more faults: everything must come to its end */

    int64_t now_ms; /* since the world began */
    int64_t wall_offset_ms, boot;
    int64_t boot_started_ms;
    int64_t outage_until_ms;
    int64_t jumped_ms, up_ms; /* since when the wall clock was not set, and this daemon is up */

    struct sim_file files[SIM_FILES];
    struct sim_watch *watches;
    size_t watches_n, watches_cap;

    struct queue queue;
    int64_t steps;

    int64_t life; /* counts starts of the daemon */
    struct core *core; /* NULL while it is down */
    struct pump *pump;
    struct limits limits;
    bool committing;
    int64_t tick_order; /* the tick that counts */
    int64_t tick_ms;    /* and when it comes; INT64_MAX: none will */

    struct sim_batch filling, under_way;
    struct map known;        /* of struct sim_task, by id */
    struct sim_task **tasks; /* those that are durable, in the order in which they became so */
    size_t tasks_n, tasks_cap;
    int64_t events_n, durable_pos, published_pos;
    uint64_t digest; /* of all durable events */

    struct sim_task **changed; /* not checked yet */
    size_t changed_n, changed_cap;
    int64_t turn; /* of the tasks that did not change */
    struct buf once, twice;

    struct sim_steer *steers;
    size_t steers_n, steers_cap;
    void **promises; /* of replies that wait; a crash forgets them */
    size_t promises_n, promises_cap;
    int64_t tasks_made, runs_n;
    int64_t crashes, stops, requests, reboots, fulls, jumps, evictions, outages, downs, inputs;
    int64_t waits, timers, file_changes, early, doubles, lost;
};

/* sim.c */
uint64_t sim_random(struct sim *s);
int64_t sim_range(struct sim *s, int64_t from, int64_t to);
bool sim_chance(struct sim *s, int percent);
int64_t sim_schedule(struct sim *s, int64_t in_ms, enum action_kind kind, int64_t life, const char *task, int64_t a, int64_t b);
struct clock_now sim_now(void *ctx);
/* All inputs of the world go this way: their task is checked at the end of the step, whatever the pump makes of them. */
enum rpc_error sim_input(struct sim *s, struct input *input, struct outcome *ret);
_Noreturn void sim_fail(struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* queue.c */
int64_t queue_put(struct queue *q, const struct action *a); /* returns its order */
bool queue_take(struct queue *q, struct action *ret);
void queue_free(struct queue *q);

/* journal.c */
void journal_event(void *ctx, const struct event *event);
int64_t journal_context(void *ctx, const struct task *t, int64_t index, const struct context_item *item);
void journal_task(void *ctx, const struct task *t);
void journal_commit(void *ctx);
void journal_commit_done(struct sim *s);
void journal_make_durable(struct sim *s);
void batch_clear(struct sim_batch *b);
const struct task *journal_load(struct sim *s, const char *id);
struct sim_task *journal_known(struct sim *s, const char *id); /* made if it is not */
struct sim_fact *journal_fact(struct sim *s, const char *task, enum sim_number kind, int64_t n);
void journal_free(struct sim *s);

/* peers.c */
void peers_effect_start(void *ctx, const char *task, const struct effect *effect);
void peers_effect_cancel(void *ctx, const char *task, const struct effect *effect);
void peers_collect(void *ctx, const struct task *t, const struct run *run, int64_t bytes_max, struct run_output *ret);
struct str peers_partial(void *ctx, const char *task);
void peers_model(struct sim *s, const struct action *a);
void peers_outage(struct sim *s);
void peers_run_end(struct sim *s, const struct action *a);
void peers_run_gone(struct sim *s, const struct action *a);
void peers_input(struct sim *s, const struct action *a);
void peers_client(struct sim *s);
void peers_reboot(struct sim *s);
void peers_recover(struct sim *s, const struct task *t, enum previous_end end);

/* waits.c */
void waits_file_change(struct sim *s);
void waits_file_seen(struct sim *s, const struct action *a);
void waits_boot(struct sim *s);
void waits_stored(const struct sim *s, struct sim_task *row);
void waits_watch(struct sim *s, const char *task, const struct effect *e);
void waits_unwatch(struct sim *s, const char *task, const struct effect *e);
void waits_call(struct sim *s, const struct task *t, struct call_spec *c, struct condition room[SIM_CONDITIONS]);
void waits_note(struct sim *s, struct sim_event *e, const struct event *event);
void waits_started(struct sim *s, struct sim_task *row, struct sim_event *e, int64_t n);
void waits_ended(struct sim *s, struct sim_task *row, const struct sim_event *e, int64_t n);
void waits_retry(struct sim *s, struct sim_task *row, const struct sim_event *e);
void waits_check(struct sim *s, const struct task *t, const struct sim_task *row);
void waits_free(struct sim_task *row);

/* check.c */
void check_changed(struct sim *s, const char *task);
void check_step(struct sim *s);
void check_all(struct sim *s);
void check_event(struct sim *s, struct sim_task *row, struct sim_event *e);
void check_published(struct sim *s, const struct pump_event *events, size_t n);
void check_end(struct sim *s);
