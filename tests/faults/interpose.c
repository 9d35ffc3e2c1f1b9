/* Stands between agentd's programs and their files (LD_PRELOAD), for tests. It does three things, each only if asked for:
 *
 *   records   every change to files and folders below a root, with its data, in the one order in which all processes made them; what
 *             left on sockets; which programs were started. tests/crash/powerloss rebuilds from it what a disk may hold after a loss of
 *             power.
 *   injects   an error, or a short write, at the n-th call of a kind on a file (tests/faults/io).
 *   pretends  another boot of the machine.
 *
 * Environment (it is handed on to programs named agentd-*, whatever environment they are given, and to nothing else):
 *
 *   AGENTD_IO_LOG=FILE      the log: a sparse file, as large as it may grow, made by the test; mapped, never open
 *   AGENTD_IO_ROOT=FOLDER   absolute, without links; what is not below it is passed through
 *   AGENTD_IO_CENSUS=1      reads and openings are recorded as well (without data)
 *   AGENTD_IO_FAIL=PROGRAM OP PATTERN NTH ERROR once|on|off
 *                           the NTH OP (names in op_names) of PROGRAM (or *) on a file whose path below the root fits PATTERN
 *                           (fnmatch) fails with ERROR: a number, or `short`. once: only that one. on: and then everything that
 *                           changes files (ENOSPC: that makes them grow; short: that writes), of all programs.
 *   AGENTD_IO_SYNC_US=N     a sync does not reach the disk and takes so long (default: it reaches it, and takes as long as that takes)
 *   AGENTD_IO_BOOT_ID=ID    what /proc/sys/kernel/random/boot_id says
 *
 * A call and its record are one under the log's lock, which dies with its holder. So that no call is done and not recorded, a test does
 * not kill a program itself: it writes the pid into `die`, and the program kills itself before its next change.
 *
 * Bounds: mapped memory (SQLite's -shm only, which no recovery reads), O_TMPFILE, sendfile and their like are not seen; powerloss proves
 * that nothing is missed by comparing what the log rebuilds with what is on the disk. A full log ends the program with exit code 97. */
#undef _FILE_OFFSET_BITS /* or the C library's open is its open64, and only one of them could be replaced */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"
#define LOG_HEAD 4096
#define SHORT (-1)
#define PATH_ROOM 4096

enum op {
    OP_CREATE = 1, /* folder, name, file, mode with its type */
    OP_LINK,       /* folder, name, file */
    OP_RENAME,     /* folder, name, other folder, other name */
    OP_UNLINK,     /* folder, name; folders too */
    OP_WRITE,      /* file, path, at, data; symlinks: their target */
    OP_TRUNCATE,   /* file, path, size */
    OP_ALLOCATE,   /* file, path, least size */
    OP_SYNC_BEGIN, /* file, path */
    OP_SYNC,       /* file, path: all that was recorded before its begin lasts */
    OP_SEND,       /* socket, data */
    OP_SPAWN,      /* path of the program */
    OP_OPEN,       /* file, path */
    OP_READ,       /* file, path */
    OP_MKDIR,      /* only a name for faults: it is recorded as OP_CREATE */
};

static const char *const op_names[] = {"",         "create",     "link", "rename", "unlink", "write", "truncate",
                                       "allocate", "sync-begin", "sync", "send",   "spawn",  "open",  "read", "mkdir"};

/* Little endian; all numbers are followed by name, name2 and data, then zeros up to a multiple of 8. */
struct record {
    uint32_t bytes;
    uint8_t op, program; /* program: its letter, see program_letter() */
    uint16_t unused;
    uint32_t pid, name_n, name2_n, data_n;
    uint64_t file, file2;
    int64_t at;
};

struct log {
    char magic[8];
    uint64_t room, used;
    uint64_t matched, fired; /* calls that AGENTD_IO_FAIL fits; calls that were made to fail */
    uint64_t die;            /* pid */
    uint64_t lifted;         /* the test puts 1: no faults any more */
    uint64_t unused;
    pthread_mutex_t lock;
};

static struct log *log_map;
static const char *root, *boot_id;
static size_t root_n;
static bool census;
static long sync_us = -1;
static char program[32] = "other";

static struct {
    char program[32], op[16], pattern[512];
    uint64_t nth;
    int error;
    bool on, armed;
} fail;

static void __attribute__((noreturn)) give_up(const char *why)
{
    ssize_t ignored = syscall(SYS_write, 2, why, strlen(why));
    (void)ignored;
    _exit(97);
}

