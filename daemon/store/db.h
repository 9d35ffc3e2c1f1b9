#pragma once
/* One SQLite connection as agentd uses it: its settings, its statements, its errors as STORE_E_* (without memory
 * the process ends, as everywhere). No table is known here. A connection belongs to one thread at a time and is
 * opened without SQLite's own mutexes.
 *
 * Of the two connections to the live database one writes and checkpoints, and the other never does either:
 * SQLite up to 3.51.2 can corrupt a database otherwise (sqlite.org/wal.html#walresetbug). */
#include "daemon/base/buf.h"
#include "daemon/base/mem.h"
#include "daemon/store/queries.h"

#include <sqlite3.h>
#include <stdint.h>

#define DB_APPLICATION_ID 0x61676e74 /* "agnt" */

struct db {
    sqlite3 *h;
    sqlite3_stmt *cached[QUERY_N];
};

/* Opens an existing file, or with SQLITE_OPEN_CREATE in `flags` a new one, with all settings that change
 * nothing in it. 0 or a STORE_E_*, as all here. */
int db_open(struct db *db, const char *path, int flags, struct buf *error);
/* What makes it the writing connection: WAL, synchronous=FULL; a new file gets its page layout. */
int db_make_writer(struct db *db, struct buf *error);
int db_make_reader(struct db *db, struct buf *error);
/* Never checkpoints by itself, unless it was made the writer. */
void db_close(struct db *db);

int db_exec(struct db *db, const char *sql);
/* The first column of the first row, as a number or as text. */
int db_number(struct db *db, const char *sql, int64_t *ret);
int db_text(struct db *db, const char *sql, struct buf *ret);

/* A statement ready to be bound, or NULL: then db_failure() says why. It must not be in use: a callback of a
 * walk does not start the same walk. */
sqlite3_stmt *db_query(struct db *db, enum query query);
/* Resets it, so that no statement is left open whichever way a function returns. */
void db_query_end(sqlite3_stmt **query);
#define CLEANUP_QUERY CLEANUP(db_query_end) sqlite3_stmt
/* Runs a bound statement that gives no rows. */
int db_run(struct db *db, sqlite3_stmt *query);
/* The same for one without parameters. */
int db_do(struct db *db, enum query query);

/* What the last call on the connection failed with. */
int db_failure(struct db *db);
/* Whether it was a read of the file: before a COMMIT, nothing is in doubt then. */
bool db_cannot_read(struct db *db);
int db_status(int rc);
/* "WHAT: SQLite's sentence (SQLite 1034, errno 5)". */
void db_explain(struct db *db, const char *what, struct buf *error);

void db_bind_str(sqlite3_stmt *query, int at, struct str s); /* as TEXT; absent: NULL */
void db_bind_blob(sqlite3_stmt *query, int at, struct str s);
/* The column's bytes, valid until the next step; absent if it is NULL. */
struct str db_column(sqlite3_stmt *query, int at);
