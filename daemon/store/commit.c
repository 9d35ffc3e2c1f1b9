#include "commit.h"

#include "daemon/base/failpoint.h"
#include "daemon/base/mem.h"
#include "files.h"

struct commit {
    struct db *db;
    struct store_batch *batch;
    struct slice task; /* whose number is known */
    int64_t task_n;
    struct buf *error;
};

/* Content first: a row may name only a file that is whole and whose name lasts. */
static int commit_blobs(struct blobs *blobs, struct store_batch *batch, struct buf *error)
{
    bool any = false;
    int rc = 0;
    for (size_t i = 0; !rc && i < batch->rows_n; i++) {
        struct content *c = batch_large(&batch->rows[i]);
        if (!c)
            continue;
        rc = blobs_put(blobs, batch_bytes(batch, c->bytes), c->hash);
        c->in_row = files_full(rc) && batch->stops; /* the log has room that files have not */
        rc = c->in_row ? 0 : rc;
        any = true;
    }
    if (!rc && any)
        rc = blobs_sync(blobs);
    if (rc)
        buf_printf(error, "cannot write a file of the folder blobs: %s", strerror(-rc));
    return !rc ? 0 : files_full(rc) ? STORE_E_FULL : STORE_E_IO;
}

/* The number of the row's task; STORE_E_NONE. Rows of one task mostly stand together and share the slice of its id. */
static int commit_task_n(struct commit *c, struct slice task, int64_t *ret)
{
    if (!c->task.present || c->task.at != task.at) {
        CLEANUP_QUERY *q = db_query(c->db, QUERY_TASK_N);
        if (!q)
            return db_failure(c->db);
        db_bind_str(q, 1, batch_bytes(c->batch, task));
        int rc = sqlite3_step(q);
        if (rc == SQLITE_DONE)
            return STORE_E_NONE;
        if (rc != SQLITE_ROW)
            return db_failure(c->db);
        c->task = task;
        c->task_n = sqlite3_column_int64(q, 0);
    }
    *ret = c->task_n;
    return 0;
}

/* Three columns: the bytes, or hash and length of their file. */
static void commit_bind_content(struct commit *c, sqlite3_stmt *q, int at, struct batch_row *row, bool text)
{
    const struct content *large = batch_large(row);
    const struct content *content = row->kind == BATCH_EVENT ? &row->event.json : &row->context.bytes;
    struct str bytes = batch_bytes(c->batch, content->bytes);
    if (large) {
        db_bind_blob(q, at + 1, str_n((const char *)large->hash, BLOB_HASH_SIZE));
        sqlite3_bind_int64(q, at + 2, (int64_t)bytes.n);
    } else if (text) {
        db_bind_str(q, at, bytes);
    } else {
        db_bind_blob(q, at, bytes);
    }
}

static int commit_event(struct commit *c, struct batch_row *row)
{
    int64_t n;
    int status = commit_task_n(c, row->task, &n);
    if (status)
        return status;
    CLEANUP_QUERY *q = db_query(c->db, QUERY_EVENT_PUT);
    if (!q)
        return db_failure(c->db);
    sqlite3_bind_int64(q, 1, row->event.pos);
    sqlite3_bind_int64(q, 2, n);
    sqlite3_bind_int64(q, 3, row->event.seq);
    sqlite3_bind_int(q, 4, row->event.kind);
    sqlite3_bind_int64(q, 5, row->event.at_ms);
    commit_bind_content(c, q, 6, row, true);
    return db_run(c->db, q);
}

static int commit_context(struct commit *c, struct batch_row *row)
{
    int64_t n;
    int status = commit_task_n(c, row->task, &n);
    if (status)
        return status;
    CLEANUP_QUERY *q = db_query(c->db, QUERY_CONTEXT_PUT);
    if (!q)
        return db_failure(c->db);
    sqlite3_bind_int64(q, 1, n);
    sqlite3_bind_int64(q, 2, row->context.epoch);
    sqlite3_bind_int64(q, 3, row->context.index);
    commit_bind_content(c, q, 4, row, false);
    return db_run(c->db, q);
}

static int commit_task_row(struct commit *c, struct batch_row *row, enum query query)
{
    CLEANUP_QUERY *q = db_query(c->db, query);
    if (!q)
        return db_failure(c->db);
    db_bind_str(q, 1, batch_bytes(c->batch, row->task));
    db_bind_str(q, 2, batch_bytes(c->batch, row->entry.name));
    sqlite3_bind_int(q, 3, row->entry.state);
    sqlite3_bind_int(q, 4, row->entry.live);
    sqlite3_bind_int64(q, 5, row->entry.seq);
    if (query == QUERY_TASK_PUT)
        sqlite3_bind_int64(q, 6, row->entry.created_ms);
    sqlite3_bind_int64(q, 7, row->entry.updated_ms);
    db_bind_blob(q, 8, batch_bytes(c->batch, row->entry.snapshot));
    return db_run(c->db, q);
}

