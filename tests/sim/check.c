/* What must be true. */
#include "sim.h"

#include "daemon/base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- at every step: the state ---- */

/* The task may not be as it was; it is checked at the end of the step. */
void check_changed(struct sim *s, const char *task)
{
    struct sim_task *t = journal_known(s, task);
    if (t->changed)
        return;
    t->changed = true;
    GROW(s->changed, s->changed_n, s->changed_cap);
    s->changed[s->changed_n++] = t;
}

static uint64_t hash(struct str bytes)
{
    uint64_t h = 14695981039346656037u, word;
    for (; bytes.n >= sizeof word; bytes.p += sizeof word, bytes.n -= sizeof word) {
        memcpy(&word, bytes.p, sizeof word);
        h = (h ^ word) * 0x9fb21c651e98df25u;
        h ^= h >> 29;
    }
    for (; bytes.n > 0; bytes.p++, bytes.n--)
        h = (h ^ (unsigned char)*bytes.p) * 1099511628211u;
    return h;
}

static void check_invariant(struct sim *s, const struct task *t)
{
    const char *broken = core_invariant(s->core, t);
    if (broken)
        sim_fail(s, "%s: not true: %s", t->id, broken);
}

static void check_snapshot(struct sim *s, const struct task *t)
{
    struct str once = buf_view(&s->once);
    struct task *copy = task_from_snapshot(once);
    if (!copy)
        sim_fail(s, "the state of %s cannot be read back", t->id);
    buf_clear(&s->twice);
    task_snapshot(copy, &s->twice);
    if (!str_eq(once, buf_view(&s->twice)))
        sim_fail(s, "the state of %s is not the same when it is read back", t->id);
    task_free(copy);
}

/* Somebody looks at it when time alone makes something follow. Where the wall clock was just set, within a minute. */
static void check_wake(struct sim *s, const struct task *t)
{
    struct clock_now now = sim_now(s);
    int64_t left = core_wake(s->core, t, &now);
    if (s->committing || left == INT64_MAX || s->now_ms - s->jumped_ms <= MINUTE_MS)
        return;
    if (s->tick_ms > s->now_ms + (left > 1 ? left : 1))
        sim_fail(s, "%s: something follows in %" PRId64 " ms, and nobody will look at it then", t->id, left);
}

static void check_task(struct sim *s, const struct task *t, struct sim_task *known)
{
    check_invariant(s, t);
    check_wake(s, t);
    waits_check(s, t, known);
    buf_clear(&s->once);
    task_snapshot(t, &s->once);
    uint64_t now = hash(buf_view(&s->once));
    if (!known->changed && now != known->hash)
        sim_fail(s, "%s: its state changed, and nothing was said of it", t->id);
    if (now != known->hash)
        check_snapshot(s, t);
    known->hash = now;
}

static void check_those_that_changed(struct sim *s)
{
    for (size_t i = 0; i < s->changed_n; i++) {
        const struct task *t = core_task(s->core, s->changed[i]->id);
        if (t)
            check_task(s, t, s->changed[i]);
        s->changed[i]->changed = false;
    }
    s->changed_n = 0;
}

/* Every rule of every task, at each step; in days of many tasks only of those that changed, and of one more. A snapshot is made
 * only of what changed, since it is a function of the state alone. That no task changes unmarked is checked, too: one at each
 * step, and all of them before each crash. */
void check_step(struct sim *s)
{
    check_those_that_changed(s);
    int64_t n = (int64_t)core_tasks_n(s->core), turn = n ? s->turn++ % n : 0, i = 0;
    const struct task *t;
    LIST_EACH(t, core_tasks(s->core), struct task, node)
    {
        const char *broken = s->shape.days ? NULL : core_invariant(s->core, t);
        if (broken)
            sim_fail(s, "%s: not true: %s", t->id, broken);
        if (i++ == turn)
            check_task(s, t, journal_known(s, t->id));
    }
}

