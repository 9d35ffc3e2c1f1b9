#pragma once
/* Moves what is stored of one ended task from its rows into blocks, some hundred rows a transaction: a block is there
 * and its rows are gone in the same commit, so there is no moment at which both or neither could be read. It knows no
 * policy: which task, and when, is archive.c's. On the connection that writes. */
#include "daemon/store/blob.h"
#include "daemon/store/db.h"

#define ARCHIVE_MOVE_ROWS 256 /* of one transaction, at most; about */
#define ARCHIVE_MOVE_BYTES 262144
#define ARCHIVE_LOG_BYTES 2097152 /* that one transaction may add to the log */
#define ARCHIVE_SCRAP_BLOCKS 32 /* that one transaction deletes */

enum {
    ARCHIVE_E_UNREADABLE = 100, /* something of the task is damaged: it stays as it is */
};

/* One transaction. *ret_over: nothing of the task is left to move, or it is not ended any more. `freed`: hashes are
 * appended, of files that no row of the task names any more. 0; STORE_E_FULL, STORE_E_FOREIGN (the database is damaged, or cannot be read),
 * ARCHIVE_E_UNREADABLE (nothing was changed); STORE_E_IO (in doubt). */
int archive_move(struct db *db, const struct blobs *blobs, int64_t task, int64_t now_ms, bool *ret_over, struct buf *freed,
                 struct buf *error);

/* Removes a task that is wholly in blocks: it is gone for readers with the transaction that says *ret_over; its blocks
 * go afterwards by archive_scrap(). *ret_gone: it was removed; else it was taken up again meanwhile. */
int archive_remove(struct db *db, int64_t task, bool *ret_over, bool *ret_gone, struct buf *error);
/* Some blocks of tasks that were removed. *ret_over: there are none. */
int archive_scrap(struct db *db, bool *ret_over, struct buf *freed, struct buf *error);
