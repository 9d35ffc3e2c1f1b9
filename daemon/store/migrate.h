#pragma once
/* Brings a database to the schema that this program knows, and refuses one that it does not understand. The
 * list is an argument so that tests can bring their own. */
#include "daemon/store/db.h"
#include "migrations/migrations.h"

/* Reads only. 0 with the schema of the database (0: it is empty), STORE_E_NEWER, STORE_E_FOREIGN, STORE_E_IO.
 */
int migrate_check(struct db *db, const struct migration *list, size_t n, int64_t *ret_version,
                  struct buf *error);
/* Applies what is missing after `version`, each in its own transaction; before that an existing database is
 * copied to PATH.schemaN. */
int migrate_run(struct db *db, const char *path, const struct migration *list, size_t n, int64_t version,
                struct buf *error);
