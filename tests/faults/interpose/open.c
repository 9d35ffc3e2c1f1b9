/* Opening and reading. */
#include "interpose.h"
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"

/* Records what changes nothing. Under no lock. */
static int observe(enum op op, const struct place *p)
{
    if (!asked.census && !fault_armed())
        return 0;
    log_lock();
    int error = fault_at(op, p->path);
    if (asked.census)
        log_put((struct record){.op = (uint8_t)op, .file = p->st.st_ino}, p->path, NULL, NULL, 0);
    log_unlock();
    return error == SHORT ? 0 : error;
}

/* ---- opening ---- */

static int open_boot_id(void)
{
    int fd = memfd_create("boot_id", MFD_CLOEXEC);
    if (fd < 0 || dprintf(fd, "%s\n", asked.boot_id) < 0)
        return -1;
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static int open_changing(struct entry *e, int at, const char *path, int flags, mode_t mode)
{
    struct stat before, st;
    log_lock();
    bool existed = entry_stat(e, &before);
    int error = fault_at(existed ? OP_OPEN : OP_CREATE, e->path);
    int fd = error > 0 ? failed(error) : (int)syscall(SYS_openat, at, path, flags, mode);
    if (fd >= 0 && fstat(fd, &st) == 0) {
        if (!existed)
            log_put((struct record){.op = OP_CREATE, .file = e->file, .file2 = st.st_ino, .at = st.st_mode}, e->name, NULL, NULL, 0);
        else if ((flags & O_TRUNC) && before.st_size > 0)
            log_put((struct record){.op = OP_TRUNCATE, .file = st.st_ino}, e->path, NULL, NULL, 0);
    }
    log_unlock();
    return fd;
}

static int open_any(int at, const char *path, int flags, mode_t mode)
{
    struct entry e;
    struct place p;
    if (asked.boot_id && strcmp(path, BOOT_ID_PATH) == 0)
        return open_boot_id();
    if ((flags & (O_CREAT | O_TRUNC)) && entry_find(at, path, &e)) {
        int fd = open_changing(&e, at, path, flags, mode);
        entry_end(&e);
        return fd;
    }
    int fd = (int)syscall(SYS_openat, at, path, flags, mode);
    int error = fd >= 0 && place_find(fd, &p) ? observe(OP_OPEN, &p) : 0;
    if (!error)
        return fd;
    close(fd);
    return failed(error);
}

#define OPEN_MODE(flags)                                                                                     \
    mode_t mode = 0;                                                                                         \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                   \
        va_list list;                                                                                        \
        va_start(list, flags);                                                                               \
        mode = va_arg(list, mode_t);                                                                         \
        va_end(list);                                                                                        \
    }

int open(const char *path, int flags, ...)
{
    OPEN_MODE(flags)
    return open_any(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    OPEN_MODE(flags)
    return open_any(AT_FDCWD, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...)
{
    OPEN_MODE(flags)
    return open_any(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...)
{
    OPEN_MODE(flags)
    return open_any(at, path, flags, mode);
}

/* ---- reading ---- */

ssize_t read(int fd, void *to, size_t n)
{
    struct place p;
    int error = (asked.census || fault_armed()) && place_find(fd, &p) ? observe(OP_READ, &p) : 0;
    return error ? failed(error) : syscall(SYS_read, fd, to, n);
}

ssize_t pread64(int fd, void *to, size_t n, off64_t at)
{
    struct place p;
    int error = (asked.census || fault_armed()) && place_find(fd, &p) ? observe(OP_READ, &p) : 0;
    return error ? failed(error) : syscall(SYS_pread64, fd, to, n, at);
}

ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    return pread64(fd, to, n, at);
}