/* ---- the log ---- */

static void lock(void)
{
    if (pthread_mutex_lock(&log_map->lock) == EOWNERDEAD)
        pthread_mutex_consistent(&log_map->lock);
    if (log_map->die == (uint64_t)getpid()) {
        log_map->die = 0;
        kill(getpid(), SIGKILL);
    }
}

static void unlock(void)
{
    int error = errno;
    pthread_mutex_unlock(&log_map->lock);
    errno = error;
}

/* 'd' daemon, 'r' runner, 't' tool, '?' */
static uint8_t program_letter(void)
{
    return strcmp(program, "agentd") == 0          ? 'd'
           : strcmp(program, "agentd-runner") == 0 ? 'r'
           : strcmp(program, "agentd-tool") == 0   ? 't'
                                                   : '?';
}

static void put(struct record r, const char *name, const char *name2, const struct iovec *data, size_t data_n)
{
    r.program = program_letter();
    r.pid = (uint32_t)getpid();
    r.name_n = (uint32_t)(name ? strlen(name) : 0);
    r.name2_n = (uint32_t)(name2 ? strlen(name2) : 0);
    r.data_n = (uint32_t)data_n;
    r.bytes = (uint32_t)((sizeof r + r.name_n + r.name2_n + data_n + 7) & ~(size_t)7);
    if (log_map->used + r.bytes > log_map->room)
        give_up("interpose: the log is full\n");
    char *to = (char *)log_map + log_map->used;
    memcpy(to, &r, sizeof r);
    to += sizeof r;
    memcpy(to, name ? name : "", r.name_n);
    memcpy(to + r.name_n, name2 ? name2 : "", r.name2_n);
    to += r.name_n + r.name2_n;
    for (size_t done = 0, n; done < data_n; done += n, data++) {
        n = data->iov_len < data_n - done ? data->iov_len : data_n - done;
        memcpy(to + done, data->iov_base, n);
    }
    log_map->used += r.bytes;
}

/* ---- what is below the root ---- */

struct place {
    struct stat st;
    char path[PATH_ROOM]; /* below the root, which is `.` */
};

static bool below_root(const char *path, char *ret)
{
    if (!root || strncmp(path, root, root_n) != 0 || (path[root_n] && path[root_n] != '/'))
        return false;
    strcpy(ret, path[root_n] ? path + root_n + 1 : ".");
    return true;
}

static bool fd_path(int fd, char ret[PATH_ROOM])
{
    char link[40], path[PATH_ROOM];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n < 0 ? 0 : n] = 0;
    return n > 0 && below_root(path, ret);
}

/* A file or folder of ours. */
static bool tracked(int fd, struct place *ret)
{
    if (!log_map || fd < 0 || fstat(fd, &ret->st) < 0 || !(S_ISREG(ret->st.st_mode) || S_ISDIR(ret->st.st_mode)))
        return false;
    return fd_path(fd, ret->path);
}

