/*~ Which effects should be in flight is a function of the state, and of nothing else: this one. After a crash it says the same as
 * before, so there is no second path for recovery (law 2). */
#include "daemon/core/internal.h"

static void put(struct effect *ret, size_t max, size_t *n, enum effect_kind kind, int64_t a, int64_t b)
{
    if (*n < max)
        ret[*n] = (struct effect){.kind = kind, .a = a, .b = b};
    ++*n;
}

size_t core_effects(const struct task *t, struct effect *ret, size_t max)
{
    size_t n = 0;
    if (t->phase == PHASE_REQUEST)
        put(ret, max, &n, EFFECT_MODEL, t->steps, t->attempt);
    const struct run *r;
    LIST_EACH(r, (struct list *)&t->runs, struct run, node)
    {
        if (r->gone)
            continue;
        put(ret, max, &n, EFFECT_RUN, r->n, 0);
        if (r->kill)
            put(ret, max, &n, EFFECT_KILL, r->n, 0);
    }
    const struct call *c;
    LIST_EACH(c, (struct list *)&t->calls, struct call, node)
    {
        const struct run *run = c->input.n ? task_run(t, c->run) : NULL;
        if (run && !run->ended)
            put(ret, max, &n, EFFECT_INPUT, c->n, 0);
    }
    const struct wait *w;
    LIST_EACH(w, (struct list *)&t->waits, struct wait, node)
    {
        for (size_t i = 0; i < w->conditions_n; i++) {
            if (w->conditions[i].kind == CONDITION_FILE)
                put(ret, max, &n, EFFECT_WATCH, w->n, (int64_t)i);
        }
    }
    return n;
}

#define INPUT_WAIT_MS 30000 /* for the runner's word on input, beyond what the call waits for */

/* A call is not answered as if its input had been written while nobody knows: the word on that comes in milliseconds. */
static int64_t call_left(const struct task *t, const struct call *c, const struct clock_now *now)
{
    const struct run *run = c->input.n ? task_run(t, c->run) : NULL;
    int64_t more_ms = run && !run->ended ? INPUT_WAIT_MS : 0;
    struct clock_deadline d = c->yield_at;
    d.delay_ms += more_ms;
    d.boot_ms += more_ms;
    d.wall_ms += more_ms;
    return clock_deadline_left(&d, now);
}

const struct call *core_call_due(const struct task *t, const struct clock_now *now)
{
    const struct call *c;
    LIST_EACH(c, (struct list *)&t->calls, struct call, node)
    {
        if (c->run && call_left(t, c, now) == 0)
            return c;
    }
    return NULL;
}

static int64_t sooner(int64_t left, const struct clock_deadline *d, const struct clock_now *now)
{
    int64_t ms = clock_deadline_left(d, now);
    return ms < left ? ms : left;
}

int64_t core_wake(const struct core *c, const struct task *t, const struct clock_now *now)
{
    (void)c;
    int64_t left = waits_wake(t, now);
    const struct call *call;
    LIST_EACH(call, (struct list *)&t->calls, struct call, node)
    {
        int64_t ms = call->run ? call_left(t, call, now) : INT64_MAX;
        left = ms < left ? ms : left;
    }
    if (t->phase == PHASE_BACKOFF && t->state != TASK_STATE_PAUSED && t->state != TASK_STATE_QUEUED)
        left = sooner(left, &t->retry_at, now);
    if (t->runs_open > 0)
        left = sooner(left, &t->idle_at, now);
    return left;
}
