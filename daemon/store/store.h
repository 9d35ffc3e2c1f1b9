#pragma once
/* The store: the journal of events, the state of each task, the bytes of each prompt, the answers to keyed
 * changes; in SQLite, in the state folder. One thread of its own writes and checkpoints (Debian's 3.40.1 can
 * corrupt a database that two connections checkpoint: sqlite.org/wal.html#walresetbug); the loop thread reads
 * through a second connection that never checkpoints. No statement is left open across a return of any
 * function here.
 *
 * Narrow on purpose: a batch of rows is committed, rows are read page by page. It knows no task logic, no
 * JSON and no client; texts and snapshots are bytes to it. Another backend is to fit behind this header.
 *
 * Calls: base, libuv (thread, async), sqlite3, libsodium (the hash of large content). Errors: 0, or one of
 * STORE_E_*; a sentence in the `error` buffer. */
#include "daemon/base/buf.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct store;
struct store_batch;

enum {
    STORE_E_FULL = 1,    /* the disk is full: nothing was written, the same batch can be committed again */
    STORE_E_IO = 2,      /* in doubt: the daemon must exit and read again at its next start */
    STORE_E_NEWER = 3,   /* the database was written by a newer agentd */
    STORE_E_FOREIGN = 4, /* not a database of agentd, or damaged */
    STORE_E_NONE = 5,    /* no such row */
    STORE_E_AMBIGUOUS = 6,
    STORE_E_STOPPED = 7, /* ended before its end: the store is closing, or too busy */
};

/* Opens (and creates, and migrates) `dir`/agentd.db and starts the journal thread. The caller holds the lock
 * of the state folder. Sets PRAGMAs as DESIGN says; refuses a newer schema with STORE_E_NEWER. Before a
 * migration of an existing database it makes a copy of it beside it. */
int store_open(const char *dir, uv_loop_t *loop, struct store **ret, struct buf *error);
/* Takes back the reserve of a store that is not open, for a start on a full disk. Whether there was any. */
bool store_give_room(const char *dir);
/* Copies the database of `dir`, which nobody may have open, and its log into the folder `to`. STORE_E_FULL: it does not fit there. */
int store_copy(const char *dir, const char *to, struct buf *error);
/* Opens what store_copy() has put into `copy`, to be read: nothing may be committed. Large content is read from `dir`. */
int store_open_copy(const char *dir, const char *copy, uv_loop_t *loop, struct store **ret, struct buf *error);
/* Waits for the batch that is under way, checkpoints, closes. Backups and checks that are under way are told
 * STORE_E_STOPPED at once (from within this: they must not call the store); no other callback is called any
 * more. The loop has to turn once more for the last of its memory to go. Not from within a callback of a
 * walk. */
void store_close(struct store *s);

/* ---- writing: everything in a batch is committed in one transaction ---- */

struct store_batch *store_batch_new(void);
void store_batch_free(struct store_batch *b);

/* All arguments are copied. `pos` is given out by the caller, from store_pos_last() on. `json` is the whole
 * event as clients see it. */
void store_batch_event(struct store_batch *b, int64_t pos, const char *task, int64_t seq, int kind,
                       int64_t at_ms, struct str json);
/* Element `index` (0, 1, 2 ...) of the prompt of an epoch. */
void store_batch_context(struct store_batch *b, const char *task, int64_t epoch, int64_t index,
                         struct str bytes);

/* The row of a task: inserted, or replaced in all but `spec` and `created_ms`. */
struct store_task {
    const char *id;
    const char *name;
    int state; /* enum task_state */
    bool live; /* loaded at start: not final, or it still has runs */
    int64_t seq;
    int64_t created_ms, updated_ms;
    struct str snapshot; /* the core's encoding */
    struct str spec;     /* resolved model, tools, instructions, environment; absent: unchanged */
};
void store_batch_task(struct store_batch *b, const struct store_task *row);
/* The first answer to a keyed change. `digest` identifies method and parameters. */
void store_batch_key(struct store_batch *b, const char *key, const char *task, struct str digest,
                     struct str result, int64_t at_ms);
/* A named value of the daemon itself (last boot id, clean stop ...). */
#define STORE_META_COPY "copy" /* "yes" in a backup, until whoever starts on it puts something else */
void store_batch_meta(struct store_batch *b, const char *name, struct str value);

/* Something in it is to stop what runs: it may use the room that the log keeps for that when the disk is full. */
void store_batch_stops(struct store_batch *b);
bool store_batch_has_stop(const struct store_batch *b);

/* Commits on the journal thread; `done` is called on the loop thread with 0, STORE_E_FULL or STORE_E_IO.
 * Takes the batch, except on STORE_E_FULL, where it is handed back to be committed again. One batch at a
 * time. */
typedef void store_done_cb(void *arg, int status, struct store_batch *batch, const char *error);
void store_commit(struct store *s, struct store_batch *batch, store_done_cb *done, void *arg);
/* The same, waiting; for start and stop only. Takes the batch, except on STORE_E_FULL. A commit that is under
 * way goes first, and if it fails this one fails with it. */
int store_commit_wait(struct store *s, struct store_batch *batch, struct buf *error);
/* The disk was full and there is no room yet for the reserve that was given back then: what runs may go on,
 * nothing new should be admitted. The store looks for room by itself. */
bool store_disk_low(const struct store *s);
/* Somebody else found the disk full: the reserve is given back, as if a commit had. */
void store_disk_is_full(struct store *s);
/* Not even a batch that stops something finds room, as far as is known. */
bool store_disk_used_up(const struct store *s);

