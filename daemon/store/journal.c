#include "journal.h"

#include "daemon/base/failpoint.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/store/batch.h"
#include "daemon/store/commit.h"

#include <inttypes.h>
#include <stdlib.h>

/* The write-ahead log, in pages of 4 KiB: when it is copied back while nobody waits, when even if somebody
 * does, and when readers are waited for so that it starts again from its beginning. It stays below 64 MB. */
#define JOURNAL_PAGES_IDLE 4000
#define JOURNAL_PAGES_BUSY 8000
#define JOURNAL_PAGES_MAX 12000

#define JOURNAL_QUIET_NS 20000000ull  /* without work for so long is idle */
#define JOURNAL_ROOM_NS 2000000000ull /* between looks for room when the ballast is missing */
#define JOURNAL_READERS_MS 500        /* a page is read in far less */
#define JOURNAL_BUSY_MS 5000
/* Between walks over the keys, and the longest that one waits for an idle moment. */
#define JOURNAL_KEYS_NS 3600000000000ull
/* Steps of the archive wait for a quiet moment, but one is made so often under load, too. */
#define JOURNAL_ARCHIVE_BUSY_NS 100000000ull
#define JOURNAL_LATER_MS 3600000
#define JOURNAL_MEASURE_NS 1000000000ull /* between looks at how much is stored */

/* Called by SQLite after each commit. */
static int journal_log_grew(void *arg, sqlite3 *h, const char *name, int pages)
{
    (void)h;
    (void)name;
    struct journal *j = arg;
    j->log_pages = pages;
    reserve_log_grew(&j->reserve, pages);
    return SQLITE_OK;
}

static void journal_break(struct journal *j, struct str why)
{
    if (!j->broken.n)
        buf_str(&j->broken, why);
}

/* Gives the reserve back, which also tells the daemon that nothing new should be admitted. */
static void journal_full(struct journal *j)
{
    ballast_drop(&j->ballast);
    j->room_at = uv_hrtime() + JOURNAL_ROOM_NS;
}

/* Whatever comes of it, the next try waits for the next commit, which tells the size of the log again. */
static void journal_checkpoint(struct journal *j, int mode)
{
    if (mode == SQLITE_CHECKPOINT_RESTART) {
        check_stop(j->check); /* it reads for longer than can be waited */
        sqlite3_busy_timeout(j->db.h, JOURNAL_READERS_MS);
    }
    int rc = sqlite3_wal_checkpoint_v2(j->db.h, "main", mode, NULL, NULL);
    j->log_pages = 0;
    if (rc != SQLITE_OK && rc != SQLITE_BUSY && rc != SQLITE_LOCKED) {
        CLEANUP(buf_free) struct buf error = {0};
        db_explain(&j->db, "cannot checkpoint the journal", &error);
        if (db_failure(&j->db) == STORE_E_FULL)
            journal_full(j); /* nothing is lost: the log keeps it */
        else
            journal_break(j, buf_view(&error));
    }
    sqlite3_busy_timeout(j->db.h, JOURNAL_BUSY_MS);
    FAILPOINT("store.after_checkpoint");
}

/* What the ballast gives back is taken for the log at once: whatever filled the disk would be quicker. */
static bool journal_has_room(struct journal *j, const struct store_batch *batch)
{
    int64_t bytes = batch_log_bytes(batch);
    if (reserve_ahead(&j->reserve, bytes))
        return true;
    journal_full(j);
    return reserve_ahead(&j->reserve, bytes) || batch->stops;
}

static void journal_run_job(struct journal *j, struct journal_job *job)
{
    if (j->broken.n) {
        job->status = STORE_E_IO;
        buf_str(&job->error, buf_view(&j->broken));
        return;
    }
    job->status = journal_has_room(j, job->batch) ? commit_batch(&j->db, j->blobs, job->batch, &job->error) : STORE_E_FULL;
    if (job->status == STORE_E_FULL && !job->error.n)
        buf_puts(&job->error, "what is left of the log's room is kept for stops");
    if (!job->status)
        log_debug("committed %zu rows, up to pos %" PRId64, job->batch->rows_n, batch_pos_last(job->batch));
    if (job->status == STORE_E_FULL)
        journal_full(j);
    else if (job->status)
        journal_break(j, buf_view(&job->error));
    if (!job->status || job->batch->stops)
        atomic_store(&j->reserve.used_up, job->status == STORE_E_FULL);
}

