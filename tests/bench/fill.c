/* Fills a state folder for tests/bench/recovery, through the store's own functions: a history of many tasks, made from two that a
 * daemon left there, one that waits and one that has ended. Not a simulation of work: every event is a message of some hundred bytes.
 *
 *     bench-fill STATE_DIR TASKS LIVE EVENTS LONG
 *
 * TASKS tasks, LIVE of them waiting, and EVENTS events, LONG of them in the first task; prints the id of that one. */
#include "daemon/base/mem.h"
#include "daemon/core/core.h"
#include "daemon/store/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>

enum { BURST = 50, BATCH_EVENTS = 20000 };
#define SPREAD_MS INT64_C(60000) /* between two tasks: 10,000 are a week */

struct template {
    struct buf snapshot, spec, context;
};

struct fill {
    struct store *store;
    struct store_batch *batch;
    int64_t tasks, live, events, longest;
    int64_t pos, in_batch, now_ms;
    int64_t *seqs;
    struct template waiting, ended;
};

static void die(const char *what, struct buf *error)
{
    fprintf(stderr, "bench-fill: %s %s\n", what, error ? buf_cstr(error) : "");
    exit(1);
}

static void commit(struct fill *f)
{
    CLEANUP(buf_free) struct buf error = {0};
    if (store_commit_wait(f->store, f->batch, &error) != 0)
        die("commit:", &error);
    f->batch = store_batch_new();
    f->in_batch = 0;
}

static int template_cb(void *arg, const struct store_task *row)
{
    struct template *t = arg;
    buf_str(&t->snapshot, row->snapshot);
    buf_str(&t->spec, row->spec);
    return 0;
}

struct ids {
    char waiting[32], ended[32];
};

static int ids_cb(void *arg, const struct store_task *row)
{
    struct ids *ids = arg;
    snprintf(row->live ? ids->waiting : ids->ended, 32, "%s", row->id);
    return 0;
}

static void load(struct fill *f, const char *id, struct template *ret)
{
    if (!id[0] || store_task_load(f->store, id, template_cb, ret) != 0 || store_context_read(f->store, id, 1, &ret->context) != 0)
        die("the folder has to hold a task that waits and one that has ended", NULL);
}

static void id_of(int64_t i, char ret[TASK_ID_SIZE])
{
    snprintf(ret, TASK_ID_SIZE, "t%026" PRId64, i + 1);
}

static void rename_task(struct task *t, int64_t i)
{
    char name[32];
    snprintf(name, sizeof name, "filled-%" PRId64, i);
    id_of(i, t->id);
    mem_free(t->name);
    t->name = mem_strdup(name);
}

/* Put again at the end, with the number of events that it has then. */
static void put_task(struct fill *f, int64_t i, bool first)
{
    bool live = i < f->live;
    const struct template *from = live ? &f->waiting : &f->ended;
    struct task *t = task_from_snapshot(buf_view(&from->snapshot));
    rename_task(t, i);
    t->seq = f->seqs[i];
    t->created_ms = f->now_ms - (f->tasks - i) * SPREAD_MS;
    t->updated_ms = live ? f->now_ms : t->created_ms + SPREAD_MS;
    CLEANUP(buf_free) struct buf snapshot = {0};
    task_snapshot(t, &snapshot);
    struct store_task row = {.id = t->id, .name = t->name, .state = (int)t->state, .live = live, .seq = t->seq,
                             .created_ms = t->created_ms, .updated_ms = t->updated_ms, .snapshot = buf_view(&snapshot)};
    if (first) {
        row.spec = buf_view(&from->spec);
        store_batch_context(f->batch, t->id, 1, 0, buf_view(&from->context));
    }
    store_batch_task(f->batch, &row);
    task_free(t);
    if (++f->in_batch >= BATCH_EVENTS / 10)
        commit(f);
}

