#include "batch.h"

#include "daemon/base/mem.h"

#define BATCH_ROWS_MIN 16
#define BATCH_PAGES_BYTES 65536 /* of the log, for the pages that a commit changes whatever it holds */
#define BATCH_ROW_BYTES 1024    /* for the indexes that each row is in */

struct store_batch *store_batch_new(void)
{
    return MEM_NEW(struct store_batch);
}

void store_batch_free(struct store_batch *b)
{
    if (!b)
        return;
    buf_free(&b->arena);
    mem_free(b->rows);
    mem_free(b);
}

struct str batch_bytes(const struct store_batch *b, struct slice s)
{
    return s.present ? str_n(b->arena.p + s.at, s.n) : STR_NONE;
}

int64_t batch_pos_last(const struct store_batch *b)
{
    for (size_t i = b->rows_n; i > 0; i--) {
        if (b->rows[i - 1].kind == BATCH_EVENT)
            return b->rows[i - 1].event.pos;
    }
    return 0;
}

struct content *batch_large(struct batch_row *row)
{
    struct content *c = row->kind == BATCH_EVENT     ? &row->event.json
                        : row->kind == BATCH_CONTEXT ? &row->context.bytes
                                                     : NULL;
    return c && c->bytes.n > BLOB_BYTES_MIN && !c->in_row ? c : NULL;
}

int64_t batch_log_bytes(const struct store_batch *b)
{
    return BATCH_PAGES_BYTES + (int64_t)(b->arena.n + b->arena.n / 8 + b->rows_n * BATCH_ROW_BYTES);
}

void store_batch_stops(struct store_batch *b)
{
    b->stops = true;
}

bool store_batch_has_stop(const struct store_batch *b)
{
    return b->stops;
}

static struct slice batch_copy(struct store_batch *b, struct str s)
{
    struct slice slice = {b->arena.n, s.n, s.p != NULL};
    buf_put(&b->arena, s.p, s.n);
    return slice;
}

static struct slice batch_task(struct store_batch *b, const char *task)
{
    struct str id = str_of(task);
    if (!id.p || !b->task.present || !str_eq(batch_bytes(b, b->task), id))
        b->task = batch_copy(b, id);
    return b->task;
}

/* A zeroed row: what a kind does not set is absent. */
static struct batch_row *batch_row(struct store_batch *b, enum batch_kind kind, const char *task)
{
    if (b->rows_n == b->rows_cap) {
        b->rows_cap = b->rows_cap ? 2 * b->rows_cap : BATCH_ROWS_MIN;
        b->rows = mem_realloc(b->rows, b->rows_cap * sizeof *b->rows);
    }
    struct batch_row *row = &b->rows[b->rows_n++];
    *row = (struct batch_row){.kind = kind};
    if (task)
        row->task = batch_task(b, task);
    return row;
}

void store_batch_event(struct store_batch *b, int64_t pos, const char *task, int64_t seq, int kind,
                       int64_t at_ms, struct str json)
{
    struct batch_row *row = batch_row(b, BATCH_EVENT, task);
    row->event.pos = pos;
    row->event.seq = seq;
    row->event.kind = kind;
    row->event.at_ms = at_ms;
    row->event.json.bytes = batch_copy(b, json);
}

void store_batch_context(struct store_batch *b, const char *task, int64_t epoch, int64_t index,
                         struct str bytes)
{
    struct batch_row *row = batch_row(b, BATCH_CONTEXT, task);
    row->context.epoch = epoch;
    row->context.index = index;
    row->context.bytes.bytes = batch_copy(b, bytes);
}

void store_batch_task(struct store_batch *b, const struct store_task *task)
{
    struct batch_row *row = batch_row(b, BATCH_TASK, task->id);
    row->entry.state = task->state;
    row->entry.live = task->live;
    row->entry.seq = task->seq;
    row->entry.created_ms = task->created_ms;
    row->entry.updated_ms = task->updated_ms;
    row->entry.name = batch_copy(b, str_of(task->name));
    row->entry.snapshot = batch_copy(b, task->snapshot);
    row->entry.spec = batch_copy(b, task->spec);
}

void store_batch_key(struct store_batch *b, const char *key, const char *task, struct str digest,
                     struct str result, int64_t at_ms)
{
    struct batch_row *row = batch_row(b, BATCH_KEY, task);
    row->key.at_ms = at_ms;
    row->key.key = batch_copy(b, str_of(key));
    row->key.digest = batch_copy(b, digest);
    row->key.result = batch_copy(b, result);
}

void store_batch_meta(struct store_batch *b, const char *name, struct str value)
{
    struct batch_row *row = batch_row(b, BATCH_META, NULL);
    row->meta.name = batch_copy(b, str_of(name));
    row->meta.value = batch_copy(b, value);
}
