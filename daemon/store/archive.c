#include "archive.h"

#include "daemon/base/log.h"
#include "daemon/store/keys.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define WALK_ROWS 256          /* that one step looks at */
#define AGAIN_MS 3600000       /* between looks at what cannot change by itself, and after a jump of the clock */
#define OVER_MS 5000           /* between looks when nothing more can be removed */
#define REFUSED_MS 1000        /* before a task that is in use is asked about again */
#define ASKED_MS 1000          /* the answer wakes the thread; this is for when it does not */
#define VACUUM_PAGES_MIN 1024  /* free pages that are worth giving back, where there is room */
#define VACUUM_SHARE 4         /* of all pages, that may be free */

static int64_t clock_ms(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void archive_tell(struct archive *a, char what, const char *id)
{
    buf_put(&a->kept, &what, 1);
    buf_put(&a->kept, id, strlen(id) + 1);
}

/* ---- how much there is ---- */

static int archive_pages(struct db *db, int64_t *ret_all, int64_t *ret_free)
{
    int status = db_number(db, "PRAGMA page_count", ret_all);
    return status ? status : db_number(db, "PRAGMA freelist_count", ret_free);
}

int archive_measure(struct archive *a, struct db *db, const struct blobs *blobs, bool *ret_above)
{
    int64_t pages = 0, free = 0;
    int status = archive_pages(db, &pages, &free);
    int64_t bytes = (pages - free) * 4096 + blobs->bytes;
    if (!status)
        atomic_store(&a->bytes, bytes);
    *ret_above = !status && a->keep.bytes_max > 0 && bytes > a->keep.bytes_max;
    return status;
}

static void archive_set_over(struct archive *a, bool over)
{
    if (atomic_exchange(&a->over, over) == over)
        return;
    if (over)
        log_error("%" PRId64 " bytes are stored, storage_bytes_max allows %" PRId64
                  ", and all of it is of tasks that have not ended: no new tasks until some have",
                  (int64_t)atomic_load(&a->bytes), a->keep.bytes_max);
    else
        log_info("what is stored is within storage_bytes_max again");
}

/* Gives pages back to the file system: many are free, or all together are too many. *ret_more: there are more. */
static int archive_vacuum(struct archive *a, struct db *db, const struct blobs *blobs, bool *ret_more)
{
    int64_t pages = 0, free = 0, left = 0;
    int status = archive_pages(db, &pages, &free);
    bool large = a->keep.bytes_max > 0 && pages * 4096 + blobs->bytes > a->keep.bytes_max;
    bool many = free >= VACUUM_PAGES_MIN && free > pages / VACUUM_SHARE;
    *ret_more = !status && !a->vacuum_over && (many || (large && free > 0));
    if (!*ret_more)
        return status;
    status = db_exec(db, "PRAGMA incremental_vacuum(64)");
    if (!status)
        status = archive_pages(db, &pages, &left);
    a->shrunk = true;
    a->vacuum_over = !status && left >= free; /* a database that was not made for it */
    return status;
}

/* ---- removing ---- */

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The archived task that ended first. STORE_E_NONE. */
static int archive_oldest(struct archive *a, struct db *db, int64_t *ret_n, int64_t *ret_ended_ms)
{
    CLEANUP_QUERY *q = db_query(db, QUERY_ARCHIVE_OLDEST);
    if (!q)
        return db_failure(db);
    int rc = sqlite3_step(q);
    if (rc != SQLITE_ROW)
        return rc == SQLITE_DONE ? STORE_E_NONE : db_failure(db);
    *ret_n = sqlite3_column_int64(q, 0);
    *ret_ended_ms = sqlite3_column_int64(q, 1);
    struct str id = db_column(q, 2);
    snprintf(a->ask_id, sizeof a->ask_id, "%.*s", STR_ARG(id));
    return 0;
}

/* Asks for the oldest if it is to go. */
static int archive_retire(struct archive *a, struct db *db, int64_t now_ms, bool above, int64_t *ret_wait_ms)
{
    int64_t n = 0, ended_ms = 0, boot_ms = clock_ms(CLOCK_BOOTTIME);
    int status = archive_oldest(a, db, &n, &ended_ms);
    if (status == STORE_E_NONE) {
        if (!above || !a->sweep.again)
            archive_set_over(a, above);
        *ret_wait_ms = above ? least(*ret_wait_ms, OVER_MS) : *ret_wait_ms;
        return 0;
    }
    if (status)
        return status;
    archive_set_over(a, false);
    int64_t due_ms = a->keep.keep_ms > 0 ? ended_ms + a->keep.keep_ms - now_ms : ARCHIVE_NEVER;
    if (above) /* the room of files that only wait to be removed is not taken from yet another task */
        due_ms = least(due_ms, a->sweep.again ? OVER_MS : 0);
    if (due_ms <= 0 && a->refused_ms && boot_ms < a->refused_ms + REFUSED_MS)
        due_ms = REFUSED_MS;
    if (due_ms > 0) {
        *ret_wait_ms = least(*ret_wait_ms, due_ms);
        return 0;
    }
    a->removing = n;
    atomic_store(&a->ask, ASK_OPEN);
    *ret_wait_ms = ASKED_MS;
    return 0;
}

static int archive_remove_step(struct archive *a, struct db *db, struct buf *error)
{
    bool over, gone;
    int status = archive_remove(db, a->removing, &over, &gone, error);
    if (status || !over)
        return status;
    if (gone) {
        atomic_fetch_add(&a->removed, 1);
        archive_tell(a, ARCHIVE_REMOVED, a->ask_id);
        log_info("task %s was removed: it had ended, and was archived (%s)", a->ask_id,
                 a->keep.keep_ms > 0 ? "keep_ms, storage_bytes_max" : "storage_bytes_max");
        a->scrap_over = false;
    }
    atomic_store(&a->ask, ASK_OVER);
    return 0;
}

/* ---- archiving ---- */

static int archive_move_step(struct archive *a, struct db *db, const struct blobs *blobs, struct buf *error)
{
    bool over = false;
    int status = archive_move(db, blobs, a->task, clock_ms(CLOCK_REALTIME), &over, &a->freed, error);
    if (status == ARCHIVE_E_UNREADABLE) {
        log_error("a task (number %" PRId64 ") stays as it is: %s", a->task, buf_cstr(error));
        buf_clear(error);
        a->task = 0;
        return 0;
    }
    if (status || !over)
        return status;
    atomic_fetch_add(&a->archived, 1);
    archive_tell(a, ARCHIVE_WHOLLY, a->task_id);
    a->task = 0;
    return 0;
}

/* The next ended task that is due, into a->task. *ret_wait_ms: how long until one is; 0: look again. */
static int archive_walk(struct archive *a, struct db *db, int64_t now_ms, bool above, int64_t *ret_wait_ms)
{
    int64_t keep_ms = a->keep.keep_ms, after_ms = a->keep.archive_after_ms;
    if (keep_ms > 0 && keep_ms < after_ms)
        after_ms = keep_ms;
    CLEANUP_QUERY *q = db_query(db, QUERY_ARCHIVE_WALK);
    if (!q)
        return db_failure(db);
    sqlite3_bind_int64(q, 1, a->walk_ms);
    sqlite3_bind_int64(q, 2, a->walk_n);
    sqlite3_bind_int64(q, 3, WALK_ROWS);
    int rc, n = 0;
    *ret_wait_ms = ARCHIVE_NEVER;
    for (; (rc = sqlite3_step(q)) == SQLITE_ROW; n++) {
        int64_t task = sqlite3_column_int64(q, 0), ended_ms = sqlite3_column_int64(q, 1);
        bool whole = sqlite3_column_int64(q, 2) == sqlite3_column_int64(q, 3);
        *ret_wait_ms = ended_ms + after_ms - now_ms;
        if (!whole && !above && *ret_wait_ms > 0)
            return 0;
        a->walk_ms = ended_ms;
        a->walk_n = task;
        if (whole)
            continue;
        struct str id = db_column(q, 4);
        snprintf(a->task_id, sizeof a->task_id, "%.*s", STR_ARG(id));
        a->task = task;
        break;
    }
    *ret_wait_ms = a->task || n == WALK_ROWS ? 0 : ARCHIVE_NEVER;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : db_failure(db);
}

/* Clocks are set back, and what could not be read may have been mended: all is looked at again now and then. */
static void archive_begin_again(struct archive *a)
{
    int64_t boot_ms = clock_ms(CLOCK_BOOTTIME);
    if (!a->begun || boot_ms >= a->walk_began_ms + AGAIN_MS) {
        a->walk_ms = a->walk_n = INT64_MIN;
        a->walk_began_ms = boot_ms;
        a->vacuum_over = false;
    }
    a->begun = true;
}

static int archive_choose(struct archive *a, struct db *db, const struct blobs *blobs, int64_t *ret_wait_ms)
{
    bool above, more = false;
    int64_t now_ms = clock_ms(CLOCK_REALTIME);
    archive_begin_again(a);
    int status = archive_measure(a, db, blobs, &above);
    if (!status)
        status = archive_walk(a, db, now_ms, above, ret_wait_ms);
    if (!status && *ret_wait_ms > 0)
        status = archive_retire(a, db, now_ms, above, ret_wait_ms);
    if (!status && *ret_wait_ms > 0 && atomic_load(&a->ask) == ASK_NONE)
        status = archive_vacuum(a, db, blobs, &more);
    if (a->sweep.again)
        *ret_wait_ms = least(*ret_wait_ms, OVER_MS);
    if (more)
        *ret_wait_ms = 0;
    else if (*ret_wait_ms != ARCHIVE_NEVER)
        *ret_wait_ms = least(*ret_wait_ms, AGAIN_MS);
    return status;
}

/* ---- a step ---- */

static bool archive_sweep_due(struct archive *a)
{
    int64_t boot_ms = clock_ms(CLOCK_BOOTTIME);
    bool due = a->sweep.dir || !a->swept_ms || boot_ms >= a->swept_ms + (a->sweep.again ? OVER_MS : AGAIN_MS);
    if (due)
        a->swept_ms = boot_ms;
    return due;
}

/* What is left over from before: files without a row, blocks without a task. *ret_more: there is more of it. */
static int archive_tidy(struct archive *a, struct db *db, struct blobs *blobs, bool *ret_more, struct buf *error)
{
    bool over = true;
    int status = 0;
    *ret_more = true;
    if (a->freed.n) {
        status = sweep_files(&a->sweep, db, blobs, buf_view(&a->freed), error);
        buf_clear(&a->freed);
    } else if (!a->scrap_over) {
        status = archive_scrap(db, &a->scrap_over, &a->freed, error);
    } else if (archive_sweep_due(a)) {
        status = sweep_step(&a->sweep, db, blobs, &over, error);
    } else {
        *ret_more = false;
    }
    return status;
}

/* Takes the answer. Whether there is work to be done for it now. */
static bool archive_answered(struct archive *a)
{
    int ask = atomic_load(&a->ask);
    if (ask == ASK_NO) {
        a->refused_ms = clock_ms(CLOCK_BOOTTIME);
        atomic_store(&a->ask, ASK_NONE);
    }
    return ask == ASK_YES;
}

/* Work goes on with what can be read; what is damaged may be of a task that nobody asks about. Whoever asks about it, or for a check,
 * is told. */
static void archive_give_up(struct archive *a, int64_t *ret_wait_ms, struct buf *error)
{
    log_error("%s: nothing more is archived or removed before the next start; put a backup in the database's place", buf_cstr(error));
    buf_clear(error);
    *ret_wait_ms = ARCHIVE_NEVER;
    atomic_store(&a->on, false);
    atomic_store(&a->over, false); /* nobody looks any more whether it is */
    if (atomic_load(&a->ask) == ASK_YES)
        atomic_store(&a->ask, ASK_OVER); /* the task is still there */
}

int archive_step(struct archive *a, struct db *db, struct blobs *blobs, int64_t *ret_wait_ms, struct buf *error)
{
    bool more = true;
    int status;
    *ret_wait_ms = 0;
    if (archive_answered(a)) {
        status = archive_remove_step(a, db, error);
    } else if (atomic_load(&a->ask) != ASK_NONE) {
        *ret_wait_ms = ASKED_MS;
        return 0;
    } else {
        status = archive_tidy(a, db, blobs, &more, error);
    }
    if (!status && !more)
        status = a->task ? archive_move_step(a, db, blobs, error) : archive_choose(a, db, blobs, ret_wait_ms);
    if (status && !error->n)
        db_explain(db, "cannot look after what is stored", error);
    if (status == STORE_E_FOREIGN || (status && status != STORE_E_FULL && db_cannot_read(db))) {
        archive_give_up(a, ret_wait_ms, error);
        return 0;
    }
    return !status || status == STORE_E_FULL ? status : STORE_E_IO;
}

void archive_free(struct archive *a)
{
    sweep_free(&a->sweep);
    buf_free(&a->freed);
    buf_free(&a->kept);
}
