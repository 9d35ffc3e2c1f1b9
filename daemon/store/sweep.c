#include "sweep.h"

#include "daemon/base/failpoint.h"
#include "daemon/base/log.h"
#include "daemon/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whether it can be looked through now. */
static bool sweep_begin(struct sweep *w, const struct blobs *blobs)
{
    int fd = openat(blobs->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    w->dir = fd < 0 ? NULL : fdopendir(fd);
    w->bytes = 0;
    w->again = false;
    if (w->dir)
        return true;
    log_warn("the folder blobs cannot be read: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
    return false;
}

static int blob_named(struct db *db, const uint8_t hash[BLOB_HASH_SIZE], bool *ret, struct buf *error)
{
    CLEANUP_QUERY *q = db_query(db, QUERY_BLOB_NAMED);
    if (q)
        db_bind_blob(q, 1, str_n((const char *)hash, BLOB_HASH_SIZE));
    int rc = q ? sqlite3_step(q) : SQLITE_ERROR;
    *ret = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW || rc == SQLITE_DONE)
        return 0;
    db_explain(db, "cannot look for what names a file", error);
    return db_failure(db);
}

static int sweep_one(struct sweep *w, struct db *db, struct blobs *blobs, const uint8_t hash[BLOB_HASH_SIZE], bool *ret_gone,
                     struct buf *error)
{
    bool named;
    int status = blob_named(db, hash, &named, error);
    *ret_gone = false;
    if (status || named)
        return status;
    if (!blobs_removable(blobs)) {
        w->again = true;
        return 0;
    }
    FAILPOINT("store.blob.before_unlink");
    int rc = blobs_remove(blobs, hash);
    if (rc) /* it is only room: tried again by the next walk */
        log_warn("a file of the folder blobs that nobody needs cannot be removed: %s", strerror(-rc));
    *ret_gone = !rc;
    return 0;
}

/* Whatever else somebody has put there stays, and is not counted. */
static int sweep_entry(struct sweep *w, struct db *db, struct blobs *blobs, const char *name, struct buf *error)
{
    uint8_t hash[BLOB_HASH_SIZE];
    struct stat st;
    size_t n;
    bool gone = false;
    if (sodium_hex2bin(hash, sizeof hash, name, strlen(name), NULL, &n, NULL) < 0 || n != sizeof hash ||
        fstatat(blobs->folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    int status = sweep_one(w, db, blobs, hash, &gone, error);
    w->bytes += gone ? 0 : st.st_size;
    return status;
}

int sweep_step(struct sweep *w, struct db *db, struct blobs *blobs, bool *ret_over, struct buf *error)
{
    *ret_over = !w->dir && !sweep_begin(w, blobs); /* it is only room: looked at again by the next walk */
    if (*ret_over)
        return 0;
    int status = 0;
    for (int i = 0; !status && i < SWEEP_FILES && !*ret_over; i++) {
        struct dirent *entry = readdir(w->dir);
        if (entry)
            status = sweep_entry(w, db, blobs, entry->d_name, error);
        else
            *ret_over = true;
    }
    if (*ret_over)
        blobs->bytes = w->bytes;
    if (*ret_over || status)
        sweep_free(w);
    return status;
}

int sweep_files(struct sweep *w, struct db *db, struct blobs *blobs, struct str hashes, struct buf *error)
{
    int status = 0;
    for (size_t at = 0; !status && at + BLOB_HASH_SIZE <= hashes.n; at += BLOB_HASH_SIZE) {
        bool gone;
        status = sweep_one(w, db, blobs, (const uint8_t *)hashes.p + at, &gone, error);
    }
    return status;
}

void sweep_free(struct sweep *w)
{
    if (w->dir)
        closedir(w->dir);
    w->dir = NULL;
}
