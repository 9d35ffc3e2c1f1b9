#include "backup.h"

#include "daemon/base/mem.h"
#include "daemon/store/files.h"
#include "daemon/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#define BACKUP_SLICE_PAGES 128

/* What a backup goes through, in this order. */
enum backup_phase { BACKUP_PAGES, BACKUP_EVENTS, BACKUP_CONTEXT, BACKUP_NAME };

struct backup {
    enum backup_phase phase;
    char *path, *partial;
    struct db copy;
    sqlite3_backup *pages;
};

static int backup_failed(struct backup *b, const char *what, struct buf *error)
{
    int status = db_failure(&b->copy);
    db_explain(&b->copy, what, error);
    return status;
}

/* Readable by the owner alone from its first byte on. */
static int backup_create(const char *partial, struct buf *error)
{
    unlink(partial);
    int fd = open(partial, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        int rc = -errno;
        buf_printf(error, "cannot create %s: %s", partial, strerror(-rc));
        return files_full(rc) ? STORE_E_FULL : STORE_E_IO;
    }
    close(fd);
    return 0;
}

int backup_begin(struct db *source, const char *path, struct backup **ret, struct buf *error)
{
    CLEANUP(buf_free) struct buf partial = {0};
    buf_printf(&partial, "%s.partial", path);
    int status = backup_create(buf_cstr(&partial), error);
    if (status)
        return status;
    struct backup *b = MEM_NEW(struct backup);
    b->path = mem_strdup(path);
    b->partial = buf_take(&partial, NULL);
    status = db_open(&b->copy, b->partial, 0, error);
    if (!status) { /* it is nobody's yet: one sync, at its end, is enough */
        db_exec(&b->copy, "PRAGMA synchronous = OFF");
        b->pages = sqlite3_backup_init(b->copy.h, "main", source->h, "main");
        if (!b->pages)
            status = backup_failed(b, "cannot begin a backup", error);
    }
    if (status) {
        backup_free(b);
        return status;
    }
    *ret = b;
    return 0;
}

/* Once the pages are there the copy is no longer bound to the live database. One file is to hold all, so no
 * WAL. */
static int backup_detach(struct backup *b, struct buf *error)
{
    sqlite3_backup *pages = b->pages;
    b->pages = NULL;
    if (sqlite3_backup_finish(pages) != SQLITE_OK)
        return backup_failed(b, "cannot copy the database", error);
    CLEANUP(buf_free) struct buf mode = {0};
    int status = db_text(&b->copy, "PRAGMA journal_mode = DELETE", &mode);
    if (!status)
        status = db_exec(&b->copy, "BEGIN IMMEDIATE");
    return status ? backup_failed(b, "cannot finish the copy", error) : 0;
}

static int backup_pages(struct backup *b, struct buf *error)
{
    int rc = sqlite3_backup_step(b->pages, BACKUP_SLICE_PAGES);
    if (rc == SQLITE_OK)
        return 0;
    if (rc == SQLITE_DONE) {
        b->phase = BACKUP_EVENTS;
        return backup_detach(b, error);
    }
    buf_printf(error, "cannot copy the database: %s (SQLite %d)", sqlite3_errstr(rc), rc);
    return db_status(rc);
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
    return status ? backup_failed(b, "cannot write the copy", error) : 0;
}

static int backup_rows(struct backup *b, const struct blobs *blobs, bool events, struct buf *error)
{
    bool none = true;
    int status = 0;
    if (blobs)
        status =
            backup_inline(b, blobs,
                          events ? "SELECT pos, hash, bytes FROM events WHERE hash IS NOT NULL LIMIT 1"
                                 : "SELECT n, hash, bytes FROM context WHERE hash IS NOT NULL LIMIT 1",
                          events ? "UPDATE events SET body = ?2, hash = NULL, bytes = NULL WHERE pos = ?1"
                                 : "UPDATE context SET body = ?2, hash = NULL, bytes = NULL WHERE n = ?1",
                          events, &none, error);
    if (!status && none)
        b->phase = events ? BACKUP_CONTEXT : BACKUP_NAME;
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

static int backup_name(struct backup *b, struct buf *error)
{
    if (db_exec(&b->copy, "COMMIT"))
        return backup_failed(b, "cannot write the copy", error);
    db_close(&b->copy);
    int rc = backup_sync(b->partial);
    if (!rc && rename(b->partial, b->path) < 0)
        rc = -errno;
    if (!rc)
        rc = files_sync_folder_of(b->path);
    if (rc)
        buf_printf(error, "cannot write %s: %s", b->path, strerror(-rc));
    return !rc ? 0 : files_full(rc) ? STORE_E_FULL : STORE_E_IO;
}

int backup_slice(struct backup *b, const struct blobs *blobs, bool *ret_over, struct buf *error)
{
    *ret_over = false;
    switch (b->phase) {
    case BACKUP_PAGES:
        return backup_pages(b, error);
    case BACKUP_EVENTS:
        return backup_rows(b, blobs, true, error);
    case BACKUP_CONTEXT:
        return backup_rows(b, blobs, false, error);
    case BACKUP_NAME:
        *ret_over = true;
        return backup_name(b, error);
    }
    return STORE_E_IO;
}

void backup_free(struct backup *b)
{
    if (!b)
        return;
    if (b->pages)
        sqlite3_backup_finish(b->pages);
    db_close(&b->copy);
    unlink(b->partial); /* gone already if it has got its name */
    mem_free(b->partial);
    mem_free(b->path);
    mem_free(b);
}

int backup_whole(struct db *source, const char *path, struct buf *error)
{
    struct backup *b;
    bool over = false;
    int status = backup_begin(source, path, &b, error);
    if (status)
        return status;
    while (!status && !over)
        status = backup_slice(b, NULL, &over, error);
    backup_free(b);
    return status;
}
