#pragma once
/* The pump: decide -> apply -> journal -> release. Every input goes through pump_input(), and nothing leaves before the facts
 * that it rests on are committed: events, replies and effects wait for their batch. While one commit runs the next batch
 * fills. It owns the batches and the table of effects in flight; it calls the core and, for everything else, the world.
 *
 * Pure like the core: `tests/sim` runs it against a fake world. */
#include "daemon/core/core.h"

struct pump;

/* A committed event on its way to subscribers. */
struct pump_event {
    int64_t pos, seq;
    const char *task;
    enum event_kind kind;
};

/* Everything that the pump needs of the outside. All calls come from the loop's thread. */
struct world {
    void *ctx;
    struct clock_now (*now)(void *ctx);
    uint64_t (*random)(void *ctx);

    /* The filling batch: an event that is about to be applied; the bytes of one context item (appends them at `index` of the
     * prompt and returns their number); the task as it is after all of the input. */
    void (*journal_event)(void *ctx, const struct event *event);
    int64_t (*journal_context)(void *ctx, const struct task *t, int64_t index, const struct context_item *item);
    void (*journal_task)(void *ctx, const struct task *t);
    /* Commits what was filled; calls pump_committed() later, never from inside. */
    void (*commit)(void *ctx);

    /* Released, after the commit. */
    void (*published)(void *ctx, const struct pump_event *events, size_t n);
    void (*effect_start)(void *ctx, const char *task, const struct effect *effect);
    void (*effect_cancel)(void *ctx, const char *task, const struct effect *effect);
    /* Calls pump_tick() after so many milliseconds; replaces the call before; INT64_MAX: never. */
    void (*wake_in)(void *ctx, int64_t delay_ms);

    /* Reads for inputs. Strings live until the next call. */
    void (*collect)(void *ctx, const struct task *t, const struct run *run, int64_t bytes_max, struct run_output *ret);
    struct str (*partial)(void *ctx, const char *task);
};

struct pump *pump_new(struct core *core, const struct world *world, const struct limits *limits, int64_t pos_last);
void pump_free(struct pump *p);

/* Runs one input through the core. For a client's change: 0, or an error of the protocol (nothing changed) with a sentence in
 * `error` where more can be said than the error's own hint. The reply must wait for pump_after(). Inputs of the machinery about
 * things that are over (a completion that lost a race) are ignored. */
enum rpc_error pump_input(struct pump *p, struct input *input, struct outcome *ret, struct buf *error);

/* Calls fn once everything applied so far is durable: at once if nothing waits. In order. */
typedef void pump_after_cb(void *arg);
void pump_after(struct pump *p, pump_after_cb *fn, void *arg);
/* At the end, when no client is connected any more: calls what waited for commits that never come, for the memory that it holds. */
void pump_abandon(struct pump *p);
/* Whether fn would be called at once. */
bool pump_settled(const struct pump *p);

/* Says that there is something in the filling batch besides events (a key, a meta value) to be committed. */
void pump_dirty(struct pump *p);
/* At the end of each turn of the loop: starts the commit of what was filled. */
void pump_flush(struct pump *p);
/* The commit is done: releases. */
void pump_committed(struct pump *p);
/* Time has passed: fires what is due. */
void pump_tick(struct pump *p);
