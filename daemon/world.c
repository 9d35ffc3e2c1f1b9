/*~ The real world of the pump: its journal is the store, its effects are HTTP transfers and processes, its clock the kernel's. Only
 * wiring: every decision was taken in the core. */
#include "daemon/world.h"

#include "daemon/base/failpoint.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/failures.h"
#include "daemon/lifecycle.h"
#include "daemon/model/provider.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* ---- clock, chance ---- */

static int64_t clock_ms(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void world_clock(struct daemon *d, struct clock_now *ret)
{
    *ret = d->now_cached; /* the boot id */
    ret->wall_ms = clock_ms(CLOCK_REALTIME);
    ret->boot_ms = clock_ms(CLOCK_BOOTTIME);
}

static struct clock_now world_now(void *ctx)
{
    struct clock_now now;
    world_clock(ctx, &now);
    return now;
}

static uint64_t world_random(void *ctx)
{
    (void)ctx;
    return (uint64_t)randombytes_random() << 32 | randombytes_random();
}

/* ---- the filling batch ---- */

static void touch(struct world_state *w, const char *task)
{
    struct world_task *wt = world_task_of(w->d, task);
    if (wt->dirty)
        return;
    wt->dirty = true;
    struct world_batch *b = w->filling;
    if (b->touched_n == b->touched_cap) {
        b->touched_cap = b->touched_cap ? b->touched_cap * 2 : 8;
        b->touched = mem_realloc(b->touched, b->touched_cap * sizeof *b->touched);
    }
    snprintf(b->touched[b->touched_n++], TASK_ID_SIZE, "%s", task);
}

static void journal_event(void *ctx, const struct event *event)
{
    struct daemon *d = ctx;
    struct world_state *w = d->world;
    struct world_batch *b = w->filling;
    if (b->lines_n == b->lines_cap) {
        b->lines_cap = b->lines_cap ? b->lines_cap * 2 : 16;
        b->lines = mem_realloc(b->lines, b->lines_cap * sizeof *b->lines);
    }
    struct world_line *line = &b->lines[b->lines_n++];
    line->offset = b->text.n;
    event_encode(&b->text, event);
    line->n = b->text.n - line->offset;
    char task[TASK_ID_SIZE];
    snprintf(task, sizeof task, "%.*s", STR_ARG(event->task));
    store_batch_event(w->rows, event->pos, task, event->seq, (int)event->kind, event->at,
                      str_n(b->text.p + line->offset, line->n));
    if (event->kind == EVENT_TASK_CREATED) {
        store_batch_context(w->rows, task, 1, 0, buf_view(&world_task_of(d, task)->new_head));
    }
    touch(w, task);
    world_turn(d);
}

static void image_bytes(struct daemon *d, const struct task *t, struct context_item *item)
{
    const struct run *run = task_run(t, item->run);
    struct run_output output = {0};
    char name[24];
    world_run_name(item->run, name);
    if (run)
        runs_collect(d->runs, t->id, name, 0, d->config->limits.image_bytes_max, true,
                     &d->world->scratch, &output);
    item->text = output.has_image ? output.image_data : STR("");
    if (output.has_image)
        return;
    *item = (struct context_item){.kind = CONTEXT_NOTE, .text = STR("The image can no longer be read.")};
}

static int64_t journal_context(void *ctx, const struct task *t, int64_t index, const struct context_item *planned)
{
    struct daemon *d = ctx;
    struct world_state *w = d->world;
    struct world_task *wt = world_task_of(d, t->id);
    struct context_item item = *planned;
    if (item.kind == CONTEXT_IMAGE)
        image_bytes(d, t, &item);
    CLEANUP(buf_free) struct buf bytes = {0};
    wt->provider->put_item(&bytes, &item);
    store_batch_context(w->rows, t->id, t->epoch, index, buf_view(&bytes));
    return (int64_t)bytes.n;
}

static void journal_task(void *ctx, const struct task *t)
{
    struct daemon *d = ctx;
    touch(d->world, t->id);
    pump_dirty(d->pump);
    world_turn(d);
}

/* The rows of the tasks are written once a batch, as they are at its end. */
static void put_task_rows(struct daemon *d)
{
    struct world_state *w = d->world;
    for (size_t i = 0; i < w->filling->touched_n; i++) {
        const char *id = w->filling->touched[i];
        const struct task *t = core_task(d->core, id);
        struct world_task *wt = world_task_of(d, id);
        wt->dirty = false;
        wt->committing = true;
        CLEANUP(buf_free) struct buf snapshot = {0};
        task_snapshot(t, &snapshot);
        struct store_task row = {.id = t->id,
                                 .name = t->name,
                                 .state = (int)t->state,
                                 .live = task_live(t),
                                 .seq = t->seq,
                                 .created_ms = t->created_ms,
                                 .updated_ms = t->updated_ms,
                                 .snapshot = buf_view(&snapshot)};
        if (wt->new_spec.n)
            row.spec = buf_view(&wt->new_spec);
        store_batch_task(w->rows, &row);
        buf_free(&wt->new_spec);
        buf_free(&wt->new_head);
    }
}

/* ---- commit ---- */

static void batch_clear(struct world_batch *b)
{
    for (size_t i = 0; i < b->keys_n; i++) {
        mem_free(b->keys[i].key);
        buf_free(&b->keys[i].digest);
        buf_free(&b->keys[i].result);
    }
    b->keys_n = b->lines_n = b->touched_n = 0;
    if (b->text.cap > 65536)
        buf_free(&b->text); /* one large event must not keep its memory for ever */
    buf_clear(&b->text);
}

static void batch_free(struct world_batch *b)
{
    batch_clear(b);
    buf_free(&b->text);
    mem_free(b->lines);
    mem_free(b->keys);
    mem_free(b->touched);
}

/* A task that is over needs no memory. */
static void evict(struct daemon *d, const char *id)
{
    const struct task *t = core_task(d->core, id);
    struct world_task *wt = map_get(&d->world->tasks, str_of(id));
    if ((t && task_live(t)) || (wt && (wt->dirty || wt->committing || wt->transfer)))
        return;
    world_task_drop(d, id);
    core_evict(d->core, id);
}

static void evict_visitors(struct daemon *d)
{
    for (size_t i = 0; i < d->world->visitors_n; i++)
        evict(d, d->world->visitors[i]);
    d->world->visitors_n = 0;
}

void world_visit(struct daemon *d, const char *id)
{
    struct world_state *w = d->world;
    if (w->visitors_n == WORLD_VISITORS_MAX)
        evict_visitors(d);
    snprintf(w->visitors[w->visitors_n++], TASK_ID_SIZE, "%s", id);
    world_turn(d);
}

void world_read_again(struct daemon *d, const char *why)
{
    failures_note_end(d->failures, why);
    _exit(LIFECYCLE_EXIT_IO);
}

static void retry_cb(uv_timer_t *timer);

static void committed(void *arg, int status, struct store_batch *rows, const char *error)
{
    struct daemon *d = arg;
    struct world_state *w = d->world;
    if (w->ended) { /* of a full disk: the stop did not wait for it, the next start asks again */
        if (rows)
            store_batch_free(rows);
        return;
    }
    if (status == STORE_E_FULL) {
        if (!d->disk_full)
            log_error("the disk is full: new work is refused until there is space; nothing is lost (%s)", error);
        d->disk_full = true;
        w->retry_rows = rows;
        if (store_batch_has_stop(w->rows) && !store_batch_has_stop(rows))
            world_stop_through(d);
        else
            uv_timer_start(&w->retry, retry_cb, (uint64_t)d->config->limits.database_retry_ms, 0);
        return;
    }
    if (status != 0) {
        /* What was in that commit is in doubt: only reading it again, in a new process, tells (law 1). */
        log_error("the journal cannot be written, agentd ends and reads again at its next start: %s", error);
        world_read_again(d, error);
    }
    if (d->disk_full)
        log_info("there is space again: work goes on");
    d->disk_full = false;
    struct world_batch *done = w->committing;
    FAILPOINT("world.committed");
    pump_committed(d->pump);
    rpc_flush(d->rpc);
    FAILPOINT("world.released");
    w->committing = NULL;
    for (size_t i = 0; i < done->touched_n; i++) {
        struct world_task *wt = world_task_of(d, done->touched[i]);
        wt->committing = false;
        world_runs_committed(d, wt);
        evict(d, done->touched[i]);
    }
    batch_clear(done);
    world_turn(d);
}

static void retry_cb(uv_timer_t *timer)
{
    struct daemon *d = timer->data;
    struct store_batch *rows = d->world->retry_rows;
    uv_timer_stop(timer);
    d->world->retry_rows = NULL;
    store_commit(d->store, rows, committed, d);
}

void world_stop_through(struct daemon *d)
{
    struct world_state *w = d->world;
    store_batch_stops(w->rows);
    if (!w->retry_rows)
        return;
    store_batch_stops(w->retry_rows); /* what was before it goes first */
    retry_cb(&w->retry);
}

bool world_stuck(const struct daemon *d)
{
    return d->world->retry_rows != NULL;
}

static void world_commit(void *ctx)
{
    struct daemon *d = ctx;
    struct world_state *w = d->world;
    assert(!w->committing);
    FAILPOINT("world.commit");
    put_task_rows(d);
    struct store_batch *rows = w->rows;
    if (d->stopping)
        store_batch_stops(rows);
    w->rows = store_batch_new();
    w->committing = w->filling;
    w->filling = w->filling == &w->batches[0] ? &w->batches[1] : &w->batches[0];
    store_commit(d->store, rows, committed, d);
}

/* Live text is a preview of items; what was committed takes its place. */
static bool voids_live_text(enum event_kind kind)
{
    return kind == EVENT_STEP_RETRY || kind == EVENT_STEP_ENDED || kind == EVENT_MESSAGE || kind == EVENT_REASONING ||
           kind == EVENT_TURN_ENDED;
}

static void published(void *ctx, const struct pump_event *events, size_t n)
{
    struct daemon *d = ctx;
    struct world_batch *b = d->world->committing;
    assert(n == b->lines_n);
    for (size_t i = 0; i < n; i++) {
        if (voids_live_text(events[i].kind))
            rpc_live_end(d->rpc, events[i].task);
        rpc_event(d->rpc, &events[i], str_n(b->text.p + b->lines[i].offset, b->lines[i].n));
    }
}

/* ---- turns of the loop ---- */

static void spin_cb(uv_idle_t *idle)
{
    (void)idle; /* only keeps the loop from sleeping before turn_cb() */
}

void world_turn(struct daemon *d)
{
    if (!d->world->ended)
        uv_idle_start(&d->world->spin, spin_cb);
}

static void turn_cb(uv_check_t *check)
{
    struct daemon *d = check->data;
    if (!uv_is_active((uv_handle_t *)&d->world->spin))
        return;
    uv_idle_stop(&d->world->spin);
    pump_flush(d->pump);
    world_effects_turn(d); /* behind the flush: the commit goes on meanwhile */
    evict_visitors(d);
    world_runs_turn(d);
}

static void wake_cb(uv_timer_t *timer)
{
    struct daemon *d = timer->data;
    pump_tick(d->pump);
    world_turn(d);
}

static void wake_in(void *ctx, int64_t delay_ms)
{
    struct daemon *d = ctx;
    if (d->world->ended)
        return;
    if (delay_ms == INT64_MAX)
        uv_timer_stop(&d->world->wake);
    else /* libuv's clock stands still while a machine sleeps: look at least once a minute */
        uv_timer_start(&d->world->wake, wake_cb, (uint64_t)(delay_ms < 60000 ? delay_ms : 60000), 0);
}

/* ---- keys ---- */

void world_key_put(struct daemon *d, const char *key, const char *task, struct str digest, struct str result)
{
    struct world_state *w = d->world;
    struct world_batch *b = w->filling;
    struct clock_now now;
    world_clock(d, &now);
    store_batch_key(w->rows, key, task, digest, result, now.wall_ms);
    if (b->keys_n == b->keys_cap) {
        b->keys_cap = b->keys_cap ? b->keys_cap * 2 : 8;
        b->keys = mem_realloc(b->keys, b->keys_cap * sizeof *b->keys);
    }
    struct world_key *k = &b->keys[b->keys_n++];
    *k = (struct world_key){.key = mem_strdup(key)};
    buf_str(&k->digest, digest);
    buf_str(&k->result, result);
    pump_dirty(d->pump);
    world_turn(d);
}

static const struct world_key *find_key(const struct world_batch *b, const char *key)
{
    for (size_t i = 0; b && i < b->keys_n; i++) {
        if (strcmp(b->keys[i].key, key) == 0)
            return &b->keys[i];
    }
    return NULL;
}

int world_key_find(struct daemon *d, const char *key, struct buf *ret_digest, struct buf *ret_result)
{
    const struct world_key *k = find_key(d->world->filling, key);
    if (!k)
        k = find_key(d->world->committing, key);
    if (!k)
        return store_key_find(d->store, key, ret_digest, ret_result);
    buf_clear(ret_digest);
    buf_str(ret_digest, buf_view(&k->digest));
    buf_clear(ret_result);
    buf_str(ret_result, buf_view(&k->result));
    return 0;
}

/* ---- life ---- */

void world_new(struct daemon *d)
{
    struct world_state *w = d->world = MEM_NEW(struct world_state);
    w->d = d;
    w->rows = store_batch_new();
    w->filling = &w->batches[0];
    uv_timer_init(d->loop, &w->wake);
    uv_timer_init(d->loop, &w->retry);
    world_room_new(d);
    uv_check_init(d->loop, &w->turn);
    uv_idle_init(d->loop, &w->spin);
    w->wake.data = w->turn.data = w->spin.data = w->retry.data = d;
    uv_check_start(&w->turn, turn_cb);
    const struct world world = {
        .ctx = d,
        .now = world_now,
        .random = world_random,
        .journal_event = journal_event,
        .journal_context = journal_context,
        .journal_task = journal_task,
        .commit = world_commit,
        .published = published,
        .effect_start = world_effect_start,
        .effect_cancel = world_effect_cancel,
        .wake_in = wake_in,
        .collect = world_collect,
        .partial = world_partial,
    };
    d->core = core_new(&d->config->limits);
    d->pump = pump_new(d->core, &world, &d->config->limits, store_pos_last(d->store));
}

static void free_cb(uv_handle_t *handle)
{
    (void)handle;
}

void world_end(struct daemon *d)
{
    d->world->ended = true;
    world_transfers_cancel(d);
}

void world_free(struct daemon *d)
{
    struct world_state *w = d->world;
    uv_close((uv_handle_t *)&w->wake, free_cb);
    uv_close((uv_handle_t *)&w->retry, free_cb);
    world_room_free(d);
    uv_close((uv_handle_t *)&w->turn, free_cb);
    uv_close((uv_handle_t *)&w->spin, free_cb);
    uv_run(d->loop, UV_RUN_NOWAIT);
    pump_free(d->pump);
    world_tasks_free(d);
    core_free(d->core);
    if (w->retry_rows)
        store_batch_free(w->retry_rows);
    store_batch_free(w->rows);
    batch_free(&w->batches[0]);
    batch_free(&w->batches[1]);
    world_runs_free(w->runs);
    mem_free(w->effects);
    buf_free(&w->scratch);
    mem_free(w);
    d->world = NULL;
}

void world_stop(struct daemon *d, bool restart)
{
    d->stopping = true;
    d->stop_restart = restart;
    uv_stop(d->loop);
}
