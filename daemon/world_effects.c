/*~ Effects: what the core wants in flight becomes an HTTP transfer or a process here, and every end of one becomes an input again. */
#include "daemon/world.h"

#include "daemon/base/failpoint.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/model/provider.h"
#include "daemon/tools/tools.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#define PROMPT_READS 5 /* attempts of a step, the first ones, that wait when the prompt seems to be damaged */
#define EFFECTS_TURN_NS 2000000 /* for starts, in one turn of the loop; at least one is made */

void world_run_name(int64_t n, char ret[24])
{
    snprintf(ret, 24, "r%" PRId64, n);
}

static int64_t number_of(const char *name)
{
    return strtoll(name + 1, NULL, 10);
}

static void feed(struct daemon *d, struct input *in)
{
    if (d->world->ended)
        return;
    pump_input(d->pump, in, NULL, NULL);
    world_turn(d);
}

/* ---- model ---- */

static void model_ended(struct world_task *wt)
{
    wt->transfer = NULL;
}

static void feed_failed(struct world_task *wt, enum model_fault fault, int64_t retry_after_ms, const char *message)
{
    struct input in = {.kind = INPUT_MODEL_FAILED, .task = wt->id};
    in.model_failed.step = wt->step;
    in.model_failed.attempt = wt->attempt;
    in.model_failed.fault = fault;
    in.model_failed.retry_after_ms = retry_after_ms;
    in.model_failed.message = str_of(message);
    feed(wt->daemon, &in);
}

static void delta_cb(void *arg, enum delta_kind kind, size_t part, struct str text)
{
    struct world_task *wt = arg;
    rpc_live_text(wt->daemon->rpc, wt->id, wt->step, wt->attempt, wt->item_base + (int64_t)part, kind, text);
}

static void failed_cb(void *arg, enum model_fault fault, int64_t retry_after_ms, const char *message)
{
    struct world_task *wt = arg;
    FAILPOINT("world.model_failed");
    model_ended(wt);
    feed_failed(wt, fault, retry_after_ms, message);
}

/* What a wait for a file begins with: a change from here on ends it, whoever is there to see it. */
static void take_stamps(const struct call_spec *spec)
{
    for (size_t i = 0; i < spec->conditions_n; i++) {
        struct condition *c = (struct condition *)&spec->conditions[i]; /* the arena's, and ours */
        if (c->kind == CONDITION_FILE)
            watches_stamp(c->path.p, &c->stamp);
    }
}

/* The calls of the response, understood. */
static void done_cb(void *arg, const struct model_response *response)
{
    struct world_task *wt = arg;
    struct daemon *d = wt->daemon;
    FAILPOINT("world.model_done");
    model_ended(wt);
    const struct task *t = core_task(d->core, wt->id);
    if (!t)
        return;
    struct proto_arena arena = {0};
    struct model_part *parts = mem_alloc((response->parts_n + 1) * sizeof *parts);
    for (size_t i = 0; i < response->parts_n; i++) {
        parts[i] = response->parts[i];
        if (parts[i].kind != PART_CALL)
            continue;
        tools_prepare(response->parts[i].call.tool, response->parts[i].call.arguments, str_of(t->workspace), &d->config->limits,
                      &arena, &parts[i].call);
        take_stamps(&parts[i].call);
    }
    struct model_response understood = *response;
    understood.parts = parts;
    struct input in = {.kind = INPUT_MODEL_DONE, .task = wt->id};
    in.model_done.step = wt->step;
    in.model_done.attempt = wt->attempt;
    in.model_done.response = &understood;
    feed(d, &in);
    mem_free(parts);
    proto_arena_free(&arena);
}

/* A disk that fails, or want of memory, is an outage like another; damage may turn out to be one. */
enum body { BODY_MADE, BODY_LATER, BODY_DOUBTFUL, BODY_NEVER };

/* The stored bytes of the prompt and their end; else a sentence in `error`. */
static enum body make_body(struct daemon *d, const struct task *t, struct world_task *wt, struct buf *body, struct buf *error)
{
    if (!wt->has_spec || !wt->provider) {
        buf_puts(error, "the task's stored specification cannot be read");
        return BODY_NEVER;
    }
    int status = store_context_read(d->store, t->id, t->epoch, body);
    if (status) {
        buf_puts(error, "the task's stored prompt cannot be read; agentctl doctor says more");
        return status == STORE_E_IO ? BODY_LATER : BODY_DOUBTFUL;
    }
    if ((int64_t)body->n != t->context_bytes) {
        buf_printf(error, "the task's stored prompt has %zu bytes where %" PRId64 " were written", body->n, t->context_bytes);
        return BODY_NEVER;
    }
    if (t->context_bytes > d->config->limits.context_bytes_max) {
        buf_printf(error, "the prompt has %" PRId64 " bytes, limits.context_bytes_max allows no more than %" PRId64,
                   t->context_bytes, d->config->limits.context_bytes_max);
        return BODY_NEVER;
    }
    wt->provider->put_tail(body, &wt->spec.model);
    return BODY_MADE;
}

