/*~ agentd-supervise: starts agentd in the background and starts it again when it ends abnormally, where
 * systemd does not do it.
 *
 *     agentd-supervise --agentd PATH [--log FILE] [--watch DIR] -- ARGS...
 *
 * It holds nothing that could be lost: no state, no lock, no socket. If it is killed the daemon goes on, only
 * that nobody starts it again but the next agentctl. DIR is the state folder: in the course of a back-off it
 * learns there that the daemon is not wanted any more, or that another supervisor has come. It returns to its
 * caller when the daemon serves (see lifecycle_ready()), or with the daemon's own exit status and words when
 * that ended for good instead.
 * Deliberately not here: whether a daemon should run. */
#include "daemon/base/log.h"
#include "daemon/lifecycle.h"
#include "daemon/supervisor/folders.h"
#include "daemon/supervisor/post.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BACKOFF_MS_MIN 100
#define BACKOFF_MS_MAX 30000
#define HEALTHY_MS 60000 /* a life this long makes the back-off begin anew */
#define RESTART_LIFE_MS                                                                                      \
    1000               /* a life shorter than this that ends in a wish to restart may be part of a loop: */
#define RESTARTS_MAX 3 /* so many of them are granted at once, further ones wait: */
#define RESTART_PAUSE_MS 500 /* no longer, because somebody waits who asked for it */
#define READY_MS_MAX 30000    /* the caller goes its way then; the daemon may be migrating a large database */
#define LOG_BYTES_MAX 8388608 /* a log beyond this becomes FILE.1 */
#define LOG_LOOK_MS 60000     /* between two looks at the log while the daemon lives; SIGHUP: now */
#define EXEC_FAILED 127
#define IO_EXITS_MAX 3 /* that are remembered, and so long: see failures.h */
#define IO_EXITS_MS 600000
#define WATCH_MS 1000 /* between two looks at the state folder, during a back-off */
#define POST_MS 2000 /* that another who has come is to stay before we go */
#define POST_LOOK_MS 50
#define READY_FD 3 /* the other end of the caller's pipe; nobody listens there once the caller has gone */
#define READY_FD_TEXT "3"

struct supervisor {
    const char *agentd; /* absolute */
    const char *log;    /* absolute, or NULL */
    const char *watch;  /* absolute, or NULL */
    char **args;        /* of the daemon, args[0] and NULL included */
    int64_t backoff_ms;
    int restarts; /* in a row, each asked for after a short life */
    int64_t io_exits_ms[IO_EXITS_MAX]; /* when daemons ended with LIFECYCLE_EXIT_IO, since one ended in another way; 0: none */
    bool logs;    /* our words, and the daemon's, reach the log */
    bool ending;  /* we were told to end */
    bool old_mark; /* the mark of a stop is that of one before our time */
    pid_t child;
    int64_t started_ms;
};

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- arguments ---- */

static const char usage[] =
    "usage: agentd-supervise --agentd PATH [--log FILE] [--watch DIR] -- ARGS...\n"
    "Runs `PATH ARGS...` in the background and starts it again after an abnormal end.\n"
    "Paths in ARGS must be absolute: the background has no folder of the caller's.\n"
    "example: agentd-supervise --agentd /usr/bin/agentd --log ~/.local/state/agentd/agentd.log --\n";

static _Noreturn void fail(int status, const char *what, const char *why)
{
    dprintf(STDERR_FILENO, "agentd-supervise: %s: %s\n", what, why);
    exit(status);
}

/* Not realpath(): when an update turns a symbolic link over, the next start is to follow it. */
static const char *absolute(const char *path)
{
    static char cwd[PATH_MAX];
    char *text = NULL;
    if (path[0] == '/')
        return path;
    if (!getcwd(cwd, sizeof cwd) || asprintf(&text, "%s/%s", cwd, path) < 0)
        fail(LIFECYCLE_EXIT_USAGE, path, "the current folder is gone; give an absolute path");
    return text;
}

