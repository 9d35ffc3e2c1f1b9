#include "reserve.h"

#include "daemon/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define RESERVE_STEP_BYTES 1048576 /* the log's file is looked at again only so often */
#define RESERVE_LOG_NAME "agentd.db-wal"
/* sqlite.org/walformat.html: a header, then frames of a header and a page; the index in regions of 32 KiB for 4096 frames. */
#define LOG_HEADER_BYTES 32
#define LOG_FRAME_BYTES (24 + 4096)
#define INDEX_REGION_BYTES 32768
#define RESERVE_POPULATE_WRITE 23 /* MADV_POPULATE_WRITE of Linux 5.14, which headers may not have; older kernels say EINVAL */
#define INDEX_REGIONS 5 /* beyond the longest log that the journal allows */

/* SQLite takes a region's room by one byte in each of its pages. Where the blocks of the file system are smaller than those (ext4 of a few
 * hundred MB) the rest is holes, and on a full disk the first touch of one would be a SIGBUS: the kernel fills them here, and says so. */
static bool populate(void volatile *p)
{
    return madvise((void *)(uintptr_t)p, INDEX_REGION_BYTES, RESERVE_POPULATE_WRITE) == 0 || errno != EFAULT;
}

int reserve_index(struct db *db)
{
    sqlite3_file *file = NULL;
    if (sqlite3_file_control(db->h, "main", SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK || !file || !file->pMethods ||
        file->pMethods->iVersion < 2)
        return 0;
    for (int region = 0; region < INDEX_REGIONS; region++) {
        void volatile *p = NULL;
        errno = 0;
        int rc = file->pMethods->xShmMap(file, region, INDEX_REGION_BYTES, 1, &p);
        bool full = rc == SQLITE_OK ? p && !populate(p) : errno == ENOSPC || errno == EDQUOT;
        if (full)
            return STORE_E_FULL;
        if (rc != SQLITE_OK)
            return 0; /* whoever needs it will meet the same */
    }
    return 0;
}

void reserve_index_drop(struct db *db)
{
    sqlite3_file *file = NULL;
    if (db->h && sqlite3_file_control(db->h, "main", SQLITE_FCNTL_FILE_POINTER, &file) == SQLITE_OK && file && file->pMethods &&
        file->pMethods->iVersion >= 2)
        file->pMethods->xShmUnmap(file, 0);
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
    reserve_index(writer); /* of a new database; else it is there */
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
