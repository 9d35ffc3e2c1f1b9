/* A database in memory: what is filled becomes durable some time after its commit began, all at once or not at all. Of its events it
 * keeps what they say, not their text: each is checked when it becomes durable. */
#include "sim.h"

#include "daemon/base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

void journal_event(void *ctx, const struct event *event)
{
    struct sim *s = ctx;
    struct sim_batch *b = &s->filling;
    GROW(b->events, b->events_n, b->events_cap);
    struct sim_event *e = &b->events[b->events_n++];
    *e = (struct sim_event){.pos = event->pos,
                            .seq = event->seq,
                            .kind = event->kind,
                            .now_ms = s->now_ms,
                            .wall_ms = sim_now(s).wall_ms,
                            .boot = s->boot};
    waits_note(s, e, event);
    snprintf(e->task, sizeof e->task, "%.*s", STR_ARG(event->task));
    struct buf json = {0};
    event_encode(&json, event);
    e->json = buf_take(&json, NULL);
}

int64_t journal_context(void *ctx, const struct task *t, int64_t index, const struct context_item *item)
{
    struct sim *s = ctx;
    struct sim_batch *b = &s->filling;
    GROW(b->context, b->context_n, b->context_cap);
    struct sim_context *c = &b->context[b->context_n++];
    *c = (struct sim_context){.index = index, .bytes = (int64_t)item->text.n + 2};
    memcpy(c->task, t->id, sizeof c->task);
    return c->bytes;
}

static struct sim_state *state_of(struct sim_batch *b, const char *id)
{
    for (size_t i = 0; i < b->tasks_n; i++) {
        if (strcmp(b->tasks[i].id, id) == 0)
            return &b->tasks[i];
    }
    GROW(b->tasks, b->tasks_n, b->tasks_cap);
    struct sim_state *t = &b->tasks[b->tasks_n++];
    *t = (struct sim_state){0};
    snprintf(t->id, sizeof t->id, "%s", id);
    return t;
}

void journal_task(void *ctx, const struct task *t)
{
    struct sim *s = ctx;
    struct sim_state *to = state_of(&s->filling, t->id);
    buf_clear(&to->snapshot);
    task_snapshot(t, &to->snapshot);
    check_changed(s, t->id);
}

void batch_clear(struct sim_batch *b)
{
    for (size_t i = 0; i < b->events_n; i++) {
        mem_free(b->events[i].json);
        mem_free(b->events[i].wait);
    }
    for (size_t i = 0; i < b->tasks_n; i++)
        buf_free(&b->tasks[i].snapshot);
    mem_free(b->events);
    mem_free(b->tasks);
    mem_free(b->context);
    *b = (struct sim_batch){0};
}

struct sim_task *journal_known(struct sim *s, const char *id)
{
    struct sim_task *t = map_get(&s->known, str_of(id));
    if (t)
        return t;
    t = MEM_NEW(struct sim_task);
    snprintf(t->id, sizeof t->id, "%s", id);
    map_put(&s->known, str_of(t->id), t);
    return t;
}

struct sim_fact *journal_fact(struct sim *s, const char *task, enum sim_number kind, int64_t n)
{
    struct sim_facts *f = &journal_known(s, task)->facts[kind];
    if (n < 0 || n > INT32_MAX)
        sim_fail(s, "%s: a number of kind %d is %" PRId64, task, (int)kind, n);
    if ((size_t)n >= f->n) {
        size_t cap = (size_t)n * 2 + 16;
        f->of = mem_realloc(f->of, cap * sizeof *f->of);
        memset(f->of + f->n, 0, (cap - f->n) * sizeof *f->of);
        f->n = cap;
    }
    return &f->of[n];
}

void journal_commit(void *ctx)
{
    struct sim *s = ctx;
    if (s->committing)
        sim_fail(s, "a commit began while another was under way");
    s->committing = true;
    s->under_way = s->filling;
    s->filling = (struct sim_batch){0};
    sim_schedule(s, sim_range(s, 0, 5), ACTION_COMMIT, s->life, "", 0, 0);
}

