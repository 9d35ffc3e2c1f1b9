#include "store.h"

#include "daemon/base/failpoint.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/store/files.h"
#include "daemon/store/migrate.h"
#include "daemon/store/state.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

static void store_notify(void *arg)
{
    uv_async_send(&((struct store *)arg)->async);
}

/* The loop is kept alive by what is under way, not by the store as such. */
void store_hold_loop(struct store *s)
{
    if (s->committing || !list_empty(&s->backups) || !list_empty(&s->checks))
        uv_ref((uv_handle_t *)&s->async);
    else
        uv_unref((uv_handle_t *)&s->async);
}

static void store_report_commit(struct store *s)
{
    if (!s->committing || !journal_over(&s->journal, &s->job))
        return;
    struct store_batch *batch = s->job.batch;
    CLEANUP(buf_free) struct buf error = s->job.error;
    s->job.error = (struct buf){0};
    s->committing = false;
    store_hold_loop(s);
    if (s->job.status != STORE_E_FULL) {
        store_batch_free(batch);
        batch = NULL;
    }
    s->done(s->done_arg, s->job.status, batch, buf_cstr(&error));
}

static void store_tell_kept(struct store *s)
{
    CLEANUP(buf_free) struct buf tasks = {0};
    journal_take_kept(&s->journal, &tasks);
    for (size_t at = 0; at < tasks.n && !s->closed; at += strlen(tasks.p + at) + 1)
        s->keeper->kept(s->keeper_arg, tasks.p + at + 1, tasks.p[at] == ARCHIVE_REMOVED);
}

/* What the archive asks: see archive.h. */
static void store_answer(struct store *s)
{
    struct archive *a = &s->journal.archive;
    store_tell_kept(s);
    switch ((enum archive_ask)atomic_load(&a->ask)) {
    case ASK_OPEN:
        if (s->keeper->may_forget(s->keeper_arg, a->ask_id)) {
            memcpy(s->forgetting, a->ask_id, sizeof s->forgetting);
            atomic_store(&a->ask, ASK_YES);
        } else {
            atomic_store(&a->ask, ASK_NO);
        }
        break;
    case ASK_OVER:
        s->forgetting[0] = 0;
        atomic_store(&a->ask, ASK_NONE);
        break;
    case ASK_NONE:
    case ASK_NO:
    case ASK_YES:
        return;
    }
    journal_wake(&s->journal);
}

static void store_report_cb(uv_async_t *async)
{
    struct store *s = async->data;
    if (!s->closed)
        store_report_commit(s);
    if (!s->closed) /* by what that has called */
        store_asides_report(s);
    if (!s->closed)
        store_answer(s);
}

/* ---- opening ---- */

static bool store_holds(int folder, const char *name)
{
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d && fd >= 0)
        close(fd);
    const struct dirent *e = NULL;
    while (d && (e = readdir(d)) && e->d_name[0] == '.')
        ;
    if (d)
        closedir(d);
    return e;
}

static bool store_has_bytes(int folder, const char *name)
{
    struct stat st;
    return fstatat(folder, name, &st, 0) == 0 ? st.st_size > 0 : errno != ENOENT;
}

/* A new database would know nothing of what its tasks wrote, and have it removed as left over. Nor would it know of its log, which there is
 * only beside a file with a first page, synced before (sqlite.org/wal.html): SQLite would throw it away. */
static bool store_is_lost(int folder, struct buf *error)
{
    if (store_has_bytes(folder, "agentd.db"))
        return false;
    bool log = store_has_bytes(folder, "agentd.db-wal");
    if (log)
        buf_puts(error,
                 "agentd.db is missing or empty, but its log agentd.db-wal holds what was committed last: put the file that belongs to it "
                 "back in its place; or move the log away and put a backup there; or move the log and the folders `blobs` and `runs` away "
                 "to start empty; nothing was changed");
    else if (store_holds(folder, "blobs") || store_holds(folder, "runs"))
        buf_puts(error,
                 "agentd.db is missing or empty, but the folders `blobs` and `runs` beside it hold what its tasks wrote: put it, or a "
                 "backup, back in its place; or move both folders away to start empty; nothing was changed");
    return error->n > 0;
}

