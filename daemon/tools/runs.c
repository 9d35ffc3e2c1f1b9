/* Starting runners, and the table of those that are followed. See link.c for one of them, runs_probe.c for dead ones, and
 * runs_output.c for what they wrote. */
#include "daemon/tools/runs.h"

#include "daemon/base/failpoint.h"
#include "daemon/base/mem.h"
#include "daemon/base/pack.h"
#include "daemon/runner/record.h"
#include "daemon/tools/link.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTEN_BACKLOG 16
#define TERMINAL_COLUMNS 120
#define TERMINAL_ROWS 30
#define FD_SAFE 16 /* above all that the spawn places */

/* Input for a run that nobody follows. */
struct refused {
    struct list node;
    char *task, *run, *call;
    bool taken; /* an earlier daemon had sent it */
};

static void soon_cb(uv_timer_t *timer);

static void timer_closed_cb(uv_handle_t *handle)
{
    runs_released(handle->data);
}

struct runs *runs_new(const struct runs_config *config)
{
    struct runs *r = MEM_NEW(struct runs);
    r->loop = config->loop;
    r->dir = mem_strdup(config->dir);
    r->runner_path = mem_strdup(config->runner_path);
    r->tool_path = mem_strdup(config->tool_path);
    r->limits = config->limits;
    r->tool_files_max = config->tool_files_max;
    r->tool_umask = config->tool_umask ? config->tool_umask : 022;
    r->callbacks = config->callbacks;
    r->arg = config->arg;
    list_init(&r->links);
    list_init(&r->refused);
    uv_timer_init(r->loop, &r->soon);
    r->soon.data = r;
    r->handles = 1;
    return r;
}

static void refused_free(struct refused *f)
{
    list_remove(&f->node);
    mem_free(f->task);
    mem_free(f->run);
    mem_free(f->call);
    mem_free(f);
}

void runs_released(struct runs *r)
{
    if (--r->handles > 0)
        return;
    mem_free(r->dir);
    mem_free(r->runner_path);
    mem_free(r->tool_path);
    buf_free(&r->detail);
    mem_free(r);
}

void runs_free(struct runs *r)
{
    if (!r)
        return;
    r->closing = true;
    struct refused *f;
    LIST_EACH(f, &r->refused, struct refused, node)
        refused_free(f);
    struct link *l;
    LIST_EACH(l, &r->links, struct link, node)
        link_drop(l);
    uv_close((uv_handle_t *)&r->soon, timer_closed_cb);
}

/* ---- later ---- */

static void arm(struct runs *r)
{
    int64_t now = (int64_t)uv_now(r->loop), due = list_empty(&r->refused) ? INT64_MAX : now;
    struct link *l;
    LIST_EACH(l, &r->links, struct link, node)
        if (l->check_ms && l->check_ms < due)
            due = l->check_ms;
    if (due == INT64_MAX)
        uv_timer_stop(&r->soon);
    else
        uv_timer_start(&r->soon, soon_cb, due > now ? (uint64_t)(due - now) : 0, 0);
}

void link_check_in(struct link *l, int64_t delay_ms)
{
    if (l->runs->closing)
        return;
    l->check_ms = (int64_t)uv_now(l->runs->loop) + delay_ms + 1;
    arm(l->runs);
}

/* The first link that is due. The list is walked anew for each, because a callback may change it. */
static struct link *link_due(const struct runs *r)
{
    int64_t now = (int64_t)uv_now(r->loop);
    struct link *l;
    LIST_EACH(l, &r->links, struct link, node)
        if (l->check_ms && l->check_ms <= now)
            return l;
    return NULL;
}

static void soon_cb(uv_timer_t *timer)
{
    struct runs *r = timer->data;
    struct list now;
    list_init(&now);
    while (!list_empty(&r->refused)) {
        struct list *node = r->refused.next;
        list_remove(node);
        list_append(&now, node);
    }
    struct refused *f;
    LIST_EACH(f, &now, struct refused, node)
    {
        r->callbacks.input_done(r->arg, f->task, f->run, f->call, f->taken,
                                 f->taken ? NULL : "the process has ended");
        refused_free(f);
    }
    struct link *l;
    while ((l = link_due(r))) {
        l->check_ms = 0;
        link_check(l);
    }
    arm(r);
}

