/* The world outside of the daemon. What it does is drawn from the seed; what it sees is checked: nothing may reach it that is not
 * durable (law 1), no process may start twice (law 3), no response may count twice (law 4). */
#include "sim.h"

#include "daemon/base/mem.h"

#include <inttypes.h>
#include <stdio.h>

static struct sim_run *find_run(struct sim *s, const char *task, int64_t n)
{
    const struct sim_task *t = journal_known(s, task);
    return n >= 1 && (size_t)n <= t->runs_n ? t->runs[n - 1] : NULL;
}

static struct sim_run *make_run(struct sim *s, const char *task, int64_t n)
{
    struct sim_task *t = journal_known(s, task);
    if ((size_t)n > t->runs_n) {
        size_t runs_n = (size_t)n * 2;
        t->runs = mem_realloc(t->runs, runs_n * sizeof *t->runs);
        memset(t->runs + t->runs_n, 0, (runs_n - t->runs_n) * sizeof *t->runs);
        t->runs_n = runs_n;
    }
    struct sim_run *r = t->runs[n - 1];
    if (r)
        return r;
    r = t->runs[n - 1] = MEM_NEW(struct sim_run);
    *r = (struct sim_run){.n = n, .boot = s->boot};
    memcpy(r->task, t->id, sizeof r->task);
    s->runs_n++;
    return r;
}

/* ---- the model ---- */

static void check_request(struct sim *s, const char *task, const struct effect *e)
{
    if (!journal_fact(s, task, NUMBER_STEP, e->a)->begun)
        sim_fail(s, "a request of step %" PRId64 " left before it was durable", e->a);
    struct sim_task *row = journal_known(s, task);
    if (row->model_life == s->life)
        sim_fail(s, "%s: a request left while another was under way", task);
    struct task *t = task_from_snapshot(buf_view(&row->snapshot));
    if (t->steps < e->a)
        sim_fail(s, "a request left before the state that asks for it was durable");
    task_free(t);
    s->requests++;
}

#define PARTS_MAX 8

/* One that lives, where there is one: input to it goes somewhere. */
static int64_t a_session(struct sim *s, const struct task *t)
{
    const struct run *r;
    int64_t n = 0;
    LIST_EACH(r, (struct list *)&t->runs, struct run, node)
    n += !r->ended;
    if (n == 0 || sim_chance(s, 20))
        return sim_range(s, s->shape.days && t->runs_n > 8 ? t->runs_n - 8 : 0, t->runs_n + 1);
    n = sim_range(s, 1, n);
    LIST_EACH(r, (struct list *)&t->runs, struct run, node)
    {
        if (!r->ended && --n == 0)
            return r->n;
    }
    return 1;
}

static void make_call(struct sim *s, const struct task *t, struct call_spec *c, struct proto_plan_entry *entry,
                      struct condition room[SIM_CONDITIONS])
{
    *c = (struct call_spec){.wire_id = STR("w1"), .tool = STR("exec_command"), .arguments = STR("{}")};
    int sort = (int)sim_range(s, 0, 9);
    c->yield_ms = s->shape.days && sim_chance(s, 5) ? sim_range(s, MINUTE_MS, 30 * MINUTE_MS) : sim_range(s, 250, 60000);
    c->output_bytes = 1000;
    if (sort <= 4) {
        c->sort = CALL_SORT_RUN;
        c->program = sim_chance(s, 80) ? RUN_PROGRAM_SHELL : sim_chance(s, 50) ? RUN_PROGRAM_PATCH : RUN_PROGRAM_IMAGE;
        c->command = STR("make test");
        c->payload = STR("make test");
        c->workdir = STR("/w");
    } else if (sort <= 7) {
        c->sort = CALL_SORT_INPUT;
        c->session = a_session(s, t);
        c->input = sim_chance(s, 70) ? STR("y\n") : STR("");
    } else if (sim_chance(s, 40)) {
        waits_call(s, t, c, room);
    } else {
        c->sort = CALL_SORT_ANSWER;
        c->answer = STR("ok");
        c->is_error = sim_chance(s, 20);
        if (sim_chance(s, 50)) {
            *entry = (struct proto_plan_entry){.text = STR("think"), .status = PLAN_STATUS_PENDING};
            c->plan = entry;
            c->plan_n = 1;
        }
    }
}