static void put_events(struct fill *f, int64_t i, int64_t n)
{
    char id[TASK_ID_SIZE], json[512];
    id_of(i, id);
    for (int64_t k = 0; k < n; k++) {
        int64_t seq = ++f->seqs[i];
        int bytes = snprintf(json, sizeof json,
                             "{\"seq\":%" PRId64 ",\"pos\":%" PRId64 ",\"task\":\"%s\",\"at\":\"2026-01-02T03:04:05.678Z\","
                             "\"kind\":\"message\",\"item\":\"i%" PRId64 "\",\"step\":%" PRId64 ",\"text\":\"The parser now reads "
                             "its input in pieces; event %" PRId64 " of this task says so.\",\"phase\":\"commentary\",\"partial\":false}",
                             seq, ++f->pos, id, seq, seq, seq);
        store_batch_event(f->batch, f->pos, id, seq, EVENT_MESSAGE, f->now_ms, str_n(json, (size_t)bytes));
    }
    f->in_batch += n;
    if (f->in_batch >= BATCH_EVENTS)
        commit(f);
}

/* In bursts, by turns, as tasks that work at once leave them: the first gets its larger share in each round. */
static void fill_events(struct fill *f)
{
    int64_t others = f->events - f->longest;
    int64_t each = others / (f->tasks - 1), rounds = (each + BURST - 1) / BURST, rest = others - each * (f->tasks - 1);
    put_events(f, 1, rest);
    for (int64_t round = 0; round < rounds; round++) {
        for (int64_t due = f->longest * (round + 1) / rounds; f->seqs[0] < due;)
            put_events(f, 0, due - f->seqs[0] < BATCH_EVENTS ? due - f->seqs[0] : BATCH_EVENTS);
        int64_t n = each - round * BURST < BURST ? each - round * BURST : BURST;
        for (int64_t i = 1; i < f->tasks; i++)
            put_events(f, i, n);
    }
}

static void fill(struct fill *f)
{
    struct ids ids = {0};
    store_tasks_page(f->store, STR_NONE, 0, 1000, ids_cb, &ids);
    load(f, ids.waiting, &f->waiting);
    load(f, ids.ended, &f->ended);
    f->pos = store_pos_last(f->store);
    f->batch = store_batch_new();
    f->seqs = mem_alloc((size_t)f->tasks * sizeof *f->seqs);
    for (int64_t i = 0; i < f->tasks; i++)
        put_task(f, i, true);
    commit(f);
    fill_events(f);
    for (int64_t i = 0; i < f->tasks; i++)
        put_task(f, i, false);
    commit(f);
}

static void template_free(struct template *t)
{
    buf_free(&t->snapshot);
    buf_free(&t->spec);
    buf_free(&t->context);
}

int main(int argc, char **argv)
{
    struct fill f = {0};
    struct timeval now;
    uv_loop_t loop;
    CLEANUP(buf_free) struct buf error = {0};
    if (argc != 6)
        die("usage: bench-fill STATE_DIR TASKS LIVE EVENTS LONG", NULL);
    f.tasks = atoll(argv[2]);
    f.live = atoll(argv[3]);
    f.events = atoll(argv[4]);
    f.longest = atoll(argv[5]);
    if (f.tasks < 2 || f.live < 0 || f.live > f.tasks || f.longest < 1 || f.events - f.longest < f.tasks)
        die("at least two tasks, each with an event", NULL);
    gettimeofday(&now, NULL);
    f.now_ms = (int64_t)now.tv_sec * 1000;
    uv_loop_init(&loop);
    if (store_open(argv[1], &loop, &f.store, &error) != 0)
        die("open:", &error);
    fill(&f);
    char id[TASK_ID_SIZE];
    id_of(0, id);
    puts(id);
    template_free(&f.waiting);
    template_free(&f.ended);
    mem_free(f.seqs);
    store_batch_free(f.batch);
    store_close(f.store);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    return 0;
}
