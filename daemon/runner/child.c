/* Starting the process: its descriptors, its terminal, its program. It gets exactly 0, 1 and 2, the environment of the spec and
 * nothing else of the runner. */
#include "daemon/runner/runner.h"

#include "daemon/base/failpoint.h"
#include "daemon/base/mem.h"
#include "daemon/base/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define OOM_SCORE "500"                 /* the tool is to be chosen before the daemon and its runner */
#define ENV_MORE_MAX 8                  /* of a tool of ours, in builds for tests; and the end */
#define ARGUMENT_BYTES_MAX (100 * 1024) /* Linux takes at most 128 KiB in one argument */

struct child {
    const struct run_spec *spec;
    char *argv[12];
    char **envp;
    char *workdir;
    pid_t runner;
    int in, out; /* what becomes 0 and 1, 2 */
    bool tty;
    const char *volatile stage; /* where the child failed */
    volatile int error;
};

/* The door for a task's sandbox: called in the child, as the last step that still has the runner's rights (setsid and TIOCSCTTY,
 * which are to happen inside the sandbox's pid namespace, come right behind it). 0, or -1 with errno. No sandbox exists yet. */
static int child_join_sandbox(const struct child *c)
{
    (void)c;
    return 0;
}

/* A runner that is killed takes at least its main process along; the daemon looks for the rest. The lock is still open here, so that a
 * runner that dies before this counts as living until its child has seen that it is gone. */
static int die_with_runner(const struct child *c)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return -1;
    return getppid() == c->runner ? 0 : -1;
}

static int take_terminal(const struct child *c)
{
    if (setsid() < 0)
        return -1;
    return c->tty ? ioctl(c->in, TIOCSCTTY, 0) : 0;
}

static int place_descriptors(const struct child *c)
{
    if (dup2(c->in, 0) < 0 || dup2(c->out, 1) < 0 || dup2(c->out, 2) < 0)
        return -1;
    return close_range(3, ~0u, 0);
}

static int restore_limits(const struct child *c)
{
    umask((mode_t)c->spec->umask);
    struct rlimit limit;
    if (c->spec->files_max > 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        rlim_t want = (rlim_t)c->spec->files_max;
        limit.rlim_cur = want < limit.rlim_max ? want : limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            return -1;
    }
    /* Where it is not permitted, the tool stays as likely to be killed as we are. */
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t ignored = write(fd, OOM_SCORE, sizeof OOM_SCORE - 1);
        (void)ignored;
        close(fd);
    }
    return 0;
}

static void child_exec(struct child *c)
{
    c->stage = "sandbox";
    if (child_join_sandbox(c) < 0)
        return;
    c->stage = "runner";
    if (die_with_runner(c) < 0)
        return;
    c->stage = "terminal";
    if (take_terminal(c) < 0)
        return;
    c->stage = "descriptors";
    if (place_descriptors(c) < 0)
        return;
    c->stage = "limits";
    if (restore_limits(c) < 0)
        return;
    c->stage = c->workdir;
    if (chdir(c->workdir) < 0)
        return;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    c->stage = c->argv[0];
    execve(c->argv[0], c->argv, c->envp);
}

/* The child borrows our memory until it execs: that is how it tells what failed, and why nothing else may happen here. */
static pid_t child_vfork(struct child *c)
{
    pid_t pid = vfork();
    if (pid == 0) {
        child_exec(c);
        c->error = errno;
        _exit(127);
    }
    return pid;
}

/* ---- program ---- */

static bool is_long(const struct run_spec *spec)
{
    return spec->program == RUN_SPEC_SHELL && spec->payload.n >= ARGUMENT_BYTES_MAX;
}