static void respond(struct sim *s, const struct task *t, int64_t step, int64_t attempt)
{
    struct model_part parts[PARTS_MAX] = {0};
    struct proto_plan_entry entries[PARTS_MAX];
    struct condition conditions[PARTS_MAX][SIM_CONDITIONS];
    struct str raw[1] = {STR("{\"raw\":1}")};
    size_t n = 0;
    if (sim_chance(s, 30))
        parts[n++] = (struct model_part){.kind = PART_REASONING, .text = STR("hm")};
    if (sim_chance(s, 60))
        parts[n++] = (struct model_part){.kind = PART_MESSAGE, .text = STR("I look at it.")};
    bool tired = t->steps > 40 && !s->shape.days;
    int64_t calls = tired || (s->calm && sim_chance(s, 40)) || sim_chance(s, 10) ? 0 : sim_range(s, 1, 4);
    for (int64_t i = 0; i < calls; i++, n++) {
        parts[n].kind = PART_CALL;
        make_call(s, t, &parts[n].call, &entries[n], conditions[n]);
    }
    struct model_response response = {.parts = parts,
                                      .parts_n = n,
                                      .raw = raw,
                                      .raw_n = 1,
                                      .finish = calls ? FINISH_TOOL_CALLS : FINISH_STOP,
                                      .usage = {.input_tokens = 10, .output_tokens = 5, .cost_usd = 7}};
    struct input in = {.kind = INPUT_MODEL_DONE, .task = t->id};
    in.model_done.step = step;
    in.model_done.attempt = attempt;
    in.model_done.response = &response;
    char id[TASK_ID_SIZE];
    memcpy(id, t->id, sizeof id);
    in.task = id;
    sim_input(s, &in, NULL);
    if (!s->calm && sim_chance(s, 5)) /* said twice: accepted once */
        sim_input(s, &in, NULL);
}

void peers_model(struct sim *s, const struct action *a)
{
    const struct task *t = core_task(s->core, a->task);
    if (!t)
        return;
    journal_known(s, a->task)->model_life = 0;
    bool outage = s->now_ms < s->outage_until_ms && !s->calm;
    if (!outage && (s->calm || sim_chance(s, s->shape.days ? 90 : 75))) {
        respond(s, t, a->a, a->b);
        return;
    }
    static const enum model_fault faults[] = {MODEL_FAULT_RATE_LIMIT, MODEL_FAULT_SERVER,    MODEL_FAULT_NETWORK,
                                              MODEL_FAULT_CUT,        MODEL_FAULT_STALL,     MODEL_FAULT_MALFORMED,
                                              MODEL_FAULT_CREDENTIALS};
    struct input in = {.kind = INPUT_MODEL_FAILED, .task = a->task};
    in.model_failed.step = a->a;
    in.model_failed.attempt = a->b;
    in.model_failed.fault = outage            ? faults[sim_range(s, 0, 2)]
                            : sim_chance(s, 3) ? MODEL_FAULT_REQUEST
                                               : faults[sim_range(s, 0, 6)];
    in.model_failed.retry_after_ms = sim_chance(s, 30) ? sim_range(s, 0, 3600000) : 0;
    in.model_failed.message = STR("no");
    sim_input(s, &in, NULL);
}

/* Hours, or days. */
void peers_outage(struct sim *s)
{
    s->outages++;
    int64_t ms = sim_chance(s, 20) ? sim_range(s, 6 * HOUR_MS, 2 * DAY_MS) : sim_range(s, MINUTE_MS, 6 * HOUR_MS);
    s->outage_until_ms = s->now_ms + ms;
    sim_schedule(s, ms + sim_range(s, 0, 3 * DAY_MS), ACTION_OUTAGE, 0, "", 0, 0);
}

struct str peers_partial(void *ctx, const char *task)
{
    (void)task;
    return sim_chance(ctx, 50) ? STR("I was about to") : STR_NONE;
}

/* ---- processes ---- */

