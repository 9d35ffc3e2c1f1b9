#include "backup.h"

#include "daemon/base/failpoint.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/store/files.h"
#include "daemon/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define BACKUP_SLICE_PAGES 128
#define BACKUP_NOTE "backup" /* in the state folder */
#define BACKUP_MARK ".partial-"
#define BACKUP_MARK_BYTES (sizeof BACKUP_MARK - 1 + 8) /* with the number behind it */

struct backup {
    char *path, *partial;
    bool replace;
    int folder; /* has the note; -1: none */
    struct db copy;
    sqlite3_backup *pages;
};

static int backup_failed(struct backup *b, struct buf *error)
{
    CLEANUP(buf_free) struct buf what = {0};
    int status = db_failure(&b->copy);
    buf_printf(&what, "cannot write %s", b->path);
    db_explain(&b->copy, buf_cstr(&what), error);
    return status;
}

static int backup_errno(const char *path, int rc, struct buf *error)
{
    buf_printf(error, "cannot write %s: %s", path, strerror(-rc));
    return files_full(rc) ? STORE_E_FULL : STORE_E_IO;
}

/* What SQLite puts beside a file goes with it. */
static void backup_unlink(const char *partial)
{
    static const char *const beside[] = {"", "-journal", "-wal", "-shm"};
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        CLEANUP(buf_free) struct buf path = {0};
        buf_printf(&path, "%s%s", partial, beside[i]);
        unlink(buf_cstr(&path));
    }
}

