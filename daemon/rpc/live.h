#pragma once
/* Live text that is not in the journal yet: the items of a model's stream as far as they came, and how much
 * output each run has. It is state only, and knows no connection: each reader is a number with an offset in
 * every item. What ends is forgotten at once, because the journal has it from then on. Calls: base. */
#include "daemon/base/list.h"
#include "daemon/core/types.h"

/* How far one reader has read. None yet is 0. */
struct live_offset {
    uint64_t reader;
    int64_t offset;
};

struct live_offsets {
    struct live_offset *p;
    size_t n, cap;
};

struct live_item {
    struct list node;
    int64_t step, attempt, item;
    enum delta_kind kind;
    struct buf text; /* valid UTF-8 */
    struct live_offsets offsets;
};

struct live_run {
    struct list node;
    int64_t run, total;
    struct live_offsets offsets;
};

struct live_task {
    struct list node, changed_node;
    char id[TASK_ID_SIZE];
    struct list items, runs;
    size_t text_bytes; /* of all items */
    bool full;
};

#define LIVE_BUCKETS 64

struct live {
    struct list buckets[LIVE_BUCKETS];
    struct list changed; /* tasks with news since live_settle() */
    size_t text_bytes_max;
};

void live_init(struct live *l, size_t text_bytes_max);
void live_free(struct live *l);

/* NULL if nothing of it is live. */
struct live_task *live_find(struct live *l, const char *task);
/* Text beyond the bound is dropped: the event that ends the item has all of it. */
void live_text(struct live *l, const char *task, const struct live_item *where, struct str text);
void live_text_end(struct live *l, const char *task);
void live_run(struct live *l, const char *task, int64_t run, int64_t total);
void live_run_end(struct live *l, const char *task, int64_t run);
struct live_run *live_run_find(struct live_task *t, int64_t run);
/* The news were handed out. */
void live_settle(struct live_task *t);
/* A reader is gone. */
void live_forget(struct live *l, uint64_t reader);

/* Where the reader's offset is kept; valid until the next call. */
int64_t *live_offset(struct live_offsets *o, uint64_t reader);