static void start_process(struct sim *s, struct sim_run *r)
{
    r->started = true;
    r->boot = s->boot;
    if (++r->starts > 1)
        sim_fail(s, "process r%" PRId64 " of %s was started twice", r->n, r->task);
    r->end_ms = s->now_ms + (sim_chance(s, s->shape.days ? 80 : 60) ? sim_range(s, 0, 2000) : sim_range(s, 0, 7200000));
    if (s->shape.days && !s->calm && sim_chance(s, 1))
        r->end_ms += sim_range(s, 0, 3 * DAY_MS);
    r->gone_ms = r->end_ms + (sim_chance(s, 80) ? 0 : sim_range(s, 0, 7200000));
    sim_schedule(s, r->end_ms - s->now_ms, ACTION_RUN_END, 0, r->task, r->n, 0);
    sim_schedule(s, r->gone_ms - s->now_ms, ACTION_RUN_GONE, 0, r->task, r->n, 0);
}

static void feed_end(struct sim *s, const struct sim_run *r)
{
    struct run_exit exit = {.outcome = RUN_OUTCOME_DONE, .has_exit_code = true, .output_bytes = 100, .duration_ms = 10};
    if (r->lost)
        exit = (struct run_exit){.outcome = RUN_OUTCOME_IN_DOUBT, .detail = STR("lost")};
    struct input in = {.kind = INPUT_RUN_ENDED, .task = r->task};
    in.run_ended.run = r->n;
    in.run_ended.exit = &exit;
    sim_input(s, &in, NULL);
}

static void feed_gone(struct sim *s, const struct sim_run *r)
{
    struct input in = {.kind = INPUT_RUN_GONE, .task = r->task};
    in.run_gone.run = r->n;
    sim_input(s, &in, NULL);
}

/* What the daemon would be told of a process that it follows. */
static void tell(struct sim *s, const struct sim_run *r)
{
    if (!s->core || !core_task(s->core, r->task) || !task_run(core_task(s->core, r->task), r->n))
        return;
    if (r->ended || r->lost)
        feed_end(s, r);
    if ((r->lost || (r->ended && r->gone_ms <= s->now_ms)) && core_task(s->core, r->task))
        feed_gone(s, r);
}

void peers_run_end(struct sim *s, const struct action *a)
{
    struct sim_run *r = find_run(s, a->task, a->a);
    if (r->ended || r->lost || r->end_ms > s->now_ms)
        return;
    if (!s->calm && sim_chance(s, 3))
        r->lost = true;
    else
        r->ended = true;
    tell(s, r);
}

void peers_run_gone(struct sim *s, const struct action *a)
{
    struct sim_run *r = find_run(s, a->task, a->a);
    if (r->ended && r->gone_ms <= s->now_ms)
        tell(s, r);
}

static void refuse_run(struct sim *s, const char *task, int64_t n)
{
    struct run_exit exit = {.outcome = RUN_OUTCOME_NOT_STARTED, .detail = STR("cancelled")};
    struct input ended = {.kind = INPUT_RUN_ENDED, .task = task};
    ended.run_ended.run = n;
    ended.run_ended.exit = &exit;
    sim_input(s, &ended, NULL);
    struct input gone = {.kind = INPUT_RUN_GONE, .task = task};
    gone.run_gone.run = n;
    sim_input(s, &gone, NULL);
}

static void start_run(struct sim *s, const char *task, int64_t n)
{
    if (!journal_fact(s, task, NUMBER_RUN, n)->begun)
        sim_fail(s, "a process was started before its row was durable");
    struct sim_run *r = make_run(s, task, n);
    const struct run *row = task_run(core_task(s->core, task), n);
    char boot[CLOCK_BOOT_ID_SIZE];
    snprintf(boot, sizeof boot, "boot-%" PRId64, s->boot);
    if (!r->started && row && strcmp(row->boot_id, boot) != 0)
        r->lost = true;
    if (!r->started && !r->lost && row && row->kill) /* cancelled before it was started: it never is */
        refuse_run(s, task, n);
    else if (!r->started && !r->lost)
        start_process(s, r);
    else
        tell(s, r);
}

