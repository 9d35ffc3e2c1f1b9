/* Crash and start, and the command line (tests/sim/run builds it first):
 *
 *   sim [--seeds N] [--from SEED]     runs N seeds; the first failure prints its seed and ends with status 1
 *   sim --days D [--tasks T]          D days of T tasks that live long, instead of an hour of a few
 *   sim --clock [...]                 the wall clock is set again and again
 *   sim --seed SEED --verbose         replays one and prints its journal
 */
#include "sim.h"

#include "daemon/base/mem.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define DRAIN_TURNS_MAX 1000
#define REST_MS (30 * DAY_MS) /* until all must be at rest */

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
    fprintf(stderr, "\nreplay: sim --seed %" PRIu64 " --verbose", s->seed);
    if (s->shape.days)
        fprintf(stderr, " --days %" PRId64 " --tasks %" PRId64, s->shape.faulty_ms / DAY_MS, s->shape.tasks_max);
    if (s->shape.clock)
        fprintf(stderr, " --clock");
    fprintf(stderr, "\n");
    fflush(stdout);
    exit(1);
}

int64_t sim_schedule(struct sim *s, int64_t in_ms, enum action_kind kind, int64_t life, const char *task, int64_t a, int64_t b)
{
    struct action action = {.at_ms = s->now_ms + in_ms, .kind = kind, .life = life, .a = a, .b = b};
    snprintf(action.task, sizeof action.task, "%s", task);
    return queue_put(&s->queue, &action);
}

