#include "migrate.h"

#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/store/backup.h"
#include "daemon/store/store.h"

#include <inttypes.h>

static int migrate_foreign(struct buf *error)
{
    buf_puts(error,
             "the file agentd.db is not a database of agentd: move it away, or set another state folder; "
             "nothing was changed");
    return STORE_E_FOREIGN;
}

/* A file that was made by us and got no further is taken as empty. */
static int migrate_check_id(struct db *db, int64_t version, bool *ret_empty, struct buf *error)
{
    int64_t id, tables;
    int status = db_number(db, "PRAGMA application_id", &id);
    if (!status)
        status = db_number(db, "SELECT count(*) FROM sqlite_schema", &tables);
    if (status)
        return status;
    *ret_empty = id == 0 && version == 0 && tables == 0;
    return *ret_empty || id == DB_APPLICATION_ID ? 0 : migrate_foreign(error);
}

static int migrate_check_hash(struct db *db, const struct migration *m, struct buf *error)
{
    char sql[80];
    CLEANUP(buf_free) struct buf hash = {0};
    snprintf(sql, sizeof sql, "SELECT hash FROM migrations WHERE version = %d", m->version);
    int status = db_text(db, sql, &hash);
    if (status && status != STORE_E_NONE)
        return status;
    if (!status && str_eq(buf_view(&hash), str_n((const char *)m->hash, MIGRATION_HASH_SIZE)))
        return 0;
    buf_printf(
        error,
        "the database was made with another text of migration %s than this agentd has, by a build that was "
        "never released: use that build, or move agentd.db away to start empty; nothing was changed",
        m->name);
    return STORE_E_FOREIGN;
}

static int migrate_check_all(struct db *db, const struct migration *list, size_t n, int64_t *ret_version,
                             struct buf *error)
{
    int64_t version;
    bool empty = false;
    int status = db_number(db, "PRAGMA user_version", &version);
    if (!status)
        status = migrate_check_id(db, version, &empty, error);
    if (status)
        return status;
    if (version > (int64_t)n) {
        buf_printf(error,
                   "the database was written by a newer agentd (schema %" PRId64
                   ", this one knows %zu): install the "
                   "newer version; nothing was changed",
                   version, n);
        return STORE_E_NEWER;
    }
    if (!empty && version < 1)
        return migrate_foreign(error);
    for (int64_t i = 0; !status && i < version; i++)
        status = migrate_check_hash(db, &list[i], error);
    if (!status)
        *ret_version = version;
    return status;
}

int migrate_check(struct db *db, const struct migration *list, size_t n, int64_t *ret_version,
                  struct buf *error)
{
    int status = migrate_check_all(db, list, n, ret_version, error);
    if (status == STORE_E_FOREIGN && !error->n) {
        db_explain(db, "agentd.db is damaged, or no database at all", error);
        buf_puts(
            error,
            ": put a backup in its place (`agentctl backup` makes them), or move it, `blobs` and `runs` away to start empty; "
            "nothing was changed");
    } else if (status && !error->n) {
        db_explain(db, "cannot read agentd.db", error);
    }
    return status;
}

static int migrate_record(struct db *db, const struct migration *m)
{
    sqlite3_stmt *q = NULL;
    char sql[128];
    snprintf(sql, sizeof sql, "PRAGMA application_id = %d; PRAGMA user_version = %d;", DB_APPLICATION_ID,
             m->version);
    int status = db_exec(db, sql);
    if (status)
        return status;
    sqlite3_prepare_v2(db->h,
                       "INSERT INTO migrations (version, name, hash, at_ms) VALUES (?1, ?2, ?3,"
                       " CAST(strftime('%s', 'now') AS INTEGER) * 1000)",
                       -1, &q, NULL);
    if (!q)
        return db_failure(db);
    sqlite3_bind_int(q, 1, m->version);
    db_bind_str(q, 2, str_of(m->name));
    db_bind_blob(q, 3, str_n((const char *)m->hash, MIGRATION_HASH_SIZE));
    status = db_run(db, q);
    sqlite3_finalize(q);
    return status;
}

static int migrate_apply(struct db *db, const struct migration *m, struct buf *error)
{
    int status = db_exec(db, "BEGIN IMMEDIATE");
    if (!status)
        status = db_exec(db, m->sql);
    if (!status)
        status = migrate_record(db, m);
    if (!status)
        status = db_exec(db, "COMMIT");
    if (!status)
        return 0;
    CLEANUP(buf_free) struct buf what = {0};
    buf_printf(&what, "cannot bring the database to schema %d (%s); it stays as it was", m->version, m->name);
    db_explain(db, buf_cstr(&what), error);
    if (!sqlite3_get_autocommit(db->h))
        db_exec(db, "ROLLBACK");
    return status;
}

static int migrate_copy(struct db *db, const char *path, int64_t version, struct buf *error)
{
    CLEANUP(buf_free) struct buf copy = {0};
    buf_printf(&copy, "%s.schema%" PRId64, path, version);
    log_info("copying the database to %s before its schema is changed", buf_cstr(&copy));
    return backup_whole(db, buf_cstr(&copy), error);
}

int migrate_run(struct db *db, const char *path, const struct migration *list, size_t n, int64_t version,
                struct buf *error)
{
    int status = 0;
    if (version > 0 && version < (int64_t)n)
        status = migrate_copy(db, path, version, error);
    for (int64_t i = version; !status && i < (int64_t)n; i++)
        status = migrate_apply(db, &list[i], error);
    /* It was ours a moment ago: what looks damaged now may be a read that failed, and reading again tells. */
    return status == STORE_E_FOREIGN ? STORE_E_IO : status;
}
