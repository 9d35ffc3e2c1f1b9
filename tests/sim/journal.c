/* A database in memory: what is filled becomes durable some time after its commit began, all at once or not at all. */
#include "sim.h"

#include "daemon/base/mem.h"

#include <stdio.h>
#include <stdlib.h>

#define GROW(array, n, cap)                                                                                  \
    do {                                                                                                     \
        if ((n) == (cap)) {                                                                                  \
            (cap) = (cap) ? (cap) * 2 : 16;                                                                  \
            (array) = mem_realloc((array), (cap) * sizeof *(array));                                         \
        }                                                                                                    \
    } while (0)

void journal_event(void *ctx, const struct event *event)
{
    struct sim *s = ctx;
    struct sim_rows *r = &s->filling;
    GROW(r->events, r->events_n, r->events_cap);
    struct sim_event *e = &r->events[r->events_n++];
    *e = (struct sim_event){.pos = event->pos, .seq = event->seq, .kind = event->kind};
    snprintf(e->task, sizeof e->task, "%.*s", STR_ARG(event->task));
    struct buf json = {0};
    event_encode(&json, event);
    e->json = buf_take(&json, NULL);
}

int64_t journal_context(void *ctx, const struct task *t, int64_t index, const struct context_item *item)
{
    struct sim *s = ctx;
    struct sim_rows *r = &s->filling;
    GROW(r->context, r->context_n, r->context_cap);
    struct sim_context *c = &r->context[r->context_n++];
    *c = (struct sim_context){.index = index, .bytes = (int64_t)item->text.n + 2};
    snprintf(c->task, sizeof c->task, "%s", t->id);
    return c->bytes;
}

static struct sim_task *row(struct sim_rows *r, const char *id)
{
    for (size_t i = 0; i < r->tasks_n; i++) {
        if (strcmp(r->tasks[i].id, id) == 0)
            return &r->tasks[i];
    }
    GROW(r->tasks, r->tasks_n, r->tasks_cap);
    struct sim_task *t = &r->tasks[r->tasks_n++];
    *t = (struct sim_task){0};
    snprintf(t->id, sizeof t->id, "%s", id);
    return t;
}

void journal_task(void *ctx, const struct task *t)
{
    struct sim *s = ctx;
    struct sim_task *to = row(&s->filling, t->id);
    buf_clear(&to->snapshot);
    task_snapshot(t, &to->snapshot);
}

void rows_clear(struct sim_rows *r)
{
    for (size_t i = 0; i < r->events_n; i++)
        mem_free(r->events[i].json);
    for (size_t i = 0; i < r->tasks_n; i++)
        buf_free(&r->tasks[i].snapshot);
    mem_free(r->events);
    mem_free(r->tasks);
    mem_free(r->context);
    *r = (struct sim_rows){0};
}

void journal_commit(void *ctx)
{
    struct sim *s = ctx;
    if (s->committing)
        sim_fail(s, "a commit began while another was under way");
    s->committing = true;
    s->under_way = s->filling;
    s->filling = (struct sim_rows){0};
    sim_schedule(s, sim_range(s, 0, 5), ACTION_COMMIT, s->life, "", 0, 0);
}

void journal_make_durable(struct sim *s)
{
    struct sim_rows *from = &s->under_way, *to = &s->durable;
    for (size_t i = 0; i < from->events_n; i++) {
        GROW(to->events, to->events_n, to->events_cap);
        to->events[to->events_n++] = from->events[i];
    }
    from->events_n = 0;
    for (size_t i = 0; i < from->tasks_n; i++) {
        struct sim_task *t = row(to, from->tasks[i].id);
        buf_free(&t->snapshot);
        t->snapshot = from->tasks[i].snapshot;
        from->tasks[i].snapshot = (struct buf){0};
    }
    for (size_t i = 0; i < from->context_n; i++) {
        struct sim_task *t = row(to, from->context[i].task);
        int64_t next = t->context_n ? t->context_n : 1; /* the head is 0 */
        if (from->context[i].index != next)
            sim_fail(s, "element %lld of the prompt of %s came after %lld", (long long)from->context[i].index, t->id,
                     (long long)next - 1);
        t->context_n = next + 1;
        t->context_bytes += from->context[i].bytes + (next > 1 ? 1 : 0);
    }
    rows_clear(from);
}

/* A task that is over leaves memory once nothing of it waits to be written, as in the daemon. */
static void evict_tasks(struct sim *s)
{
    const struct task *t;
    LIST_EACH(t, core_tasks(s->core), struct task, node)
    {
        bool waits = false;
        for (size_t i = 0; i < s->filling.tasks_n; i++)
            waits |= strcmp(s->filling.tasks[i].id, t->id) == 0;
        if (waits || task_live(t))
            continue;
        s->evictions++;
        core_evict(s->core, t->id);
    }
}

/* Brings a task back from the database. */
const struct task *journal_load(struct sim *s, const char *id)
{
    const struct task *t = core_task(s->core, id);
    const struct sim_task *from = journal_find(s, id);
    return t ? t : core_restore(s->core, buf_view(&from->snapshot));
}

void journal_commit_done(struct sim *s)
{
    if (!s->calm && sim_chance(s, 3)) { /* the disk is full; the same batch again, later */
        s->fulls++;
        sim_schedule(s, sim_range(s, 100, 30000), ACTION_COMMIT, s->life, "", 0, 0);
        return;
    }
    journal_make_durable(s);
    s->committing = false;
    pump_committed(s->pump);
    if (!s->committing)
        evict_tasks(s);
}

struct sim_task *journal_find(struct sim *s, const char *task)
{
    for (size_t i = 0; i < s->durable.tasks_n; i++) {
        if (strcmp(s->durable.tasks[i].id, task) == 0)
            return &s->durable.tasks[i];
    }
    return NULL;
}

bool journal_has(struct sim *s, const char *task, enum event_kind kind, const char *needle)
{
    for (size_t i = s->durable.events_n; i-- > 0;) {
        const struct sim_event *e = &s->durable.events[i];
        if (e->kind == kind && strcmp(e->task, task) == 0 && strstr(e->json, needle))
            return true;
    }
    return false;
}
