/* What must be true. */
#include "sim.h"

#include "daemon/base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void check_snapshot(struct sim *s, const struct task *t)
{
    struct buf once = {0}, twice = {0};
    task_snapshot(t, &once);
    struct task *copy = task_from_snapshot(buf_view(&once));
    if (!copy)
        sim_fail(s, "the state of %s cannot be read back", t->id);
    task_snapshot(copy, &twice);
    if (!str_eq(buf_view(&once), buf_view(&twice)))
        sim_fail(s, "the state of %s is not the same when it is read back", t->id);
    task_free(copy);
    buf_free(&once);
    buf_free(&twice);
}

void check_step(struct sim *s)
{
    const struct task *t;
    LIST_EACH(t, core_tasks(s->core), struct task, node)
    {
        const char *broken = core_invariant(s->core, t);
        if (broken)
            sim_fail(s, "%s: not true: %s", t->id, broken);
        check_snapshot(s, t);
    }
}

/* Events leave once, in order, and only when they are durable (laws 1 and 5). */
void check_published(struct sim *s, const struct pump_event *events, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (events[i].pos <= s->published_pos)
            sim_fail(s, "event %" PRId64 " was published twice", events[i].pos);
        s->published_pos = events[i].pos;
    }
    const struct sim_rows *d = &s->durable;
    if (n > 0 && (d->events_n == 0 || d->events[d->events_n - 1].pos < events[n - 1].pos))
        sim_fail(s, "event %" PRId64 " was published before it was durable", events[n - 1].pos);
}

static int64_t number_in(const char *json, const char *name)
{
    const char *p = strstr(json, name);
    return p ? strtoll(p + strlen(name), NULL, 10) : -1;
}

static void check_sequences(struct sim *s)
{
    struct map last = {0};
    int64_t pos = 0;
    for (size_t i = 0; i < s->durable.events_n; i++) {
        const struct sim_event *e = &s->durable.events[i];
        intptr_t before = (intptr_t)map_remove(&last, str_of(e->task));
        if (e->seq != before + 1)
            sim_fail(s, "%s: event %" PRId64 " follows event %" PRIdPTR, e->task, e->seq, before);
        map_put(&last, str_of(e->task), (void *)(intptr_t)e->seq);
        if (e->pos <= pos)
            sim_fail(s, "pos %" PRId64 " follows %" PRId64, e->pos, pos);
        pos = e->pos;
    }
    map_free(&last);
}

static size_t count(const struct sim *s, const char *task, enum event_kind kind, const char *needle)
{
    size_t n = 0;
    for (size_t i = 0; i < s->durable.events_n; i++) {
        const struct sim_event *e = &s->durable.events[i];
        if (e->kind == kind && strcmp(e->task, task) == 0)
            n += strstr(e->json, needle) != NULL;
    }
    return n;
}

/* A steer that was acknowledged becomes one item, unless the task was cancelled. */
static void check_steers(struct sim *s)
{
    for (size_t i = 0; i < s->steers_n; i++) {
        const struct sim_steer *steer = &s->steers[i];
        char needle[64];
        snprintf(needle, sizeof needle, "\"steer\":\"s%" PRId64 "\"", steer->n);
        size_t delivered = count(s, steer->task, EVENT_STEER_DELIVERED, needle);
        size_t cancelled = count(s, steer->task, EVENT_TASK_STATE, "\"to\":\"cancelled\"");
        if (count(s, steer->task, EVENT_STEER_ACCEPTED, needle) != 1)
            sim_fail(s, "%s: steer s%" PRId64 " was acknowledged and is not in the journal once", steer->task, steer->n);
        if (delivered > 1 || (delivered == 0 && cancelled == 0))
            sim_fail(s, "%s: steer s%" PRId64 " was delivered %zu times", steer->task, steer->n, delivered);
        if (count(s, steer->task, EVENT_STEER_SEEN, needle) > delivered)
            sim_fail(s, "%s: steer s%" PRId64 " was seen before it was delivered", steer->task, steer->n);
    }
}

/* Things that happen once to one number of one task, counted in one walk. */
struct tally {
    char key[64];
    int64_t n;
};

static struct tally *tally_of(struct map *m, const char *task, char letter, int64_t n)
{
    char key[64];
    snprintf(key, sizeof key, "%s %c%" PRId64, task, letter, n);
    struct tally *t = map_get(m, str_of(key));
    if (t)
        return t;
    t = MEM_NEW(struct tally);
    memcpy(t->key, key, sizeof key);
    map_put(m, str_of(t->key), t);
    return t;
}