static void read_args(struct supervisor *s, int argc, char **argv)
{
    int i = 1;
    for (; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--agentd") == 0 && i + 1 < argc) {
            s->agentd = absolute(argv[++i]);
        } else if (strcmp(argv[i], "--log") == 0 && i + 1 < argc) {
            s->log = absolute(argv[++i]);
        } else if (strcmp(argv[i], "--watch") == 0 && i + 1 < argc) {
            s->watch = absolute(argv[++i]);
        } else {
            bool help = strcmp(argv[i], "--help") == 0;
            dprintf(help ? STDOUT_FILENO : STDERR_FILENO, "%s", usage);
            exit(help ? 0 : LIFECYCLE_EXIT_USAGE);
        }
    }
    if (i == argc || !s->agentd) {
        dprintf(STDERR_FILENO, "%s", usage);
        exit(LIFECYCLE_EXIT_USAGE);
    }
    s->args = argv + i; /* `--` gives its place to the program's name */
    s->args[0] = (char *)(uintptr_t)s->agentd;
    if (access(s->agentd, X_OK) < 0)
        fail(LIFECYCLE_EXIT_USAGE, s->agentd, strerror(errno));
}

/* ---- the log ---- */

static int open_log_file(const char *log)
{
    return open(log, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC, 0600);
}

/* The daemon may know what to do with such a disk, and nobody would if it were not started. */
static bool is_of_the_disk(int error)
{
    return error == EROFS || error == EIO || error == ENOSPC || error == EDQUOT;
}

static void refuse_log(const char *path)
{
    if (!is_of_the_disk(errno))
        fail(LIFECYCLE_EXIT_STATE, path, strerror(errno));
    dprintf(STDERR_FILENO, "agentd-supervise: %s: %s; what agentd says is lost as long as that is so\n", path, strerror(errno));
}

/* While there is a caller to tell. */
static void check_log(const char *log)
{
    char *folder = strdup(log);
    char *slash = folder ? strrchr(folder, '/') : NULL;
    if (slash && slash > folder) {
        *slash = 0;
        if (folders_make(folder) < 0)
            refuse_log(folder);
    }
    free(folder);
    int fd = open_log_file(log);
    if (fd < 0)
        refuse_log(log);
    else
        close(fd);
}

