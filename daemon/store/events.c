/* Pages of events, and the bytes of prompts. */
#include "daemon/base/log.h"
#include "daemon/store/page.h"

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
    if (rc)
        return store_read_damaged(s, "a file of the folder blobs is missing or damaged: %s", strerror(-rc));
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
static int events_walk(struct page *p, sqlite3_stmt *q, const char *task)
{
    CLEANUP(buf_free) struct buf large = {0};
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        if (!page_room(p, content_bytes(q, 2)))
            return 0;
        struct store_event event = {.pos = sqlite3_column_int64(q, 0),
                                    .seq = sqlite3_column_int64(q, 1),
                                    .task = task ? task : (const char *)sqlite3_column_text(q, 5)};
        int status = store_content(p->store, q, 2, &large, &event.json);
        if (!status)
            status = page_give(p, &event);
        if (status)
            return status;
    }
    return rc == SQLITE_DONE ? 0 : store_read_failed(p->store, "cannot read events");
}

/* Those of a task that are in rows of their own. */
static int events_of_rows(struct page *p, enum query query, int64_t n, const char *task, int64_t from)
{
    CLEANUP_QUERY *q = db_query(&p->store->reader, query);
    if (!q)
        return store_read_failed(p->store, "cannot read events");
    sqlite3_bind_int64(q, 1, n);
    sqlite3_bind_int64(q, 2, from);
    sqlite3_bind_int64(q, 3, p->limit < 0 ? 0 : p->limit);
    return events_walk(p, q, task);
}

/* What is in blocks comes before what is in rows. */
int store_events_after(struct store *s, const char *task, int64_t after, int64_t limit, int64_t bytes,
                       store_event_cb *cb, void *arg)
{
    struct page p = {.store = s, .limit = limit, .bytes = bytes, .cb = cb, .arg = arg};
    int64_t n;
    STORE_READ(s);
    int status = store_task_number(s, task, &n);
    if (status)
        return status == STORE_E_NONE ? 0 : status;
    status = archive_events_after(&p, n, task, after);
    return status || p.full ? status : events_of_rows(&p, QUERY_EVENTS_AFTER, n, task, after);
}

int store_events_before(struct store *s, const char *task, int64_t before, int64_t limit, int64_t bytes,
                        store_event_cb *cb, void *arg)
{
    struct page p = {.store = s, .limit = limit, .bytes = bytes, .cb = cb, .arg = arg};
    int64_t n;
    STORE_READ(s);
    int status = store_task_number(s, task, &n);
    if (status)
        return status == STORE_E_NONE ? 0 : status;
    status = events_of_rows(&p, QUERY_EVENTS_BEFORE, n, task, before);
    return status || p.full ? status : archive_events_before(&p, n, task, before);
}

int store_journal_after(struct store *s, int64_t after, int64_t limit, int64_t bytes, store_event_cb *cb,
                        void *arg)
{
    struct page p = {.store = s, .limit = limit, .bytes = bytes, .cb = cb, .arg = arg};
    bool any = false;
    STORE_READ(s);
    int status = archive_journal_after(&p, after, &any);
    if (status || any)
        return status;
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_JOURNAL_AFTER);
    if (!q)
        return store_read_failed(s, "cannot read the journal");
    sqlite3_bind_int64(q, 1, after);
    sqlite3_bind_int64(q, 2, limit < 0 ? 0 : limit);
    return events_walk(&p, q, NULL);
}

/* Elements 0, 1, 2 ... of the prompt, none missing: a prompt with a hole would be another prompt. */
static int context_walk(struct store *s, sqlite3_stmt *q, int64_t next, struct buf *ret)
{
    CLEANUP(buf_free) struct buf large = {0};
    int rc;
    for (; (rc = sqlite3_step(q)) == SQLITE_ROW; next++) {
        struct str bytes;
        int status = store_content(s, q, 1, &large, &bytes);
        if (status)
            return status;
        if (sqlite3_column_int64(q, 0) != next)
            return store_read_damaged(s, "element %" PRId64 " of a stored prompt is missing", next);
        page_element(ret, next, bytes);
    }
    if (rc != SQLITE_DONE)
        return store_read_failed(s, "cannot read a stored prompt");
    return next ? 0 : STORE_E_NONE;
}

int store_context_read(struct store *s, const char *task, int64_t epoch, struct buf *ret)
{
    int64_t n, next = 0;
    STORE_READ(s);
    int status = store_task_number(s, task, &n);
    if (status)
        return status;
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_CONTEXT);
    if (!q)
        return store_read_failed(s, "cannot read a stored prompt");
    sqlite3_bind_int64(q, 1, n);
    sqlite3_bind_int64(q, 2, epoch);
    size_t before = ret->n;
    status = archive_context(s, n, epoch, ret, &next);
    if (!status)
        status = context_walk(s, q, next, ret);
    if (status && ret->p) {
        ret->n = before;
        ret->p[before] = 0;
    }
    return status;
}
