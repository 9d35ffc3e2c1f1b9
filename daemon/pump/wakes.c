#include "daemon/pump/wakes.h"

#include "daemon/base/mem.h"

struct wake {
    int64_t at_ms;
    size_t place; /* in the heap */
    char *task;
};

static bool sooner(const struct wake *a, const struct wake *b)
{
    return a->at_ms < b->at_ms || (a->at_ms == b->at_ms && strcmp(a->task, b->task) < 0);
}

static void put(struct wakes *w, size_t place, struct wake *one)
{
    w->heap[place] = one;
    one->place = place;
}

/* Moves the one at a place up or down to where it belongs. */
static void settle(struct wakes *w, size_t i)
{
    struct wake *one = w->heap[i];
    for (; i > 0 && sooner(one, w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        put(w, i, w->heap[(i - 1) / 2]);
    for (size_t child; (child = 2 * i + 1) < w->n; i = child) {
        if (child + 1 < w->n && sooner(w->heap[child + 1], w->heap[child]))
            child++;
        if (!sooner(w->heap[child], one))
            break;
        put(w, i, w->heap[child]);
    }
    put(w, i, one);
}

static void forget(struct wakes *w, struct wake *one)
{
    size_t place = one->place;
    map_remove(&w->by_task, str_of(one->task));
    mem_free(one->task);
    mem_free(one);
    if (--w->n == place)
        return;
    put(w, place, w->heap[w->n]);
    settle(w, place);
}

void wakes_set(struct wakes *w, const char *task, int64_t at_ms)
{
    struct wake *one = map_get(&w->by_task, str_of(task));
    if (at_ms == INT64_MAX) {
        if (one)
            forget(w, one);
        return;
    }
    if (!one) {
        if (w->n == w->cap) {
            w->cap = w->cap ? w->cap * 2 : 16;
            w->heap = mem_realloc(w->heap, w->cap * sizeof *w->heap);
        }
        one = MEM_NEW(struct wake);
        one->task = mem_strdup(task);
        map_put(&w->by_task, str_of(one->task), one);
        put(w, w->n++, one);
    } else if (one->at_ms == at_ms) {
        return;
    }
    one->at_ms = at_ms;
    settle(w, one->place);
}

const char *wakes_first(const struct wakes *w, int64_t *ret_at_ms)
{
    if (w->n == 0)
        return NULL;
    *ret_at_ms = w->heap[0]->at_ms;
    return w->heap[0]->task;
}

void wakes_free(struct wakes *w)
{
    for (size_t i = 0; i < w->n; i++) {
        mem_free(w->heap[i]->task);
        mem_free(w->heap[i]);
    }
    mem_free(w->heap);
    map_free(&w->by_task);
    *w = (struct wakes){0};
}
