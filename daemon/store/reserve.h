#pragma once
/* Room that nobody else can take: the log is allocated ahead of its end, and the index of the log to the size that it has when the log
 * is longest. So a disk that something fills, perhaps one of our own tools, still takes the commit that says that it is to stop. Other
 * commits leave the last RESERVE_BYTES alone. Where a file system cannot allocate ahead there is no reserve, and no harm.
 *
 * Used by the journal thread alone. The log may be opened and closed here: SQLite's locks are on other files. Its index may not (closing
 * any descriptor of a file ends the process's locks on it), so that one grows through SQLite's own file methods. */
#include "daemon/store/db.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define RESERVE_BYTES 4194304

struct reserve {
    int folder;
    int64_t end;          /* of the log, or more */
    int64_t allocated_to; /* of the log's file */
    bool none;            /* it cannot be had here */
    atomic_bool used_up;  /* not even a stop could be committed; read by others */
};

/* The index of the log, on a connection that has not run a statement yet. STORE_E_FULL: there is no room for it; then it must be given up
 * again before the connection is closed, as SQLite does not know of it yet. */
int reserve_index(struct db *db);
void reserve_index_drop(struct db *db);

/* `log_bytes`: size of the log's file. */
void reserve_open(struct reserve *r, int folder, struct db *writer, int64_t log_bytes);
/* The log ends behind so many pages. */
void reserve_log_grew(struct reserve *r, int pages);
/* Makes sure that `bytes` more leave the reserve whole. False: they would not. */
bool reserve_ahead(struct reserve *r, int64_t bytes);
