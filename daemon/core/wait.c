/* Waits: what ends one, as far as the state and the time can tell. What they cannot (a file that changed) comes in as an input. */
#include "daemon/core/internal.h"

#include "daemon/base/mem.h"

#define CLOCK_LOOK_MS 60000 /* the wall clock may be set at any moment: nobody looks less often at what waits for it */

void wait_begin(struct task *t, int64_t n, const struct clock_now *now, int64_t call, const struct call_spec *spec)
{
    struct wait *w = MEM_NEW(struct wait);
    w->n = t->waits_n = n;
    w->call = call;
    w->conditions_n = spec->conditions_n;
    w->conditions = mem_alloc((spec->conditions_n + 1) * sizeof *w->conditions);
    for (size_t i = 0; i < spec->conditions_n; i++) {
        struct condition *c = &w->conditions[i];
        *c = spec->conditions[i];
        c->at = (struct clock_deadline){0};
        if (c->path.p)
            c->path.p = mem_dup(c->path.p, c->path.n);
        if (c->kind == CONDITION_TIME || c->kind == CONDITION_QUOTA)
            c->at = clock_deadline_in(now, c->delay_ms);
    }
    list_append(&t->waits, &w->node);
}

/* A run that is not known any more has ended long ago. */
static bool run_over(const struct task *t, int64_t n)
{
    const struct run *r = task_run(t, n);
    return !r || r->ended;
}

static bool condition_true(const struct task *t, const struct condition *c, const struct clock_now *now)
{
    switch (c->kind) {
    case CONDITION_TIME:
    case CONDITION_QUOTA:
        return clock_deadline_left(&c->at, now) == 0;
    case CONDITION_CLOCK:
        return now->wall_ms >= c->wall_ms;
    case CONDITION_RUN:
        return run_over(t, c->run);
    case CONDITION_ANSWER:
        return t->steers_pending > 0;
    case CONDITION_FILE:
        return false; /* EFFECT_WATCH says so */
    }
    return false;
}

const struct condition *wait_true(const struct task *t, const struct wait *w, const struct clock_now *now)
{
    for (size_t i = 0; i < w->conditions_n; i++) {
        if (condition_true(t, &w->conditions[i], now))
            return &w->conditions[i];
    }
    return NULL;
}

static int64_t condition_wake(const struct condition *c, const struct clock_now *now)
{
    if (c->kind != CONDITION_CLOCK)
        return clock_deadline_left(&c->at, now);
    if (now->wall_ms >= c->wall_ms)
        return 0;
    int64_t left = c->wall_ms - now->wall_ms, look = CLOCK_LOOK_MS - now->boot_ms % CLOCK_LOOK_MS; /* all at one moment */
    return left < look ? left : look;
}

int64_t waits_wake(const struct task *t, const struct clock_now *now)
{
    int64_t left = INT64_MAX;
    const struct wait *w;
    LIST_EACH(w, (struct list *)&t->waits, struct wait, node)
    {
        for (size_t i = 0; i < w->conditions_n; i++) {
            int64_t ms = condition_wake(&w->conditions[i], now);
            left = ms < left ? ms : left;
        }
    }
    return left;
}

bool waits_adopt(struct task *t, const struct clock_now *now)
{
    bool adopted = false;
    struct wait *w;
    LIST_EACH(w, &t->waits, struct wait, node)
    {
        for (size_t i = 0; i < w->conditions_n; i++)
            adopted |= clock_deadline_adopt(&w->conditions[i].at, now);
    }
    return adopted;
}

bool task_only_waits(const struct task *t)
{
    const struct call *c;
    LIST_EACH(c, (struct list *)&t->calls, struct call, node)
    {
        if (c->sort != CALL_SORT_WAIT)
            return false;
    }
    return t->calls_open > 0;
}
