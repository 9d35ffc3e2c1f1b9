/* Single values, and the checks. */
#include "daemon/base/log.h"
#include "daemon/store/state.h"

int store_read_failed(struct store *s, const char *what)
{
    CLEANUP(buf_free) struct buf error = {0};
    int status = db_failure(&s->reader);
    db_explain(&s->reader, what, &error);
    log_error("%s", buf_cstr(&error));
    return status;
}

int64_t store_pos_last(struct store *s)
{
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_POS_LAST);
    if (q && sqlite3_step(q) == SQLITE_ROW)
        return sqlite3_column_int64(q, 0);
    return -store_read_failed(s, "cannot read the end of the journal");
}

int store_meta(struct store *s, const char *name, struct buf *ret)
{
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_META);
    if (!q)
        return store_read_failed(s, "cannot read a value");
    db_bind_str(q, 1, str_of(name));
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW)
        buf_str(ret, db_column(q, 0));
    return rc == SQLITE_ROW    ? 0
           : rc == SQLITE_DONE ? STORE_E_NONE
                               : store_read_failed(s, "cannot read a value");
}

int store_key_find(struct store *s, const char *key, struct buf *ret_digest, struct buf *ret_result)
{
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_KEY);
    if (!q)
        return store_read_failed(s, "cannot read a key");
    db_bind_str(q, 1, str_of(key));
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW) {
        buf_str(ret_digest, db_column(q, 0));
        buf_str(ret_result, db_column(q, 1));
    }
    return rc == SQLITE_ROW    ? 0
           : rc == SQLITE_DONE ? STORE_E_NONE
                               : store_read_failed(s, "cannot read a key");
}

static int check_pages(struct store *s, struct buf *error)
{
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_CHECK);
    if (!q || sqlite3_step(q) != SQLITE_ROW) {
        db_explain(&s->reader, "cannot check the database", error);
        return STORE_E_FOREIGN;
    }
    struct str finding = db_column(q, 0);
    if (str_eqz(finding, "ok"))
        return 0;
    buf_printf(error, "the database is damaged: %.*s", STR_ARG(finding));
    return STORE_E_FOREIGN;
}

static int check_blobs(struct store *s, struct buf *error)
{
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_BLOBS);
    int rc = q ? sqlite3_step(q) : SQLITE_ERROR;
    for (; rc == SQLITE_ROW; rc = sqlite3_step(q)) {
        struct str hash = db_column(q, 1);
        if (hash.n == BLOB_HASH_SIZE &&
            blobs_present(&s->blobs, (const uint8_t *)hash.p, sqlite3_column_int64(q, 2)))
            continue;
        buf_printf(error, "the content of %.*s is missing from the folder blobs, or has another length",
                   STR_ARG(db_column(q, 0)));
        return STORE_E_FOREIGN;
    }
    if (rc == SQLITE_DONE)
        return 0;
    db_explain(&s->reader, "cannot check the database", error);
    return STORE_E_FOREIGN;
}

int store_check(struct store *s, struct buf *error)
{
    int status = check_pages(s, error);
    return status ? status : check_blobs(s, error);
}