static void kill_run(struct sim *s, const char *task, int64_t n)
{
    struct sim_run *r = find_run(s, task, n);
    if (!r || !r->started)
        return; /* nothing to end: see start_run() */
    if (r->ended || r->lost) {
        r->gone_ms = s->now_ms;
        sim_schedule(s, 1, ACTION_RUN_GONE, 0, r->task, r->n, 0);
        return;
    }
    r->killed = true;
    r->end_ms = r->gone_ms = s->now_ms + sim_range(s, 0, 2000);
    sim_schedule(s, r->end_ms - s->now_ms, ACTION_RUN_END, 0, task, n, 0);
    sim_schedule(s, r->end_ms - s->now_ms, ACTION_RUN_GONE, 0, task, n, 0);
}

static void start_request(struct sim *s, const char *task, const struct effect *e)
{
    check_request(s, task, e);
    struct sim_task *row = journal_known(s, task);
    row->model_order = sim_schedule(s, sim_range(s, 1, 20000), ACTION_MODEL, s->life, task, e->a, e->b);
    row->model_life = s->life;
}

void peers_effect_start(void *ctx, const char *task, const struct effect *e)
{
    struct sim *s = ctx;
    const struct task *t = core_task(s->core, task);
    switch (e->kind) {
    case EFFECT_MODEL:
        start_request(s, task, e);
        return;
    case EFFECT_RUN:
        if (t && task_run(t, e->a))
            start_run(s, task, e->a);
        return;
    case EFFECT_KILL:
        kill_run(s, task, e->a);
        return;
    case EFFECT_INPUT:
        sim_schedule(s, sim_range(s, 0, 50), ACTION_INPUT, s->life, task, e->a, 0);
        return;
    case EFFECT_WATCH:
        waits_watch(s, task, e);
        return;
    }
}

void peers_effect_cancel(void *ctx, const char *task, const struct effect *e)
{
    struct sim *s = ctx;
    if (e->kind == EFFECT_MODEL)
        journal_known(s, task)->model_life = 0;
    if (e->kind == EFFECT_WATCH)
        waits_unwatch(s, task, e);
}

void peers_input(struct sim *s, const struct action *a)
{
    const struct task *t = core_task(s->core, a->task);
    const struct call *c = t ? task_call(t, a->a) : NULL;
    struct sim_run *r = c ? find_run(s, a->task, c->run) : NULL;
    if (!r)
        return;
    struct sim_fact *f = journal_fact(s, a->task, NUMBER_CALL, a->a);
    s->inputs += !f->seen;
    f->seen = 1; /* the runner's own record: a repeat is harmless */
    struct input in = {.kind = INPUT_INPUT_DONE, .task = a->task};
    in.input_done.call = a->a;
    in.input_done.ok = sim_chance(s, 95);
    in.input_done.error = STR("its stdin is closed");
    sim_input(s, &in, NULL);
}

void peers_collect(void *ctx, const struct task *t, const struct run *run, int64_t bytes_max, struct run_output *ret)
{
    struct sim *s = ctx;
    (void)t;
    (void)bytes_max;
    *ret = (struct run_output){.end = run->seen_bytes + sim_range(s, 0, 10), .text = STR("output")};
    ret->covered = ret->end - run->seen_bytes;
    if (run->program == RUN_PROGRAM_IMAGE && sim_chance(s, 70)) {
        ret->has_image = true;
        ret->image = (struct proto_image){.media_type = STR("image/png"), .bytes = 10, .path = STR("a.png")};
    }
}

static void end_by_reboot(struct sim *s, struct sim_run *r)
{
    if (r->started && !r->ended)
        r->lost = true;
    r->gone_ms = s->now_ms;
}

void peers_reboot(struct sim *s)
{
    s->boot++;
    s->reboots++;
    s->boot_started_ms = s->now_ms;
    for (size_t i = 0; i < s->tasks_n; i++) {
        const struct sim_task *t = s->tasks[i];
        for (size_t k = 0; k < t->runs_n; k++) {
            if (t->runs[k])
                end_by_reboot(s, t->runs[k]);
        }
    }
}