static bool is_socket(int fd)
{
    struct stat st;
    return log_map && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

/* The folder and the last part of a path. */
struct entry {
    int folder; /* O_PATH; -1: none of ours */
    uint64_t file;
    char name[256], path[PATH_ROOM];
};

static bool entry_find(int at, const char *path, struct entry *ret)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    char folder[PATH_ROOM] = ".";
    struct stat st;
    ret->folder = -1;
    if (!log_map || strlen(path) >= sizeof folder || strlen(name) >= sizeof ret->name)
        return false;
    if (slash) {
        memcpy(folder, path, (size_t)(slash - path));
        folder[slash - path] = 0;
    }
    strcpy(ret->name, name);
    ret->folder = (int)syscall(SYS_openat, at, slash == path ? "/" : folder, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (ret->folder >= 0 && fd_path(ret->folder, ret->path) && fstat(ret->folder, &st) == 0) {
        ret->file = st.st_ino;
        size_t n = strcmp(ret->path, ".") == 0 ? 0 : strlen(ret->path);
        snprintf(ret->path + n, sizeof ret->path - n, "%s%s", n ? "/" : "", name);
        return true;
    }
    if (ret->folder >= 0)
        close(ret->folder);
    ret->folder = -1;
    return false;
}

static void entry_end(struct entry *e)
{
    int error = errno;
    if (e->folder >= 0)
        close(e->folder);
    errno = error;
}

static bool entry_stat(const struct entry *e, struct stat *ret)
{
    return fstatat(e->folder, e->name, ret, AT_SYMLINK_NOFOLLOW) == 0;
}

/* ---- faults ---- */

static bool grows(enum op op)
{
    return op == OP_CREATE || op == OP_MKDIR || op == OP_LINK || op == OP_RENAME || op == OP_WRITE || op == OP_ALLOCATE;
}

static bool fits_now(enum op op, const char *path)
{
    if (log_map->fired && fail.on)
        return fail.error == SHORT ? op == OP_WRITE : fail.error == ENOSPC ? grows(op) : op != OP_READ && op != OP_OPEN;
    if (strcmp(fail.op, op_names[op]) != 0 || fnmatch(fail.pattern, path, 0) != 0)
        return false;
    return (strcmp(fail.program, "*") == 0 || strcmp(fail.program, program) == 0) && ++log_map->matched == fail.nth;
}

/* Under the lock. 0, an errno or SHORT. */
static int fault(enum op op, const char *path)
{
    if (!fail.armed || log_map->lifted || !fits_now(op, path))
        return 0;
    log_map->fired++;
    return fail.error;
}

static int failed(int error)
{
    errno = error;
    return -1;
}

/* Records what changes nothing. Under no lock. */
static int observe(enum op op, const struct place *p)
{
    if (!census && !fail.armed)
        return 0;
    lock();
    int error = fault(op, p->path);
    if (census)
        put((struct record){.op = (uint8_t)op, .file = p->st.st_ino}, p->path, NULL, NULL, 0);
    unlock();
    return error == SHORT ? 0 : error;
}

/* ---- opening ---- */

static int open_boot_id(void)
{
    int fd = memfd_create("boot_id", MFD_CLOEXEC);
    if (fd < 0 || dprintf(fd, "%s\n", boot_id) < 0)
        return -1;
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static int open_changing(struct entry *e, int at, const char *path, int flags, mode_t mode)
{
    struct stat before, st;
    lock();
    bool existed = entry_stat(e, &before);
    int error = fault(existed ? OP_OPEN : OP_CREATE, e->path);
    int fd = error > 0 ? failed(error) : (int)syscall(SYS_openat, at, path, flags, mode);
    if (fd >= 0 && fstat(fd, &st) == 0) {
        if (!existed)
            put((struct record){.op = OP_CREATE, .file = e->file, .file2 = st.st_ino, .at = st.st_mode}, e->name, NULL, NULL, 0);
        else if ((flags & O_TRUNC) && before.st_size > 0)
            put((struct record){.op = OP_TRUNCATE, .file = st.st_ino}, e->path, NULL, NULL, 0);
    }
    unlock();
    return fd;
}

static int open_any(int at, const char *path, int flags, mode_t mode)
{
    struct entry e;
    struct place p;
    if (boot_id && strcmp(path, BOOT_ID_PATH) == 0)
        return open_boot_id();
    if ((flags & (O_CREAT | O_TRUNC)) && entry_find(at, path, &e)) {
        int fd = open_changing(&e, at, path, flags, mode);
        entry_end(&e);
        return fd;
    }
    int fd = (int)syscall(SYS_openat, at, path, flags, mode);
    int error = fd >= 0 && tracked(fd, &p) ? observe(OP_OPEN, &p) : 0;
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
    int error = (census || fail.armed) && tracked(fd, &p) ? observe(OP_READ, &p) : 0;
    return error ? failed(error) : syscall(SYS_read, fd, to, n);
}

ssize_t pread64(int fd, void *to, size_t n, off64_t at)
{
    struct place p;
    int error = (census || fail.armed) && tracked(fd, &p) ? observe(OP_READ, &p) : 0;
    return error ? failed(error) : syscall(SYS_pread64, fd, to, n, at);
}

ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    return pread64(fd, to, n, at);
}

/* ---- writing ---- */

/* `at` < 0: where the file stands, which is its end with O_APPEND. */
static ssize_t write_file(int fd, const struct place *p, struct iovec data, off64_t at)
{
    struct stat st;
    lock();
    int error = fault(OP_WRITE, p->path);
    if (error == SHORT && data.iov_len > 1)
        data.iov_len /= 2;
    if (error > 0) {
        unlock();
        return failed(error);
    }
    off64_t from = at;
    if (at < 0 && (fcntl(fd, F_GETFL) & O_APPEND))
        from = fstat(fd, &st) == 0 ? st.st_size : 0;
    else if (at < 0)
        from = lseek(fd, 0, SEEK_CUR);
    ssize_t n = at < 0 ? syscall(SYS_write, fd, data.iov_base, data.iov_len)
                       : syscall(SYS_pwrite64, fd, data.iov_base, data.iov_len, at);
    if (n > 0)
        put((struct record){.op = OP_WRITE, .file = p->st.st_ino, .at = from}, p->path, NULL, &data, (size_t)n);
    unlock();
    return n;
}

static ssize_t sent(ssize_t n, int fd, const struct iovec *data)
{
    if (n > 0)
        put((struct record){.op = OP_SEND, .file = (uint64_t)fd}, NULL, NULL, data, (size_t)n);
    unlock();
    return n;
}

ssize_t write(int fd, const void *from, size_t n)
{
    struct place p;
    struct iovec data = {(void *)(uintptr_t)from, n};
    if (tracked(fd, &p))
        return write_file(fd, &p, data, -1);
    if (!is_socket(fd))
        return syscall(SYS_write, fd, from, n);
    lock();
    return sent(syscall(SYS_write, fd, from, n), fd, &data);
}

ssize_t pwrite64(int fd, const void *from, size_t n, off64_t at)
{
    struct place p;
    struct iovec data = {(void *)(uintptr_t)from, n};
    return tracked(fd, &p) ? write_file(fd, &p, data, at) : syscall(SYS_pwrite64, fd, from, n, at);
}

ssize_t pwrite(int fd, const void *from, size_t n, off_t at)
{
    return pwrite64(fd, from, n, at);
}

/* To files, one part at a time: a writer of several has to expect that not all are taken. */
ssize_t writev(int fd, const struct iovec *data, int n)
{
    struct place p;
    if (tracked(fd, &p))
        return n > 0 ? write_file(fd, &p, data[0], -1) : 0;
    if (!is_socket(fd))
        return syscall(SYS_writev, fd, data, n);
    lock();
    return sent(syscall(SYS_writev, fd, data, n), fd, data);
}

ssize_t sendto(int fd, const void *from, size_t n, int flags, const struct sockaddr *to, socklen_t to_n)
{
    struct iovec data = {(void *)(uintptr_t)from, n};
    if (!log_map)
        return syscall(SYS_sendto, fd, from, n, flags, to, to_n);
    lock();
    return sent(syscall(SYS_sendto, fd, from, n, flags, to, to_n), fd, &data);
}

ssize_t send(int fd, const void *from, size_t n, int flags)
{
    return sendto(fd, from, n, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    if (!log_map)
        return syscall(SYS_sendmsg, fd, message, flags);
    lock();
    return sent(syscall(SYS_sendmsg, fd, message, flags), fd, message->msg_iov);
}

/* ---- sizes and syncs ---- */

int ftruncate64(int fd, off64_t size)
{
    struct place p;
    if (!tracked(fd, &p))
        return (int)syscall(SYS_ftruncate, fd, size);
    lock();
    int error = fault(OP_TRUNCATE, p.path);
    int rc = error > 0 ? failed(error) : (int)syscall(SYS_ftruncate, fd, size);
    if (rc == 0)
        put((struct record){.op = OP_TRUNCATE, .file = p.st.st_ino, .at = size}, p.path, NULL, NULL, 0);
    unlock();
    return rc;
}

int ftruncate(int fd, off_t size)
{
    return ftruncate64(fd, size);
}

/* Returns its error and leaves errno alone. */
int posix_fallocate64(int fd, off64_t at, off64_t n)
{
    struct place p;
    if (!tracked(fd, &p))
        return syscall(SYS_fallocate, fd, 0, at, n) < 0 ? errno : 0;
    lock();
    int error = fault(OP_ALLOCATE, p.path);
    if (error <= 0)
        error = syscall(SYS_fallocate, fd, 0, at, n) < 0 ? errno : 0;
    if (!error)
        put((struct record){.op = OP_ALLOCATE, .file = p.st.st_ino, .at = at + n}, p.path, NULL, NULL, 0);
    unlock();
    return error;
}

int posix_fallocate(int fd, off_t at, off_t n)
{
    return posix_fallocate64(fd, at, n);
}

static int sync_really(int fd, long call)
{
    if (sync_us < 0)
        return (int)syscall(call, fd);
    usleep((useconds_t)sync_us);
    return 0;
}

/* Not under the lock while it waits: what is written meanwhile may or may not last. */
static int sync_file(int fd, long call)
{
    struct place p;
    if (!tracked(fd, &p))
        return sync_really(fd, call);
    lock();
    int error = fault(OP_SYNC, p.path);
    put((struct record){.op = OP_SYNC_BEGIN, .file = p.st.st_ino}, p.path, NULL, NULL, 0);
    uint64_t begun = log_map->used;
    unlock();
    if (error > 0)
        return failed(error);
    int rc = sync_really(fd, call);
    lock();
    if (rc == 0)
        put((struct record){.op = OP_SYNC, .file = p.st.st_ino, .at = (int64_t)begun}, p.path, NULL, NULL, 0);
    unlock();
    return rc;
}

int fsync(int fd)
{
    return sync_file(fd, SYS_fsync);
}

int fdatasync(int fd)
{
    return sync_file(fd, SYS_fdatasync);
}

/* ---- names ---- */

#define NAMED(op_, at_, path_, call)                                                                         \
    struct entry e;                                                                                          \
    if (!entry_find(at_, path_, &e))                                                                         \
        return (int)(call);                                                                                  \
    lock();                                                                                                  \
    int error = fault(op_, e.path);                                                                          \
    int rc = error > 0 ? failed(error) : (int)(call);

#define NAMED_END                                                                                            \
    unlock();                                                                                                \
    entry_end(&e);                                                                                           \
    return rc;

static void put_created(const struct entry *e)
{
    struct stat st;
    if (entry_stat(e, &st))
        put((struct record){.op = OP_CREATE, .file = e->file, .file2 = st.st_ino, .at = st.st_mode}, e->name, NULL, NULL, 0);
}

int mkdirat(int at, const char *path, mode_t mode)
{
    NAMED(OP_MKDIR, at, path, syscall(SYS_mkdirat, at, path, mode))
    if (rc == 0)
        put_created(&e);
    NAMED_END
}

int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

int unlinkat(int at, const char *path, int flags)
{
    NAMED(OP_UNLINK, at, path, syscall(SYS_unlinkat, at, path, flags))
    if (rc == 0)
        put((struct record){.op = OP_UNLINK, .file = e.file}, e.name, NULL, NULL, 0);
    NAMED_END
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

/* From outside the root to the inside would bring content that nobody has recorded; nothing of ours does so. */
int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    struct entry target;
    NAMED(OP_RENAME, from_at, from, syscall(SYS_renameat2, from_at, from, to_at, to, flags))
    if (rc == 0 && entry_find(to_at, to, &target)) {
        put((struct record){.op = OP_RENAME, .file = e.file, .file2 = target.file}, e.name, target.name, NULL, 0);
        entry_end(&target);
    }
    NAMED_END
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
    return renameat2(from_at, from, to_at, to, 0);
}

int rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int linkat(int from_at, const char *from, int to_at, const char *to, int flags)
{
    struct stat st;
    NAMED(OP_LINK, to_at, to, syscall(SYS_linkat, from_at, from, to_at, to, flags))
    if (rc == 0 && entry_stat(&e, &st))
        put((struct record){.op = OP_LINK, .file = e.file, .file2 = st.st_ino}, e.name, NULL, NULL, 0);
    NAMED_END
}

int link(const char *from, const char *to)
{
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int symlink(const char *target, const char *path)
{
    struct stat st;
    NAMED(OP_CREATE, AT_FDCWD, path, syscall(SYS_symlinkat, target, AT_FDCWD, path))
    if (rc == 0) {
        put_created(&e);
        struct iovec data = {(void *)(uintptr_t)target, strlen(target)};
        if (entry_stat(&e, &st))
            put((struct record){.op = OP_WRITE, .file = st.st_ino}, e.path, NULL, &data, data.iov_len);
    }
    NAMED_END
}

int bind(int fd, const struct sockaddr *address, socklen_t n)
{
    const char *path = address->sa_family == AF_UNIX ? ((const struct sockaddr_un *)address)->sun_path : "";
    if (!*path)
        return (int)syscall(SYS_bind, fd, address, n);
    NAMED(OP_CREATE, AT_FDCWD, path, syscall(SYS_bind, fd, address, n))
    if (rc == 0)
        put_created(&e);
    NAMED_END
}

/* ---- programs ---- */

static char *const kept_names[] = {(char *)"LD_PRELOAD=",       (char *)"AGENTD_IO_LOG=",     (char *)"AGENTD_IO_ROOT=",
                                   (char *)"AGENTD_IO_CENSUS=", (char *)"AGENTD_IO_FAIL=",    (char *)"AGENTD_IO_BOOT_ID=",
                                   (char *)"ASAN_OPTIONS=",     (char *)"UBSAN_OPTIONS=",     (char *)"AGENTD_IO_SYNC_US=", NULL};
#define KEPT_MAX 9
static char *kept[KEPT_MAX + 1];

static bool is_ours(const char *path)
{
    const char *slash = strrchr(path, '/');
    return strncmp(slash ? slash + 1 : path, "agentd-", 7) == 0;
}

static size_t count(char *const env[])
{
    size_t n = 0;
    while (env && env[n])
        n++;
    return n;
}

/* Without memory of the heap: a child that shares its parent's may call it. */
static void join(char **to, char *const env[])
{
    for (; env && *env; env++)
        *to++ = *env;
    for (char **k = kept; *k; k++)
        *to++ = *k;
    *to = NULL;
}

static void note_spawn(const char *path)
{
    if (!log_map)
        return;
    lock();
    put((struct record){.op = OP_SPAWN}, path, NULL, NULL, 0);
    unlock();
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
                char *const argv[], char *const env[])
{
    int (*real)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[], char *const[]);
    *(void **)&real = dlsym(RTLD_NEXT, "posix_spawn");
    char *all[count(env) + KEPT_MAX + 1];
    join(all, env);
    note_spawn(argv[1] ? argv[1] : path);
    return real(pid, path, actions, attributes, argv, is_ours(path) ? all : env);
}

int execve(const char *path, char *const argv[], char *const env[])
{
    char *all[count(env) + KEPT_MAX + 1];
    join(all, env);
    return (int)syscall(SYS_execve, path, argv, is_ours(path) ? all : env);
}

/* ---- beginning ---- */

static void map_log(const char *path)
{
    struct stat st;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0 || flock(fd, LOCK_EX) < 0 || fstat(fd, &st) < 0)
        give_up("interpose: AGENTD_IO_LOG cannot be opened\n");
    struct log *map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        give_up("interpose: AGENTD_IO_LOG cannot be mapped\n");
    if (!map->used) {
        pthread_mutexattr_t how;
        pthread_mutexattr_init(&how);
        pthread_mutexattr_setpshared(&how, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&how, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_init(&map->lock, &how);
        memcpy(map->magic, "agentdio", 8);
        map->room = (uint64_t)st.st_size;
        map->used = LOG_HEAD;
    }
    flock(fd, LOCK_UN); /* the mapping keeps what close() would let go */
    close(fd);
    log_map = map;
}

static void read_fail(const char *text)
{
    char error[16], mode[8];
    unsigned long nth;
    if (sscanf(text, "%31s %15s %511s %lu %15s %7s", fail.program, fail.op, fail.pattern, &nth, error, mode) != 6)
        give_up("interpose: AGENTD_IO_FAIL cannot be read\n");
    fail.nth = nth;
    fail.error = strcmp(error, "short") == 0 ? SHORT : atoi(error);
    fail.on = strcmp(mode, "on") == 0;
    fail.armed = log_map && strcmp(mode, "off") != 0;
}

static void __attribute__((constructor)) begin(void)
{
    extern char **environ;
    char path[PATH_ROOM];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    path[n < 0 ? 0 : n] = 0;
    snprintf(program, sizeof program, "%s", strrchr(path, '/') ? strrchr(path, '/') + 1 : "other");
    if (program_letter() == '?')
        return;
    size_t k = 0;
    for (char **e = environ; *e && k < KEPT_MAX; e++)
        for (char *const *name = kept_names; *name; name++)
            if (strncmp(*e, *name, strlen(*name)) == 0)
                kept[k++] = strdup(*e);
    boot_id = getenv("AGENTD_IO_BOOT_ID");
    root = getenv("AGENTD_IO_ROOT");
    root_n = root ? strlen(root) : 0;
    sync_us = getenv("AGENTD_IO_SYNC_US") ? atol(getenv("AGENTD_IO_SYNC_US")) : -1;
    census = getenv("AGENTD_IO_CENSUS") != NULL;
    if (getenv("AGENTD_IO_LOG"))
        map_log(getenv("AGENTD_IO_LOG"));
    if (getenv("AGENTD_IO_FAIL"))
        read_fail(getenv("AGENTD_IO_FAIL"));
}