static bool journal_short(const struct journal *j)
{
    return atomic_load(&j->ballast.missing);
}

static void journal_look_for_room(struct journal *j)
{
    if (!journal_short(j) || uv_hrtime() < j->room_at)
        return;
    if (reserve_ahead(&j->reserve, 0))
        ballast_restore(&j->ballast);
    j->room_at = uv_hrtime() + JOURNAL_ROOM_NS;
}

static bool journal_keys_due(const struct journal *j, uint64_t late_ns)
{
    return !j->copy && !j->broken.n && !journal_short(j) && uv_hrtime() >= j->keys_at + late_ns;
}

static void journal_forget_keys(struct journal *j)
{
    CLEANUP(buf_free) struct buf error = {0};
    bool over = false;
    int status = keys_step(&j->keys, &j->db, &over, &error);
    if (status == STORE_E_FULL)
        journal_full(j);
    else if (status)
        journal_break(j, buf_view(&error));
    if (status || over)
        j->keys_at = uv_hrtime() + JOURNAL_KEYS_NS;
}

/* ---- the archive ---- */

static uint64_t journal_in_ms(int64_t ms)
{
    return ms == ARCHIVE_NEVER ? UINT64_MAX : uv_hrtime() + (uint64_t)ms * 1000000u;
}

/* When its next step is to be made; UINT64_MAX: not before something else happens. */
static uint64_t journal_archive_due(struct journal *j)
{
    struct archive *a = &j->archive;
    uint64_t at = atomic_load(&j->woken) ? 0 : j->archive_at;
    if (!atomic_load(&a->on) || j->copy || j->broken.n || journal_short(j) || at == UINT64_MAX)
        return UINT64_MAX;
    uint64_t quiet = j->job_last + JOURNAL_QUIET_NS, busy = j->archive_last + JOURNAL_ARCHIVE_BUSY_NS;
    uint64_t free = quiet < busy ? quiet : busy;
    return at > free ? at : free;
}

static void journal_after_work(struct journal *j);

static void journal_archive(struct journal *j)
{
    CLEANUP(buf_free) struct buf error = {0};
    int64_t wait_ms = 0;
    atomic_store(&j->woken, false);
    if (!reserve_ahead(&j->reserve, ARCHIVE_LOG_BYTES)) {
        journal_full(j);
        return;
    }
    int ask = atomic_load(&j->archive.ask);
    int status = archive_step(&j->archive, &j->db, j->blobs, &wait_ms, &error);
    j->archive_at = journal_in_ms(wait_ms);
    j->archive_last = uv_hrtime();
    if (status == STORE_E_FULL)
        journal_full(j);
    else if (status)
        journal_break(j, buf_view(&error));
    uv_mutex_lock(&j->mutex);
    buf_str(&j->kept, buf_view(&j->archive.kept));
    uv_mutex_unlock(&j->mutex);
    if (j->archive.kept.n || atomic_load(&j->archive.ask) != ask)
        j->notify(j->notify_arg);
    buf_clear(&j->archive.kept);
    if (wait_ms > 0 && j->archive.shrunk && !j->broken.n) {
        j->archive.shrunk = false;
        journal_checkpoint(j, SQLITE_CHECKPOINT_PASSIVE);
    }
    journal_after_work(j);
}

/* A commit may have ended a task, or filled what may be stored. */
static void journal_archive_later(struct journal *j)
{
    struct archive *a = &j->archive;
    bool above;
    j->job_last = uv_hrtime();
    if (!atomic_load(&a->on) || j->broken.n)
        return;
    if (j->archive_at == UINT64_MAX)
        j->archive_at = journal_in_ms(a->keep.archive_after_ms < JOURNAL_LATER_MS ? a->keep.archive_after_ms : JOURNAL_LATER_MS);
    if (j->job_last < j->measured + JOURNAL_MEASURE_NS)
        return;
    j->measured = j->job_last;
    if (archive_measure(a, &j->db, j->blobs, &above) == 0 && above && !atomic_load(&a->over))
        j->archive_at = 0;
}