enum rpc_error sim_input(struct sim *s, struct input *input, struct outcome *ret)
{
    check_changed(s, input->task);
    return pump_input(s->pump, input, ret, NULL);
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
    s->tick_ms = INT64_MAX;
    if (delay_ms == INT64_MAX)
        return;
    if (delay_ms > MINUTE_MS && sim_chance(s, 50)) /* the world looks sooner than it was asked to: then it is asked again */
        delay_ms = sim_range(s, MINUTE_MS, delay_ms);
    s->tick_ms = s->now_ms + delay_ms;
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
    s->life++;
    s->up_ms = s->now_ms;
    s->tick_ms = INT64_MAX;
    waits_boot(s);
    s->published_pos = s->durable_pos;
    s->core = core_new(&s->limits);
    s->pump = pump_new(s->core, &world, &s->limits, s->published_pos);
    for (size_t i = 0; i < s->tasks_n; i++) {
        const struct sim_task *row = s->tasks[i];
        struct task *loaded = row->snapshot.n ? core_restore(s->core, buf_view(&row->snapshot)) : NULL;
        if (loaded && !task_live(loaded))
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
    batch_clear(&s->filling);
    batch_clear(&s->under_way);
    s->committing = false;
}

static void crash(struct sim *s)
{
    s->crashes++;
    bool reboot = sim_chance(s, 15);
    check_all(s);
    /* A commit that was under way may or may not have reached the disk: both must do. */
    if (s->committing && sim_chance(s, 50)) {
        const struct sim_batch *u = &s->under_way;
        if (u->events_n + u->tasks_n + u->context_n > 0)
            journal_make_durable(s);
    }
    end_daemon(s);
    if (reboot)
        peers_reboot(s);
    enum previous_end end = reboot ? PREVIOUS_END_REBOOT : PREVIOUS_END_CRASH;
    if (s->shape.days && sim_chance(s, 5)) { /* and nobody starts it for a while */
        s->downs++;
        sim_schedule(s, sim_range(s, MINUTE_MS, 12 * HOUR_MS), ACTION_START, 0, "", (int64_t)end, 0);
        return;
    }
    start_daemon(s, end);
}

/* In order: all that was accepted is committed, and what was released goes its way. */
static void stop(struct sim *s)
{
    s->stops++;
    /* A batch without anything to write is over at once, and what waited for it may have asked for more. */
    for (int i = 0; i < DRAIN_TURNS_MAX && !pump_settled(s->pump); i++) {
        pump_flush(s->pump);
        if (!s->committing)
            continue;
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
    const int64_t year_ms = 365 * DAY_MS;
    s->jumps++;
    s->wall_offset_ms = sim_range(s, -10 * year_ms, 10 * year_ms);
    s->jumped_ms = s->now_ms;
}

/* ---- one seed ---- */

/* What was begun before may wait for a person, or for a year that is far away now: somebody lets it go on. */
static void look_after(struct sim *s)
{
    const struct task *t;
    LIST_EACH(t, core_tasks(s->core), struct task, node)
    {
        struct input in = {.kind = INPUT_RESUME, .task = t->id};
        if (t->state == TASK_STATE_WAITING && !list_empty(&t->waits))
            sim_input(s, &in, NULL);
    }
    if (s->now_ms < s->shape.faulty_ms + 4 * DAY_MS) /* longer than any process */
        sim_schedule(s, HOUR_MS, ACTION_CLIENT, 0, "", 0, 0);
}

static void act(struct sim *s, const struct action *a)
{
    switch (a->kind) {
    case ACTION_COMMIT:
        journal_commit_done(s);
        return;
    case ACTION_TICK:
        if (a->a == s->tick_order) {
            s->tick_ms = INT64_MAX;
            pump_tick(s->pump);
        }
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
        if (s->calm) {
            look_after(s);
            return;
        }
        if (s->core)
            peers_client(s);
        sim_schedule(s, sim_range(s, 0, s->shape.client_gap_ms), ACTION_CLIENT, 0, "", 0, 0);
        return;
    case ACTION_OUTAGE:
        if (!s->calm)
            peers_outage(s);
        return;
    case ACTION_FILE:
        if (!s->calm)
            waits_file_change(s);
        return;
    case ACTION_FILE_SEEN:
        waits_file_seen(s, a);
        return;
    case ACTION_START:
        start_daemon(s, (enum previous_end)a->a);
        return;
    }
}

static void calm_down(struct sim *s)
{
    s->calm = true;
    s->wall_offset_ms = 0;
    s->jumped_ms = s->now_ms;
    const struct task *t;
    LIST_EACH(t, core_tasks(s->core), struct task, node)
    {
        struct input in = {.kind = INPUT_RESUME, .task = t->id};
        if (t->state == TASK_STATE_PAUSED)
            sim_input(s, &in, NULL);
    }
}

/* Of a daemon that is gone, or of a request that was cancelled. */
static bool is_void(struct sim *s, const struct action *a)
{
    if (a->life != 0 && (!s->core || a->life != s->life))
        return true;
    if (a->kind != ACTION_MODEL)
        return false;
    const struct sim_task *row = journal_known(s, a->task);
    return row->model_life != s->life || row->model_order != a->order;
}

static bool one_in(struct sim *s, int64_t n)
{
    return s->core && !s->calm && sim_range(s, 0, n - 1) == 0;
}

static void step(struct sim *s, const struct action *a)
{
    s->now_ms = a->at_ms;
    if (!s->calm && s->now_ms > s->shape.faulty_ms && s->core)
        calm_down(s);
    if (s->now_ms > s->shape.faulty_ms + REST_MS)
        sim_fail(s, "something still waits after a month");
    act(s, a);
    if (!s->core)
        return;
    pump_flush(s->pump);
    check_step(s);
    if (one_in(s, s->shape.crash_in))
        crash(s);
    if (one_in(s, s->shape.stop_in))
        stop(s);
    if (one_in(s, s->shape.jump_in))
        jump_clock(s);
    if (s->core)
        pump_flush(s->pump);
}

static void set_limits(struct sim *s)
{
    s->limits = limits_default();
    s->limits.tasks_running_max = s->shape.days ? sim_range(s, s->shape.tasks_max / 3 + 1, s->shape.tasks_max) : sim_range(s, 1, 6);
    s->limits.steers_pending_max = sim_range(s, 2, 50);
    s->limits.runs_per_task_max = sim_range(s, 2, 30);
    s->limits.calls_per_step_max = 3;
}

static void run(struct sim *s)
{
    struct action a;
    s->state = s->seed * 0x2545f4914f6cdd1du + 1;
    s->digest = 14695981039346656037u;
    set_limits(s);
    start_daemon(s, PREVIOUS_END_STOP);
    sim_schedule(s, 0, ACTION_CLIENT, 0, "", 0, 0);
    sim_schedule(s, sim_range(s, 0, MINUTE_MS), ACTION_FILE, 0, "", 0, 0);
    if (s->shape.days)
        sim_schedule(s, sim_range(s, 0, 2 * DAY_MS), ACTION_OUTAGE, 0, "", 0, 0);
    while (queue_take(&s->queue, &a)) {
        if (is_void(s, &a))
            continue;
        if (++s->steps == s->shape.actions_max)
            sim_fail(s, "there is no end");
        step(s, &a);
    }
    check_end(s);
}

static void add_up(struct sim *total, const struct sim *s)
{
    total->steps += s->steps;
    total->now_ms += s->now_ms;
    total->crashes += s->crashes;
    total->stops += s->stops;
    total->evictions += s->evictions;
    total->requests += s->requests;
    total->reboots += s->reboots;
    total->fulls += s->fulls;
    total->jumps += s->jumps;
    total->outages += s->outages;
    total->downs += s->downs;
    total->inputs += s->inputs;
    total->waits += s->waits;
    total->timers += s->timers;
    total->file_changes += s->file_changes;
    total->early += s->early;
    total->doubles += s->doubles;
    total->lost += s->lost;
    total->tasks_made += s->tasks_made;
    total->steers_n += s->steers_n;
    total->runs_n += s->runs_n;
    total->events_n += s->events_n;
}

static uint64_t run_seed(uint64_t seed, const struct shape *shape, bool verbose, struct sim *total)
{
    struct sim s = {.seed = seed, .shape = *shape, .verbose = verbose};
    run(&s);
    add_up(total, &s);
    end_daemon(&s);
    journal_free(&s);
    queue_free(&s.queue);
    for (size_t i = 0; i < s.promises_n; i++)
        mem_free(s.promises[i]);
    mem_free(s.promises);
    mem_free(s.steers);
    mem_free(s.changed);
    mem_free(s.watches);
    buf_free(&s.once);
    buf_free(&s.twice);
    return s.digest;
}

/* ---- the command line ---- */

struct options {
    uint64_t from, n;
    int64_t days, tasks;
    bool verbose, one, clock;
};

static bool read_options(int argc, char **argv, struct options *o)
{
    *o = (struct options){.from = 1, .tasks = 100};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--verbose") == 0) {
            o->verbose = true;
            continue;
        }
        if (strcmp(argv[i], "--clock") == 0) {
            o->clock = true;
            continue;
        }
        if (!value || value[0] < '0' || value[0] > '9')
            return false;
        if (strcmp(argv[i], "--seeds") == 0)
            o->n = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--from") == 0 || strcmp(argv[i], "--seed") == 0)
            o->from = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--days") == 0)
            o->days = strtoll(value, NULL, 10);
        else if (strcmp(argv[i], "--tasks") == 0)
            o->tasks = strtoll(value, NULL, 10);
        else
            return false;
        o->one |= strcmp(argv[i], "--seed") == 0;
        i++;
    }
    if (o->n == 0)
        o->n = o->one || o->days ? 1 : 100;
    return o->days >= 0 && o->days <= 3650 && o->tasks >= 1 && o->tasks <= 10000;
}

