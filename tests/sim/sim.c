/* The queue of what happens next, crash and start, and the command line:
 *
 *   sim [--seeds N] [--from SEED] [--verbose]      runs N seeds; the first failure prints its seed and ends with status 1
 *   sim --seed SEED --verbose                      replays one and prints its journal
 */
#include "sim.h"

#include "daemon/base/mem.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define FAULTY_MS 3600000 /* an hour of faults, then calm until all rests */
#define REST_MS (30 * 86400000LL)
#define ACTIONS_MAX 400000

uint64_t sim_random(struct sim *s)
{
    /* SplitMix64 (Steele, Lea, Flood 2014) */
    uint64_t z = (s->state += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

int64_t sim_range(struct sim *s, int64_t from, int64_t to)
{
    return from + (int64_t)(sim_random(s) % (uint64_t)(to - from + 1));
}

bool sim_chance(struct sim *s, int percent)
{
    return sim_range(s, 0, 99) < percent;
}

void sim_fail(struct sim *s, const char *format, ...)
{
    fprintf(stderr, "seed %" PRIu64 " at %" PRId64 " ms: ", s->seed, s->now_ms);
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\nreplay: sim --seed %" PRIu64 " --verbose\n", s->seed);
    exit(1);
}

struct action *sim_schedule(struct sim *s, int64_t in_ms, enum action_kind kind, int64_t life, const char *task, int64_t a,
                            int64_t b)
{
    if (s->actions_n == s->actions_cap) {
        s->actions_cap = s->actions_cap ? s->actions_cap * 2 : 64;
        s->actions = mem_realloc(s->actions, s->actions_cap * sizeof *s->actions);
    }
    struct action *action = &s->actions[s->actions_n++];
    *action = (struct action){.at_ms = s->now_ms + in_ms, .order = ++s->order, .kind = kind, .life = life, .a = a, .b = b};
    snprintf(action->task, sizeof action->task, "%s", task);
    return action;
}

static bool take_next(struct sim *s, struct action *ret)
{
    size_t best = s->actions_n;
    for (size_t i = 0; i < s->actions_n; i++) {
        const struct action *a = &s->actions[i];
        if (best == s->actions_n || a->at_ms < s->actions[best].at_ms ||
            (a->at_ms == s->actions[best].at_ms && a->order < s->actions[best].order))
            best = i;
    }
    if (best == s->actions_n)
        return false;
    *ret = s->actions[best];
    s->actions[best] = s->actions[--s->actions_n];
    return true;
}

struct clock_now sim_now(void *ctx)
{
    struct sim *s = ctx;
    struct clock_now now = {.wall_ms = 1700000000000 + s->now_ms + s->wall_offset_ms,
                            .boot_ms = s->now_ms - s->boot_started_ms};
    snprintf(now.boot_id, sizeof now.boot_id, "boot-%" PRId64, s->boot);
    return now;
}

static uint64_t world_random(void *ctx)
{
    return sim_random(ctx);
}

static void published(void *ctx, const struct pump_event *events, size_t n)
{
    check_published(ctx, events, n);
}

static void wake_in(void *ctx, int64_t delay_ms)
{
    struct sim *s = ctx;
    s->tick_order++;
    if (delay_ms != INT64_MAX)
        sim_schedule(s, delay_ms, ACTION_TICK, s->life, "", s->tick_order, 0);
}

/* ---- the daemon's life ---- */

static void start_daemon(struct sim *s, enum previous_end end)
{
    const struct world world = {.ctx = s,
                                .now = sim_now,
                                .random = world_random,
                                .journal_event = journal_event,
                                .journal_context = journal_context,
                                .journal_task = journal_task,
                                .commit = journal_commit,
                                .published = published,
                                .effect_start = peers_effect_start,
                                .effect_cancel = peers_effect_cancel,
                                .wake_in = wake_in,
                                .collect = peers_collect,
                                .partial = peers_partial};
    const struct sim_rows *d = &s->durable;
    s->life++;
    s->published_pos = d->events_n ? d->events[d->events_n - 1].pos : 0;
    s->core = core_new(&s->limits);
    s->pump = pump_new(s->core, &world, &s->limits, s->published_pos);
    for (size_t i = 0; i < d->tasks_n; i++) {
        struct task *row = d->tasks[i].snapshot.n ? core_restore(s->core, buf_view(&d->tasks[i].snapshot)) : NULL;
        if (row && !task_live(row))
            core_evict(s->core, row->id); /* only live ones are loaded at a start */
    }
    const struct task *t;
    LIST_EACH(t, core_tasks(s->core), struct task, node)
        peers_recover(s, t, end);
    pump_tick(s->pump);
}

static void end_daemon(struct sim *s)
{
    pump_free(s->pump);
    core_free(s->core);
    s->pump = NULL;
    s->core = NULL;
    rows_clear(&s->filling);
    rows_clear(&s->under_way);
    s->committing = false;
}

static void crash(struct sim *s)
{
    s->crashes++;
    bool reboot = sim_chance(s, 15);
    /* A commit that was under way may or may not have reached the disk: both must do. */
    if (s->committing && sim_chance(s, 50)) {
        struct sim_rows *u = &s->under_way;
        if (u->events_n + u->tasks_n + u->context_n > 0)
            journal_make_durable(s);
    }
    end_daemon(s);
    if (reboot)
        peers_reboot(s);
    start_daemon(s, reboot ? PREVIOUS_END_REBOOT : PREVIOUS_END_CRASH);
}

/* In order: all that was accepted is committed, and what was released goes its way. */
static void stop(struct sim *s)
{
    s->stops++;
    for (pump_flush(s->pump); s->committing; pump_flush(s->pump)) {
        journal_make_durable(s);
        s->committing = false;
        pump_committed(s->pump);
    }
    if (!pump_settled(s->pump))
        sim_fail(s, "a stop left something behind");
    end_daemon(s);
    start_daemon(s, PREVIOUS_END_STOP);
}

static void jump_clock(struct sim *s)
{
    const int64_t year_ms = 365LL * 86400000;
    s->jumps++;
    s->wall_offset_ms = sim_range(s, -10 * year_ms, 10 * year_ms);
}

/* ---- one seed ---- */

static void act(struct sim *s, const struct action *a)
{
    switch (a->kind) {
    case ACTION_COMMIT:
        journal_commit_done(s);
        return;
    case ACTION_TICK:
        if (a->a == s->tick_order)
            pump_tick(s->pump);
        return;
    case ACTION_MODEL:
        peers_model(s, a);
        return;
    case ACTION_RUN_END:
        peers_run_end(s, a);
        return;
    case ACTION_RUN_GONE:
        peers_run_gone(s, a);
        return;
    case ACTION_INPUT:
        peers_input(s, a);
        return;
    case ACTION_CLIENT:
        if (s->calm)
            return;
        peers_client(s);
        sim_schedule(s, sim_range(s, 0, 40000), ACTION_CLIENT, 0, "", 0, 0);
        return;
    }
}

static void calm_down(struct sim *s)
{
    s->calm = true;
    s->wall_offset_ms = 0;
    const struct task *t;
    LIST_EACH(t, core_tasks(s->core), struct task, node)
    {
        struct input in = {.kind = INPUT_RESUME, .task = t->id};
        if (t->state == TASK_STATE_PAUSED)
            pump_input(s->pump, &in, NULL, NULL);
    }
}

static void run(struct sim *s)
{
    struct action a;
    s->state = s->seed * 0x2545f4914f6cdd1du + 1;
    s->limits = limits_default();
    s->limits.tasks_running_max = sim_range(s, 1, 6);
    s->limits.steers_pending_max = sim_range(s, 2, 50);
    s->limits.runs_per_task_max = sim_range(s, 2, 30);
    s->limits.calls_per_step_max = 3;
    start_daemon(s, PREVIOUS_END_STOP);
    sim_schedule(s, 0, ACTION_CLIENT, 0, "", 0, 0);
    for (int64_t n = 0; take_next(s, &a); n++) {
        if (n == ACTIONS_MAX)
            sim_fail(s, "there is no end");
        if (a.life != 0 && a.life != s->life)
            continue;
        s->now_ms = a.at_ms;
        if (!s->calm && s->now_ms > FAULTY_MS)
            calm_down(s);
        if (s->now_ms > REST_MS)
            sim_fail(s, "something still waits after a month");
        act(s, &a);
        pump_flush(s->pump);
        check_step(s);
        if (!s->calm && sim_range(s, 0, 199) == 0)
            crash(s);
        if (!s->calm && sim_range(s, 0, 999) == 0)
            stop(s);
        if (!s->calm && sim_range(s, 0, 999) == 0)
            jump_clock(s);
        pump_flush(s->pump);
    }
    check_end(s);
}

static uint64_t run_seed(uint64_t seed, bool verbose, struct sim *total)
{
    struct sim s = {.seed = seed, .verbose = verbose};
    run(&s);
    uint64_t digest = check_digest(&s);
    for (size_t i = 0; verbose && i < s.durable.events_n; i++)
        printf("%s\n", s.durable.events[i].json);
    total->crashes += s.crashes;
    total->stops += s.stops;
    total->evictions += s.evictions;
    total->requests += s.requests;
    total->reboots += s.reboots;
    total->fulls += s.fulls;
    total->jumps += s.jumps;
    total->steers_n += s.steers_n;
    total->runs_n += s.runs_n;
    total->order += (int64_t)s.durable.events_n;
    end_daemon(&s);
    rows_clear(&s.durable);
    for (size_t i = 0; i < s.promises_n; i++)
        mem_free(s.promises[i]);
    mem_free(s.promises);
    mem_free(s.actions);
    mem_free(s.runs);
    mem_free(s.steers);
    return digest;
}

int main(int argc, char **argv)
{
    uint64_t from = 1, n = 100;
    bool verbose = false, one = false;
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--seeds") == 0 && more) {
            n = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--from") == 0 && more) {
            from = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--seed") == 0 && more) {
            from = strtoull(argv[++i], NULL, 10);
            one = true;
        } else if (strcmp(argv[i], "--verbose") == 0) {
            verbose = true;
        } else {
            fprintf(stderr, "usage: sim [--seeds N] [--from SEED] | --seed SEED [--verbose]\n");
            return 2;
        }
    }
    struct sim total = {0};
    for (uint64_t seed = from; seed < from + (one ? 1 : n); seed++) {
        uint64_t digest = run_seed(seed, verbose, &total);
        if (seed % 10 == 0 && !one && run_seed(seed, false, &total) != digest) {
            fprintf(stderr, "seed %" PRIu64 " does not replay bit-exact\n", seed);
            return 1;
        }
    }
    fprintf(stderr,
            "sim: %" PRIu64 " seeds: %" PRId64 " events, %" PRId64 " requests, %zu processes, %zu steers acknowledged; %" PRId64
            " crashes, %" PRId64 " stops, %" PRId64 " reboots, %" PRId64 " times a full disk, %" PRId64 " clock jumps, %" PRId64 " tasks out of memory: every rule held\n",
            one ? 1 : n, total.order, total.requests, total.runs_n, total.steers_n, total.crashes, total.stops,
            total.reboots, total.fulls, total.jumps, total.evictions);
    return 0;
}