/* What comes due under load as well. */
static void journal_after_work(struct journal *j)
{
    journal_look_for_room(j);
    if (journal_keys_due(j, JOURNAL_KEYS_NS))
        journal_forget_keys(j);
    if (j->broken.n)
        return;
    if (j->log_pages >= JOURNAL_PAGES_MAX)
        journal_checkpoint(j, SQLITE_CHECKPOINT_RESTART);
    else if (j->log_pages >= JOURNAL_PAGES_BUSY)
        journal_checkpoint(j, SQLITE_CHECKPOINT_PASSIVE);
}

static void journal_run_backup(struct journal *j, struct journal_backup *b, bool *ret_over)
{
    *ret_over = false;
    if (!b->work)
        b->status = backup_begin(&j->db, b->path, j->ballast.folder, &b->work, &b->error);
    if (!b->status)
        b->status = backup_slice(b->work, ret_over, &b->error);
    if (!b->status)
        return;
    *ret_over = true;
    backup_free(b->work);
    b->work = NULL;
}

/* What is done only when there is nothing else to do. */
static void journal_run_idle(struct journal *j)
{
    if (j->log_pages >= JOURNAL_PAGES_IDLE && !j->broken.n)
        journal_checkpoint(j, SQLITE_CHECKPOINT_PASSIVE);
    journal_look_for_room(j);
    if (journal_keys_due(j, 0))
        journal_forget_keys(j);
}

/* Waits for work, or for the time of the next idle duty: an idle thread without one does not wake up. The
 * keys are looked at when something else has woken it. */
static void journal_rest(struct journal *j)
{
    bool quiet = j->log_pages >= JOURNAL_PAGES_IDLE || journal_keys_due(j, 0);
    uint64_t ns = quiet ? JOURNAL_QUIET_NS : journal_short(j) ? JOURNAL_ROOM_NS : 0;
    uint64_t due = journal_archive_due(j), now = uv_hrtime();
    uint64_t left = due == UINT64_MAX ? 0 : due > now ? due - now : 1;
    if (left && (!ns || left < ns))
        ns = left;
    if (!ns) {
        uv_cond_wait(&j->work, &j->mutex);
    } else if (uv_cond_timedwait(&j->work, &j->mutex, ns) == UV_ETIMEDOUT) {
        uv_mutex_unlock(&j->mutex);
        journal_run_idle(j);
        uv_mutex_lock(&j->mutex);
    }
}

static void journal_next_job(struct journal *j)
{
    struct journal_job *job = LIST_ENTRY(j->jobs.next, struct journal_job, node);
    uv_mutex_unlock(&j->mutex);
    journal_run_job(j, job);
    uv_mutex_lock(&j->mutex);
    list_remove(&job->node);
    job->over = true;
    uv_cond_broadcast(&j->done);
    j->notify(j->notify_arg);
    uv_mutex_unlock(&j->mutex);
    journal_after_work(j);
    journal_archive_later(j);
    uv_mutex_lock(&j->mutex);
}

static void journal_next_backup(struct journal *j)
{
    struct journal_backup *backup = LIST_ENTRY(j->backups.next, struct journal_backup, node);
    bool over;
    uv_mutex_unlock(&j->mutex);
    journal_run_backup(j, backup, &over);
    uv_mutex_lock(&j->mutex);
    if (!over)
        return;
    list_remove(&backup->node);
    backup->over = true;
    j->notify(j->notify_arg);
}

static void journal_next_archive(struct journal *j)
{
    uv_mutex_unlock(&j->mutex);
    journal_archive(j);
    uv_mutex_lock(&j->mutex);
}

