#include "start.h"

#include "daemon/base/mem.h"
#include "daemon/supervisor/post.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORDS_BYTES_MAX 65536
#define WORDS_LINES_MAX 12
#define SELF "/proc/self/exe"

static bool exists_in(const char *dir, const char *name)
{
    struct stat st;
    CLEANUP(buf_free) struct buf path = {0};
    buf_printf(&path, "%s/%s", dir, name);
    return lstat(buf_cstr(&path), &st) == 0;
}

bool start_stopped(const char *state_dir)
{
    return exists_in(state_dir, "stopped");
}

bool start_has_database(const char *state_dir)
{
    return exists_in(state_dir, "agentd.db");
}

static ssize_t read_file(const char *path, char *ret, size_t max)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, ret, max);
    if (fd >= 0)
        close(fd);
    return n;
}

/* The lock decides, the pid in it is for people. Whoever is just taking it waits for so short a look at it. */
long start_owner(const char *state_dir)
{
    CLEANUP(buf_free) struct buf path = {0};
    char text[24] = "";
    buf_printf(&path, "%s/lock", state_dir);
    int fd = open(buf_cstr(&path), O_RDONLY | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    bool held = flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
    ssize_t n = held ? read(fd, text, sizeof text - 1) : 0;
    close(fd);
    return n > 0 ? strtol(text, NULL, 10) : 0;
}

/* ---- executables ---- */

static bool try_path(const char *dir, const char *middle, const char *program, struct buf *ret)
{
    CLEANUP(buf_free) struct buf path = {0};
    buf_printf(&path, "%s/%s%s", dir, middle, program);
    if (access(buf_cstr(&path), X_OK) < 0)
        return false;
    buf_clear(ret);
    buf_str(ret, buf_view(&path));
    return true;
}

/* The folder of a file, absolute and without symbolic links. That of our own executable even where an update has replaced it since we
 * were started: the link then ends in " (deleted)". */
static bool folder_of(const char *file, char ret[PATH_MAX])
{
    if (strcmp(file, SELF) == 0) {
        ssize_t n = readlink(file, ret, PATH_MAX - 1);
        if (n <= 0 || ret[0] != '/')
            return false;
        ret[n] = 0;
    } else if (!realpath(file, ret)) {
        return false;
    }
    char *slash = strrchr(ret, '/');
    slash[slash == ret] = 0;
    return true;
}

/* Beside each other, as a build folder has them (client/, daemon/, daemon/supervisor/), or as they are installed. */
static bool find_near(const char *file, const char *program, struct buf *ret)
{
    static const char *const middles[] = {"", "../daemon/", "supervisor/", "../daemon/supervisor/", "../libexec/agentd/"};
    char dir[PATH_MAX];
    if (!folder_of(file, dir))
        return false;
    for (size_t i = 0; i < sizeof middles / sizeof middles[0]; i++) {
        if (try_path(dir, middles[i], program, ret))
            return true;
    }
    return false;
}

int start_find(const char *program, struct buf *ret, struct buf *error)
{
    const char *named = getenv("AGENTD_BIN");
    if (named && *named) {
        char path[PATH_MAX];
        if (!realpath(named, path) || access(path, X_OK) < 0) {
            buf_printf(error, "AGENTD_BIN names %s: %s", named, strerror(errno));
            return -1;
        }
        if (strcmp(program, "agentd") == 0) {
            buf_clear(ret);
            buf_puts(ret, path);
            return 0;
        }
        if (find_near(path, program, ret))
            return 0;
    }
    if (find_near(SELF, program, ret) || try_path(AGENTD_LIBEXECDIR, "", program, ret) ||
        try_path(AGENTD_BINDIR, "", program, ret))
        return 0;
    buf_printf(error, "%s is not beside agentctl nor in " AGENTD_BINDIR " or " AGENTD_LIBEXECDIR "; set AGENTD_BIN to the path of agentd",
               program);
    return -1;
}

void start_args(const struct start_places *places, const char *program, const char *ret[START_ARGS_MAX])
{
    size_t n = 0;
    ret[n++] = program;
    ret[n++] = "--state-dir";
    ret[n++] = places->state_dir;
    ret[n++] = "--socket";
    ret[n++] = places->socket;
    if (places->config) {
        ret[n++] = "--config";
        ret[n++] = places->config;
    }
    ret[n] = NULL;
}

void start_reset_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* ---- the supervisor ---- */

static _Noreturn void become_supervisor(const char *const *argv, int words)
{
    int null = open("/dev/null", O_RDWR);
    start_reset_signals();
    /* None of the caller's descriptors may live on in the daemon: whoever reads agentctl's output waits for their end. */
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    dup2(words, STDERR_FILENO);
    close_range(STDERR_FILENO + 1, ~0U, 0);
    execv(argv[0], (char *const *)(uintptr_t)argv);
    dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Everything that is said until the other side closes, or the time is up (-1). */
static int read_words(int fd, struct buf *words)
{
    int64_t until = now_ms() + START_MS_MAX;
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = until - now_ms();
        int n = poll(&p, 1, left > 0 ? (int)left : 0);
        if (n == 0)
            return -1;
        if (n < 0 && errno == EINTR)
            continue;
        ssize_t got = read(fd, buf_reserve(words, 4096), 4096);
        if (got <= 0)
            return 0;
        words->n += (size_t)got;
        if (words->n > WORDS_BYTES_MAX)
            buf_consume(words, words->n - WORDS_BYTES_MAX);
    }
}

/* The last lines, each indented. */
static void put_last_lines(struct buf *b, struct str words)
{
    while (words.n > 0 && words.p[words.n - 1] == '\n')
        words.n--;
    size_t from = words.n;
    for (int lines = 0; from > 0; from--) {
        if (words.p[from - 1] == '\n' && ++lines == WORDS_LINES_MAX)
            break;
    }
    buf_puts(b, "\n  ");
    for (; from < words.n; from++) {
        buf_putc(b, words.p[from]);
        if (words.p[from] == '\n')
            buf_puts(b, "  ");
    }
}

static void make_folder(const char *path)
{
    CLEANUP(buf_free) struct buf copy = {0};
    buf_printf(&copy, "%s/", path);
    for (char *slash = strchr(copy.p + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(copy.p, 0700); /* what is wrong with it, if anything, the daemon will say */
        *slash = '/';
    }
}

int start_lock(const char *state_dir)
{
    CLEANUP(buf_free) struct buf path = {0};
    make_folder(state_dir);
    buf_printf(&path, "%s/daemon.log", state_dir);
    int fd = open(path.p, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    int failed = errno;
    close(fd);
    errno = failed;
    return -1;
}

/* ---- the post of the supervisor ---- */

/* What the process that holds the post would start: the word behind `--agentd` on its command line. False: nobody holds it, or it is
 * no supervisor. */
static bool post_starts(const char *state_dir, struct buf *ret)
{
    CLEANUP(buf_free) struct buf path = {0}, line = {0};
    char text[32] = "";
    buf_printf(&path, "%s/" POST_NAME, state_dir);
    if (read_file(buf_cstr(&path), text, sizeof text - 1) <= 0 || atol(text) <= 0)
        return false;
    buf_clear(&path);
    buf_printf(&path, "/proc/%ld/cmdline", atol(text));
    ssize_t n = read_file(buf_cstr(&path), buf_reserve(&line, WORDS_BYTES_MAX), WORDS_BYTES_MAX - 1);
    if (n <= 0)
        return false;
    line.n = (size_t)n;
    const char *end = buf_cstr(&line) + n;
    for (const char *word = line.p; word < end; word += strlen(word) + 1) {
        const char *next = word + strlen(word) + 1;
        if (strcmp(word, "--agentd") == 0 && next < end) {
            buf_puts(ret, next);
            return true;
        }
    }
    return false;
}

bool start_is_ours(const char *state_dir)
{
    CLEANUP(buf_free) struct buf theirs = {0}, ours = {0}, error = {0};
    return !post_starts(state_dir, &theirs) ||
           (start_find("agentd", &ours, &error) == 0 && strcmp(buf_cstr(&theirs), buf_cstr(&ours)) != 0);
}

bool start_take_post(const char *state_dir)
{
    CLEANUP(buf_free) struct buf theirs = {0}, ours = {0}, error = {0};
    return post_starts(state_dir, &theirs) && start_find("agentd", &ours, &error) == 0 &&
           strcmp(buf_cstr(&theirs), buf_cstr(&ours)) != 0 && post_take(state_dir) == 0;
}

static int run_supervisor(const char *const *argv, struct buf *error)
{
    int words_fd[2], status = 0;
    CLEANUP(buf_free) struct buf words = {0};
    if (pipe2(words_fd, O_CLOEXEC) < 0)
        return -1;
    signal(SIGCHLD, SIG_DFL); /* an inherited SIG_IGN would swallow the status */
    pid_t pid = fork();
    if (pid == 0)
        become_supervisor(argv, words_fd[1]);
    close(words_fd[1]);
    int rc = pid < 0 ? -1 : read_words(words_fd[0], &words);
    close(words_fd[0]);
    if (pid < 0) {
        buf_printf(error, "fork: %s", strerror(errno));
        return -1;
    }
    if (rc < 0) /* it goes on in the background; whether the socket answers is the caller's next question */
        return 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    buf_puts(error, "the daemon did not start");
    if (words.n > 0)
        put_last_lines(error, buf_view(&words));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int start_daemon(const struct start_places *places, struct buf *error)
{
    CLEANUP(buf_free) struct buf agentd = {0}, supervise = {0}, log = {0};
    const char *argv[START_ARGS_MAX + 8];
    if (start_find("agentd", &agentd, error) < 0 || start_find("agentd-supervise", &supervise, error) < 0)
        return -1;
    buf_printf(&log, "%s/daemon.log", places->state_dir);
    argv[0] = buf_cstr(&supervise);
    argv[1] = "--agentd";
    argv[2] = buf_cstr(&agentd);
    argv[3] = "--log";
    argv[4] = buf_cstr(&log);
    argv[5] = "--watch";
    argv[6] = places->state_dir;
    start_args(places, "--", argv + 7);
    return run_supervisor(argv, error);
}