static struct shape shape_of(const struct options *o)
{
    int64_t often = o->clock ? 50 : 1; /* so much more often the clock is set */
    if (!o->days)
        return (struct shape){.clock = o->clock,
                              .faulty_ms = HOUR_MS,
                              .tasks_max = 12,
                              .client_gap_ms = 40000,
                              .crash_in = 200,
                              .stop_in = 1000,
                              .jump_in = 1000 / often,
                              .actions_max = 400000};
    return (struct shape){.days = true,
                          .clock = o->clock,
                          .faulty_ms = o->days * DAY_MS,
                          .tasks_max = o->tasks,
                          .client_gap_ms = 6000000 / o->tasks,
                          .crash_in = 3000,
                          .stop_in = 10000,
                          .jump_in = 10000 / often,
                          .actions_max = 400000 + o->days * o->tasks * 20000};
}

/* One line of `number name`, so that sums of several are easily made. */
static void print_figures(uint64_t seeds, const struct sim *t)
{
    printf("sim: %" PRIu64 " seeds, %" PRId64 " simulated hours, %" PRId64 " tasks, %" PRId64 " steps, %" PRId64
           " events, %" PRId64 " requests, %" PRId64 " processes, %" PRId64 " inputs taken, %zu steers acknowledged, %" PRId64
           " crashes, %" PRId64 " stops, %" PRId64 " reboots, %" PRId64 " times down for long, %" PRId64
           " outages, %" PRId64 " times a full disk, %" PRId64 " clock jumps, %" PRId64 " tasks out of memory, %" PRId64 " waits, %" PRId64
           " file changes, %" PRId64 " timers fired, %" PRId64 " early, %" PRId64 " double, %" PRId64 " lost: every rule held\n",
           seeds, t->now_ms / HOUR_MS, t->tasks_made, t->steps, t->events_n, t->requests, t->runs_n, t->inputs, t->steers_n,
           t->crashes, t->stops, t->reboots, t->downs, t->outages, t->fulls, t->jumps, t->evictions, t->waits, t->file_changes,
           t->timers, t->early, t->doubles, t->lost);
}

int main(int argc, char **argv)
{
    struct options o;
    if (!read_options(argc, argv, &o)) {
        fprintf(stderr, "usage: sim [--seeds N] [--from SEED] [--days D [--tasks T]] [--clock] | --seed SEED [--verbose] [...]\n");
        return 2;
    }
    const struct shape shape = shape_of(&o);
    struct sim total = {0}, again = {0};
    for (uint64_t seed = o.from; seed < o.from + o.n; seed++) {
        uint64_t digest = run_seed(seed, &shape, o.verbose, &total);
        if (seed % 10 == 0 && !o.one && run_seed(seed, &shape, false, &again) != digest) {
            fprintf(stderr, "seed %" PRIu64 " does not replay bit-exact\n", seed);
            return 1;
        }
    }
    print_figures(o.n, &total);
    return 0;
}