static int find_key(struct daemon *d, const struct world_task *wt, struct buf *key, struct buf *error)
{
    const struct config_provider *provider = config_provider_find(d->config, wt->spec.provider);
    if (provider)
        return config_key(provider, key, error);
    buf_printf(error, "the provider %s is no longer in the configuration", wt->spec.provider);
    return -1;
}

static void forget_key(struct buf *key)
{
    if (key->p)
        sodium_memzero(key->p, key->cap);
    buf_free(key);
}

static void start_model(struct daemon *d, const struct task *t, int64_t step, int64_t attempt)
{
    static const struct model_callbacks callbacks = {.delta = delta_cb, .done = done_cb, .failed = failed_cb};
    struct world_task *wt = world_task_of(d, t->id);
    if (wt->transfer && wt->step == step && wt->attempt == attempt)
        return; /* it was ended and wanted again while its start still waited for its turn */
    if (wt->transfer)
        model_cancel(wt->transfer);
    wt->transfer = NULL;
    wt->step = step;
    wt->attempt = attempt;
    wt->item_base = t->items_n + 1;
    CLEANUP(buf_free) struct buf body = {0};
    CLEANUP(buf_free) struct buf error = {0};
    CLEANUP(forget_key) struct buf key = {0};
    enum body made = make_body(d, t, wt, &body, &error);
    if (made != BODY_MADE) {
        bool again = made == BODY_LATER || (made == BODY_DOUBTFUL && attempt < PROMPT_READS);
        feed_failed(wt, again ? MODEL_FAULT_NETWORK : MODEL_FAULT_REQUEST, 0, buf_cstr(&error));
        return;
    }
    if (find_key(d, wt, &key, &error) < 0) {
        feed_failed(wt, MODEL_FAULT_CREDENTIALS, 0, buf_cstr(&error));
        return;
    }
    if (!d->model && model_new(d->loop, &d->config->limits, &d->model) < 0) {
        feed_failed(wt, MODEL_FAULT_NETWORK, 0, "libcurl could not be started");
        return;
    }
    wt->transfer = model_send(d->model, &wt->spec.model, buf_cstr(&key), &body, &callbacks, wt);
    FAILPOINT("world.model_sent");
}

static void cancel_model(struct daemon *d, const char *task, int64_t step, int64_t attempt)
{
    struct world_task *wt = world_task_of(d, task);
    if (wt->transfer && wt->step == step && wt->attempt == attempt) {
        model_cancel(wt->transfer);
        wt->transfer = NULL;
    }
    rpc_live_end(d->rpc, task);
}

struct str world_partial(void *ctx, const char *task)
{
    struct daemon *d = ctx;
    struct world_task *wt = world_task_of(d, task);
    return wt->transfer ? model_partial(wt->transfer) : STR_NONE;
}

/* ---- runs ---- */

static void run_ended_cb(void *arg, const char *task, const char *run, const struct run_exit *exit)
{
    FAILPOINT("world.run_ended");
    /* The pump collects output on the way, which reads the record again: the sentence must not change under it. */
    CLEANUP(buf_free) struct buf detail = {0};
    struct run_exit copy = *exit;
    if (exit->detail.p) {
        buf_str(&detail, exit->detail);
        copy.detail = buf_view(&detail);
    }
    struct input in = {.kind = INPUT_RUN_ENDED, .task = task};
    in.run_ended.run = number_of(run);
    in.run_ended.exit = &copy;
    feed(arg, &in);
}

static void run_gone_cb(void *arg, const char *task, const char *run)
{
    FAILPOINT("world.run_gone");
    struct daemon *d = arg;
    struct input in = {.kind = INPUT_RUN_GONE, .task = task};
    in.run_gone.run = number_of(run);
    rpc_live_run_end(d->rpc, task, in.run_gone.run);
    feed(d, &in);
}

static void run_output_cb(void *arg, const char *task, const char *run, int64_t total)
{
    struct daemon *d = arg;
    rpc_live_run(d->rpc, task, number_of(run), total);
}

