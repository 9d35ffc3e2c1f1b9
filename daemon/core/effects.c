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
    return n;
}

const struct call *core_call_due(const struct task *t, const struct clock_now *now)
{
    const struct call *c;
    LIST_EACH(c, (struct list *)&t->calls, struct call, node)
    {
        if (c->run && clock_deadline_left(&c->yield_at, now) == 0)
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
    int64_t left = INT64_MAX;
    const struct call *call;
    LIST_EACH(call, (struct list *)&t->calls, struct call, node)
    {
        if (call->run)
            left = sooner(left, &call->yield_at, now);
    }
    if (t->phase == PHASE_BACKOFF && t->state != TASK_STATE_PAUSED)
        left = sooner(left, &t->retry_at, now);
    if (t->runs_open > 0)
        left = sooner(left, &t->idle_at, now);
    return left;
}
