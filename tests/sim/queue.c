/* A binary heap: what happens next. Of two things at one moment the one that was planned first comes first. */
#include "sim.h"

#include "daemon/base/mem.h"

static bool sooner(const struct action *a, const struct action *b)
{
    return a->at_ms < b->at_ms || (a->at_ms == b->at_ms && a->order < b->order);
}

int64_t queue_put(struct queue *q, const struct action *a)
{
    GROW(q->actions, q->n, q->cap);
    struct action action = *a;
    action.order = ++q->order;
    size_t i = q->n++;
    for (; i > 0 && sooner(&action, &q->actions[(i - 1) / 2]); i = (i - 1) / 2)
        q->actions[i] = q->actions[(i - 1) / 2];
    q->actions[i] = action;
    return action.order;
}

bool queue_take(struct queue *q, struct action *ret)
{
    if (q->n == 0)
        return false;
    *ret = q->actions[0];
    struct action last = q->actions[--q->n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < q->n; i = child) {
        if (child + 1 < q->n && sooner(&q->actions[child + 1], &q->actions[child]))
            child++;
        if (!sooner(&q->actions[child], &last))
            break;
        q->actions[i] = q->actions[child];
    }
    q->actions[i] = last;
    return true;
}

void queue_free(struct queue *q)
{
    mem_free(q->actions);
    *q = (struct queue){0};
}