/* Readable by the owner alone from its first byte on. */
static int backup_create(const struct backup *b, struct buf *error)
{
    int fd = open(b->partial, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return backup_errno(b->path, -errno, error);
    close(fd);
    return 0;
}

/* Readable by the daemon that comes next, should this one be killed. Without it the copy's rest stays, and that is all. */
static void backup_note(struct backup *b, int folder)
{
    int fd = folder < 0 ? -1 : openat(folder, BACKUP_NOTE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return;
    b->folder = folder;
    files_write_all(fd, str_of(b->partial));
    close(fd);
}

/* A regular file of our own, under a name that only we give. */
static bool backup_is_rest(const char *path, size_t n)
{
    struct stat st;
    const char *mark = n > BACKUP_MARK_BYTES ? path + n - BACKUP_MARK_BYTES : "";
    return path[0] == '/' && strlen(path) == n && strncmp(mark, BACKUP_MARK, sizeof BACKUP_MARK - 1) == 0 && lstat(path, &st) == 0 &&
           S_ISREG(st.st_mode) && st.st_uid == geteuid();
}

void backup_clean(int folder)
{
    char path[PATH_MAX];
    int fd = openat(folder, BACKUP_NOTE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = fd < 0 ? -1 : read(fd, path, sizeof path - 1);
    if (fd < 0)
        return;
    close(fd);
    path[n > 0 ? n : 0] = 0;
    if (n > 0 && backup_is_rest(path, (size_t)n)) {
        backup_unlink(path);
        log_info("removed %s, which a backup that was cut off had left", path);
    }
    unlinkat(folder, BACKUP_NOTE, 0);
}

/* A copy that cannot fit is not begun: it would take the room that tasks need before it fails. */
static int backup_room(struct db *source, const char *path, struct buf *error)
{
    struct statvfs fs;
    int64_t pages = 0, page_bytes = 0;
    char *copy = mem_strdup(path); /* dirname() writes into it */
    int rc = statvfs(dirname(copy), &fs) < 0 ? -errno : 0;
    mem_free(copy);
    if (rc)
        return backup_errno(path, rc, error);
    if (db_number(source, "PRAGMA page_count", &pages) || db_number(source, "PRAGMA page_size", &page_bytes))
        return 0; /* the copying will say what is wrong */
    uint64_t bytes = (uint64_t)pages * (uint64_t)page_bytes, room = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (fs.f_blocks == 0 || room >= bytes)
        return 0;
    buf_printf(error, "cannot write %s: it takes at least %" PRIu64 " bytes, and %" PRIu64 " are free there",
               path, bytes, room);
    return STORE_E_FULL;
}

/* A name that nobody else has, so that no file of somebody else is taken for the rest of an older copy. */
static int backup_partial(struct backup *b, struct buf *error)
{
    CLEANUP(buf_free) struct buf partial = {0};
    struct stat st;
    if (b->replace)
        buf_printf(&partial, "%s.partial", b->path);
    else
        buf_printf(&partial, "%s" BACKUP_MARK "%08" PRIx32, b->path, randombytes_random());
    b->partial = buf_take(&partial, NULL);
    if (b->replace)
        backup_unlink(b->partial);
    if (b->replace || lstat(b->path, &st) < 0)
        return 0;
    buf_printf(error, "%s exists already, and is left as it is", b->path);
    return STORE_E_IO;
}

static int backup_open(struct backup *b, struct db *source, struct buf *error)
{
    int status = db_open(&b->copy, b->partial, 0, error);
    if (status)
        return status;
    db_exec(&b->copy, "PRAGMA synchronous = OFF"); /* it is nobody's yet: one sync, at its end, is enough */
    b->pages = sqlite3_backup_init(b->copy.h, "main", source->h, "main");
    return b->pages ? 0 : backup_failed(b, error);
}

int backup_begin(struct db *source, const char *path, int folder, struct backup **ret, struct buf *error)
{
    struct backup *b = MEM_NEW(struct backup);
    b->path = mem_strdup(path);
    b->replace = folder < 0;
    b->folder = -1;
    int status = backup_partial(b, error);
    if (!status)
        status = backup_room(source, path, error);
    if (!status)
        backup_note(b, folder);
    if (!status)
        status = backup_create(b, error);
    if (!status)
        status = backup_open(b, source, error);
    if (!status)
        *ret = b;
    else
        backup_free(b);
    return status;
}

int backup_slice(struct backup *b, bool *ret_over, struct buf *error)
{
    int rc = sqlite3_backup_step(b->pages, BACKUP_SLICE_PAGES);
    FAILPOINT("store.backup.slice");
    *ret_over = rc == SQLITE_DONE;
    if (rc == SQLITE_OK)
        return 0;
    if (rc == SQLITE_DONE) {
        sqlite3_backup *pages = b->pages;
        b->pages = NULL;
        return sqlite3_backup_finish(pages) == SQLITE_OK ? 0 : backup_failed(b, error);
    }
    buf_printf(error, "cannot copy the database to %s: %s (SQLite %d)", b->path, sqlite3_errstr(rc), rc);
    return db_status(rc);
}

/* The copy is no longer bound to the live database. One file is to hold all, so no WAL. */
static int backup_detach(struct backup *b, struct buf *error)
{
    CLEANUP(buf_free) struct buf mode = {0};
    int status = db_text(&b->copy, "PRAGMA journal_mode = DELETE", &mode);
    if (!status)
        status = db_exec(&b->copy, "BEGIN IMMEDIATE");
    return status ? backup_failed(b, error) : 0;
}

static int backup_fill(struct backup *b, const char *sql, int64_t row, struct str bytes, bool text)
{
    sqlite3_stmt *q = NULL;
    sqlite3_prepare_v2(b->copy.h, sql, -1, &q, NULL);
    if (!q)
        return db_failure(&b->copy);
    sqlite3_bind_int64(q, 1, row);
    if (text)
        db_bind_str(q, 2, bytes);
    else
        db_bind_blob(q, 2, bytes);
    int status = db_run(&b->copy, q);
    sqlite3_finalize(q);
    return status;
}

/* Takes the content of one file back into its row. *ret_none: there was no such row any more. */
static int backup_inline(struct backup *b, const struct blobs *blobs, const char *find, const char *fill,
                         bool text, bool *ret_none, struct buf *error)
{
    sqlite3_stmt *q = NULL;
    CLEANUP(buf_free) struct buf bytes = {0};
    sqlite3_prepare_v2(b->copy.h, find, -1, &q, NULL);
    int rc = q ? sqlite3_step(q) : SQLITE_ERROR;
    int missing = 0;
    int64_t row = 0;
    if (rc == SQLITE_ROW) {
        row = sqlite3_column_int64(q, 0);
        struct str hash = db_column(q, 1);
        missing = hash.n == BLOB_HASH_SIZE
                      ? blobs_read(blobs, (const uint8_t *)hash.p, sqlite3_column_int64(q, 2), &bytes)
                      : -EBADMSG;
    }
    int status = rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : db_failure(&b->copy);
    sqlite3_finalize(q);
    *ret_none = rc == SQLITE_DONE;
    if (missing) {
        buf_printf(error, "a file of the folder blobs cannot be read: %s", strerror(-missing));
        return STORE_E_FOREIGN;
    }
    if (!status && rc == SQLITE_ROW)
        status = backup_fill(b, fill, row, buf_view(&bytes), text);
    return status ? backup_failed(b, error) : 0;
}

/* Who starts on it must know that what stood beside the database is not there. */
static int backup_mark(struct backup *b, struct buf *error)
{
    CLEANUP_QUERY *q = db_query(&b->copy, QUERY_META_PUT);
    if (q)
        db_bind_str(q, 1, STR(STORE_META_COPY));
    if (q)
        db_bind_blob(q, 2, STR("yes"));
    return q && db_run(&b->copy, q) == 0 ? 0 : backup_failed(b, error);
}

static int backup_rows(struct backup *b, const struct blobs *blobs, struct check *check, struct buf *error)
{
    static const struct {
        const char *find, *fill;
        bool text;
    } tables[] = {
        {"SELECT pos, hash, bytes FROM events WHERE hash IS NOT NULL LIMIT 1",
         "UPDATE events SET body = ?2, hash = NULL, bytes = NULL WHERE pos = ?1", true},
        {"SELECT n, hash, bytes FROM context WHERE hash IS NOT NULL LIMIT 1",
         "UPDATE context SET body = ?2, hash = NULL, bytes = NULL WHERE n = ?1", false},
        {"SELECT n, hash, bytes FROM archive_events WHERE hash IS NOT NULL LIMIT 1",
         "UPDATE archive_events SET body = ?2, hash = NULL WHERE n = ?1", false},
        {"SELECT n, hash, bytes FROM archive_context WHERE hash IS NOT NULL LIMIT 1",
         "UPDATE archive_context SET body = ?2, hash = NULL WHERE n = ?1", false},
    };
    int status = 0;
    for (size_t i = 0; !status && i < sizeof tables / sizeof *tables; i++) {
        bool none = false;
        while (!status && !none && !(check && check_stopped(check)))
            status = backup_inline(b, blobs, tables[i].find, tables[i].fill, tables[i].text, &none, error);
    }
    return status;
}

static int backup_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 || fsync(fd) < 0 ? -errno : 0;
    if (fd >= 0)
        close(fd);
    return rc;
}

/* As somebody will find it: read again by a new connection. */
static int backup_check(struct backup *b, struct check *check, struct buf *error)
{
    CLEANUP(buf_free) struct buf finding = {0};
    int status = check_run(check, b->partial, NULL, &finding);
    if (status == STORE_E_STOPPED)
        buf_puts(error, "the backup was ended before its end");
    else if (status)
        buf_printf(error, "the copy for %s was made and is not whole: %s", b->path, buf_cstr(&finding));
    return status;
}

/* Without ever replacing a file, but on file systems that can do neither. */
static int backup_rename_new(const char *partial, const char *path)
{
    struct stat st;
    if (renameat2(AT_FDCWD, partial, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -errno;
    if (link(partial, path) == 0)
        return unlink(partial) < 0 ? -errno : 0;
    if (errno == EEXIST || lstat(path, &st) == 0)
        return -EEXIST;
    return rename(partial, path) < 0 ? -errno : 0;
}

static int backup_name(struct backup *b, struct buf *error)
{
    int rc;
    if (b->replace)
        rc = rename(b->partial, b->path) < 0 ? -errno : 0;
    else
        rc = backup_rename_new(b->partial, b->path);
    if (!rc) {
        rc = files_sync_folder_of(b->path);
        if (rc && !b->replace)
            unlink(b->path); /* what was said to have failed is not there */
    }
    return rc ? backup_errno(b->path, rc, error) : 0;
}

int backup_finish(struct backup *b, const struct blobs *blobs, struct check *check, struct buf *error)
{
    int status = backup_detach(b, error);
    if (!status && blobs)
        status = backup_mark(b, error);
    if (!status && blobs)
        status = backup_rows(b, blobs, check, error);
    if (!status && db_exec(&b->copy, "COMMIT"))
        status = backup_failed(b, error);
    if (status)
        return status;
    db_close(&b->copy);
    int rc = backup_sync(b->partial);
    if (rc)
        return backup_errno(b->path, rc, error);
    if (check)
        status = backup_check(b, check, error);
    return status ? status : backup_name(b, error);
}

void backup_free(struct backup *b)
{
    if (!b)
        return;
    if (b->pages)
        sqlite3_backup_finish(b->pages);
    db_close(&b->copy);
    backup_unlink(b->partial); /* gone already if it has got its name */
    if (b->folder >= 0)
        unlinkat(b->folder, BACKUP_NOTE, 0);
    mem_free(b->partial);
    mem_free(b->path);
    mem_free(b);
}

int backup_whole(struct db *source, const char *path, struct buf *error)
{
    struct backup *b;
    bool over = false;
    int status = backup_begin(source, path, -1, &b, error);
    if (status)
        return status;
    while (!status && !over)
        status = backup_slice(b, &over, error);
    if (!status)
        status = backup_finish(b, NULL, NULL, error);
    backup_free(b);
    return status;
}
