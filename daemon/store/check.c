#include "check.h"

#include "daemon/store/archive_block.h"
#include "daemon/store/store.h"

#define CHECK_STOP_NS 10000000ull /* between calls to stop: one that comes between two statements is lost */

void check_init(struct check *c)
{
    *c = (struct check){0};
    uv_mutex_init(&c->mutex);
    uv_cond_init(&c->ended);
}

void check_destroy(struct check *c)
{
    uv_cond_destroy(&c->ended);
    uv_mutex_destroy(&c->mutex);
}

static void check_set(struct check *c, sqlite3 *h)
{
    uv_mutex_lock(&c->mutex);
    c->h = h;
    uv_cond_broadcast(&c->ended);
    uv_mutex_unlock(&c->mutex);
}

void check_stop(struct check *c)
{
    uv_mutex_lock(&c->mutex);
    c->stopped = true;
    if (c->h)
        sqlite3_interrupt(c->h);
    uv_mutex_unlock(&c->mutex);
}

void check_stop_wait(struct check *c)
{
    uv_mutex_lock(&c->mutex);
    c->stopped = true;
    while (c->h) {
        sqlite3_interrupt(c->h);
        uv_cond_timedwait(&c->ended, &c->mutex, CHECK_STOP_NS);
    }
    uv_mutex_unlock(&c->mutex);
}

bool check_stopped(struct check *c)
{
    uv_mutex_lock(&c->mutex);
    bool stopped = c->stopped;
    uv_mutex_unlock(&c->mutex);
    return stopped;
}

void check_reset(struct check *c)
{
    uv_mutex_lock(&c->mutex);
    c->stopped = false;
    uv_mutex_unlock(&c->mutex);
}

static int check_pages(struct db *db, struct buf *error)
{
    CLEANUP_QUERY *q = db_query(db, QUERY_CHECK);
    if (!q || sqlite3_step(q) != SQLITE_ROW) {
        db_explain(db, "cannot check the database", error);
        return STORE_E_FOREIGN;
    }
    struct str finding = db_column(q, 0);
    if (str_eqz(finding, "ok"))
        return 0;
    buf_printf(error, "the database is damaged: %.*s", STR_ARG(finding));
    return STORE_E_FOREIGN;
}

static int check_blobs(struct check *c, struct db *db, const struct blobs *blobs, struct buf *error)
{
    CLEANUP_QUERY *q = db_query(db, QUERY_BLOBS);
    int rc = q ? sqlite3_step(q) : SQLITE_ERROR;
    for (; rc == SQLITE_ROW && !check_stopped(c); rc = sqlite3_step(q)) {
        struct str hash = db_column(q, 1);
        if (hash.n == BLOB_HASH_SIZE &&
            blobs_present(blobs, (const uint8_t *)hash.p, sqlite3_column_int64(q, 2)))
            continue;
        buf_printf(error, "the content of %.*s is missing from the folder blobs, or has another length",
                   STR_ARG(db_column(q, 0)));
        return STORE_E_FOREIGN;
    }
    if (rc == SQLITE_DONE)
        return 0;
    db_explain(db, "cannot check the database", error);
    return STORE_E_FOREIGN;
}

/* That each block of an archived task can be unpacked, and holds what its places say. */
static int check_block(sqlite3_stmt *q, struct buf *contents, struct buf *error)
{
    CLEANUP(buf_free) struct buf why = {0};
    struct archive_walk w;
    struct str body = db_column(q, 0), what = db_column(q, 5);
    int64_t bytes = sqlite3_column_int64(q, 2);
    archive_walk_begin(&w, db_column(q, 4), 0, 0, bytes);
    int more;
    while ((more = archive_walk_next(&w)) > 0)
        continue;
    if (more < 0)
        buf_puts(&why, "its places cannot be read");
    else if (!body.p || archive_block_unpack(sqlite3_column_int64(q, 3), body, bytes, contents, &why) == 0)
        return 0; /* those in files are looked at with the other files */
    buf_printf(error, "the block of %.*s and what follows it is damaged: %s", STR_ARG(what), buf_cstr(&why));
    return STORE_E_FOREIGN;
}

static int check_archive(struct check *c, struct db *db, struct buf *error)
{
    CLEANUP(buf_free) struct buf contents = {0};
    CLEANUP_QUERY *q = db_query(db, QUERY_ARCHIVE_BLOCKS);
    int rc = q ? sqlite3_step(q) : SQLITE_ERROR;
    for (; rc == SQLITE_ROW && !check_stopped(c); rc = sqlite3_step(q)) {
        int status = check_block(q, &contents, error);
        if (status)
            return status;
    }
    if (rc == SQLITE_DONE)
        return 0;
    db_explain(db, "cannot check the database", error);
    return STORE_E_FOREIGN;
}

int check_run(struct check *c, const char *path, const struct blobs *blobs, struct buf *error)
{
    struct db db;
    int status = db_open(&db, path, 0, error);
    if (!status) {
        check_set(c, db.h);
        status = db_make_reader(&db, error);
        if (!status && !check_stopped(c))
            status = check_pages(&db, error);
        if (!status && blobs && !check_stopped(c))
            status = check_blobs(c, &db, blobs, error);
        if (!status && !check_stopped(c))
            status = check_archive(c, &db, error);
        check_set(c, NULL);
        db_close(&db);
    }
    if (!check_stopped(c))
        return status ? STORE_E_FOREIGN : 0;
    buf_clear(error); /* what an interrupted check says about pages that it has not seen means nothing */
    buf_puts(error, "it gave way to what is being written");
    return STORE_E_STOPPED;
}