void check_all(struct sim *s)
{
    check_those_that_changed(s);
    const struct task *t;
    LIST_EACH(t, core_tasks(s->core), struct task, node)
        check_task(s, t, journal_known(s, t->id));
}

/* Events leave once, in order, and only when they are durable (laws 1 and 5). */
void check_published(struct sim *s, const struct pump_event *events, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (events[i].pos <= s->published_pos)
            sim_fail(s, "event %" PRId64 " was published twice", events[i].pos);
        s->published_pos = events[i].pos;
    }
    if (n > 0 && s->durable_pos < events[n - 1].pos)
        sim_fail(s, "event %" PRId64 " was published before it was durable", events[n - 1].pos);
}

/* ---- each event, when it becomes durable ---- */

static int64_t number_in(const char *json, const char *name)
{
    const char *p = strstr(json, name);
    return p ? strtoll(p + strlen(name), NULL, 10) : -1;
}

static struct sim_fact *fact_of(struct sim *s, const struct sim_event *e, enum sim_number kind)
{
    static const char *const names[NUMBER_KINDS] = {"\"step\":", "\"call\":\"c", "\"run\":\"r", "\"steer\":\"s",
                                                     "\"wait\":\"w"};
    int64_t n = number_in(e->json, names[kind]);
    if (n < 1)
        sim_fail(s, "%s: an event without its number: %s", e->task, e->json);
    return journal_fact(s, e->task, kind, n);
}

/* A call is answered once, a run ends once, and neither before it began. */
static void check_pair(struct sim *s, const struct sim_event *e, enum sim_number kind, bool begins)
{
    struct sim_fact *f = fact_of(s, e, kind);
    if (begins ? f->begun++ != 0 : f->begun != 1 || f->ended++ != 0)
        sim_fail(s, "%s: not once, or not in order: %s", e->task, e->json);
}

/* Within an epoch each request begins with the whole of the one before (law 6): sizes only ever grow. */
static void check_step_started(struct sim *s, struct sim_task *row, const struct sim_event *e)
{
    int64_t prefix = number_in(e->json, "\"prefix_bytes\":"), bytes = number_in(e->json, "\"request_bytes\":");
    int64_t before = row->request_bytes;
    if (prefix != (before ? before - 10 : 0) || bytes < before)
        sim_fail(s, "%s: the prompt was not only appended to: %s", row->id, e->json);
    row->request_bytes = bytes;
    fact_of(s, e, NUMBER_STEP)->begun = 1; /* again with each attempt */
}

static void check_steer(struct sim *s, const struct sim_event *e)
{
    struct sim_fact *f = fact_of(s, e, NUMBER_STEER);
    bool good = true;
    f->queued |= strstr(e->json, "\"delivery\":\"queue\"") != NULL;
    if (e->kind == EVENT_STEER_ACCEPTED)
        good = f->begun++ == 0;
    else if (e->kind == EVENT_STEER_DELIVERED)
        good = f->begun == 1 && f->ended++ == 0 && !f->waived;
    else
        good = f->ended == 1 && f->seen++ == 0;
    if (!good)
        sim_fail(s, "%s: a steer is not accepted, delivered, seen, once each: %s", e->task, e->json);
}

/* What was not delivered when its task was cancelled is cancelled with it. */
static void waive_steers(struct sim_task *row)
{
    const struct sim_facts *f = &row->facts[NUMBER_STEER];
    for (size_t i = 0; i < f->n; i++)
        f->of[i].waived |= f->of[i].begun && !f->of[i].ended;
}

static void check_wait(struct sim *s, struct sim_task *row, struct sim_event *e)
{
    check_pair(s, e, NUMBER_WAIT, e->kind == EVENT_WAIT_STARTED);
    int64_t n = number_in(e->json, "\"wait\":\"w");
    if (e->kind == EVENT_WAIT_STARTED)
        waits_started(s, row, e, n);
    else
        waits_ended(s, row, e, n);
}

