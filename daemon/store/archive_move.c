#include "archive_move.h"

#include "daemon/base/failpoint.h"
#include "daemon/base/mem.h"
#include "daemon/store/archive_block.h"
#include "daemon/store/store.h"

#include <inttypes.h>
#include <string.h>

struct move {
    struct db *db;
    const struct blobs *blobs;
    int64_t task;
    int64_t rows_left, bytes_left;
    struct archive_block block;
    uint8_t hash[BLOB_HASH_SIZE]; /* of a block whose content stays in its file */
    bool file;
    struct buf large, body;
    struct buf *freed, *error;
};

/* ---- from rows to a block ---- */

/* Appends the content of a row (body, hash, length of the file, from column `at` on). 1: it does not fit any more. */
static int move_content(struct move *m, sqlite3_stmt *q, int at, int64_t number, int64_t pos)
{
    struct str hash = db_column(q, at + 1), body = db_column(q, at);
    int64_t bytes = hash.p ? sqlite3_column_int64(q, at + 2) : (int64_t)body.n;
    bool stays = hash.p && bytes > ARCHIVE_CONTENT_BYTES_MAX;
    if (m->file || !archive_block_fits(&m->block, number, pos, bytes) || (stays && m->block.n))
        return 1;
    if (hash.p && hash.n != BLOB_HASH_SIZE)
        return ARCHIVE_E_UNREADABLE;
    if (stays) {
        memcpy(m->hash, hash.p, sizeof m->hash);
        m->file = true;
        archive_block_add_file(&m->block, number, pos, bytes);
        return 0;
    }
    buf_clear(&m->large);
    if (hash.p && blobs_read(m->blobs, (const uint8_t *)hash.p, bytes, &m->large))
        return ARCHIVE_E_UNREADABLE;
    if (hash.p)
        buf_str(m->freed, hash);
    archive_block_add(&m->block, number, pos, hash.p ? buf_view(&m->large) : body);
    return 0;
}

static void move_block_begin(struct move *m)
{
    archive_block_clear(&m->block);
    buf_clear(&m->body);
    m->file = false;
}

/* Fills the block with the first events that are in rows. */
static int move_read_events(struct move *m)
{
    CLEANUP_QUERY *q = db_query(m->db, QUERY_MOVE_EVENTS);
    if (!q)
        return db_failure(m->db);
    sqlite3_bind_int64(q, 1, m->task);
    int rc, status = 0;
    while (!status && (rc = sqlite3_step(q)) == SQLITE_ROW)
        status = move_content(m, q, 2, sqlite3_column_int64(q, 1), sqlite3_column_int64(q, 0));
    return status == 1 ? 0 : status ? status : rc == SQLITE_DONE ? 0 : db_failure(m->db);
}

/* The same with elements of one epoch of the prompt. */
static int move_read_context(struct move *m, int64_t *ret_epoch)
{
    CLEANUP_QUERY *q = db_query(m->db, QUERY_MOVE_CONTEXT);
    if (!q)
        return db_failure(m->db);
    sqlite3_bind_int64(q, 1, m->task);
    int rc, status = 0;
    while (!status && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        int64_t epoch = sqlite3_column_int64(q, 0);
        if (m->block.n && epoch != *ret_epoch)
            return 0;
        *ret_epoch = epoch;
        status = move_content(m, q, 2, sqlite3_column_int64(q, 1), 0);
    }
    return status == 1 ? 0 : status ? status : rc == SQLITE_DONE ? 0 : db_failure(m->db);
}

/* Binds length, codec, places, body and hash from parameter `at` on. */
static int move_bind(struct move *m, sqlite3_stmt *q, int at)
{
    struct archive_walk w;
    enum archive_codec codec = ARCHIVE_PLAIN;
    int64_t bytes = (int64_t)m->block.contents.n;
    if (m->file) {
        archive_walk_begin(&w, buf_view(&m->block.places), 0, 0, INT64_MAX);
        archive_walk_next(&w);
        bytes = (int64_t)w.n;
        db_bind_blob(q, at + 4, str_n((const char *)m->hash, sizeof m->hash));
    } else if (archive_block_pack(&m->block, &m->body, &codec) < 0) {
        buf_puts(m->error, "libzstd returns other bytes than it was given: nothing is archived");
        return ARCHIVE_E_UNREADABLE;
    } else {
        db_bind_blob(q, at + 3, buf_view(&m->body));
    }
    sqlite3_bind_int64(q, at, bytes);
    sqlite3_bind_int(q, at + 1, (int)codec);
    db_bind_blob(q, at + 2, buf_view(&m->block.places));
    m->rows_left -= m->block.n;
    m->bytes_left -= (int64_t)m->block.contents.n;
    return 0;
}