/* Made by hand so that only the owner can read it; SQLite gives its other files the same mode. */
static int store_make_file(int folder, struct buf *error)
{
    if (store_is_lost(folder, error))
        return STORE_E_FOREIGN;
    int fd = openat(folder, "agentd.db", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int rc = fd < 0 && errno != EEXIST ? -errno : 0;
    if (fd >= 0)
        close(fd);
    if (rc)
        buf_printf(error, "cannot create agentd.db in the state folder: %s", strerror(-rc));
    return !rc ? 0 : files_full(rc) ? STORE_E_FULL : STORE_E_IO;
}

static int store_open_folder(struct store *s, const char *dir, struct buf *error)
{
    int rc = files_open_folder(AT_FDCWD, dir, &s->folder);
    if (!rc && s->blobs_dir)
        blobs_open_read(&s->blobs, s->blobs_dir);
    else if (!rc)
        rc = blobs_open(&s->blobs, s->folder);
    if (rc)
        buf_printf(error, "cannot open the state folder %s: %s", dir, strerror(-rc));
    return !rc ? 0 : files_full(rc) ? STORE_E_FULL : STORE_E_IO;
}

/* sqlite.org/fileformat2.html, 1.3.3. Before SQLite has the file open, as closing it drops this process's locks on it. */
static bool store_is_wal(int folder)
{
    char read_version = 0;
    int fd = openat(folder, "agentd.db", O_RDONLY | O_CLOEXEC);
    bool wal = fd >= 0 && pread(fd, &read_version, 1, 19) == 1 && read_version == 2;
    if (fd >= 0)
        close(fd);
    return wal;
}

/* Nothing in an existing file is changed before it is known to be ours and of a schema that this program
 * knows. */
static int store_open_writer(struct db *db, const char *path, bool wal, struct buf *error)
{
    int64_t version;
    int status = db_open(db, path, 0, error);
    if (status)
        return status;
    if (wal && reserve_index(db)) {
        reserve_index_drop(db);
        buf_printf(error, "the disk is too full to open %s", path);
        return STORE_E_FULL;
    }
    status = migrate_check(db, migrations, migrations_n, &version, error);
    if (!status)
        status = db_make_writer(db, error);
    if (!status)
        status = migrate_run(db, path, migrations, migrations_n, version, error);
    return status;
}

static int store_open_reader(struct db *db, const char *path, struct buf *error)
{
    int status = db_open(db, path, 0, error);
    return status ? status : db_make_reader(db, error);
}

static int store_open_both(struct store *s, const char *path, struct buf *error)
{
    int status = store_open_writer(&s->journal.db, path, store_is_wal(s->folder), error);
    return status ? status : store_open_reader(&s->reader, path, error);
}

/* SQLite calls a file damaged when a read of it fails with EIO (SQLITE_IOERR_CORRUPTFS), and a user who is told so moves it away. So it is
 * read once by ourselves, and looked at again: damage stays. */
static int store_look_again(struct store *s, const char *path, struct buf *error)
{
    db_close(&s->reader);
    db_close(&s->journal.db);
    int rc = files_readable(s->folder, "agentd.db");
    if (!rc)
        rc = files_readable(s->folder, "agentd.db-wal");
    buf_clear(error);
    if (rc) {
        buf_printf(error, "agentd.db cannot be read: %s", strerror(-rc));
        return STORE_E_IO;
    }
    return store_open_both(s, path, error);
}

static int store_sync_folder(struct store *s, struct buf *error)
{
    int rc = files_sync_folder(s->folder);
    if (rc)
        buf_printf(error, "cannot sync the state folder: %s", strerror(-rc));
    return rc ? STORE_E_IO : 0;
}

/* The log that an unclean end left behind counts as grown: it is copied back when there is nothing else to
 * do. */
static int64_t store_log_bytes(const struct store *s)
{
    struct stat st;
    return fstatat(s->folder, "agentd.db-wal", &st, 0) < 0 ? 0 : st.st_size;
}

static int store_open_all(struct store *s, const char *dir, struct buf *error)
{
    CLEANUP(buf_free) struct buf path = {0};
    buf_printf(&path, "%s/agentd.db", dir);
    s->path = mem_strdup(buf_cstr(&path));
    int status = store_open_folder(s, dir, error);
    if (!s->blobs_dir && FAILPOINT_FAILS("store.open")) {
        buf_puts(error, "cannot read agentd.db: as a test wants it");
        status = STORE_E_IO;
    }
    if (!status)
        status = store_make_file(s->folder, error);
    bool made = !status;
    if (made)
        status = store_open_both(s, buf_cstr(&path), error);
    if (made && status == STORE_E_FOREIGN)
        status = store_look_again(s, buf_cstr(&path), error);
    return status ? status : store_sync_folder(s, error);
}

static void store_free(struct store *s)
{
    db_close(&s->reader);
    db_close(&s->journal.db);
    if (s->blobs.folder >= 0)
        blobs_close(&s->blobs);
    if (s->folder >= 0)
        close(s->folder);
    buf_free(&s->job.error);
    buf_free(&s->check_error);
    check_destroy(&s->check);
    mem_free(s->path);
    mem_free(s);
}

static void store_start(struct store *s, uv_loop_t *loop)
{
    int rc = uv_async_init(loop, &s->async, store_report_cb);
    assert(rc == 0);
    (void)rc;
    s->async.data = s;
    store_hold_loop(s);
    s->journal.ballast.folder = s->folder;
    s->journal.copy = s->blobs_dir != NULL;
    if (!s->journal.copy) {
        backup_clean(s->folder);
        ballast_open(&s->journal.ballast, s->folder);
    }
    s->journal.blobs = &s->blobs;
    s->journal.check = &s->check;
    s->journal.notify = store_notify;
    s->journal.notify_arg = s;
    int64_t log_bytes = store_log_bytes(s);
    s->journal.log_pages = s->journal.copy ? 0 : (int)(log_bytes / 4096);
    s->journal.reserve.none = s->journal.copy;
    reserve_open(&s->journal.reserve, s->folder, &s->journal.db, log_bytes);
    journal_start(&s->journal);
}

static int store_begin(const char *dir, const char *blobs_dir, uv_loop_t *loop, struct store **ret, struct buf *error)
{
    buf_clear(error);
    if (sodium_init() < 0) {
        buf_puts(error, "libsodium cannot be initialised");
        return STORE_E_IO;
    }
    struct store *s = MEM_NEW(struct store);
    s->folder = s->blobs.folder = -1;
    s->blobs_dir = blobs_dir;
    store_asides_init(s);
    int status = store_open_all(s, dir, error);
    if (status) {
        store_free(s);
        return status;
    }
    store_start(s, loop);
    s->blobs_dir = NULL;
    *ret = s;
    return 0;
}

int store_open(const char *dir, uv_loop_t *loop, struct store **ret, struct buf *error)
{
    return store_begin(dir, NULL, loop, ret, error);
}

int store_open_copy(const char *dir, const char *copy, uv_loop_t *loop, struct store **ret, struct buf *error)
{
    return store_begin(copy, dir, loop, ret, error);
}

static void store_closed_cb(uv_handle_t *async)
{
    store_free(async->data);
}

void store_close(struct store *s)
{
    s->closed = true;
    store_asides_stop(s);
    db_close(&s->reader); /* first, so that the last checkpoint is alone */
    journal_stop(&s->journal);
    if (s->committing)
        store_batch_free(s->job.batch);
    store_asides_free(s);
    buf_free(&s->unread);
    uv_close((uv_handle_t *)&s->async, store_closed_cb);
}

/* ---- writing ---- */

void store_commit(struct store *s, struct store_batch *batch, store_done_cb *done, void *arg)
{
    assert(!s->committing && !s->journal.copy);
    s->committing = true;
    s->done = done;
    s->done_arg = arg;
    s->job.batch = batch;
    store_hold_loop(s);
    journal_submit(&s->journal, &s->job);
}

int store_commit_wait(struct store *s, struct store_batch *batch, struct buf *error)
{
    if (s->committing) {
        journal_wait(&s->journal, &s->job);
        if (s->job.status) {
            buf_printf(error, "the commit before it failed: %s", buf_cstr(&s->job.error));
            if (s->job.status != STORE_E_FULL)
                store_batch_free(batch);
            return s->job.status;
        }
    }
    struct journal_job job = {.batch = batch};
    journal_submit(&s->journal, &job);
    journal_wait(&s->journal, &job);
    buf_str(error, buf_view(&job.error));
    buf_free(&job.error);
    if (job.status != STORE_E_FULL)
        store_batch_free(batch);
    return job.status;
}

void store_retain(struct store *s, const struct store_retention *retention, const struct store_keeper *keeper, void *arg)
{
    assert(!atomic_load(&s->journal.archive.on));
    s->keeper = keeper;
    s->keeper_arg = arg;
    s->journal.archive.keep = *retention;
    atomic_store(&s->journal.archive.on, true);
    journal_wake(&s->journal);
}

void store_usage(const struct store *s, struct store_usage *ret)
{
    const struct archive *a = &s->journal.archive;
    *ret = (struct store_usage){.bytes = atomic_load(&a->bytes),
                                .bytes_max = a->keep.bytes_max,
                                .archived = atomic_load(&a->archived),
                                .removed = atomic_load(&a->removed),
                                .over = atomic_load(&a->over)};
}

bool store_disk_low(const struct store *s)
{
    return atomic_load(&s->journal.ballast.missing);
}

void store_disk_is_full(struct store *s)
{
    journal_give_room(&s->journal);
}

bool store_disk_used_up(const struct store *s)
{
    return atomic_load(&s->journal.reserve.used_up);
}