static void rotate_log(const char *log)
{
    struct stat st;
    char *old = NULL;
    if (lstat(log, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > LOG_BYTES_MAX &&
        asprintf(&old, "%s.1", log) > 0) {
        if (rename(log, old) < 0)
            log_warn("the log could not be renamed to %s: %s", old, strerror(errno));
    }
    free(old);
}

static void copy_end(int from, int to, off_t at)
{
    char piece[65536];
    for (ssize_t n; (n = pread(from, piece, sizeof piece, at)) > 0; at += n)
        if (write(to, piece, (size_t)n) != n)
            return;
}

/* The daemon holds the file and goes on appending to it: its end is copied to FILE.1, and it begins anew. What is written between
 * the two is lost. */
static void cut_log(const char *log)
{
    struct stat st;
    char *old = NULL;
    int fd = open(log, O_RDWR | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > LOG_BYTES_MAX &&
        asprintf(&old, "%s.1", log) > 0) {
        unlink(old);
        int to = open(old, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (to >= 0) {
            copy_end(fd, to, st.st_size - LOG_BYTES_MAX);
            close(to);
        }
        if (ftruncate(fd, 0) < 0)
            log_warn("agentd-supervise: the log could not be cut: %s", strerror(errno));
    }
    free(old);
    if (fd >= 0)
        close(fd);
}

/* Makes the log (or /dev/null) the standard output and error. -1 and errno if it cannot be opened. */
static int open_log(const char *log)
{
    if (log)
        rotate_log(log);
    int fd = log ? open_log_file(log) : open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int rc = dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0 ? -1 : 0;
    if (fd > STDERR_FILENO)
        close(fd);
    return rc;
}

/* ---- waiting ---- */

/* Waits for a signal of `set`, at most so long. The signal, or 0 when the time is up. */
static int wait_signal(const sigset_t *set, int64_t timeout_ms)
{
    int64_t until = now_ms() + timeout_ms;
    for (;;) {
        int64_t left = until - now_ms();
        if (left <= 0)
            return 0;
        int sig = sigtimedwait(set, NULL,
                               &(struct timespec){.tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000});
        if (sig > 0)
            return sig;
        if (errno != EAGAIN && errno != EINTR)
            return 0;
    }
}

/* ---- the state folder ---- */

static void put_post_path(const struct supervisor *s, char ret[PATH_MAX])
{
    snprintf(ret, PATH_MAX, "%s/" POST_NAME, s->watch);
}

/* The supervisor that starts the daemon; 0: none, or none that lives. */
static pid_t post_holder(const struct supervisor *s)
{
    char path[PATH_MAX], text[32] = "";
    put_post_path(s, path);
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    pid_t pid = n > 0 ? (pid_t)atol(text) : 0;
    return pid > 0 && (kill(pid, 0) == 0 || errno != ESRCH) ? pid : 0;
}

/* The newest supervisor starts the daemon; those before it find another's number here, and go. */
static void take_post(const struct supervisor *s)
{
    if (post_take(s->watch) < 0)
        log_warn("agentd-supervise: %s/" POST_NAME ": %s", s->watch, strerror(errno));
}

/* Whose daemon was locked out must not keep the supervisor of the other from its work. */
static void leave_post(const struct supervisor *s)
{
    char path[PATH_MAX];
    if (!s->watch || post_holder(s) != getpid())
        return;
    put_post_path(s, path);
    unlink(path);
}

static bool other_has_post(const struct supervisor *s)
{
    pid_t holder = post_holder(s);
    return holder != 0 && holder != getpid();
}

/* Another may have come while our daemon lived, and be on its way out, as its own daemon was locked out: then it leaves its post in a
 * moment, and nobody but us would start anything again. */
static bool relieved(const struct supervisor *s, const sigset_t *set)
{
    if (!other_has_post(s))
        return false;
    log_info("agentd-supervise: another supervisor has come");
    for (int64_t until = now_ms() + POST_MS; now_ms() < until && other_has_post(s);) {
        int sig = wait_signal(set, POST_LOOK_MS);
        if (sig == SIGTERM || sig == SIGINT)
            return true;
    }
    if (other_has_post(s))
        return true;
    log_info("agentd-supervise: it has gone again");
    take_post(s);
    return false;
}

static bool was_stopped(struct supervisor *s)
{
    bool mark = lifecycle_stopped(s->watch);
    s->old_mark = s->old_mark && mark;
    return mark && !s->old_mark;
}

/* Whether the daemon is to stay down, or is another supervisor's affair. That one may have been told to stop it while we waited for its
 * end. */
static bool dismissed(struct supervisor *s, const sigset_t *set)
{
    if (!s->watch)
        return false;
    if (!was_stopped(s) && relieved(s, set))
        return true;
    if (!was_stopped(s))
        return false;
    log_info("agentd-supervise: agentd was stopped; it is not started again");
    return true;
}

/* ---- the daemon ---- */

/* The daemon notes such ends itself where it can; this is for the disk that takes nothing any more. */
static void remember_io_exit(struct supervisor *s, int status)
{
    if (s->child < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != LIFECYCLE_EXIT_IO) {
        memset(s->io_exits_ms, 0, sizeof s->io_exits_ms);
        return;
    }
    memmove(s->io_exits_ms, s->io_exits_ms + 1, sizeof s->io_exits_ms - sizeof s->io_exits_ms[0]);
    s->io_exits_ms[IO_EXITS_MAX - 1] = now_ms();
}

static void tell_io_exits(const struct supervisor *s)
{
    char text[16];
    int n = 0;
    for (int i = 0; i < IO_EXITS_MAX; i++)
        n += s->io_exits_ms[i] > 0 && now_ms() - s->io_exits_ms[i] <= IO_EXITS_MS;
    snprintf(text, sizeof text, "%d", n);
    setenv(LIFECYCLE_IO_EXITS_ENV, text, 1);
}

static _Noreturn void become_daemon(const struct supervisor *s)
{
    sigset_t none;
    sigemptyset(&none);
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setenv(LIFECYCLE_READY_ENV, READY_FD_TEXT, 1);
    tell_io_exits(s);
    fcntl(READY_FD, F_SETFD, 0);
    close_range(READY_FD + 1, ~0U, 0);
    execv(s->agentd, s->args);
    log_error("agentd-supervise: %s cannot be run: %s", s->agentd, strerror(errno));
    _exit(EXEC_FAILED);
}

static int start(struct supervisor *s)
{
    if (open_log(s->log) == 0)
        s->logs = true;
    else if (s->logs)
        log_warn("agentd-supervise: %s cannot be opened (%s); its old one is used further", s->log, strerror(errno));
    else
        open_log(NULL);
    s->started_ms = now_ms();
    s->child = fork();
    if (s->child == 0)
        become_daemon(s);
    if (s->child < 0)
        log_error("agentd-supervise: fork: %s", strerror(errno));
    return s->child < 0 ? -1 : 0;
}

/* Until the daemon has ended; its status as waitpid() gives it. */
static int wait_child(struct supervisor *s, const sigset_t *set)
{
    for (;;) {
        int status;
        if (waitpid(s->child, &status, WNOHANG) == s->child)
            return status;
        int sig = wait_signal(set, LOG_LOOK_MS);
        if (s->log)
            cut_log(s->log);
        if (sig == SIGTERM || sig == SIGINT) {
            s->ending = true;
            kill(s->child, SIGTERM);
        }
    }
}

/* How long to wait before the next start. */
static int64_t next_delay(struct supervisor *s, int status)
{
    int64_t life_ms = now_ms() - s->started_ms;
    if (life_ms >= HEALTHY_MS)
        s->backoff_ms = BACKOFF_MS_MIN;
    bool asked_for = WIFEXITED(status) && WEXITSTATUS(status) == LIFECYCLE_EXIT_RESTART;
    s->restarts = asked_for && life_ms < RESTART_LIFE_MS ? s->restarts + 1 : 0;
    if (asked_for)
        return s->restarts <= RESTARTS_MAX ? 0 : RESTART_PAUSE_MS;
    int64_t delay_ms = s->backoff_ms;
    s->backoff_ms = s->backoff_ms * 2 < BACKOFF_MS_MAX ? s->backoff_ms * 2 : BACKOFF_MS_MAX;
    return delay_ms;
}

static void say_end(int status, int64_t delay_ms)
{
    if (WIFSIGNALED(status))
        log_warn("agentd-supervise: agentd was ended by signal %d; it starts again in %lld ms",
                 WTERMSIG(status), (long long)delay_ms);
    else
        log_warn("agentd-supervise: agentd ended with status %d; it starts again in %lld ms",
                 WEXITSTATUS(status), (long long)delay_ms);
}

/* A configuration that somebody is just writing keeps down what he starts, but not tasks that were at work before a crash. */
static bool stays_down(int status, bool first)
{
    return WIFEXITED(status) && lifecycle_exit_final(WEXITSTATUS(status)) && (first || WEXITSTATUS(status) != LIFECYCLE_EXIT_CONFIG);
}

/* Lives as long as a daemon should run; returns the status of the last one. */
static int supervise(struct supervisor *s, const sigset_t *set)
{
    for (bool first = true;; first = false) {
        int status = start(s) < 0 ? LIFECYCLE_EXIT_IO << 8 : wait_child(s, set);
        if (stays_down(status, first))
            return WEXITSTATUS(status);
        remember_io_exit(s, status);
        if (s->ending)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        int64_t delay_ms = next_delay(s, status);
        say_end(status, delay_ms);
        bool dismissal = dismissed(s, set);
        for (int64_t until = now_ms() + delay_ms; delay_ms > 0 && !dismissal; delay_ms = until - now_ms()) {
            int sig = wait_signal(set, delay_ms < WATCH_MS ? delay_ms : WATCH_MS);
            if (sig == SIGTERM || sig == SIGINT)
                return LIFECYCLE_EXIT_OK;
            dismissal = dismissed(s, set);
        }
        if (dismissal)
            return LIFECYCLE_EXIT_OK;
    }
}

/* ---- the two processes ---- */

/* Session leader without a terminal, in no folder of the caller's, with no descriptor but the log and the
 * word to the caller. */
static _Noreturn void background(struct supervisor *s, int ready_fd)
{
    sigset_t set;
    setsid();
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGCHLD, SIG_DFL); /* an inherited SIG_IGN would swallow every status */
    signal(SIGHUP, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    if (chdir("/") < 0)
        log_warn("agentd-supervise: chdir: %s", strerror(errno));
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null > STDIN_FILENO)
        dup2(null, STDIN_FILENO);
    dup2(ready_fd, READY_FD);
    fcntl(READY_FD, F_SETFD, FD_CLOEXEC);
    close_range(READY_FD + 1, ~0U, 0);
    s->old_mark = s->watch && lifecycle_stopped(s->watch);
    if (s->watch)
        take_post(s);
    int status = supervise(s, &set);
    leave_post(s);
    unsigned char word[2] = {'0', (unsigned char)status};
    ssize_t ignored = write(READY_FD, word, sizeof word);
    (void)ignored;
    exit(status);
}

/* What the daemon wrote before it gave up is what its user has to read. */
static void show_log(const char *log, off_t from)
{
    char text[4096];
    int fd = log ? open(log, O_RDONLY | O_CLOEXEC) : -1;
    for (ssize_t n = 1; fd >= 0 && n > 0; from += n) {
        n = pread(fd, text, sizeof text, from);
        if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0)
            break;
    }
    if (fd >= 0)
        close(fd);
}