static int move_run(struct move *m, enum query query, int64_t a, int64_t b, int64_t c)
{
    CLEANUP_QUERY *q = db_query(m->db, query);
    if (!q)
        return db_failure(m->db);
    const int64_t values[] = {m->task, a, b, c};
    for (int i = 0; i < sqlite3_bind_parameter_count(q); i++)
        sqlite3_bind_int64(q, i + 1, values[i]);
    return db_run(m->db, q);
}

static int move_put_events(struct move *m)
{
    CLEANUP_QUERY *q = db_query(m->db, QUERY_ARCHIVE_EVENTS_PUT);
    if (!q)
        return db_failure(m->db);
    sqlite3_bind_int64(q, 1, m->task);
    sqlite3_bind_int64(q, 2, m->block.first);
    sqlite3_bind_int64(q, 3, m->block.last);
    sqlite3_bind_int64(q, 4, m->block.pos_first);
    sqlite3_bind_int64(q, 5, m->block.pos_last);
    int status = move_bind(m, q, 6);
    return status ? status : db_run(m->db, q);
}

static int move_put_context(struct move *m, int64_t epoch)
{
    CLEANUP_QUERY *q = db_query(m->db, QUERY_ARCHIVE_CONTEXT_PUT);
    if (!q)
        return db_failure(m->db);
    sqlite3_bind_int64(q, 1, m->task);
    sqlite3_bind_int64(q, 2, epoch);
    sqlite3_bind_int64(q, 3, m->block.first);
    sqlite3_bind_int64(q, 4, m->block.last);
    int status = move_bind(m, q, 5);
    return status ? status : db_run(m->db, q);
}

/* One block of events. *ret_none: there were none in rows. */
static int move_events(struct move *m, bool *ret_none)
{
    move_block_begin(m);
    int status = move_read_events(m);
    *ret_none = !status && m->block.n == 0;
    if (status || *ret_none)
        return status;
    status = move_put_events(m);
    if (!status)
        status = move_run(m, QUERY_MOVE_EVENTS_DROP, m->block.first, m->block.last, 0);
    if (!status) /* the last position that was given out is known when its row is gone, too */
        status = move_run(m, QUERY_POS_KEEP, m->block.pos_last, 0, 0);
    return status;
}

static int move_context(struct move *m, bool *ret_none)
{
    int64_t epoch = 0;
    move_block_begin(m);
    int status = move_read_context(m, &epoch);
    *ret_none = !status && m->block.n == 0;
    if (status || *ret_none)
        return status;
    status = move_put_context(m, epoch);
    return status ? status : move_run(m, QUERY_MOVE_CONTEXT_DROP, epoch, m->block.first, m->block.last);
}

/* ---- one transaction ---- */

/* Commits, or takes everything back. */
static int archive_end(struct db *db, int status, const char *what, struct buf *error)
{
    FAILPOINT("store.archive.before_commit");
    if (status && db_cannot_read(db))
        status = STORE_E_FOREIGN;
    if (!status)
        status = db_do(db, QUERY_COMMIT);
    if (!status) {
        FAILPOINT("store.archive.after_commit");
        return 0;
    }
    if (!error->n)
        db_explain(db, what, error);
    if (!sqlite3_get_autocommit(db->h))
        db_do(db, QUERY_ROLLBACK);
    return status == STORE_E_FULL || status == STORE_E_FOREIGN || status == ARCHIVE_E_UNREADABLE ? status : STORE_E_IO;
}

/* STORE_E_NONE if the task is not there, or at work. */
static int archive_ended(struct db *db, int64_t task, int64_t *ret_seq, bool *ret_whole)
{
    CLEANUP_QUERY *q = db_query(db, QUERY_ARCHIVE_STATE);
    if (!q)
        return db_failure(db);
    sqlite3_bind_int64(q, 1, task);
    int rc = sqlite3_step(q);
    if (rc == SQLITE_DONE)
        return STORE_E_NONE;
    if (rc != SQLITE_ROW)
        return db_failure(db);
    *ret_seq = sqlite3_column_int64(q, 1);
    *ret_whole = sqlite3_column_int64(q, 2) == *ret_seq;
    return sqlite3_column_int(q, 0) ? STORE_E_NONE : 0;
}

static int move_blocks(struct move *m, int64_t seq, int64_t now_ms, bool *ret_over)
{
    bool none = false;
    int status = move_run(m, QUERY_ARCHIVE_BEGIN, now_ms, 0, 0);
    while (!status && !none && m->rows_left > 0 && m->bytes_left > 0)
        status = move_events(m, &none);
    bool events = none;
    none = false;
    while (!status && events && !none && m->rows_left > 0 && m->bytes_left > 0)
        status = move_context(m, &none);
    *ret_over = !status && events && none;
    return *ret_over ? move_run(m, QUERY_ARCHIVE_WHOLE, seq, now_ms, 0) : status;
}

