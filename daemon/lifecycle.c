#include "lifecycle.h"

#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/supervisor/folders.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOCK_NAME "lock"
#define STOPPED_NAME "stopped"
#define NOFILE_WANTED 65536
#define LOCK_POLL_MS 10

static int refuse(const char *path, const char *sentence, struct buf *error)
{
    buf_printf(error, "the state folder %s %s", path, sentence);
    return LIFECYCLE_EXIT_STATE;
}

static int refuse_errno(const char *path, const char *what, struct buf *error)
{
    buf_printf(
        error,
        "the state folder %s cannot be used: %s: %s; name another with --state-dir or AGENTD_STATE_DIR", path,
        what, strerror(errno));
    return errno == EIO ? LIFECYCLE_EXIT_IO : LIFECYCLE_EXIT_STATE;
}

/* ---- the folder ---- */

/* Whether the folder is empty or has our lock file: then it is agentd's own, and its mode is ours to set. */
static bool is_ours(int fd)
{
    struct stat st;
    if (fstatat(fd, LOCK_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return S_ISREG(st.st_mode);
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (!dir) {
        if (copy >= 0)
            close(copy);
        return false;
    }
    bool empty = true;
    for (const struct dirent *e; (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            empty = false;
    }
    closedir(dir);
    return empty;
}

/* A folder that was there before, say /tmp by mistake, is not changed: others may rely on its mode. */
static int check_mode(int fd, const char *path, mode_t mode, struct buf *error)
{
    if ((mode & (S_IRWXG | S_IRWXO)) == 0)
        return 0;
    if (is_ours(fd)) {
        if (fchmod(fd, 0700) < 0)
            return refuse_errno(path, "chmod", error);
        return 0;
    }
    if (mode & (S_IWGRP | S_IWOTH))
        return refuse(path,
                      "can be written by other users and holds other things; name a folder of agentd's own",
                      error);
    log_warn("the state folder %s can be read by other users; run: chmod 700 %s", path, path);
    return 0;
}

static int open_folder(const char *path, int *ret_fd, int *ret_disk_error, struct buf *error)
{
    struct stat st;
    if (folders_make(path) < 0)
        return refuse_errno(path, "it cannot be made", error);
    /* Also if it was there: whoever made it may have died before its name was synced. */
    *ret_disk_error = folders_sync_above(path) < 0 ? errno : 0;
    if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
        return refuse(path, "is a symbolic link; name the folder that it points to", error);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return refuse_errno(path, "open", error);
    int rc = 0;
    if (fstat(fd, &st) < 0)
        rc = refuse_errno(path, "stat", error);
    else if (st.st_uid != geteuid())
        rc =
            refuse(path, "belongs to another user; name one of your own with --state-dir or AGENTD_STATE_DIR",
                   error);
    else
        rc = check_mode(fd, path, st.st_mode, error);
    if (rc) {
        close(fd);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}

/* ---- the lock ---- */

/* The pid in the lock file is for people and for the question whether to wait; what decides is the lock. */
static long lock_owner(int fd)
{
    char text[24];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    return strtol(text, NULL, 10);
}

/* Without a pid its owner is just beginning or just ending. With a dead one, a child that was forked but has
 * not reached its exec holds a copy of the descriptor: both are over in a moment. */
static bool worth_waiting(long owner)
{
    return owner <= 0 || (kill((pid_t)owner, 0) < 0 && errno == ESRCH);
}

static int wait_for_lock(int fd, const char *path, struct buf *error)
{
    for (int waited = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; waited += LOCK_POLL_MS) {
        if (errno == EINTR)
            continue;
        if (errno != EWOULDBLOCK)
            return refuse_errno(path, "its lock cannot be taken", error);
        long owner = lock_owner(fd);
        if (!worth_waiting(owner) || waited >= LIFECYCLE_LOCK_WAIT_MS) {
            buf_printf(error, "another agentd (");
            if (owner > 0)
                buf_printf(error, "pid %ld", owner);
            else
                buf_puts(error, "which is just beginning or ending");
            buf_printf(error,
                       ") owns the state folder %s; use it, or stop it with `agentctl daemon stop`, "
                       "or name another folder with --state-dir",
                       path);
            return LIFECYCLE_EXIT_LOCKED;
        }
        nanosleep(&(struct timespec){.tv_nsec = LOCK_POLL_MS * 1000000}, NULL);
    }
    return 0;
}

static int write_owner(int fd)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    return ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n ? -1 : 0;
}

static int take_lock(int state_fd, const char *path, int *ret_fd, bool *ret_read_only, struct buf *error)
{
    int fd = openat(state_fd, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    *ret_read_only = fd < 0 && errno == EROFS;
    if (fd < 0 && (errno == EROFS || errno == EIO)) /* a disk that fails may still be read, and a lock needs no more */
        fd = openat(state_fd, LOCK_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return refuse_errno(path, "its lock file cannot be opened", error);
    int rc = wait_for_lock(fd, path, error);
    /* On a full disk the pid cannot be written, and the daemon starts all the same: it has the lock. */
    if (rc == 0 && !*ret_read_only && write_owner(fd) < 0)
        log_warn("the pid could not be written to %s/" LOCK_NAME ": %s", path, strerror(errno));
    if (rc) {
        close(fd);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}

/* ---- the mark of a stop ---- */

static int remove_mark(int state_fd, const char *path, bool *ret_was, struct buf *error)
{
    *ret_was = unlinkat(state_fd, STOPPED_NAME, 0) == 0;
    if (!*ret_was && errno == EIO)
        log_warn("the file `" STOPPED_NAME "` in %s cannot be removed, should it be there: %s", path, strerror(errno));
    else if (!*ret_was && errno != ENOENT && errno != EROFS)
        return refuse_errno(path, "its file `" STOPPED_NAME "` cannot be removed", error);
    return 0;
}

static int leave_mark(int state_fd)
{
    int fd = openat(state_fd, STOPPED_NAME, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    int rc = fsync(fd);
    close(fd);
    return rc < 0 ? rc : fsync(state_fd);
}

bool lifecycle_stopped(const char *state_dir)
{
    struct stat st;
    CLEANUP(buf_free) struct buf path = {0};
    buf_printf(&path, "%s/" STOPPED_NAME, state_dir);
    return lstat(path.p, &st) == 0;
}

/* ---- the process ---- */

static int read_boot_id(char ret[CLOCK_BOOT_ID_SIZE], struct buf *error)
{
    static const char path[] = "/proc/sys/kernel/random/boot_id";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, ret, CLOCK_BOOT_ID_SIZE - 1);
    if (fd >= 0)
        close(fd);
    if (n != 37 || ret[36] != '\n') {
        buf_printf(
            error,
            "%s cannot be read, and without it agentd cannot tell a restart from a reboot; mount /proc",
            path);
        return LIFECYCLE_EXIT_STATE;
    }
    ret[36] = 0;
    return 0;
}

/* Many clients, transfers and runs each need a descriptor. Only the soft limit is raised, so the runner can
 * lower it again. Returns what it was, or 0 if it is not known. */
static int64_t raise_nofile(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 0;
    int64_t before = limit.rlim_cur < INT64_MAX ? (int64_t)limit.rlim_cur : 0;
    rlim_t wanted = limit.rlim_max < NOFILE_WANTED ? limit.rlim_max : NOFILE_WANTED;
    if (wanted <= limit.rlim_cur)
        return before;
    limit.rlim_cur = wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        log_warn("the limit on open files stays at %lld: %s", (long long)before, strerror(errno));
    return before;
}

/* The keys of providers are in our memory and our environment: no core dump is to hold them, and no tool of the same user is to read them
 * from /proc or with a debugger. What we start is as it always is. */
static void hide_memory(void)
{
    if (!getenv("AGENTD_DUMPABLE"))
        prctl(PR_SET_DUMPABLE, 0);
}

int lifecycle_begin(const char *state_dir, struct lifecycle *ret, struct buf *error)
{
    struct lifecycle l = {.state_fd = -1, .lock_fd = -1};
    l.tool_umask = (int64_t)umask(077); /* all that the daemon writes is for its owner alone */
    signal(SIGPIPE, SIG_IGN);
    hide_memory();
    int rc = read_boot_id(l.boot_id, error);
    if (!rc)
        rc = open_folder(state_dir, &l.state_fd, &l.disk_error, error);
    if (!rc)
        rc = take_lock(l.state_fd, state_dir, &l.lock_fd, &l.read_only, error);
    if (!rc)
        rc = remove_mark(l.state_fd, state_dir, &l.was_stopped, error);
    if (rc) {
        lifecycle_end(&l);
        memcpy(ret->boot_id, l.boot_id, sizeof ret->boot_id); /* for the note of why */
        return rc;
    }
    l.tool_files_max = raise_nofile();
    *ret = l;
    return 0;
}

void lifecycle_ready(void)
{
    const char *text = getenv(LIFECYCLE_READY_ENV);
    int fd = text ? atoi(text) : -1;
    if (fd > STDERR_FILENO) {
        ssize_t ignored = write(fd, "1", 1); /* who does not wait any more does not need to know */
        (void)ignored;
        close(fd);
    }
    unsetenv(LIFECYCLE_READY_ENV);
}

int lifecycle_ending(struct lifecycle *l, bool stopped, struct buf *error)
{
    if (!l->read_only && ftruncate(l->lock_fd, 0) < 0)
        log_warn("the lock file could not be emptied: %s", strerror(errno));
    if (stopped && leave_mark(l->state_fd) < 0) {
        buf_printf(error, "the mark of this stop could not be written: %s; a view may start the daemon again",
                   strerror(errno));
        return -1;
    }
    return 0;
}

void lifecycle_end(struct lifecycle *l)
{
    if (l->lock_fd >= 0)
        close(l->lock_fd);
    if (l->state_fd >= 0)
        close(l->state_fd);
    l->lock_fd = l->state_fd = -1;
}