static void journal_main(void *arg)
{
    struct journal *j = arg;
    uv_mutex_lock(&j->mutex);
    for (;;) {
        if (j->room_wanted && !j->copy)
            journal_full(j);
        j->room_wanted = false;
        if (!list_empty(&j->jobs))
            journal_next_job(j);
        else if (j->stopping)
            break;
        else if (!list_empty(&j->backups))
            journal_next_backup(j);
        else if (journal_archive_due(j) <= uv_hrtime())
            journal_next_archive(j);
        else
            journal_rest(j);
    }
    uv_mutex_unlock(&j->mutex);
}

void journal_start(struct journal *j)
{
    list_init(&j->jobs);
    list_init(&j->backups);
    j->keys_at = uv_hrtime();
    sqlite3_wal_hook(j->db.h, journal_log_grew, j);
    int rc = uv_mutex_init(&j->mutex);
    rc = rc ? rc : uv_cond_init(&j->work);
    rc = rc ? rc : uv_cond_init(&j->done);
    rc = rc ? rc : uv_thread_create(&j->thread, journal_main, j);
    if (rc) {
        log_error("cannot start the journal's thread: %s", uv_strerror(rc));
        abort();
    }
}

void journal_stop(struct journal *j)
{
    uv_mutex_lock(&j->mutex);
    j->stopping = true;
    uv_cond_signal(&j->work);
    uv_mutex_unlock(&j->mutex);
    uv_thread_join(&j->thread);
    struct journal_backup *backup;
    LIST_EACH(backup, &j->backups, struct journal_backup, node)
    {
        backup_free(backup->work);
        backup->work = NULL;
    }
    if (!j->broken.n && !j->copy && !journal_short(j))
        journal_checkpoint(j, SQLITE_CHECKPOINT_TRUNCATE);
    else /* in doubt, or on a full disk, where what the log has of room would be lost: the next start reads what is there */
        sqlite3_db_config(j->db.h, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    db_close(&j->db);
    buf_free(&j->broken);
    keys_walk_free(&j->keys);
    archive_free(&j->archive);
    buf_free(&j->kept);
    uv_cond_destroy(&j->done);
    uv_cond_destroy(&j->work);
    uv_mutex_destroy(&j->mutex);
}

void journal_take_kept(struct journal *j, struct buf *ret)
{
    uv_mutex_lock(&j->mutex);
    *ret = j->kept;
    j->kept = (struct buf){0};
    uv_mutex_unlock(&j->mutex);
}

void journal_wake(struct journal *j)
{
    uv_mutex_lock(&j->mutex);
    atomic_store(&j->woken, true);
    uv_cond_signal(&j->work);
    uv_mutex_unlock(&j->mutex);
}

void journal_submit(struct journal *j, struct journal_job *job)
{
    job->over = false;
    job->status = 0;
    buf_clear(&job->error);
    uv_mutex_lock(&j->mutex);
    list_append(&j->jobs, &job->node);
    uv_cond_signal(&j->work);
    uv_mutex_unlock(&j->mutex);
}

void journal_give_room(struct journal *j)
{
    uv_mutex_lock(&j->mutex);
    j->room_wanted = true;
    uv_cond_signal(&j->work);
    uv_mutex_unlock(&j->mutex);
}

void journal_wait(struct journal *j, struct journal_job *job)
{
    uv_mutex_lock(&j->mutex);
    while (!job->over)
        uv_cond_wait(&j->done, &j->mutex);
    uv_mutex_unlock(&j->mutex);
}

bool journal_over(struct journal *j, const struct journal_job *job)
{
    uv_mutex_lock(&j->mutex);
    bool over = job->over;
    uv_mutex_unlock(&j->mutex);
    return over;
}

void journal_submit_backup(struct journal *j, struct journal_backup *backup)
{
    uv_mutex_lock(&j->mutex);
    list_append(&j->backups, &backup->node);
    uv_cond_signal(&j->work);
    uv_mutex_unlock(&j->mutex);
}

bool journal_backup_over(struct journal *j, const struct journal_backup *backup)
{
    uv_mutex_lock(&j->mutex);
    bool over = backup->over;
    uv_mutex_unlock(&j->mutex);
    return over;
}