static struct sim_task *row(struct sim *s, const char *id)
{
    struct sim_task *t = journal_known(s, id);
    if (!t->durable) {
        GROW(s->tasks, s->tasks_n, s->tasks_cap);
        s->tasks[s->tasks_n++] = t;
        t->durable = true;
    }
    return t;
}

static void keep_event(struct sim *s, struct sim_event *e)
{
    check_event(s, journal_known(s, e->task), e);
    s->events_n++;
    s->durable_pos = e->pos;
    for (const char *c = e->json; *c; c++)
        s->digest = (s->digest ^ (unsigned char)*c) * 1099511628211u;
    if (s->verbose)
        printf("%s\n", e->json);
}

static void keep_context(struct sim *s, const struct sim_context *c)
{
    struct sim_task *t = row(s, c->task);
    int64_t next = t->context_n ? t->context_n : 1; /* the head is 0 */
    if (c->index != next)
        sim_fail(s, "element %" PRId64 " of the prompt of %s came after %" PRId64, c->index, t->id, next - 1);
    t->context_n = next + 1;
    t->context_bytes += c->bytes + (next > 1 ? 1 : 0);
}

void journal_make_durable(struct sim *s)
{
    struct sim_batch *from = &s->under_way;
    for (size_t i = 0; i < from->events_n; i++)
        keep_event(s, &from->events[i]);
    for (size_t i = 0; i < from->tasks_n; i++) {
        struct sim_task *t = row(s, from->tasks[i].id);
        buf_free(&t->snapshot);
        t->snapshot = from->tasks[i].snapshot;
        from->tasks[i].snapshot = (struct buf){0};
        waits_stored(s, t);
    }
    for (size_t i = 0; i < from->context_n; i++)
        keep_context(s, &from->context[i]);
    batch_clear(from);
}

static bool is_filling(const struct sim *s, const char *id)
{
    for (size_t i = 0; i < s->filling.tasks_n; i++) {
        if (strcmp(s->filling.tasks[i].id, id) == 0)
            return true;
    }
    return false;
}

/* A task that is over leaves memory once nothing of it waits to be written, as in the daemon. */
static void evict_tasks(struct sim *s)
{
    const struct task *t;
    LIST_EACH(t, core_tasks(s->core), struct task, node)
    {
        if (task_live(t) || is_filling(s, t->id))
            continue;
        s->evictions++;
        core_evict(s->core, t->id);
    }
}

/* Brings a task back from the database. */
const struct task *journal_load(struct sim *s, const char *id)
{
    const struct task *t = core_task(s->core, id);
    if (t)
        return t;
    check_changed(s, id);
    return core_restore(s->core, buf_view(&journal_known(s, id)->snapshot));
}

void journal_commit_done(struct sim *s)
{
    if (!s->calm && sim_chance(s, 3)) { /* the disk is full; the same batch again, later */
        s->fulls++;
        bool long_one = s->shape.days && sim_range(s, 0, 499) == 0;
        int64_t ms = long_one ? sim_range(s, MINUTE_MS, 6 * HOUR_MS) : sim_range(s, 100, 30000);
        sim_schedule(s, ms, ACTION_COMMIT, s->life, "", 0, 0);
        return;
    }
    journal_make_durable(s);
    s->committing = false;
    pump_committed(s->pump);
    if (!s->committing)
        evict_tasks(s);
}

static void task_forget(struct sim_task *t)
{
    for (size_t i = 0; i < t->runs_n; i++)
        mem_free(t->runs[i]);
    mem_free(t->runs);
    for (int i = 0; i < NUMBER_KINDS; i++)
        mem_free(t->facts[i].of);
    waits_free(t);
    buf_free(&t->snapshot);
    mem_free(t);
}

void journal_free(struct sim *s)
{
    for (size_t i = 0; i < s->known.cap; i++) {
        if (s->known.slots[i].key.p)
            task_forget(s->known.slots[i].value);
    }
    map_free(&s->known);
    mem_free(s->tasks);
}