static void tally_event(struct sim *s, struct map *m, const struct sim_event *e)
{
    switch ((int)e->kind) {
    case EVENT_TOOL_CALLED:
        tally_of(m, e->task, 'c', number_in(e->json, "\"call\":\"c"))->n++;
        return;
    case EVENT_TOOL_RESULT:
        if (--tally_of(m, e->task, 'c', number_in(e->json, "\"call\":\"c"))->n != 0)
            sim_fail(s, "%s: a call was not answered once: %s", e->task, e->json);
        return;
    case EVENT_RUN_STARTED:
        tally_of(m, e->task, 'r', number_in(e->json, "\"run\":\"r"))->n++;
        return;
    case EVENT_RUN_ENDED:
        if (--tally_of(m, e->task, 'r', number_in(e->json, "\"run\":\"r"))->n != 0)
            sim_fail(s, "%s: a run did not end once: %s", e->task, e->json);
        return;
    case EVENT_STEP_ENDED:
        if (--tally_of(m, e->task, 's', number_in(e->json, "\"step\":"))->n != -1)
            sim_fail(s, "%s: a step ended twice: %s", e->task, e->json);
        return;
    }
}

static void check_pairs(struct sim *s)
{
    struct map all = {0};
    for (size_t i = 0; i < s->durable.events_n; i++)
        tally_event(s, &all, &s->durable.events[i]);
    for (size_t i = 0; i < all.cap; i++) {
        struct tally *t = all.slots[i].key.p ? all.slots[i].value : NULL;
        if (t && t->n > 0)
            sim_fail(s, "%s was begun and never ended", t->key);
        mem_free(t);
    }
    map_free(&all);
}

/* Within an epoch each request begins with the whole of the one before (law 6): sizes only ever grow. */
static void check_prefixes(struct sim *s)
{
    for (size_t i = 0; i < s->durable.tasks_n; i++) {
        const struct sim_task *row = &s->durable.tasks[i];
        int64_t request = 0;
        for (size_t k = 0; k < s->durable.events_n; k++) {
            const struct sim_event *e = &s->durable.events[k];
            if (e->kind != EVENT_STEP_STARTED || strcmp(e->task, row->id) != 0)
                continue;
            int64_t prefix = number_in(e->json, "\"prefix_bytes\":"), bytes = number_in(e->json, "\"request_bytes\":");
            if (prefix != (request ? request - 10 : 0) || bytes < request)
                sim_fail(s, "%s: the prompt was not only appended to: %s", row->id, e->json);
            request = bytes;
        }
        struct task *t = task_from_snapshot(buf_view(&row->snapshot));
        int64_t bytes = row->context_bytes + 100;
        if (t->context_bytes != bytes || t->context_n != (row->context_n ? row->context_n : 1))
            sim_fail(s, "%s: the state counts %" PRId64 " bytes of prompt, the journal holds %" PRId64, row->id,
                     t->context_bytes, bytes);
        task_free(t);
    }
}

static void check_task_end(struct sim *s, const struct task *t)
{
    struct effect effects[8];
    size_t n = core_effects(t, effects, 8);
    if (n > 0)
        sim_fail(s, "%s: %zu effects are still wanted, the first of kind %d", t->id, n, (int)effects[0].kind);
    bool at_rest = task_final(t) || (t->state == TASK_STATE_WAITING && t->waiting_for == WAITING_FOR_INPUT);
    if (!at_rest || t->steers_pending || t->phase != PHASE_IDLE)
        sim_fail(s, "%s did not come to rest: state %s, phase %d, %" PRId64 " steers pending", t->id,
                 proto_enum_name(&task_state_enum, (int)t->state), (int)t->phase, t->steers_pending);
}

void check_end(struct sim *s)
{
    const struct task *t;
    for (size_t i = 0; i < s->durable.tasks_n; i++)
        journal_load(s, s->durable.tasks[i].id);
    LIST_EACH(t, core_tasks(s->core), struct task, node)
        check_task_end(s, t);
    if (!pump_settled(s->pump))
        sim_fail(s, "something was never committed");
    check_sequences(s);
    check_steers(s);
    check_pairs(s);
    check_prefixes(s);
}

uint64_t check_digest(const struct sim *s)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < s->durable.events_n; i++) {
        for (const char *c = s->durable.events[i].json; *c; c++)
            h = (h ^ (unsigned char)*c) * 1099511628211u;
    }
    return h;
}