/* ---- start ---- */

static bool env_named(const char *entry, const char *name)
{
    size_t n = strlen(name);
    return strncmp(entry, name, n) == 0 && entry[n] == '=';
}

static void put_env(struct buf *b, const struct run_start *s)
{
    for (const char *const *e = s->env; e && *e; e++)
        if (!env_named(*e, "AGENTD_TASK") && !env_named(*e, "AGENTD_RUN"))
            pack_str(b, "e", str_of(*e));
    struct buf v = {0};
    buf_printf(&v, "AGENTD_TASK=%s", s->task);
    pack_str(b, "e", buf_view(&v));
    buf_clear(&v);
    buf_printf(&v, RUN_MARKER "%s/%s", s->task, s->run);
    pack_str(b, "e", buf_view(&v));
    buf_free(&v);
}

static int write_spec(const struct runs *r, int fd, const struct run_start *s)
{
    CLEANUP(buf_free) struct buf env = {0};
    CLEANUP(buf_free) struct buf b = {0};
    put_env(&env, s);
    struct run_spec spec = {
        .program = s->program,
        .task = str_of(s->task),
        .run = str_of(s->run),
        .payload = s->payload,
        .workdir = s->workdir,
        .tool_path = str_of(r->tool_path),
        .tty = s->tty,
        .columns = TERMINAL_COLUMNS,
        .rows = TERMINAL_ROWS,
        .output_bytes_max = r->limits->run_output_bytes_max,
        .input_bytes_max = 2 * r->limits->input_bytes_max,
        .patch_bytes_max = r->limits->patch_bytes_max,
        .image_bytes_max = r->limits->image_bytes_max,
        .kill_grace_ms = r->limits->kill_grace_ms,
        .files_max = r->tool_files_max,
        .umask = r->tool_umask,
        .env = buf_view(&env),
    };
    run_spec_put(&b, &spec);
    /* What is there was left by a daemon that died before it had started anything. */
    if (lseek(fd, 0, SEEK_END) > 0 && (ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0))
        return -1;
    return record_write_all(fd, buf_view(&b));
}

