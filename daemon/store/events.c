/* Pages of events, and the bytes of prompts. */
#include "daemon/base/log.h"
#include "daemon/store/state.h"

#include <inttypes.h>

int store_content(struct store *s, sqlite3_stmt *q, int at, struct buf *large, struct str *ret)
{
    if (sqlite3_column_type(q, at) != SQLITE_NULL) {
        *ret = db_column(q, at);
        return 0;
    }
    struct str hash = db_column(q, at + 1);
    buf_clear(large);
    int rc = hash.n == BLOB_HASH_SIZE
                 ? blobs_read(&s->blobs, (const uint8_t *)hash.p, sqlite3_column_int64(q, at + 2), large)
                 : -1;
    if (rc) {
        log_error("a file of the folder blobs is missing or damaged: %s", strerror(-rc));
        return STORE_E_FOREIGN;
    }
    *ret = buf_view(large);
    return 0;
}

/* Known before it is read, so that the bound of a page holds for large content too. */
static int64_t content_bytes(sqlite3_stmt *q, int at)
{
    return sqlite3_column_type(q, at) == SQLITE_NULL ? sqlite3_column_int64(q, at + 2)
                                                     : sqlite3_column_bytes(q, at);
}

/* Runs a bound statement whose columns are QUERY_EVENT_COLUMNS, and the task's id where the page is of all
 * tasks. */
static int events_walk(struct store *s, sqlite3_stmt *q, const char *task, int64_t bytes, store_event_cb *cb,
                       void *arg)
{
    CLEANUP(buf_free) struct buf large = {0};
    int64_t given = 0;
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        int64_t n = content_bytes(q, 2);
        if (given && n > bytes - given)
            return 0;
        given += n;
        struct store_event event = {.pos = sqlite3_column_int64(q, 0),
                                    .seq = sqlite3_column_int64(q, 1),
                                    .task = task ? task : (const char *)sqlite3_column_text(q, 5)};
        int status = store_content(s, q, 2, &large, &event.json);
        if (!status)
            status = cb(arg, &event);
        if (status)
            return status;
    }
    return rc == SQLITE_DONE ? 0 : store_read_failed(s, "cannot read events");
}

static int events_of_task(struct store *s, enum query query, const char *task, int64_t from, int64_t limit,
                          int64_t bytes, store_event_cb *cb, void *arg)
{
    int64_t n;
    int status = store_task_number(s, task, &n);
    if (status)
        return status == STORE_E_NONE ? 0 : status;
    CLEANUP_QUERY *q = db_query(&s->reader, query);
    if (!q)
        return store_read_failed(s, "cannot read events");
    sqlite3_bind_int64(q, 1, n);
    sqlite3_bind_int64(q, 2, from);
    sqlite3_bind_int64(q, 3, limit < 0 ? 0 : limit);
    return events_walk(s, q, task, bytes, cb, arg);
}

int store_events_after(struct store *s, const char *task, int64_t after, int64_t limit, int64_t bytes,
                       store_event_cb *cb, void *arg)
{
    return events_of_task(s, QUERY_EVENTS_AFTER, task, after, limit, bytes, cb, arg);
}

int store_events_before(struct store *s, const char *task, int64_t before, int64_t limit, int64_t bytes,
                        store_event_cb *cb, void *arg)
{
    return events_of_task(s, QUERY_EVENTS_BEFORE, task, before, limit, bytes, cb, arg);
}

int store_journal_after(struct store *s, int64_t after, int64_t limit, int64_t bytes, store_event_cb *cb,
                        void *arg)
{
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_JOURNAL_AFTER);
    if (!q)
        return store_read_failed(s, "cannot read the journal");
    sqlite3_bind_int64(q, 1, after);
    sqlite3_bind_int64(q, 2, limit < 0 ? 0 : limit);
    return events_walk(s, q, NULL, bytes, cb, arg);
}

/* Elements 0, 1, 2 ... of the prompt, none missing: a prompt with a hole would be another prompt. */
static int context_walk(struct store *s, sqlite3_stmt *q, struct buf *ret)
{
    CLEANUP(buf_free) struct buf large = {0};
    int64_t next = 0;
    int rc;
    for (; (rc = sqlite3_step(q)) == SQLITE_ROW; next++) {
        struct str bytes;
        int status = store_content(s, q, 1, &large, &bytes);
        if (status)
            return status;
        if (sqlite3_column_int64(q, 0) != next) {
            log_error("element %" PRId64 " of a stored prompt is missing", next);
            return STORE_E_FOREIGN;
        }
        if (next > 1)
            buf_putc(ret, ',');
        buf_str(ret, bytes);
    }
    if (rc != SQLITE_DONE)
        return store_read_failed(s, "cannot read a stored prompt");
    return next ? 0 : STORE_E_NONE;
}

int store_context_read(struct store *s, const char *task, int64_t epoch, struct buf *ret)
{
    int64_t n;
    int status = store_task_number(s, task, &n);
    if (status)
        return status;
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_CONTEXT);
    if (!q)
        return store_read_failed(s, "cannot read a stored prompt");
    sqlite3_bind_int64(q, 1, n);
    sqlite3_bind_int64(q, 2, epoch);
    size_t before = ret->n;
    status = context_walk(s, q, ret);
    if (status && ret->p) {
        ret->n = before;
        ret->p[before] = 0;
    }
    return status;
}