int child_write_command(const struct run_spec *spec)
{
    if (!is_long(spec))
        return 0;
    int fd = open(RUN_FILE_COMMAND, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    int result = record_write_all(fd, spec->payload);
    int error = errno;
    close(fd);
    errno = error;
    return result;
}

static const char *find_shell(void)
{
    return access("/bin/bash", X_OK) == 0 ? "/bin/bash" : "/bin/sh";
}

static int shell_argv(struct child *c, struct buf *detail)
{
    size_t n = 0;
    c->argv[n++] = mem_strdup(find_shell());
    if (!is_long(c->spec)) {
        c->argv[n++] = mem_strdup("-c");
        c->argv[n++] = mem_dup(c->spec->payload.p, c->spec->payload.n);
        return 0;
    }
    char *folder = getcwd(NULL, 0);
    if (!folder) {
        buf_printf(detail, "the run's folder is gone: %s", strerror(errno));
        return -1;
    }
    struct buf path = {0};
    buf_printf(&path, "%s/%s", folder, RUN_FILE_COMMAND);
    c->argv[n++] = buf_take(&path, NULL);
    free(folder);
    return 0;
}

static char *number(int64_t v)
{
    struct buf b = {0};
    buf_i64(&b, v);
    return buf_take(&b, NULL);
}

static int tool_argv(struct child *c, struct buf *detail)
{
    char *folder = getcwd(NULL, 0);
    if (!folder) {
        buf_printf(detail, "the run's folder is gone: %s", strerror(errno));
        return -1;
    }
    bool patch = c->spec->program == RUN_SPEC_PATCH;
    size_t n = 0;
    c->argv[n++] = mem_dup(c->spec->tool_path.p, c->spec->tool_path.n);
    c->argv[n++] = mem_strdup(patch ? "apply-patch" : "view-image");
    c->argv[n++] = mem_strdup("--max-bytes");
    c->argv[n++] = number(patch ? c->spec->patch_bytes_max : c->spec->image_bytes_max);
    if (patch) {
        struct buf path = {0};
        buf_printf(&path, "%s/%s", folder, RUN_FILE_PATCH);
        c->argv[n++] = mem_strdup("--manifest");
        c->argv[n++] = buf_take(&path, NULL);
    } else {
        c->argv[n++] = mem_strdup("--");
        c->argv[n++] = mem_dup(c->spec->payload.p, c->spec->payload.n);
    }
    free(folder);
    return 0;
}

static char **make_env(const struct run_spec *spec)
{
    size_t n = 0, cap = 16;
    char **env = mem_alloc(cap * sizeof *env);
    struct str group = spec->env;
    struct pack_field f;
    while (pack_next(&group, &f) == 1) {
        if (n + ENV_MORE_MAX == cap)
            env = mem_realloc(env, (cap *= 2) * sizeof *env);
        env[n++] = mem_dup(f.bytes.p, f.bytes.n);
    }
    for (char **more = FAILPOINT_ENV(); spec->program != RUN_SPEC_SHELL && *more; more++)
        env[n++] = mem_strdup(*more);
    env[n] = NULL;
    return env;
}

static void child_free(struct child *c)
{
    for (size_t i = 0; i < sizeof c->argv / sizeof c->argv[0]; i++)
        mem_free(c->argv[i]);
    for (size_t i = 0; c->envp && c->envp[i]; i++)
        mem_free(c->envp[i]);
    mem_free(c->envp);
    mem_free(c->workdir);
}

/* ---- descriptors ---- */

static int no_block(int fd)
{
    return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static int open_pipes(struct runner *r, struct child *c)
{
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) < 0)
        return -1;
    if (pipe2(out, O_CLOEXEC) < 0) {
        close(in[0]);
        close(in[1]);
        return -1;
    }
    c->in = in[0];
    r->sink_fd = in[1];
    r->source_fd = out[0];
    c->out = out[1];
    return no_block(r->sink_fd) < 0 ? -1 : no_block(r->source_fd);
}

static int open_terminal(struct runner *r, struct child *c)
{
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (master < 0)
        return -1;
    r->source_fd = master;
    int unlocked = 0;
    if (ioctl(master, TIOCSPTLCK, &unlocked) < 0)
        return -1;
    r->slave_fd = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    r->sink_fd = fcntl(master, F_DUPFD_CLOEXEC, 3);
    if (r->slave_fd < 0 || r->sink_fd < 0)
        return -1;
    struct winsize size = {.ws_col = (unsigned short)r->spec.columns, .ws_row = (unsigned short)r->spec.rows};
    c->in = c->out = r->slave_fd;
    return ioctl(master, TIOCSWINSZ, &size);
}

static void close_child_ends(const struct runner *r, const struct child *c)
{
    if (c->in >= 0 && c->in != r->slave_fd)
        close(c->in);
    if (c->out >= 0 && c->out != r->slave_fd)
        close(c->out);
}

static void feed(struct runner *r)
{
    if (r->spec.program == RUN_SPEC_PATCH)
        input_put(r, r->spec.payload);
    if (r->spec.program != RUN_SPEC_SHELL)
        input_close(r);
}

/* A daemon that was updated while its programs were being replaced may ask for what only a later runner can do. */
static bool known(int64_t program)
{
    return program == RUN_SPEC_SHELL || program == RUN_SPEC_PATCH || program == RUN_SPEC_IMAGE;
}

static int start(struct runner *r, struct child *c, struct buf *detail)
{
    if (!known(r->spec.program)) {
        buf_puts(detail, "agentd-runner is older than agentd and does not know this sort of tool; install both of one version");
        return -1;
    }
    if ((r->spec.program == RUN_SPEC_SHELL ? shell_argv(c, detail) : tool_argv(c, detail)) < 0)
        return -1;
    c->tty = r->spec.tty && r->spec.program == RUN_SPEC_SHELL;
    if ((c->tty ? open_terminal(r, c) : open_pipes(r, c)) < 0) {
        buf_printf(detail, "no %s for it: %s", c->tty ? "terminal" : "pipes", strerror(errno));
        return -1;
    }
    pid_t pid = child_vfork(c);
    if (pid < 0 || c->error) {
        int error = pid < 0 ? errno : c->error;
        buf_printf(detail, "%s: %s", pid < 0 ? "no process could be made" : c->stage, strerror(error));
        return -1;
    }
    r->child = pid;
    feed(r);
    return 0;
}

int child_start(struct runner *r, struct buf *detail)
{
    struct child c = {.spec = &r->spec, .runner = getpid(), .in = -1, .out = -1};
    c.envp = make_env(&r->spec);
    c.workdir = mem_dup(r->spec.workdir.p, r->spec.workdir.n);
    int result = start(r, &c, detail);
    close_child_ends(r, &c);
    child_free(&c);
    return result;
}