/* ---- keeping ---- */

/* How long, and how much, is kept of tasks that have ended. */
struct store_retention {
    int64_t archive_after_ms; /* so long after its end a task is compressed; it reads as before */
    int64_t keep_ms;          /* so long after its end it is removed; 0: never for its age */
    int64_t bytes_max;        /* of database and blobs; above it the oldest are compressed at once, then removed */
};
/* Called on the loop thread. */
struct store_keeper {
    /* Before a task is removed: whether nobody works with it. After true, it is gone for readers. */
    bool (*may_forget)(void *arg, const char *task);
    /* It is wholly archived now, or removed. Unless the daemon ends before it could be told. */
    void (*kept)(void *arg, const char *task, bool removed);
};
/* From now on tasks are archived and removed, by the journal thread, in small steps between commits. Once; before that,
 * nothing is. */
void store_retain(struct store *s, const struct store_retention *retention, const struct store_keeper *keeper, void *arg);
struct store_usage {
    int64_t bytes, bytes_max; /* 0: not known yet; no bound */
    int64_t archived, removed; /* tasks, since the store was opened */
    bool over;                 /* above the bound, and nothing is left that could be removed: no new tasks, please */
};
void store_usage(const struct store *s, struct store_usage *ret);

/* ---- reading: what is committed, on the loop thread ---- */

/* 0 if there is no event; negative if it cannot be read. */
int64_t store_pos_last(struct store *s);
/* Appends the value, or STORE_E_NONE. */
int store_meta(struct store *s, const char *name, struct buf *ret);

/* Errors of reads: STORE_E_NONE where it says so, else STORE_E_IO or STORE_E_FOREIGN (damaged), with a line
 * in the log and in store_unread(). */

/* What the last read that failed said of itself, and when (wall time); NULL if none has. Lives until the next one. */
const char *store_unread(const struct store *s, int64_t *ret_ms);
/* Whether a check that began after the last of them found all whole: the disk could not be read for a while. Never true once something was
 * read that makes no sense. */
bool store_unread_passed(const struct store *s);
/* What was read makes no sense to whoever asked: that is a read that failed, too. */
void store_fail_read(struct store *s, const char *sentence);

/* Calls back once per row, in no order (live) or newest first (page: without `spec`). The row and its bytes
 * live for the call. A negative return ends the walk and is returned. A callback may call the store, but not
 * start the same walk again. */
typedef int store_task_cb(void *arg, const struct store_task *row);
int store_tasks_live(struct store *s, store_task_cb *cb, void *arg);
/* Tasks older than the task `after` (absent: from the newest), at most `limit`; those that are not live only
 * if updated at or after since_ms. */
int store_tasks_page(struct store *s, struct str after, int64_t since_ms, int64_t limit, store_task_cb *cb,
                     void *arg);
/* STORE_E_NONE if there is no such task. */
int store_task_load(struct store *s, const char *id, store_task_cb *cb, void *arg);
/* 0: it has ended and is wholly archived; STORE_E_NONE: it is not, or there is no such task. */
int store_task_archived(struct store *s, const char *id);
/* exact id -> name of a live task -> latest task of that name -> unique id prefix (at least 6 characters) ->
 * "@last". STORE_E_NONE, STORE_E_AMBIGUOUS. */
int store_task_resolve(struct store *s, struct str text, char ret_id[32]);

struct store_event {
    int64_t pos, seq;
    const char *task;
    struct str json;
};
typedef int store_event_cb(void *arg, const struct store_event *event);
/* Events of a task with seq > after, ascending, until `limit` events or about `bytes` bytes were given (at
 * least one). */
int store_events_after(struct store *s, const char *task, int64_t after, int64_t limit, int64_t bytes,
                       store_event_cb *cb, void *arg);
/* Events of a task with seq < before, DESCENDING from the newest such, same bounds. */
int store_events_before(struct store *s, const char *task, int64_t before, int64_t limit, int64_t bytes,
                        store_event_cb *cb, void *arg);
/* Events of all tasks with pos > after, ascending. */
int store_journal_after(struct store *s, int64_t after, int64_t limit, int64_t bytes, store_event_cb *cb,
                        void *arg);

/* Appends element 0, then the others separated by commas (none after element 0): exactly the bytes of a
 * prompt without its end. STORE_E_NONE if nothing is stored of that epoch. */
int store_context_read(struct store *s, const char *task, int64_t epoch, struct buf *ret);

/* The answer to a key, or STORE_E_NONE. */
int store_key_find(struct store *s, const char *key, struct buf *ret_digest, struct buf *ret_result);

/* Makes a consistent copy at `path`, one at a time: its pages on the journal thread, in slices between
 * commits; the rest, and a check of the copy, on a thread of its own. Synced and renamed in place; an
 * existing file is refused, and a failure leaves nothing there. Whole in one file: content that is in files
 * is taken back into its rows. A failure says nothing about the journal. */
typedef void store_backup_cb(void *arg, int status, const char *error);
void store_backup(struct store *s, const char *path, store_backup_cb *done, void *arg);
/* PRAGMA quick_check, and whether each file that a row names is there, on a thread of its own; 0, or
 * STORE_E_FOREIGN with the first finding, or STORE_E_STOPPED if it gave way to a journal that grew too long
 * meanwhile. Takes seconds on a large database. */
typedef void store_check_cb(void *arg, int status, const char *error);
void store_check(struct store *s, store_check_cb *done, void *arg);
