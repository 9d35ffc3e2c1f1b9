#pragma once
/* Keeps what is stored within its bounds: which ended task is compressed, which is removed, and when. A step is a few
 * milliseconds, on the thread that writes, between commits; the journal says when there is time for one.
 *
 *     rows  --old enough, or too much is stored-->  blocks  --kept long enough, or still too much-->  gone
 *
 * A task that is taken up again while it is in blocks stays there; what is new of it is in rows, and follows them once it has
 * ended again. A task that is not ended is never touched. It knows no clients: whether a task may go is asked
 * through `ask`, which the loop's thread answers. */
#include "daemon/store/archive_move.h"
#include "daemon/store/store.h"
#include "daemon/store/sweep.h"

#include <stdatomic.h>

#define ARCHIVE_NEVER INT64_MAX
#define ARCHIVE_WHOLLY '+' /* archived to its last event */
#define ARCHIVE_REMOVED '-'

/*        NONE --journal--> OPEN --loop--> NO --journal--> NONE
 *                            \--loop--> YES --journal--> OVER --loop--> NONE
 * Whoever may move it on owns `ask_id` at the time. */
enum archive_ask { ASK_NONE, ASK_OPEN, ASK_NO, ASK_YES, ASK_OVER };

struct archive {
    struct store_retention keep;
    atomic_bool on;
    atomic_int ask;
    char ask_id[32];

    /* Of the thread alone: */
    int64_t task;            /* being moved into blocks; 0: none */
    int64_t removing;        /* the task that is asked about */
    int64_t walk_ms, walk_n; /* of the last ended task that was looked at */
    int64_t walk_began_ms, swept_ms, refused_ms; /* CLOCK_BOOTTIME */
    bool begun, scrap_over, vacuum_over;
    bool shrunk; /* pages were given back: the file has its new size after the next checkpoint */
    struct sweep sweep;
    char task_id[32];        /* of `task` */
    struct buf kept;  /* what became of tasks in the last step: ARCHIVE_*, the id, a NUL; the caller takes it */
    struct buf freed; /* hashes of files that may have no row any more */

    /* For everybody: */
    atomic_llong bytes, archived, removed;
    atomic_bool over;
};

/* One step. *ret_wait_ms: the next one is due after so long; ARCHIVE_NEVER: when something has been committed. 0, STORE_E_FULL,
 * STORE_E_IO (in doubt). */
int archive_step(struct archive *a, struct db *db, struct blobs *blobs, int64_t *ret_wait_ms, struct buf *error);
/* Counts the bytes anew; whether they are above the bound. */
int archive_measure(struct archive *a, struct db *db, const struct blobs *blobs, bool *ret_above);
void archive_free(struct archive *a);
