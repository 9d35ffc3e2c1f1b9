/* The set of tasks in memory. */
#include "daemon/core/internal.h"

#include "daemon/base/mem.h"

#include <assert.h>

struct core *core_new(const struct limits *limits)
{
    struct core *c = MEM_NEW(struct core);
    c->limits = *limits;
    list_init(&c->tasks);
    return c;
}

void core_free(struct core *c)
{
    if (!c)
        return;
    struct task *t;
    LIST_EACH(t, &c->tasks, struct task, node)
        task_free(t);
    map_free(&c->by_id);
    map_free(&c->by_name);
    mem_free(c);
}

const struct task *core_task(const struct core *c, const char *id)
{
    return map_get(&c->by_id, str_of(id));
}

const struct task *core_task_named(const struct core *c, struct str name)
{
    return map_get(&c->by_name, name);
}

struct list *core_tasks(struct core *c)
{
    return &c->tasks;
}

size_t core_tasks_n(const struct core *c)
{
    return c->tasks_n;
}

void core_count(struct core *c, const struct task *t, int sign)
{
    c->live_n += task_final(t) ? 0 : sign;
    c->running_n += task_holds_place(t) ? sign : 0;
    c->queued_n += t->state == TASK_STATE_QUEUED ? sign : 0;
}

void core_index_name(struct core *c, struct task *t)
{
    struct str name = str_of(t->name);
    if (!task_final(t) && !map_get(&c->by_name, name))
        map_put(&c->by_name, name, t);
}

void core_unindex_name(struct core *c, struct task *t)
{
    struct str name = str_of(t->name);
    if (map_get(&c->by_name, name) == t)
        map_remove(&c->by_name, name);
}

struct task *core_restore(struct core *c, struct str snapshot)
{
    struct task *t = task_from_snapshot(snapshot);
    if (!t)
        return NULL;
    assert(!core_task(c, t->id));
    list_append(&c->tasks, &t->node);
    map_put(&c->by_id, str_of(t->id), t);
    core_index_name(c, t);
    c->tasks_n++;
    core_count(c, t, +1);
    return t;
}

void core_evict(struct core *c, const char *id)
{
    struct task *t = map_get(&c->by_id, str_of(id));
    if (!t || task_live(t))
        return;
    map_remove(&c->by_id, str_of(id));
    core_unindex_name(c, t);
    core_count(c, t, -1);
    list_remove(&t->node);
    c->tasks_n--;
    task_free(t);
}

void core_run_gone(struct core *c, const char *task, int64_t n)
{
    struct task *t = map_get(&c->by_id, str_of(task));
    struct run *r = t ? task_run_mut(t, n) : NULL;
    if (r && r->ended && !r->gone) {
        r->gone = true;
        t->runs_open--;
    }
}

void core_input_written(struct core *c, const char *task, int64_t n)
{
    struct task *t = map_get(&c->by_id, str_of(task));
    struct call *call = t ? task_call_mut(t, n) : NULL;
    if (call)
        buf_free(&call->input);
}

bool core_adopt(struct core *c, const char *task, const struct clock_now *now)
{
    struct task *t = map_get(&c->by_id, str_of(task));
    bool adopted = clock_deadline_adopt(&t->retry_at, now);
    adopted |= clock_deadline_adopt(&t->idle_at, now);
    struct call *call;
    LIST_EACH(call, &t->calls, struct call, node)
    {
        adopted |= clock_deadline_adopt(&call->yield_at, now);
        /* While no daemon was there nothing was under way: its runner's word is waited for from now on. */
        if (call->input.n && clock_deadline_left(&call->yield_at, now) == 0) {
            call->yield_at = clock_deadline_in(now, 0);
            adopted = true;
        }
    }
    return waits_adopt(t, now) || adopted;
}

enum task_state core_goes_on(const struct core *c, const struct task *t)
{
    return task_holds_place(t) || c->running_n < c->limits.tasks_running_max ? TASK_STATE_RUNNING : TASK_STATE_QUEUED;
}

const struct task *core_admissible(const struct core *c)
{
    if (c->queued_n == 0 || c->running_n >= c->limits.tasks_running_max)
        return NULL;
    const struct task *t;
    LIST_EACH(t, (struct list *)&c->tasks, struct task, node)
    {
        if (t->state == TASK_STATE_QUEUED)
            return t;
    }
    return NULL;
}
