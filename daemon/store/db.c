#include "db.h"

#include "daemon/store/store.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define DB_VALUE_BYTES_MAX                                                                                   \
    603979776 /* a blob of the largest size that is taken back into a row, and its row */
#define DB_SQL_BYTES_MAX 65536
#define DB_BUSY_MS 5000 /* nobody else should hold the database; a person with the command line tool might   \
                         */
#define DB_HEAP_BYTES_SOFT 4194304

static const char *const query_sql[QUERY_N] = {
#define X(name, sql) [QUERY_##name] = sql,
    QUERIES(X)
#undef X
};

int db_status(int rc)
{
    if (rc == SQLITE_IOERR_NOMEM)
        mem_none();
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return 0;
    case SQLITE_FULL:
        return STORE_E_FULL;
    case SQLITE_NOMEM: /* a task must not fail, nor a client be refused, for what a new process can read */
        mem_none();
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return STORE_E_FOREIGN;
    default:
        return STORE_E_IO;
    }
}

/* SQLite keeps it of a statement, but not of a commit: there it is what the thread's last failing call left. See db_run(). */
static int db_system(struct db *db)
{
    int system = sqlite3_system_errno(db->h);
    return system ? system : errno;
}

int db_failure(struct db *db)
{
    int rc = sqlite3_extended_errcode(db->h);
    int system = db_system(db);
    /* The user's quota is a full disk by another name; SQLite knows ENOSPC only. And it calls it an I/O error when the index of the log
     * cannot grow: the frames are in the log by then, but nobody can see them, and the same batch is written over them. */
    if ((rc == SQLITE_IOERR_WRITE && system == EDQUOT) || (rc == SQLITE_IOERR_SHMSIZE && (system == ENOSPC || system == EDQUOT)))
        return STORE_E_FULL;
    int status = db_status(rc);
    return status ? status : STORE_E_IO;
}

bool db_cannot_read(struct db *db)
{
    return sqlite3_extended_errcode(db->h) == SQLITE_IOERR_READ;
}

void db_explain(struct db *db, const char *what, struct buf *error)
{
    int rc = sqlite3_extended_errcode(db->h);
    int system = (rc & 0xff) == SQLITE_IOERR ? db_system(db) : sqlite3_system_errno(db->h);
    buf_printf(error, "%s: %s (SQLite %d", what, sqlite3_errmsg(db->h), rc);
    if (system)
        buf_printf(error, ", %s", strerror(system));
    buf_putc(error, ')');
}

static void db_limit(sqlite3 *h)
{
    sqlite3_limit(h, SQLITE_LIMIT_LENGTH, DB_VALUE_BYTES_MAX);
    sqlite3_limit(h, SQLITE_LIMIT_SQL_LENGTH, DB_SQL_BYTES_MAX);
    sqlite3_limit(h, SQLITE_LIMIT_ATTACHED, 0);
    sqlite3_limit(h, SQLITE_LIMIT_TRIGGER_DEPTH, 1);
    sqlite3_limit(h, SQLITE_LIMIT_WORKER_THREADS, 0);
}

