#include "live.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"

#include <stdio.h>

void live_init(struct live *l, size_t text_bytes_max)
{
    *l = (struct live){.text_bytes_max = text_bytes_max};
    list_init(&l->changed);
    for (size_t i = 0; i < LIVE_BUCKETS; i++)
        list_init(&l->buckets[i]);
}

static void item_free(struct live_item *item)
{
    list_remove(&item->node);
    buf_free(&item->text);
    mem_free(item->offsets.p);
    mem_free(item);
}

static void run_free(struct live_run *run)
{
    list_remove(&run->node);
    mem_free(run->offsets.p);
    mem_free(run);
}

static void items_free(struct live_task *t)
{
    struct live_item *item;
    LIST_EACH(item, &t->items, struct live_item, node)
    {
        item_free(item);
    }
    t->text_bytes = 0;
    t->full = false;
}

static void task_free_if_empty(struct live_task *t)
{
    if (!list_empty(&t->items) || !list_empty(&t->runs))
        return;
    list_remove(&t->node);
    list_remove(&t->changed_node);
    mem_free(t);
}

void live_free(struct live *l)
{
    for (size_t i = 0; i < LIVE_BUCKETS; i++) {
        struct live_task *t;
        LIST_EACH(t, &l->buckets[i], struct live_task, node)
        {
            struct live_run *run;
            LIST_EACH(run, &t->runs, struct live_run, node)
            {
                run_free(run);
            }
            items_free(t);
            task_free_if_empty(t);
        }
    }
}

/* FNV-1a */
static struct list *bucket(struct live *l, const char *task)
{
    uint32_t h = 2166136261u;
    for (const char *p = task; *p; p++)
        h = (h ^ (unsigned char)*p) * 16777619u;
    return &l->buckets[h % LIVE_BUCKETS];
}

struct live_task *live_find(struct live *l, const char *task)
{
    struct live_task *t;
    LIST_EACH(t, bucket(l, task), struct live_task, node)
    {
        if (strcmp(t->id, task) == 0)
            return t;
    }
    return NULL;
}

static struct live_task *find_or_add(struct live *l, const char *task)
{
    struct live_task *t = live_find(l, task);
    if (t)
        return t;
    t = MEM_NEW(struct live_task);
    snprintf(t->id, sizeof t->id, "%s", task);
    list_init(&t->items);
    list_init(&t->runs);
    list_init(&t->changed_node);
    list_append(bucket(l, task), &t->node);
    return t;
}

static void changed(struct live *l, struct live_task *t)
{
    list_remove(&t->changed_node);
    list_append(&l->changed, &t->changed_node);
}

static struct live_item *item_find(struct live_task *t, const struct live_item *where)
{
    struct live_item *item;
    LIST_EACH(item, &t->items, struct live_item, node)
    {
        if (item->item == where->item && item->kind == where->kind)
            return item;
    }
    return NULL;
}

static struct live_item *item_add(struct live_task *t, const struct live_item *where)
{
    struct live_item *item = MEM_NEW(struct live_item);
    item->step = where->step;
    item->attempt = where->attempt;
    item->item = where->item;
    item->kind = where->kind;
    list_append(&t->items, &item->node);
    return item;
}

/* All items of a task are of one attempt; what the one before said is void. */
static bool other_attempt(const struct live_task *t, const struct live_item *where)
{
    if (list_empty(&t->items))
        return false;
    const struct live_item *item = LIST_ENTRY(t->items.next, struct live_item, node);
    return item->step != where->step || item->attempt != where->attempt;
}

void live_text(struct live *l, const char *task, const struct live_item *where, struct str text)
{
    struct live_task *t = find_or_add(l, task);
    if (other_attempt(t, where))
        items_free(t);
    struct live_item *item = item_find(t, where);
    if (!item)
        item = item_add(t, where);
    t->full = t->full || t->text_bytes + text.n > l->text_bytes_max;
    if (t->full)
        return; /* a hole in the text would be worse than its end */
    size_t before = item->text.n;
    utf8_put_valid(&item->text, text, false);
    t->text_bytes += item->text.n - before;
    changed(l, t);
}

void live_text_end(struct live *l, const char *task)
{
    struct live_task *t = live_find(l, task);
    if (!t)
        return;
    items_free(t);
    task_free_if_empty(t);
}

struct live_run *live_run_find(struct live_task *t, int64_t run)
{
    struct live_run *it;
    LIST_EACH(it, &t->runs, struct live_run, node)
    {
        if (it->run == run)
            return it;
    }
    return NULL;
}

void live_run(struct live *l, const char *task, int64_t run, int64_t total)
{
    struct live_task *t = find_or_add(l, task);
    struct live_run *it = live_run_find(t, run);
    if (!it) {
        it = MEM_NEW(struct live_run);
        it->run = run;
        list_append(&t->runs, &it->node);
    }
    it->total = total;
    changed(l, t);
}

void live_run_end(struct live *l, const char *task, int64_t run)
{
    struct live_task *t = live_find(l, task);
    struct live_run *it = t ? live_run_find(t, run) : NULL;
    if (!it)
        return;
    run_free(it);
    task_free_if_empty(t);
}

void live_settle(struct live_task *t)
{
    list_remove(&t->changed_node);
}

static void offsets_forget(struct live_offsets *o, uint64_t reader)
{
    for (size_t i = 0; i < o->n; i++) {
        if (o->p[i].reader == reader) {
            o->p[i] = o->p[--o->n];
            return;
        }
    }
}

void live_forget(struct live *l, uint64_t reader)
{
    for (size_t i = 0; i < LIVE_BUCKETS; i++) {
        struct live_task *t;
        LIST_EACH(t, &l->buckets[i], struct live_task, node)
        {
            struct live_item *item;
            LIST_EACH(item, &t->items, struct live_item, node)
            {
                offsets_forget(&item->offsets, reader);
            }
            struct live_run *run;
            LIST_EACH(run, &t->runs, struct live_run, node)
            {
                offsets_forget(&run->offsets, reader);
            }
        }
    }
}

int64_t *live_offset(struct live_offsets *o, uint64_t reader)
{
    for (size_t i = 0; i < o->n; i++) {
        if (o->p[i].reader == reader)
            return &o->p[i].offset;
    }
    if (o->n == o->cap) {
        o->cap = o->cap ? o->cap * 2 : 4;
        o->p = mem_realloc(o->p, o->cap * sizeof *o->p);
    }
    o->p[o->n] = (struct live_offset){.reader = reader};
    return &o->p[o->n++].offset;
}