void check_event(struct sim *s, struct sim_task *row, struct sim_event *e)
{
    if (e->seq != row->seq + 1)
        sim_fail(s, "%s: event %" PRId64 " follows event %" PRId64, e->task, e->seq, row->seq);
    row->seq = e->seq;
    if (e->pos <= s->durable_pos)
        sim_fail(s, "pos %" PRId64 " follows %" PRId64, e->pos, s->durable_pos);
    waits_retry(s, row, e);
    switch ((int)e->kind) {
    case EVENT_TOOL_CALLED:
    case EVENT_TOOL_RESULT:
        check_pair(s, e, NUMBER_CALL, e->kind == EVENT_TOOL_CALLED);
        return;
    case EVENT_RUN_STARTED:
    case EVENT_RUN_ENDED:
        check_pair(s, e, NUMBER_RUN, e->kind == EVENT_RUN_STARTED);
        return;
    case EVENT_WAIT_STARTED:
    case EVENT_WAIT_ENDED:
        check_wait(s, row, e);
        return;
    case EVENT_STEP_STARTED:
        check_step_started(s, row, e);
        return;
    case EVENT_STEP_ENDED:
        check_pair(s, e, NUMBER_STEP, false);
        return;
    case EVENT_STEER_ACCEPTED:
    case EVENT_STEER_DELIVERED:
    case EVENT_STEER_SEEN:
        check_steer(s, e);
        return;
    case EVENT_TASK_STATE:
        if (strstr(e->json, "\"to\":\"cancelled\""))
            waive_steers(row);
        return;
    }
}

/* ---- the end ---- */

/* A steer that was acknowledged becomes one item, unless its task was cancelled before. */
static void check_steers(struct sim *s)
{
    for (size_t i = 0; i < s->steers_n; i++) {
        const struct sim_steer *steer = &s->steers[i];
        const struct sim_fact *f = journal_fact(s, steer->task, NUMBER_STEER, steer->n);
        if (f->begun != 1)
            sim_fail(s, "%s: steer s%" PRId64 " was acknowledged and is not in the journal once", steer->task, steer->n);
        if (f->ended != 1 && !f->waived)
            sim_fail(s, "%s: steer s%" PRId64 " was delivered %d times", steer->task, steer->n, f->ended);
    }
}

static void check_pairs(struct sim *s, const struct sim_task *row, enum sim_number kind, const char *what)
{
    const struct sim_facts *f = &row->facts[kind];
    for (size_t i = 0; i < f->n; i++) {
        if (f->of[i].begun != f->of[i].ended)
            sim_fail(s, "%s: %s %zu was begun and never ended", row->id, what, i);
    }
}

static void check_row(struct sim *s, const struct sim_task *row)
{
    check_pairs(s, row, NUMBER_CALL, "call");
    check_pairs(s, row, NUMBER_RUN, "run");
    check_pairs(s, row, NUMBER_WAIT, "wait");
    struct task *t = task_from_snapshot(buf_view(&row->snapshot));
    int64_t bytes = row->context_bytes + 100;
    if (t->context_bytes != bytes || t->context_n != (row->context_n ? row->context_n : 1))
        sim_fail(s, "%s: the state counts %" PRId64 " bytes of prompt, the journal holds %" PRId64, row->id,
                 t->context_bytes, bytes);
    if (t->seq != row->seq)
        sim_fail(s, "%s: the state is of event %" PRId64 ", the journal ends with %" PRId64, row->id, t->seq, row->seq);
    task_free(t);
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
    for (size_t i = 0; i < s->tasks_n; i++)
        journal_load(s, s->tasks[i]->id);
    check_all(s);
    const struct task *t;
    LIST_EACH(t, core_tasks(s->core), struct task, node)
        check_task_end(s, t);
    if (!pump_settled(s->pump))
        sim_fail(s, "something was never committed");
    for (size_t i = 0; i < s->tasks_n; i++)
        check_row(s, s->tasks[i]);
    check_steers(s);
}
