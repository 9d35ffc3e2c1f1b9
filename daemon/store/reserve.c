#include "reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define RESERVE_STEP_BYTES 1048576 /* the log's file is looked at again only so often */
#define RESERVE_LOG_NAME "agentd.db-wal"
/* sqlite.org/walformat.html: a header, then frames of a header and a page; the index in regions of 32 KiB for 4096 frames. */
#define LOG_HEADER_BYTES 32
#define LOG_FRAME_BYTES (24 + 4096)
#define INDEX_REGION_BYTES 32768
#define INDEX_REGIONS 5 /* beyond the longest log that the journal allows */

/* What cannot be had now is asked for again by the commit that needs it: see db_failure(). */
static void index_ahead(struct db *writer)
{
    sqlite3_file *file = NULL;
    if (sqlite3_file_control(writer->h, "main", SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK || !file || !file->pMethods ||
        file->pMethods->iVersion < 2)
        return;
    for (int region = 0; region < INDEX_REGIONS; region++) {
        void volatile *p = NULL;
        if (file->pMethods->xShmMap(file, region, INDEX_REGION_BYTES, 1, &p) != SQLITE_OK)
            return;
    }
}

/* Without a change of its size, which SQLite takes for the log's. 0, or an errno. */
static int log_allocate(const struct reserve *r, int64_t to)
{
    int fd = openat(r->folder, RESERVE_LOG_NAME, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno;
    int rc;
    do
        rc = fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, to) < 0 ? errno : 0;
    while (rc == EINTR);
    close(fd);
    return rc;
}

void reserve_open(struct reserve *r, int folder, struct db *writer, int64_t log_bytes)
{
    r->folder = folder;
    r->end = log_bytes;
    index_ahead(writer);
    reserve_ahead(r, 0);
}

void reserve_log_grew(struct reserve *r, int pages)
{
    r->end = LOG_HEADER_BYTES + (int64_t)pages * LOG_FRAME_BYTES;
}

bool reserve_ahead(struct reserve *r, int64_t bytes)
{
    int64_t to = r->end + bytes + RESERVE_BYTES;
    if (r->none || to <= r->allocated_to)
        return true;
    int rc = log_allocate(r, to + RESERVE_STEP_BYTES);
    if (rc == ENOSPC || rc == EDQUOT)
        return false;
    if (rc) {
        r->none = rc != ENOENT;
        return true;
    }
    r->allocated_to = to + RESERVE_STEP_BYTES;
    return true;
}