void peers_recover(struct sim *s, const struct task *t, enum previous_end end)
{
    struct recover_probe probes[128];
    size_t n = 0;
    const struct run *row;
    LIST_EACH(row, (struct list *)&t->runs, struct run, node)
    {
        if (row->ended || n == 128)
            continue;
        struct sim_run *r = make_run(s, t->id, row->n);
        char boot[CLOCK_BOOT_ID_SIZE];
        snprintf(boot, sizeof boot, "boot-%" PRId64, s->boot);
        if (!r->started && strcmp(row->boot_id, boot) != 0)
            r->lost = true;
        struct recover_probe *p = &probes[n++];
        *p = (struct recover_probe){.run = row->n, .output = {.end = row->seen_bytes}};
        p->probe = r->lost || r->ended ? RUN_PROBE_ENDED : r->started ? RUN_PROBE_ALIVE : RUN_PROBE_NOT_STARTED;
        p->exit.outcome = r->lost ? RUN_OUTCOME_IN_DOUBT : RUN_OUTCOME_DONE;
        p->exit.has_exit_code = !r->lost;
    }
    struct input in = {.kind = INPUT_RECOVER, .task = t->id};
    in.recover.previous_end = end;
    in.recover.probes = probes;
    in.recover.probes_n = n;
    sim_input(s, &in, NULL);
}

/* ---- clients ---- */

struct promise {
    struct sim *sim;
    struct sim_steer steer;
};

/* The reply leaves: from now on the steer must not be lost. */
static void accepted_cb(void *arg)
{
    struct promise *p = arg;
    struct sim *s = p->sim;
    if (!journal_fact(s, p->steer.task, NUMBER_STEER, p->steer.n)->begun)
        sim_fail(s, "steer s%" PRId64 " was acknowledged before it was durable", p->steer.n);
    GROW(s->steers, s->steers_n, s->steers_cap);
    s->steers[s->steers_n++] = p->steer;
}

static void create_task(struct sim *s)
{
    char id[TASK_ID_SIZE], name[32];
    snprintf(id, sizeof id, "t%026" PRId64, ++s->tasks_made);
    snprintf(name, sizeof name, "task-%" PRId64, sim_chance(s, 10) ? sim_range(s, 1, s->tasks_made) : s->tasks_made);
    struct input in = {.kind = INPUT_TASK_CREATE, .task = id, .client = STR("sim")};
    in.create.name = str_of(name);
    in.create.prompt = STR("do it");
    in.create.workspace = STR("/w");
    in.create.model = STR("main");
    in.create.policy = STR("open");
    in.create.keep_open = sim_chance(s, s->shape.days ? 80 : 30);
    in.create.head_bytes = 100;
    in.create.tail_bytes = 10;
    sim_input(s, &in, NULL);
}

static const struct task *any_task(struct sim *s)
{
    if (s->tasks_n > 0 && sim_chance(s, 30)) /* one that may be over and out of memory */
        return journal_load(s, s->tasks[sim_range(s, 0, (int64_t)s->tasks_n - 1)]->id);
    size_t n = core_tasks_n(s->core);
    if (n == 0)
        return NULL;
    int64_t k = sim_range(s, 0, (int64_t)n - 1);
    const struct task *t;
    LIST_EACH(t, core_tasks(s->core), struct task, node)
    {
        if (k-- == 0)
            return t;
    }
    return NULL;
}

static void steer_task(struct sim *s, const struct task *t)
{
    struct promise *p = MEM_NEW(struct promise);
    p->sim = s;
    GROW(s->promises, s->promises_n, s->promises_cap);
    s->promises[s->promises_n++] = p;
    struct input in = {.kind = INPUT_STEER, .task = t->id, .client = STR("sim")};
    in.steer.text = STR("also this");
    in.steer.delivery = (enum delivery)sim_range(s, 0, 2);
    snprintf(p->steer.task, sizeof p->steer.task, "%s", t->id);
    struct outcome outcome;
    if (sim_input(s, &in, &outcome) != RPC_OK)
        return;
    p->steer.n = outcome.steer;
    pump_after(s->pump, accepted_cb, p);
}

void peers_client(struct sim *s)
{
    const struct task *t = any_task(s);
    int what = (int)sim_range(s, 0, 99);
    if (!t || what < 15) {
        if (s->tasks_made < s->shape.tasks_max)
            create_task(s);
        return;
    }
    struct input in = {.task = t->id, .client = STR("sim")};
    if (what < 80) {
        steer_task(s, t);
        return;
    }
    in.kind = what < 84 ? INPUT_CANCEL : what < 92 ? INPUT_PAUSE : INPUT_RESUME;
    sim_input(s, &in, NULL);
}
