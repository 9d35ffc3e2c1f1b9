#pragma once
/* The simulation: the core and the pump in a fake world with virtual time. Everything random comes from one seed, so a seed replays
 * bit-exact. It links core, pump, base and the protocol's encoder: if it needed more, a layer would have leaked.
 *
 *   journal.c   a database that commits late, fails with "full", and keeps only what was committed when the daemon crashes
 *   peers.c     the model, the processes and the clients: late, wrong, gone, twice
 *   check.c     what must be true, at every step and at the end
 *   sim.c       the queue of what happens next; crash and start; the command line */
#include "daemon/base/buf.h"
#include "daemon/base/map.h"
#include "daemon/core/plan.h"
#include "daemon/pump/pump.h"

struct sim;

enum action_kind { ACTION_COMMIT, ACTION_TICK, ACTION_MODEL, ACTION_RUN_END, ACTION_RUN_GONE, ACTION_INPUT, ACTION_CLIENT };

struct action {
    int64_t at_ms; /* boot time of the world, which never goes back */
    int64_t order;
    enum action_kind kind;
    int64_t life; /* of the daemon that it belongs to; 0: of the outside */
    char task[TASK_ID_SIZE];
    int64_t a, b;
};

struct sim_run { /* a process, as the outside knows it */
    char task[TASK_ID_SIZE];
    int64_t n;
    int64_t starts;
    int64_t end_ms, gone_ms;
    int64_t boot;
    bool started, ended, lost; /* lost: its runner died without a record */
    bool killed;
    int64_t inputs[64]; /* calls whose input it took */
    size_t inputs_n;
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
};

struct sim_task { /* the durable row */
    char id[TASK_ID_SIZE];
    struct buf snapshot;
    int64_t context_n, context_bytes;
};

struct sim_rows { /* a batch, or the database */
    struct sim_event *events;
    size_t events_n, events_cap;
    struct sim_task *tasks;
    size_t tasks_n, tasks_cap;
    struct sim_context {
        char task[TASK_ID_SIZE];
        int64_t index, bytes;
    } *context;
    size_t context_n, context_cap;
};

struct sim {
    uint64_t seed, state;
    bool verbose;
    bool calm; /* no more faults: everything must come to its end */

    int64_t now_ms; /* since the world began */
    int64_t wall_offset_ms, boot;
    int64_t boot_started_ms;

    struct action *actions;
    size_t actions_n, actions_cap;
    int64_t order;

    int64_t life; /* counts starts of the daemon */
    struct core *core;
    struct pump *pump;
    struct limits limits;
    bool committing;
    int64_t tick_order; /* the tick that counts */

    struct sim_rows durable, filling, under_way;
    int64_t published_pos;

    struct sim_run *runs;
    size_t runs_n, runs_cap;
    struct sim_steer *steers;
    size_t steers_n, steers_cap;
    void **promises; /* of replies that wait; a crash forgets them */
    size_t promises_n, promises_cap;
    int64_t tasks_made;
    int64_t crashes, stops, requests, reboots, fulls, jumps, evictions;
};

/* sim.c */
uint64_t sim_random(struct sim *s);
int64_t sim_range(struct sim *s, int64_t from, int64_t to);
bool sim_chance(struct sim *s, int percent);
struct action *sim_schedule(struct sim *s, int64_t in_ms, enum action_kind kind, int64_t life, const char *task, int64_t a,
                            int64_t b);
struct clock_now sim_now(void *ctx);
_Noreturn void sim_fail(struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* journal.c */
void journal_event(void *ctx, const struct event *event);
int64_t journal_context(void *ctx, const struct task *t, int64_t index, const struct context_item *item);
void journal_task(void *ctx, const struct task *t);
void journal_commit(void *ctx);
void journal_commit_done(struct sim *s);
void journal_make_durable(struct sim *s);
void rows_clear(struct sim_rows *r);
const struct task *journal_load(struct sim *s, const char *id);
struct sim_task *journal_find(struct sim *s, const char *task);
bool journal_has(struct sim *s, const char *task, enum event_kind kind, const char *needle);

/* peers.c */
void peers_effect_start(void *ctx, const char *task, const struct effect *effect);
void peers_effect_cancel(void *ctx, const char *task, const struct effect *effect);
void peers_collect(void *ctx, const struct task *t, const struct run *run, int64_t bytes_max, struct run_output *ret);
struct str peers_partial(void *ctx, const char *task);
void peers_model(struct sim *s, const struct action *a);
void peers_run_end(struct sim *s, const struct action *a);
void peers_run_gone(struct sim *s, const struct action *a);
void peers_input(struct sim *s, const struct action *a);
void peers_client(struct sim *s);
void peers_reboot(struct sim *s);
void peers_recover(struct sim *s, const struct task *t, enum previous_end end);

/* check.c */
void check_step(struct sim *s);
void check_published(struct sim *s, const struct pump_event *events, size_t n);
void check_end(struct sim *s);
uint64_t check_digest(const struct sim *s);