static int commit_spec(struct commit *c, struct batch_row *row)
{
    int64_t n;
    int status = commit_task_n(c, row->task, &n);
    if (status)
        return status;
    CLEANUP_QUERY *q = db_query(c->db, QUERY_SPEC_PUT);
    if (!q)
        return db_failure(c->db);
    sqlite3_bind_int64(q, 1, n);
    db_bind_blob(q, 2, batch_bytes(c->batch, row->entry.spec));
    return db_run(c->db, q);
}

static int commit_task(struct commit *c, struct batch_row *row)
{
    int status = commit_task_row(c, row, QUERY_TASK_UPDATE);
    if (!status && sqlite3_changes64(c->db->h) == 0)
        status = commit_task_row(c, row, QUERY_TASK_PUT);
    if (!status && row->entry.spec.present)
        status = commit_spec(c, row);
    return status;
}

static int commit_key(struct commit *c, struct batch_row *row)
{
    int64_t n = 0;
    /* The task may have been removed since; then the key is forgotten like those that never had one. */
    int status = row->task.present ? commit_task_n(c, row->task, &n) : STORE_E_NONE;
    if (status && status != STORE_E_NONE)
        return status;
    CLEANUP_QUERY *q = db_query(c->db, QUERY_KEY_PUT);
    if (!q)
        return db_failure(c->db);
    db_bind_str(q, 1, batch_bytes(c->batch, row->key.key));
    if (!status)
        sqlite3_bind_int64(q, 2, n);
    db_bind_blob(q, 3, batch_bytes(c->batch, row->key.digest));
    db_bind_blob(q, 4, batch_bytes(c->batch, row->key.result));
    sqlite3_bind_int64(q, 5, row->key.at_ms);
    return db_run(c->db, q);
}

static int commit_meta(struct commit *c, struct batch_row *row)
{
    CLEANUP_QUERY *q = db_query(c->db, QUERY_META_PUT);
    if (!q)
        return db_failure(c->db);
    db_bind_str(q, 1, batch_bytes(c->batch, row->meta.name));
    db_bind_blob(q, 2, batch_bytes(c->batch, row->meta.value));
    return db_run(c->db, q);
}

static int commit_row_of(struct commit *c, struct batch_row *row)
{
    switch (row->kind) {
    case BATCH_EVENT:
        return commit_event(c, row);
    case BATCH_CONTEXT:
        return commit_context(c, row);
    case BATCH_TASK:
        return commit_task(c, row);
    case BATCH_KEY:
        return commit_key(c, row);
    case BATCH_META:
        return commit_meta(c, row);
    }
    return STORE_E_IO;
}

static int commit_row(struct commit *c, struct batch_row *row)
{
    int status = commit_row_of(c, row);
    if (status != STORE_E_NONE)
        return status;
    buf_printf(c->error, "a row of task %.*s, which has no row of its own, was to be written",
               STR_ARG(batch_bytes(c->batch, row->task)));
    return STORE_E_IO;
}

/* Tasks before the rest: the rows of a new task need its number, and it is put into the batch last. */
static int commit_rows(struct commit *c)
{
    int status = 0;
    for (int tasks = 1; !status && tasks >= 0; tasks--)
        for (size_t i = 0; !status && i < c->batch->rows_n; i++)
            if ((c->batch->rows[i].kind == BATCH_TASK) == tasks)
                status = commit_row(c, &c->batch->rows[i]);
    return status;
}

int commit_batch(struct db *db, struct blobs *blobs, struct store_batch *batch, struct buf *error)
{
    int status = commit_blobs(blobs, batch, error);
    if (status)
        return status;
    if (FAILPOINT_FAILS("store.commit")) {
        buf_puts(error, "cannot write the journal: as a test wants it");
        return STORE_E_IO;
    }
    if (FAILPOINT_FAILS("store.full")) {
        buf_puts(error, "cannot write the journal: no room, as a test wants it");
        return STORE_E_FULL;
    }
    struct commit c = {.db = db, .batch = batch, .error = error};
    status = db_do(db, QUERY_BEGIN);
    if (!status)
        status = commit_rows(&c);
    FAILPOINT("store.before_commit");
    if (!status)
        status = db_do(db, QUERY_COMMIT);
    if (!status) {
        FAILPOINT("store.after_commit");
        return 0;
    }
    if (!error->n)
        db_explain(db, "cannot write the journal", error);
    if (!sqlite3_get_autocommit(db->h))
        db_do(db, QUERY_ROLLBACK);
    return status == STORE_E_FULL ? STORE_E_FULL : STORE_E_IO;
}
