#pragma once
/* What the files of the daemon's wiring share (world*.c): the batch that fills, the tasks' specs, the effects under way. */
#include "daemon/base/map.h"
#include "daemon/commands/spec.h"
#include "daemon/daemon.h"

#define WORLD_VISITORS_MAX 64

/* What the daemon holds of a task beside the core: what the task keeps of its model and environment, and its model request. */
struct world_task {
    char id[TASK_ID_SIZE];
    struct task_spec spec;
    const struct provider *provider;
    bool has_spec;
    bool dirty;      /* its row belongs to the filling batch */
    bool committing; /* its row is in the commit under way: the store does not know yet what memory knows */
    struct buf new_spec, new_head; /* of a task that was never written */
    int64_t runs_forgotten;        /* runs that its state held no more when their folders were last looked at */

    /* EFFECT_MODEL */
    struct daemon *daemon;
    struct model_transfer *transfer;
    int64_t step, attempt;
    int64_t item_base; /* part k of the response becomes item item_base + k */
};

struct world_key {
    char *key;
    struct buf digest, result;
};

struct world_line {
    size_t offset, n; /* of the event's JSON in `text` */
};

/* What belongs to one batch until its commit: the filling one, and the one under way. */
struct world_batch {
    struct buf text;
    struct world_line *lines;
    size_t lines_n, lines_cap;
    struct world_key *keys;
    size_t keys_n, keys_cap;
    char (*touched)[TASK_ID_SIZE];
    size_t touched_n, touched_cap;
};

struct world_runs;

/* An effect that was released and waits for its turn, see world_effects_turn(). */
struct world_effect {
    char task[TASK_ID_SIZE];
    struct effect effect;
};

struct world_state {
    struct daemon *d;
    struct store_batch *rows; /* of the filling batch */
    struct world_batch batches[2];
    struct world_batch *filling, *committing;
    struct map tasks; /* struct world_task by id */

    struct store_batch *retry_rows; /* the disk was full */
    uv_timer_t wake, retry;
    uv_check_t turn;
    uv_idle_t spin; /* active while something waits for the end of this turn of the loop */
    struct world_effect *effects; /* from effects_at on, in their order */
    size_t effects_at, effects_n, effects_cap;
    struct world_effect *roomless; /* starts of runs, and input to them, that wait for room on the disk */
    size_t roomless_n;
    uv_timer_t room;
    struct buf scratch;
    char visitors[WORLD_VISITORS_MAX][TASK_ID_SIZE]; /* tasks that may not need their memory after this turn */
    size_t visitors_n;
    struct world_runs *runs; /* NULL before world_retain() */
    bool ended;
};

/* world.c */
void world_new(struct daemon *d);
/* No more inputs, requests or commits: the edges may be taken down. */
void world_end(struct daemon *d);
void world_free(struct daemon *d);
void world_clock(struct daemon *d, struct clock_now *ret);
/* Something was put into the filling batch or happened that the end of this turn must look at. */
void world_turn(struct daemon *d);

/* Ends the daemon at once: only a new process that reads everything again can tell. */
_Noreturn void world_read_again(struct daemon *d, const char *why);

/* A commit waits for space. */
bool world_stuck(const struct daemon *d);

/* Evicts the task at the end of this turn unless it is live by then. */
void world_visit(struct daemon *d, const char *id);

/* world_runs.c */
/* `sweep`: the folders of all tasks are looked at, a few in each turn. */
struct world_runs *world_runs_new(const struct daemon *d, bool sweep);
void world_runs_free(struct world_runs *w);
/* Folders of this task's runs may have become needless. */
void world_runs_look(struct daemon *d, const char *task);
/* A commit holds what memory knows of it. */
void world_runs_committed(struct daemon *d, struct world_task *wt);
/* Deletes some, and asks for another turn if that was not all. */
void world_runs_turn(struct daemon *d);

/* world_tasks.c */
struct world_task *world_task_of(struct daemon *d, const char *id); /* makes it; the spec is loaded, or has_spec is false */
void world_task_drop(struct daemon *d, const char *id);
void world_transfers_cancel(struct daemon *d);
void world_tasks_free(struct daemon *d);
/* From now on what has ended is archived, and removed, as the limits say. */
void world_retain(struct daemon *d);
/* Brings live tasks back and lets the core say what follows. */
int world_recover(struct daemon *d, struct buf *error);

/* world_room.c */
void world_room_new(struct daemon *d);
void world_room_free(struct daemon *d);
/* The run cannot start for lack of room, or it is input to such a run: both are tried again in their order. */
void world_room_later(struct daemon *d, const char *task, const struct effect *effect);
bool world_room_waits(const struct daemon *d, const char *task, int64_t run);
void world_room_again(struct daemon *d); /* now */

/* world_effects.c */
void world_effect_later(struct world_state *w, const char *task, const struct effect *effect);
void world_file_changed(void *arg, const char *task, int64_t wait, int64_t condition);
void world_effect_start(void *ctx, const char *task, const struct effect *effect);
/* Starts some of those that wait, and asks for another turn if that was not all. */
void world_effects_turn(struct daemon *d);
void world_effect_cancel(void *ctx, const char *task, const struct effect *effect);
struct str world_partial(void *ctx, const char *task);
void world_collect(void *ctx, const struct task *t, const struct run *run, int64_t bytes_max, struct run_output *ret);
struct runs_callbacks world_runs_callbacks(void);
void world_run_name(int64_t n, char ret[24]);
