#pragma once
/* What a `struct store` is made of, for the files of this folder. */
#include "daemon/store/journal.h"
#include "daemon/store/store.h"

struct store {
    int folder;       /* the state folder */
    struct db reader; /* of the loop's thread */
    struct blobs blobs;
    struct journal journal;
    uv_async_t async;
    bool closed;

    struct journal_job job; /* the one commit that is under way */
    bool committing;
    store_done_cb *done;
    void *done_arg;
    struct list backups; /* struct store_backup, not reported yet */
};

/* Logs what a read failed with and returns it. */
int store_read_failed(struct store *s, const char *what);
/* The number of a task; STORE_E_NONE. */
int store_task_number(struct store *s, const char *id, int64_t *ret);
/* The content of a row from its three columns, starting at `at`: body, hash, length of the file. A large one
 * is read into `large`. */
int store_content(struct store *s, sqlite3_stmt *q, int at, struct buf *large, struct str *ret);