/* Until the daemon serves ('1'), has ended for good ('0' and the status), or takes too long. */
static int foreground(const struct supervisor *s, int fd, off_t log_from)
{
    unsigned char word[2] = {0};
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, READY_MS_MAX) <= 0) {
        dprintf(STDERR_FILENO, "agentd-supervise: agentd does not serve yet; see its log%s%s\n",
                s->log ? " " : "", s->log ? s->log : "");
        return 0;
    }
    if (read(fd, word, sizeof word) < 1 || word[0] != '0')
        return 0;
    if (word[1])
        show_log(s->log, log_from);
    return word[1];
}

int main(int argc, char **argv)
{
    struct supervisor s = {.backoff_ms = BACKOFF_MS_MIN};
    struct stat st;
    int ready[2];
    read_args(&s, argc, argv);
    if (s.log)
        check_log(s.log);
    off_t log_from = s.log && stat(s.log, &st) == 0 && st.st_size <= LOG_BYTES_MAX ? st.st_size : 0;
    if (pipe2(ready, O_CLOEXEC) < 0)
        fail(LIFECYCLE_EXIT_IO, "pipe", strerror(errno));
    pid_t pid = fork();
    if (pid < 0)
        fail(LIFECYCLE_EXIT_IO, "fork", strerror(errno));
    if (pid == 0) {
        close(ready[0]);
        background(&s, ready[1]);
    }
    close(ready[1]);
    return foreground(&s, ready[0], log_from);
}