static void input_done_cb(void *arg, const char *task, const char *run, const char *call, bool ok, const char *error)
{
    (void)run;
    FAILPOINT("world.input_done");
    struct input in = {.kind = INPUT_INPUT_DONE, .task = task};
    in.input_done.call = number_of(call);
    in.input_done.ok = ok;
    in.input_done.error = str_of(error ? error : "");
    feed(arg, &in);
}

/* It waits for room with all that it was to be given: it has not started, so it has taken nothing. */
static void roomless_cb(void *arg, const char *task, const char *run)
{
    struct daemon *d = arg;
    const struct task *t = core_task(d->core, task);
    if (!t)
        return;
    world_room_later(d, task, &(struct effect){.kind = EFFECT_RUN, .a = number_of(run)});
    const struct call *c;
    LIST_EACH(c, (struct list *)&t->calls, struct call, node)
    {
        if (c->run == number_of(run) && c->input.n)
            world_room_later(d, task, &(struct effect){.kind = EFFECT_INPUT, .a = c->n});
    }
}

struct runs_callbacks world_runs_callbacks(void)
{
    return (struct runs_callbacks){.ended = run_ended_cb,
                                   .gone = run_gone_cb,
                                   .output = run_output_cb,
                                   .input_done = input_done_cb,
                                   .roomless = roomless_cb};
}

void world_collect(void *ctx, const struct task *t, const struct run *run, int64_t bytes_max, struct run_output *ret)
{
    struct daemon *d = ctx;
    char name[24];
    world_run_name(run->n, name);
    bool image = run->program == RUN_PROGRAM_IMAGE;
    if (image)
        bytes_max = d->config->limits.image_bytes_max;
    runs_collect(d->runs, t->id, name, run->seen_bytes, bytes_max, image, &d->world->scratch, ret);
    if (ret->has_image)
        ret->image.path = buf_view(&run->payload);
}

/* It was cancelled before its start was committed: it never starts. */
static void refuse_run(struct daemon *d, const char *task, int64_t run)
{
    const struct run_exit exit = {.outcome = RUN_OUTCOME_NOT_STARTED, .detail = STR("it was cancelled before it was started")};
    struct input ended = {.kind = INPUT_RUN_ENDED, .task = task};
    ended.run_ended.run = run;
    ended.run_ended.exit = &exit;
    feed(d, &ended);
    struct input gone = {.kind = INPUT_RUN_GONE, .task = task};
    gone.run_gone.run = run;
    feed(d, &gone);
}

static void start_run(struct daemon *d, const struct task *t, const struct run *r, const struct effect *effect)
{
    char name[24];
    world_run_name(r->n, name);
    struct run_exit exit;
    bool this_boot = strcmp(r->boot_id, d->now_cached.boot_id) == 0;
    switch (runs_probe(d->runs, t->id, name, this_boot, r->program == RUN_PROGRAM_PATCH, &exit)) {
    case RUN_PROBE_NOT_STARTED: {
        if (r->ended) { /* its folder is gone, not its end: what has ended never starts again */
            runs_attach(d->runs, t->id, name, true);
            return;
        }
        if (r->kill) {
            refuse_run(d, t->id, r->n);
            return;
        }
        struct world_task *wt = world_task_of(d, t->id);
        struct run_start start = {.task = t->id,
                                  .run = name,
                                  .program = r->program,
                                  .payload = buf_view(&r->payload),
                                  .workdir = str_of(r->workdir),
                                  .tty = r->tty,
                                  .env = (const char *const *)wt->spec.env};
        if (runs_start(d->runs, &start) == RUNS_E_FULL)
            world_room_later(d, t->id, effect);
        return;
    }
    case RUN_PROBE_ALIVE:
    case RUN_PROBE_ENDED: /* its runner may still live, for its descendants */
        runs_attach(d->runs, t->id, name, r->ended);
        return;
    }
}

static void start_input(struct daemon *d, const struct task *t, const struct call *c)
{
    char run[24], call[24];
    world_run_name(c->run, run);
    snprintf(call, sizeof call, "c%" PRId64, c->n);
    FAILPOINT("world.input_due");
    runs_input(d->runs, t->id, run, call, buf_view(&c->input));
    FAILPOINT("world.input_sent");
}

/* ---- waits ---- */

void world_file_changed(void *arg, const char *task, int64_t wait, int64_t condition)
{
    FAILPOINT("world.file_changed");
    struct input in = {.kind = INPUT_FILE_CHANGED, .task = task};
    in.file_changed.wait = wait;
    in.file_changed.condition = condition;
    feed(arg, &in);
}