static int make_dir(const struct runs *r, const char *task, const char *run)
{
    CLEANUP(buf_free) struct buf path = {0};
    buf_printf(&path, "%s/%s", r->dir, task);
    size_t folder_n = path.n;
    buf_printf(&path, "/%s", run);
    int result = mkdir(path.p, 0700);
    if (result < 0 && errno == ENOENT) { /* the first of its task */
        path.p[folder_n] = 0;
        result = mkdir(path.p, 0700);
        path.p[folder_n] = '/';
        if (result == 0 || errno == EEXIST)
            result = mkdir(path.p, 0700);
    }
    if (result < 0 && errno != EEXIST)
        return -1;
    return open(path.p, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Bound here and inherited by the runner, so that whoever connects is never too early. */
static int open_listener(int dirfd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", dirfd, RUN_FILE_CTL);
    unlinkat(dirfd, RUN_FILE_CTL, 0);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, LISTEN_BACKLOG) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int fd_up(int fd)
{
    int up = fcntl(fd, F_DUPFD_CLOEXEC, FD_SAFE);
    close(fd);
    return up;
}

static pid_t spawn_runner(const struct runs *r, const char *folder, int spec, int listener)
{
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (posix_spawn_file_actions_adddup2(&actions, spec, RUNNER_FD_SPEC) != 0 ||
        posix_spawn_file_actions_adddup2(&actions, listener, RUNNER_FD_LISTEN) != 0)
        mem_none(); /* it would start without them, and say that it has nothing to run */
    /* Named as defaults, libc need not ask for each signal first. */
    posix_spawnattr_t attributes;
    sigset_t all;
    sigfillset(&all);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    char name[] = "agentd-runner";
    char *argv[] = {name, (char *)(uintptr_t)folder, NULL};
    pid_t pid;
    int error = posix_spawn(&pid, r->runner_path, &actions, &attributes, argv, FAILPOINT_ENV());
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (error) {
        errno = error;
        return -1;
    }
    return pid;
}

/* The runner has nobody to ask again when there is no room for how the process ends: see ending_reserve(). -1 with errno. */
static int reserve_exit(int dirfd)
{
    int fd = openat(dirfd, RUN_FILE_EXIT_TMP, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    int error = fd < 0 ? errno : posix_fallocate(fd, 0, RUN_EXIT_RESERVE_BYTES);
    if (fd >= 0)
        close(fd);
    errno = error;
    return error == ENOSPC || error == EDQUOT ? -1 : 0;
}

static int start_locked(struct link *l, const struct run_start *s, int dirfd, int spec)
{
    if (faccessat(dirfd, RUN_FILE_START, F_OK, 0) == 0 || faccessat(dirfd, RUN_FILE_EXIT, F_OK, 0) == 0)
        return 1;
    FAILPOINT("runs.locked");
    if (write_spec(l->runs, spec, s) < 0)
        return -1;
    FAILPOINT("runs.spec_written");
    if (reserve_exit(dirfd) < 0)
        return -1;
    int listener = open_listener(dirfd);
    if (listener < 0 || (listener = fd_up(listener)) < 0)
        return -1;
    CLEANUP(buf_free) struct buf folder = {0};
    buf_printf(&folder, "%s/%s/%s", l->runs->dir, s->task, s->run);
    pid_t pid = -1;
    FAILPOINT("runs.bound");
    if (link_connect(l, dirfd) == 0)
        pid = spawn_runner(l->runs, folder.p, spec, listener);
    int error = errno;
    close(listener);
    errno = error;
    if (pid < 0)
        return -1;
    FAILPOINT("runs.spawned");
    link_watch_pid(l, pidfd_open(pid, 0));
    return 0;
}

/* 0: started; 1: it was started before, or lives; -1 with errno. */
static int start(struct link *l, const struct run_start *s)
{
    int dirfd = make_dir(l->runs, s->task, s->run);
    if (dirfd < 0)
        return -1;
    int result = -1;
    int spec = openat(dirfd, RUN_FILE_SPEC, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (spec >= 0 && (spec = fd_up(spec)) >= 0) {
        if (flock(spec, LOCK_EX | LOCK_NB) == 0)
            result = start_locked(l, s, dirfd, spec);
        else if (errno == EWOULDBLOCK)
            result = 1;
    }
    int error = errno;
    if (spec >= 0)
        close(spec);
    close(dirfd);
    errno = error;
    return result;
}

int runs_start(struct runs *r, const struct run_start *s)
{
    if (link_find(r, s->task, s->run))
        return 0;
    struct link *l = link_new(r, s->task, s->run);
    int result = start(l, s);
    if (result < 0 && (errno == ENOSPC || errno == EDQUOT)) {
        link_drop(l);
        return RUNS_E_FULL;
    }
    if (result < 0) {
        struct buf why = {0};
        buf_printf(&why, "the process could not be started: %s", strerror(errno));
        l->failed = buf_take(&why, NULL);
    }
    if (result != 0)
        link_check_in(l, 0);
    return 0;
}

void runs_attach(struct runs *r, const char *task, const char *run, bool ended_known)
{
    if (link_find(r, task, run))
        return;
    struct link *l = link_new(r, task, run);
    l->ended_told = ended_known;
    link_check_in(l, 0);
}

void runs_kill(struct runs *r, const char *task, const char *run)
{
    struct link *l = link_find(r, task, run);
    if (l)
        link_kill(l);
}

void runs_input(struct runs *r, const char *task, const char *run, const char *call, struct str bytes)
{
    struct link *l = link_find(r, task, run);
    if (l && !l->failed) {
        link_input(l, call, bytes);
        return;
    }
    struct refused *f = MEM_NEW(struct refused);
    f->task = mem_strdup(task);
    f->run = mem_strdup(run);
    f->call = mem_strdup(call);
    int dirfd = runs_open_dir(r, task, run);
    f->taken = runs_input_taken(dirfd, call);
    if (dirfd >= 0)
        close(dirfd);
    list_append(&r->refused, &f->node);
    arm(r);
}
