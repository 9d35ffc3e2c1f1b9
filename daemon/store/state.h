#pragma once
/* What a `struct store` is made of, for the files of this folder. */
#include "daemon/store/journal.h"
#include "daemon/store/store.h"

#include <stdatomic.h>

struct store {
    int folder;       /* the state folder */
    struct db reader; /* of the loop's thread */
    int reads;        /* scopes of STORE_READ() that are open */
    int read_status;  /* of the outermost: what it could not be begun with */
    struct buf unread; /* what the last read that failed said; empty: none has */
    int64_t unread_ms;
    int64_t unread_n;        /* reads that have failed */
    int64_t unread_checked_n; /* when the check under way began */
    int64_t unread_passed_n; /* before the last check that found all whole */
    bool unread_lasts;       /* what one of them read makes no sense: no check of the database sees that */
    struct blobs blobs;
    struct journal journal;
    uv_async_t async;
    bool closed;
    const char *blobs_dir; /* while a copy is opened: the folder that it is a copy of; NULL: this is none */

    struct journal_job job; /* the one commit that is under way */
    bool committing;
    store_done_cb *done;
    void *done_arg;
    struct list backups; /* struct store_backup, not reported yet; the first is under way */

    const struct store_keeper *keeper;
    void *keeper_arg;
    char forgetting[32]; /* the task that the journal's thread removes now: for readers it is gone already */

    char *path;         /* of the database */
    struct check check; /* one at a time, on a thread of its own */
    struct list checks; /* struct store_check, not reported yet */
    size_t checking_n;  /* the first so many are answered by the check under way; 0: there is none */
    uv_thread_t check_thread;
    bool check_runs; /* it is there to be joined */
    atomic_bool check_over;
    int check_status;
    struct buf check_error;
};

void store_hold_loop(struct store *s);
/* To the end of the scope all reads see the same moment, and no file that they name is removed. They nest. Returns from the
 * function if it cannot be. */
struct store *store_read_begin(struct store *s);
void store_read_end(struct store **s);
#define STORE_READ(s)                                                                                        \
    CLEANUP(store_read_end) struct store *reading = store_read_begin(s);                                     \
    if (reading->read_status)                                                                                \
    return reading->read_status
/* For asides.c: what threads other than the journal's have ended is reported; at the end, that it will not.
 */
void store_asides_init(struct store *s);
void store_asides_report(struct store *s);
void store_asides_stop(struct store *s); /* before the journal ends */
void store_asides_free(struct store *s);
/* Logs what a read failed with, keeps it, and returns it. */
int store_read_failed(struct store *s, const char *what);
/* The same for what was read and cannot be right: STORE_E_FOREIGN. */
int store_read_damaged(struct store *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The number of a task; STORE_E_NONE. */
int store_task_number(struct store *s, const char *id, int64_t *ret);
/* The content of a row from its three columns, starting at `at`: body, hash, length of the file. A large one
 * is read into `large`. */
int store_content(struct store *s, sqlite3_stmt *q, int at, struct buf *large, struct str *ret);