int archive_move(struct db *db, const struct blobs *blobs, int64_t task, int64_t now_ms, bool *ret_over, struct buf *freed,
                 struct buf *error)
{
    struct move m = {.db = db,
                     .blobs = blobs,
                     .task = task,
                     .rows_left = ARCHIVE_MOVE_ROWS,
                     .bytes_left = ARCHIVE_MOVE_BYTES,
                     .freed = freed,
                     .error = error};
    int64_t seq = 0;
    bool whole, ended = true;
    size_t freed_n = freed->n;
    *ret_over = false;
    int status = db_do(db, QUERY_BEGIN);
    if (!status)
        status = archive_ended(db, task, &seq, &whole);
    if (status == STORE_E_NONE) {
        ended = false;
        status = 0;
    } else if (!status) {
        status = move_blocks(&m, seq, now_ms, ret_over);
    }
    if (status == ARCHIVE_E_UNREADABLE && !error->n)
        buf_puts(error, "a file of the folder blobs is missing or damaged");
    status = archive_end(db, status, "cannot archive a task", error);
    if (status) {
        freed->n = freed_n;
        *ret_over = false;
    } else {
        *ret_over = *ret_over || !ended;
    }
    archive_block_free(&m.block);
    buf_free(&m.large);
    buf_free(&m.body);
    return status;
}

/* ---- the end of an archived task ---- */

int archive_remove(struct db *db, int64_t task, bool *ret_over, bool *ret_gone, struct buf *error)
{
    struct move m = {.db = db, .task = task};
    int64_t seq;
    bool whole = false;
    *ret_over = *ret_gone = false;
    int status = db_do(db, QUERY_BEGIN);
    if (!status)
        status = archive_ended(db, task, &seq, &whole);
    bool over = status == STORE_E_NONE || (!status && !whole), gone = false;
    if (status == STORE_E_NONE)
        status = 0;
    if (!status && !over) {
        status = move_run(&m, QUERY_REMOVE_KEYS, ARCHIVE_MOVE_ROWS, 0, 0);
        gone = over = !status && sqlite3_changes64(db->h) < ARCHIVE_MOVE_ROWS;
    }
    static const enum query last[] = {QUERY_REMOVE_SPEC, QUERY_REMOVE_TASK, QUERY_REMOVE_MARK};
    for (size_t i = 0; !status && gone && i < sizeof last / sizeof *last; i++)
        status = move_run(&m, last[i], 0, 0, 0);
    status = archive_end(db, status, "cannot remove an archived task", error);
    *ret_over = !status && over;
    *ret_gone = !status && gone;
    return status;
}

/* The number of a removed task that still has blocks, or of which only its mark is left; 0: there is none. */
static int scrap_next(struct db *db, int64_t *ret)
{
    CLEANUP_QUERY *q = db_query(db, QUERY_SCRAP_NEXT);
    if (!q)
        return db_failure(db);
    int rc = sqlite3_step(q);
    *ret = rc == SQLITE_ROW ? sqlite3_column_int64(q, 0) : 0;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : db_failure(db);
}

/* Deletes some blocks, and remembers the files that they named. */
static int scrap_blocks(struct move *m, enum query files, enum query blocks, int64_t *ret_n)
{
    CLEANUP_QUERY *q = db_query(m->db, files);
    if (!q)
        return db_failure(m->db);
    sqlite3_bind_int64(q, 1, m->task);
    sqlite3_bind_int64(q, 2, ARCHIVE_SCRAP_BLOCKS);
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW)
        if (sqlite3_column_type(q, 0) != SQLITE_NULL)
            buf_str(m->freed, db_column(q, 0));
    if (rc != SQLITE_DONE)
        return db_failure(m->db);
    int status = move_run(m, blocks, ARCHIVE_SCRAP_BLOCKS, 0, 0);
    *ret_n = sqlite3_changes64(m->db->h);
    return status;
}

int archive_scrap(struct db *db, bool *ret_over, struct buf *freed, struct buf *error)
{
    struct move m = {.db = db, .freed = freed};
    int64_t events = 0, context = 0;
    *ret_over = false;
    int status = scrap_next(db, &m.task);
    if (!status && !m.task) {
        *ret_over = true;
        return 0;
    }
    if (status) {
        db_explain(db, "cannot look for what is left of removed tasks", error);
        return status;
    }
    status = db_do(db, QUERY_BEGIN);
    if (!status)
        status = scrap_blocks(&m, QUERY_SCRAP_EVENT_FILES, QUERY_SCRAP_EVENTS, &events);
    if (!status && !events)
        status = scrap_blocks(&m, QUERY_SCRAP_CONTEXT_FILES, QUERY_SCRAP_CONTEXT, &context);
    if (!status && !events && !context)
        status = move_run(&m, QUERY_SCRAP_MARK, 0, 0, 0);
    return archive_end(db, status, "cannot remove an archived task", error);
}
