#include "fault_vfs.h"

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stddef.h>
#include <string.h>

struct fault_file {
    sqlite3_file base;
    sqlite3_file *real; /* lies behind this struct */
    bool database;      /* not a log or a journal */
};

static struct {
    pthread_mutex_t mutex;
    bool armed, forever, fired;
    enum fault_call call;
    long left;
    int code;
} fault = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static sqlite3_vfs *fault_real;
static sqlite3_vfs fault_vfs;

void fault_vfs_arm(enum fault_call call, long nth, int code, bool forever)
{
    pthread_mutex_lock(&fault.mutex);
    fault.armed = true;
    fault.fired = false;
    fault.forever = forever;
    fault.call = call;
    fault.left = nth;
    fault.code = code;
    pthread_mutex_unlock(&fault.mutex);
}

bool fault_vfs_disarm(void)
{
    pthread_mutex_lock(&fault.mutex);
    bool fired = fault.fired;
    fault.armed = fault.fired = false;
    pthread_mutex_unlock(&fault.mutex);
    return fired;
}

static int fault_due(enum fault_call call)
{
    int code = SQLITE_OK;
    pthread_mutex_lock(&fault.mutex);
    if (fault.armed && fault.call == call) {
        fault.left--;
        if (fault.left == 0 || (fault.left < 0 && fault.forever)) {
            fault.fired = true;
            code = fault.code;
        }
    }
    pthread_mutex_unlock(&fault.mutex);
    return code;
}

static int fault_due_in(sqlite3_file *file, enum fault_call any, enum fault_call database)
{
    int code = fault_due(any);
    return !code && ((struct fault_file *)(void *)file)->database ? fault_due(database) : code;
}

static sqlite3_file *real_of(sqlite3_file *file)
{
    return ((struct fault_file *)(void *)file)->real;
}

static int fault_close(sqlite3_file *file)
{
    return real_of(file)->pMethods->xClose(real_of(file));
}

static int fault_read(sqlite3_file *file, void *p, int n, sqlite3_int64 at)
{
    int code = fault_due(FAULT_READ);
    return code ? code : real_of(file)->pMethods->xRead(real_of(file), p, n, at);
}

/* A failing write may have written a part. */
static int fault_write(sqlite3_file *file, const void *p, int n, sqlite3_int64 at)
{
    int code = fault_due_in(file, FAULT_WRITE, FAULT_CHECKPOINT_WRITE);
    if (code && n > 1)
        real_of(file)->pMethods->xWrite(real_of(file), p, n / 2, at);
    return code ? code : real_of(file)->pMethods->xWrite(real_of(file), p, n, at);
}

static int fault_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    return real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int fault_sync(sqlite3_file *file, int flags)
{
    int code = fault_due_in(file, FAULT_SYNC, FAULT_CHECKPOINT_SYNC);
    return code ? code : real_of(file)->pMethods->xSync(real_of(file), flags);
}

static int fault_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return real_of(file)->pMethods->xFileSize(real_of(file), size);
}

static int fault_lock(sqlite3_file *file, int lock)
{
    return real_of(file)->pMethods->xLock(real_of(file), lock);
}

static int fault_unlock(sqlite3_file *file, int lock)
{
    return real_of(file)->pMethods->xUnlock(real_of(file), lock);
}

static int fault_reserved(sqlite3_file *file, int *out)
{
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), out);
}

static int fault_control(sqlite3_file *file, int op, void *arg)
{
    return real_of(file)->pMethods->xFileControl(real_of(file), op, arg);
}

static int fault_sector(sqlite3_file *file)
{
    return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int fault_traits(sqlite3_file *file)
{
    return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static int fault_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **p)
{
    int code = page > 0 && extend ? fault_due(FAULT_INDEX) : 0;
    if (code)
        errno = ENOSPC;
    return code ? code : real_of(file)->pMethods->xShmMap(real_of(file), page, size, extend, p);
}

static int fault_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    return real_of(file)->pMethods->xShmLock(real_of(file), offset, n, flags);
}

static void fault_shm_barrier(sqlite3_file *file)
{
    real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int fault_shm_unmap(sqlite3_file *file, int drop)
{
    return real_of(file)->pMethods->xShmUnmap(real_of(file), drop);
}

static const sqlite3_io_methods fault_methods = {
    .iVersion = 2,
    .xClose = fault_close,
    .xRead = fault_read,
    .xWrite = fault_write,
    .xTruncate = fault_truncate,
    .xSync = fault_sync,
    .xFileSize = fault_size,
    .xLock = fault_lock,
    .xUnlock = fault_unlock,
    .xCheckReservedLock = fault_reserved,
    .xFileControl = fault_control,
    .xSectorSize = fault_sector,
    .xDeviceCharacteristics = fault_traits,
    .xShmMap = fault_shm_map,
    .xShmLock = fault_shm_lock,
    .xShmBarrier = fault_shm_barrier,
    .xShmUnmap = fault_shm_unmap,
};

static int fault_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    (void)vfs;
    struct fault_file *f = (struct fault_file *)(void *)file;
    f->real = (sqlite3_file *)(void *)(f + 1);
    f->base.pMethods = NULL;
    f->database = flags & SQLITE_OPEN_MAIN_DB;
    int rc = fault_real->xOpen(fault_real, name, f->real, flags, out);
    if (f->real->pMethods)
        f->base.pMethods = &fault_methods;
    return rc;
}

void fault_vfs_install(void)
{
    if (fault_real)
        return;
    fault_real = sqlite3_vfs_find(NULL);
    fault_vfs = *fault_real; /* all but opening is the real one's, which looks at its own pAppData only */
    fault_vfs.zName = "fault";
    fault_vfs.pNext = NULL;
    fault_vfs.xOpen = fault_open;
    fault_vfs.szOsFile = (int)sizeof(struct fault_file) + fault_real->szOsFile;
    sqlite3_vfs_register(&fault_vfs, 1);
}
