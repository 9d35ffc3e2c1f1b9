#include "listen.h"

#include "daemon/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG 128
#define DEAD_POLL_MS 5

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

/* mkdir -p, private. What exists is not touched. */
static int make_folders(const char *dir, struct buf *error)
{
    CLEANUP(buf_free) struct buf path = {0};
    buf_puts(&path, dir);
    for (size_t i = 1; i <= path.n; i++) {
        if (path.p[i] != '/' && path.p[i] != 0)
            continue;
        char cut = path.p[i];
        path.p[i] = 0;
        if (mkdir(path.p, 0700) < 0 && errno != EEXIST && errno != EISDIR && errno != EROFS &&
            errno != EACCES) {
            buf_printf(error, "cannot make the folder %s: %s", path.p, strerror(errno));
            return -1;
        }
        path.p[i] = cut;
    }
    return 0;
}

/* Who can write the folder can put another socket in our place. */
static int check_folder(int fd, const char *dir, struct buf *error)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        buf_printf(error, "cannot look at %s: %s", dir, strerror(errno));
        return -1;
    }
    if (st.st_uid != geteuid()) {
        buf_printf(error,
                   "%s belongs to another user; put the socket into a folder of your own (AGENTD_SOCKET)",
                   dir);
        return -1;
    }
    if (st.st_mode & 022) {
        buf_printf(error, "others can write %s; chmod 700 it, or put the socket elsewhere (AGENTD_SOCKET)",
                   dir);
        return -1;
    }
    return 0;
}

/* A path of any length fits when it goes through the folder's descriptor. */
static int address_of(const char *path, int dir, const char *base, struct sockaddr_un *ret, struct buf *error)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(ret->sun_path, sizeof ret->sun_path, "%s", path);
    if (n >= (int)sizeof ret->sun_path)
        n = snprintf(ret->sun_path, sizeof ret->sun_path, "/proc/self/fd/%d/%s", dir, base);
    if (n < (int)sizeof ret->sun_path)
        return 0;
    buf_printf(error, "the socket's name %s is too long; choose a shorter one", base);
    return -1;
}

/* Whoever listens has the pid of who began to. With a dead one it is a child that was forked but has not reached its exec, which closes
 * its copy of the descriptor: over in a moment. */
static bool owner_is_dead(int connection)
{
    struct ucred owner;
    socklen_t n = sizeof owner;
    return getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &owner, &n) == 0 && owner.pid > 0 && kill(owner.pid, 0) < 0 &&
           errno == ESRCH;
}

/* 0: somebody listens; else an errno. ECONNREFUSED is the one answer that says that nobody does. */
static int find_listener(const struct sockaddr_un *address, int wait_ms)
{
    for (int waited_ms = 0;; waited_ms += DEAD_POLL_MS) {
        CLEANUP(close_fd) int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int found = probe < 0 || connect(probe, (const struct sockaddr *)address, sizeof *address) < 0 ? errno : 0;
        bool worth_waiting = found == EAGAIN || (found == 0 && owner_is_dead(probe)); /* EAGAIN: its queue is full, nobody accepts */
        if (!worth_waiting || waited_ms >= wait_ms)
            return found;
        nanosleep(&(struct timespec){.tv_nsec = DEAD_POLL_MS * 1000000}, NULL);
    }
}

static int replace_stale(const char *path, int dir, const char *base, const struct sockaddr_un *address,
                         int wait_ms, struct buf *error)
{
    struct stat st;
    if (fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno == ENOENT)
            return 0;
        buf_printf(error, "cannot look at %s: %s", path, strerror(errno));
        return -1;
    }
    if (!S_ISSOCK(st.st_mode)) {
        buf_printf(error,
                   "%s exists and is not a socket; move it away, or choose another path (AGENTD_SOCKET)",
                   path);
        return -1;
    }
    int found = find_listener(address, wait_ms);
    if (found == 0) {
        buf_printf(error, "another program listens on %s; is a daemon running?", path);
        return -1;
    }
    if (found != ECONNREFUSED && found != ENOENT) {
        buf_printf(error, "%s cannot be replaced, somebody may be using it: %s", path, strerror(found));
        return -1;
    }
    int failed = unlinkat(dir, base, 0) < 0 && errno != ENOENT ? errno : 0;
    if (failed)
        buf_printf(error, "cannot replace %s: %s", path, strerror(failed));
    return -failed;
}

static int bind_private(int fd, const struct sockaddr_un *address)
{
    mode_t mask = umask(0177);
    int rc = bind(fd, (const struct sockaddr *)address, sizeof *address);
    int bind_errno = errno;
    umask(mask);
    errno = bind_errno;
    return rc < 0 ? rc : listen(fd, BACKLOG);
}

static int bind_in(const char *path, int dir, const char *base, int wait_ms, int *ret_fd, struct listen_file *ret_file,
                   struct buf *error)
{
    struct sockaddr_un address;
    int rc = address_of(path, dir, base, &address, error);
    if (rc == 0)
        rc = replace_stale(path, dir, base, &address, wait_ms, error);
    if (rc < 0)
        return rc;
    CLEANUP(close_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct stat st;
    if (fd < 0 || bind_private(fd, &address) < 0 || fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        rc = -errno;
        buf_printf(error, "cannot listen on %s: %s", path, strerror(-rc));
        return rc;
    }
    *ret_file = (struct listen_file){.made = true, .dev = st.st_dev, .ino = st.st_ino};
    *ret_fd = fd;
    fd = -1;
    return 0;
}

int listen_open(const char *path, int wait_ms, int *ret_fd, struct listen_file *ret_file, struct buf *error)
{
    const char *slash = strrchr(path, '/');
    if (path[0] != '/' || slash[1] == 0) {
        buf_printf(error, "the socket's path must be absolute and name a file: %s", path);
        return -1;
    }
    CLEANUP(buf_free) struct buf folder = {0};
    buf_put(&folder, path, slash == path ? 1 : (size_t)(slash - path));
    if (make_folders(folder.p, error) < 0)
        return -1;
    CLEANUP(close_fd) int dir = open(folder.p, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        buf_printf(error, "cannot open the folder %s: %s", folder.p, strerror(errno));
        return -1;
    }
    if (check_folder(dir, folder.p, error) < 0)
        return -1;
    /* Two daemons that find the same stale socket must not each remove the other's. */
    if (flock(dir, LOCK_EX | LOCK_NB) < 0) {
        buf_printf(error, "another program is busy in %s: %s", folder.p, strerror(errno));
        return -1;
    }
    return bind_in(path, dir, slash + 1, wait_ms, ret_fd, ret_file, error);
}

int listen_inherited(int fd, struct buf *error)
{
    int listening = 0, domain = 0;
    socklen_t n = sizeof listening;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) < 0 || !listening ||
        getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) < 0 || domain != AF_UNIX) {
        buf_printf(error, "descriptor %d is not a listening Unix socket; check the socket unit", fd);
        return -1;
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return 0;
}

bool listen_stands(const char *path, const struct listen_file *file)
{
    struct stat st;
    return file->made && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_dev == file->dev && st.st_ino == file->ino;
}

void listen_unlink(const char *path, const struct listen_file *file)
{
    if (listen_stands(path, file))
        unlink(path);
}