static int db_harden(struct db *db)
{
    sqlite3_db_config(db->h, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db->h, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(db->h, SQLITE_DBCONFIG_ENABLE_FKEY, 1, NULL);
    sqlite3_db_config(db->h, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, NULL);
    sqlite3_db_config(db->h, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_wal_autocheckpoint(db->h, 0);
    return db_exec(db, "PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;");
}

int db_open(struct db *db, const char *path, int flags, struct buf *error)
{
    *db = (struct db){0};
    sqlite3_soft_heap_limit64(DB_HEAP_BYTES_SOFT);
    flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_EXRESCODE;
    int status = db_status(sqlite3_open_v2(path, &db->h, flags, NULL));
    if (!status) {
        sqlite3_busy_timeout(db->h, DB_BUSY_MS);
        db_limit(db->h);
        status = db_harden(db);
    }
    if (status) {
        db_explain(db, path, error);
        db_close(db);
    }
    return status;
}

static int db_enter_wal(struct db *db, struct buf *error)
{
    CLEANUP(buf_free) struct buf mode = {0};
    int status = db_text(db, "PRAGMA journal_mode = WAL", &mode);
    if (status) {
        db_explain(db, "cannot prepare the database", error);
        return status;
    }
    if (strcmp(buf_cstr(&mode), "wal") != 0) {
        buf_puts(error,
                 "the file system of the state folder cannot hold a database in WAL mode (it needs shared "
                 "memory and locks): set a state folder on a local disk");
        return STORE_E_IO;
    }
    return 0;
}

int db_make_writer(struct db *db, struct buf *error)
{
    /* The first two take effect only while the file is empty, and must come before anything that fills it. */
    int status = db_exec(db, "PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL;");
    if (status) {
        db_explain(db, "cannot prepare the database", error);
        return status;
    }
    status = db_enter_wal(db, error);
    if (status)
        return status;
    status = db_exec(db, "PRAGMA synchronous = FULL; PRAGMA secure_delete = FAST; PRAGMA cache_size = -512;"
                         "PRAGMA journal_size_limit = 67108864;");
    if (status)
        db_explain(db, "cannot prepare the database", error);
    sqlite3_db_config(db->h, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    return status;
}

int db_make_reader(struct db *db, struct buf *error)
{
    int status = db_exec(db, "PRAGMA query_only = ON; PRAGMA cache_size = -256;");
    if (status)
        db_explain(db, "cannot read the database", error);
    return status;
}

void db_close(struct db *db)
{
    for (size_t i = 0; i < QUERY_N; i++)
        sqlite3_finalize(db->cached[i]);
    sqlite3_close(db->h);
    *db = (struct db){0};
}

int db_exec(struct db *db, const char *sql)
{
    return sqlite3_exec(db->h, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : db_failure(db);
}

/* Statements that are run once: prepared, stepped to the first row, dropped. */
static int db_first(struct db *db, const char *sql, int64_t *ret_number, struct buf *ret_text)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(db->h, sql, -1, &q, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(q);
    int status = rc == SQLITE_ROW ? 0 : rc == SQLITE_DONE ? STORE_E_NONE : db_failure(db);
    if (!status && ret_number)
        *ret_number = sqlite3_column_int64(q, 0);
    if (!status && ret_text)
        buf_str(ret_text, db_column(q, 0));
    sqlite3_finalize(q);
    return status;
}

int db_number(struct db *db, const char *sql, int64_t *ret)
{
    return db_first(db, sql, ret, NULL);
}

int db_text(struct db *db, const char *sql, struct buf *ret)
{
    return db_first(db, sql, NULL, ret);
}

sqlite3_stmt *db_query(struct db *db, enum query query)
{
    sqlite3_stmt **q = &db->cached[query];
    if (!*q)
        sqlite3_prepare_v3(db->h, query_sql[query], -1, SQLITE_PREPARE_PERSISTENT, q, NULL);
    assert(!*q || !sqlite3_stmt_busy(*q));
    return *q;
}

void db_query_end(sqlite3_stmt **query)
{
    if (!*query)
        return;
    sqlite3_reset(*query);
    sqlite3_clear_bindings(*query);
}

int db_run(struct db *db, sqlite3_stmt *query)
{
    errno = 0;
    int rc = sqlite3_step(query);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : db_failure(db);
}

int db_do(struct db *db, enum query query)
{
    CLEANUP_QUERY *q = db_query(db, query);
    return q ? db_run(db, q) : db_failure(db);
}

void db_bind_str(sqlite3_stmt *query, int at, struct str s)
{
    sqlite3_bind_text64(query, at, s.p, s.n, SQLITE_STATIC, SQLITE_UTF8);
}

void db_bind_blob(sqlite3_stmt *query, int at, struct str s)
{
    sqlite3_bind_blob64(query, at, s.p, s.n, SQLITE_STATIC);
}

struct str db_column(sqlite3_stmt *query, int at)
{
    if (sqlite3_column_type(query, at) == SQLITE_NULL)
        return STR_NONE;
    const char *p = sqlite3_column_type(query, at) == SQLITE_BLOB
                        ? sqlite3_column_blob(query, at)
                        : (const char *)sqlite3_column_text(query, at);
    size_t n = (size_t)sqlite3_column_bytes(query, at);
    if (!p && n)
        mem_none();
    return (struct str){p ? p : "", n};
}
