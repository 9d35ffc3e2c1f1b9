/* The task and what it holds: memory, look-ups, its view. No decision is taken here. */
#include "daemon/core/internal.h"

#include "daemon/base/mem.h"

#include <stdio.h>

struct task *task_new(const char *id)
{
    struct task *t = MEM_NEW(struct task);
    snprintf(t->id, sizeof t->id, "%s", id);
    list_init(&t->node);
    list_init(&t->steers);
    list_init(&t->notes);
    list_init(&t->calls);
    list_init(&t->runs);
    list_init(&t->waits);
    return t;
}

void steer_free(struct steer *s)
{
    list_remove(&s->node);
    mem_free(s->text);
    mem_free(s);
}

void note_free(struct note *n)
{
    list_remove(&n->node);
    mem_free(n->text);
    mem_free(n->media_type);
    mem_free(n);
}

void call_free(struct call *c)
{
    list_remove(&c->node);
    mem_free(c->wire_id);
    mem_free(c->tool);
    buf_free(&c->input);
    mem_free(c);
}

void run_free(struct run *r)
{
    list_remove(&r->node);
    mem_free(r->command);
    mem_free(r->workdir);
    buf_free(&r->payload);
    mem_free(r);
}

void wait_free(struct wait *w)
{
    list_remove(&w->node);
    for (size_t i = 0; i < w->conditions_n; i++)
        mem_free((char *)w->conditions[i].path.p);
    mem_free(w->conditions);
    mem_free(w);
}

void task_free(struct task *t)
{
    struct steer *s;
    LIST_EACH(s, &t->steers, struct steer, node)
        steer_free(s);
    struct note *n;
    LIST_EACH(n, &t->notes, struct note, node)
        note_free(n);
    struct call *c;
    LIST_EACH(c, &t->calls, struct call, node)
        call_free(c);
    struct run *r;
    LIST_EACH(r, &t->runs, struct run, node)
        run_free(r);
    struct wait *w;
    LIST_EACH(w, &t->waits, struct wait, node)
        wait_free(w);
    mem_free(t->name);
    mem_free(t->objective);
    mem_free(t->workspace);
    mem_free(t->model);
    mem_free(t->policy);
    mem_free(t->waiting_detail);
    mem_free(t->last_text);
    mem_free(t);
}

void task_set_text(char **to, struct str text)
{
    char *copy = text.p ? mem_dup(text.p, text.n) : NULL;
    mem_free(*to);
    *to = copy;
}

bool task_final(const struct task *t)
{
    return t->state == TASK_STATE_COMPLETED || t->state == TASK_STATE_FAILED || t->state == TASK_STATE_CANCELLED;
}

bool task_live(const struct task *t)
{
    return !task_final(t) || t->runs_open > 0 || t->steers_pending > 0;
}

struct run *task_run_mut(struct task *t, int64_t n)
{
    struct run *r;
    LIST_EACH(r, &t->runs, struct run, node)
    {
        if (r->n == n)
            return r;
    }
    return NULL;
}

const struct run *task_run(const struct task *t, int64_t n)
{
    return task_run_mut((struct task *)t, n);
}

struct call *task_call_mut(struct task *t, int64_t n)
{
    struct call *c;
    LIST_EACH(c, &t->calls, struct call, node)
    {
        if (c->n == n)
            return c;
    }
    return NULL;
}

const struct call *task_call(const struct task *t, int64_t n)
{
    return task_call_mut((struct task *)t, n);
}

struct wait *task_wait_mut(struct task *t, int64_t n)
{
    struct wait *w;
    LIST_EACH(w, &t->waits, struct wait, node)
    {
        if (w->n == n)
            return w;
    }
    return NULL;
}

const struct wait *task_wait(const struct task *t, int64_t n)
{
    return task_wait_mut((struct task *)t, n);
}

/* A token has three bytes or more in what agents send; the answer may have been as long as it was allowed to be. */
int64_t task_attempt_cost_max(const struct task *t)
{
    int64_t input_tokens = (t->prefix_bytes + t->tail_bytes) / 3;
    return input_tokens * t->price_input + t->max_output_tokens * t->price_output;
}

bool task_holds_place(const struct task *t)
{
    if (t->phase == PHASE_IDLE || t->state == TASK_STATE_PAUSED || t->state == TASK_STATE_QUEUED)
        return false;
    return t->state != TASK_STATE_WAITING || t->phase == PHASE_REQUEST || t->phase == PHASE_BACKOFF;
}

int64_t task_steers_due(const struct task *t)
{
    int64_t n = 0;
    const struct steer *s;
    LIST_EACH(s, (struct list *)&t->steers, struct steer, node)
    n += s->delivered_step == 0 && s->delivery != DELIVERY_QUEUE;
    return n;
}

void task_view(const struct task *t, struct proto_task *ret)
{
    *ret = (struct proto_task){
        .id = str_of(t->id),
        .name = str_of(t->name),
        .state = t->state,
        .activity = str_of(t->activity),
        .workspace = str_of(t->workspace),
        .model = str_of(t->model),
        .created_at = t->created_ms,
        .updated_at = t->updated_ms,
        .turns = t->turns,
        .steps = t->steps,
        .runs = t->runs_n,
        .seq = t->seq,
        .usage = t->usage,
        .pending = {.steers = t->steers_pending},
    };
    if (t->state == TASK_STATE_WAITING) {
        ret->has_waiting = true;
        ret->waiting = (struct proto_waiting){
            .for_ = t->waiting_for, .until = t->waiting_until_ms, .detail = str_of(t->waiting_detail)};
    }
}
