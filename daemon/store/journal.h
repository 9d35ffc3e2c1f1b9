#pragma once
/* The thread that writes: takes one batch after the other from a queue, commits it, checkpoints when the log
 * has grown and nobody waits, copies the pages of backups in slices between commits, forgets old keys, archives
 * tasks that have ended. It knows no loop: it reports through `notify`, which is called on its own thread. */
#include "daemon/base/list.h"
#include "daemon/store/archive.h"
#include "daemon/store/backup.h"
#include "daemon/store/ballast.h"
#include "daemon/store/batch.h"
#include "daemon/store/keys.h"
#include "daemon/store/reserve.h"

#include <uv.h>

/* One commit. Owned by who submits it, untouched by him until `over`. */
struct journal_job {
    struct list node;
    struct store_batch *batch;
    bool over;
    int status;
    struct buf error;
};

struct journal_backup {
    struct list node;
    char *path;
    struct backup *work; /* NULL: not begun, or failed; once it is over, who submitted it finishes it */
    bool over;
    int status;
    struct buf error;
};

struct journal {
    struct db db;
    struct blobs *blobs;
    struct ballast ballast;
    struct reserve reserve;
    struct check *check;       /* stopped when it keeps the log from starting again */
    void (*notify)(void *arg); /* a job or a backup is over */
    void *notify_arg;

    uv_thread_t thread;
    uv_mutex_t mutex; /* guards the two lists, `stopping`, `room_wanted`, and `over` */
    uv_cond_t work, done;
    struct buf kept; /* see journal_take_kept(); guarded, too */
    struct list jobs, backups; /* those that are not over */
    bool stopping;
    bool room_wanted; /* see journal_give_room() */
    bool copy; /* nobody is to write: no duties of its own */

    /* Of the thread alone: */
    int log_pages;     /* in the write-ahead log since its last complete checkpoint */
    uint64_t room_at;  /* when to look for room again if the ballast is missing: uv_hrtime() */
    struct buf broken; /* why no commit is possible any more */
    struct keys_walk keys;
    uint64_t keys_at; /* when the walk over the keys goes on: uv_hrtime() */
    struct archive archive;
    uint64_t archive_at, archive_last; /* its next step is due, its last one was; 0: at once, UINT64_MAX: never */
    uint64_t job_last, measured;
    atomic_bool woken; /* something was said to the archive */
};

/* Takes the connection over, which nobody else may use from now on. `log_pages`: as found. */
void journal_start(struct journal *j);
/* Finishes the commits that were submitted, drops backups, checkpoints, closes the connection. */
void journal_stop(struct journal *j);

/* The tasks that were archived or removed since: as `kept` of struct archive. */
void journal_take_kept(struct journal *j, struct buf *ret);
/* Something was said to the archive that it waits for. */
void journal_wake(struct journal *j);
void journal_submit(struct journal *j, struct journal_job *job);
/* Blocks until it is over. */
void journal_wait(struct journal *j, struct journal_job *job);
bool journal_over(struct journal *j, const struct journal_job *job);
/* The reserve is to be given back. */
void journal_give_room(struct journal *j);
void journal_submit_backup(struct journal *j, struct journal_backup *backup);
bool journal_backup_over(struct journal *j, const struct journal_backup *backup);