static void start_watch(struct daemon *d, const struct task *t, int64_t wait, int64_t condition)
{
    const struct wait *w = task_wait(t, wait);
    if (!w || condition < 0 || (size_t)condition >= w->conditions_n)
        return; /* over meanwhile */
    const struct condition *c = &w->conditions[condition];
    watches_add(d->watches, t->id, wait, condition, c->path, &c->stamp);
}

static void start_effect(struct daemon *d, const char *task, const struct effect *effect)
{
    const struct task *t = core_task(d->core, task);
    if (!t)
        return;
    /* What would only be cut again is left to the next start. So the end waits for what is under way, and not for ever.
     * Input too: its run may not be followed any more, or not yet, and would be taken for one that has ended. */
    if (d->stopping && (effect->kind == EFFECT_MODEL || effect->kind == EFFECT_RUN || effect->kind == EFFECT_INPUT))
        return;
    const struct run *r;
    const struct call *c;
    char name[24];
    switch (effect->kind) {
    case EFFECT_MODEL:
        /* The state may have moved on since; then the end of this effect waits right behind its start. */
        if (t->phase == PHASE_REQUEST && t->steps == effect->a && t->attempt == effect->b)
            start_model(d, t, effect->a, effect->b);
        return;
    case EFFECT_RUN:
        r = task_run(t, effect->a);
        if (r && !r->gone)
            start_run(d, t, r, effect);
        return;
    case EFFECT_KILL:
        world_run_name(effect->a, name);
        if (world_room_waits(d, task, effect->a))
            world_room_again(d); /* its start finds that it is not wanted any more */
        else
            runs_kill(d->runs, task, name);
        return;
    case EFFECT_INPUT:
        c = task_call(t, effect->a);
        if (c && world_room_waits(d, task, c->run))
            world_room_later(d, task, effect);
        else if (c)
            start_input(d, t, c);
        return;
    case EFFECT_WATCH:
        start_watch(d, t, effect->a, effect->b);
        return;
    }
}

/* ---- one after the other ----
 *
 * The start of a runner (a folder, a socket, a process) holds the loop up for about a millisecond, that of a request (its prompt is
 * read and handed to libcurl) for a good part of one, and one commit can let hundreds go. What was published with it, and the next
 * commit, must not wait for all of them: they share the loop's turns with the rest. */

void world_effect_later(struct world_state *w, const char *task, const struct effect *effect)
{
    if (w->effects_n == w->effects_cap && w->effects_at > w->effects_cap / 2) {
        w->effects_n -= w->effects_at;
        memmove(w->effects, w->effects + w->effects_at, w->effects_n * sizeof *w->effects);
        w->effects_at = 0;
    }
    if (w->effects_n == w->effects_cap) {
        w->effects_cap = w->effects_cap ? w->effects_cap * 2 : 16;
        w->effects = mem_realloc(w->effects, w->effects_cap * sizeof *w->effects);
    }
    struct world_effect *e = &w->effects[w->effects_n++];
    e->effect = *effect;
    snprintf(e->task, sizeof e->task, "%s", task);
}

void world_effect_start(void *ctx, const char *task, const struct effect *effect)
{
    struct daemon *d = ctx;
    struct world_state *w = d->world;
    /* The end of a run and input to it keep their place behind its start. */
    bool waits = effect->kind == EFFECT_RUN || effect->kind == EFFECT_MODEL || w->effects_at < w->effects_n;
    if (!waits) {
        start_effect(d, task, effect);
        return;
    }
    world_effect_later(w, task, effect);
    world_turn(d);
}

void world_effects_turn(struct daemon *d)
{
    struct world_state *w = d->world;
    uint64_t until_ns = uv_hrtime() + EFFECTS_TURN_NS;
    while (!w->ended && w->effects_at < w->effects_n) {
        struct world_effect next = w->effects[w->effects_at++]; /* a copy: more may be added meanwhile */
        start_effect(d, next.task, &next.effect);
        if (!d->stopping && uv_hrtime() >= until_ns)
            break;
    }
    if (w->effects_at < w->effects_n)
        world_turn(d);
    else
        w->effects_at = w->effects_n = 0;
}

void world_effect_cancel(void *ctx, const char *task, const struct effect *effect)
{
    struct daemon *d = ctx;
    if (effect->kind == EFFECT_MODEL)
        cancel_model(d, task, effect->a, effect->b);
    if (effect->kind == EFFECT_WATCH)
        watches_remove(d->watches, task, effect->a, effect->b);
    /* A run is followed until its runner is gone; input that was handed over is not taken back. */
}
