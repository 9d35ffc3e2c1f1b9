/*~ The life of a runner, in order: become independent of whoever started us; pass the gate (`start`), start the process, keep it,
 * record its end, wait for its last descendant. See protocol.h for the files and runner.h for the parts. */
#include "daemon/runner/runner.h"

#include "daemon/base/failpoint.h"
#include "daemon/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What a daemon ignored or blocked would stay so through exec, in us and in the tool: SIGCHLD ignored turns every exit status into
 * 0. In us everything stays blocked, so that nothing but SIGKILL ends a runner before its process (SIGTERM ends the run); the tool
 * starts with nothing blocked. */
static int reset_signals(void)
{
    /* The system call, because libc keeps two signals to itself, and those may be ignored too. All zero is the default. */
    const char defaults[64] = {0};
    for (int s = 1; s < NSIG; s++)
        syscall(SYS_rt_sigaction, s, defaults, NULL, (NSIG - 1) / 8);
    sigset_t all, awaited;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    sigemptyset(&awaited);
    sigaddset(&awaited, SIGCHLD);
    sigaddset(&awaited, SIGTERM);
    return signalfd(-1, &awaited, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int reset_descriptors(void)
{
    close_range(RUNNER_FD_LISTEN + 1, ~0u, 0);
    fcntl(RUNNER_FD_SPEC, F_SETFD, FD_CLOEXEC);
    fcntl(RUNNER_FD_LISTEN, F_SETFD, FD_CLOEXEC);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return -1;
    for (int fd = 0; fd <= 2; fd++)
        if (dup2(null, fd) < 0)
            return -1;
    if (null > 2)
        close(null);
    return 0;
}

static int independent(struct runner *r, const char *folder)
{
    if (chdir(folder) < 0 || reset_descriptors() < 0)
        return -1;
    r->signal_fd = reset_signals();
    if (r->signal_fd < 0)
        return -1;
    setsid(); /* fails only if we are a leader already */
    umask(077);
    return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

/* The at-most-once gate. 0: through; 1: somebody was here before; -1 with errno. */
static int pass_gate(const struct runner *r)
{
    if (FAILPOINT_FAILS("runner.full")) {
        errno = ENOSPC;
        return -1;
    }
    int fd = open(RUN_FILE_START, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == EEXIST ? 1 : -1;
    struct run_mark mark = {.pid = getpid(), .wall_ms = r->started_wall_ms, .boot_id = str_of(r->boot_id)};
    struct buf b = {0};
    run_mark_put(&b, &mark);
    record_write_all(fd, buf_view(&b)); /* the name is the gate: on a full disk nobody knows when it was passed, and that is all */
    close(fd);
    buf_free(&b);
    return 0;
}

static bool is_full(int error)
{
    return error == ENOSPC || error == EDQUOT;
}

/* Whether a process runs. > 0: there is nothing to do here, or nothing yet. */
enum { BEGIN_OVER = 1, BEGIN_FULL = 2 };
static int begin(struct runner *r, struct buf *detail)
{
    if (lseek(RUNNER_FD_SPEC, 0, SEEK_SET) < 0 || record_read(RUNNER_FD_SPEC, RUN_SPEC_BYTES_MAX, &r->spec_bytes) < 0 ||
        run_spec_get(buf_view(&r->spec_bytes), &r->spec) < 0) {
        buf_puts(detail, "what is to run could not be read");
        return -1;
    }
    if (access(RUN_FILE_START, F_OK) == 0)
        return BEGIN_OVER;
    if (ending_reserve(r) < 0)
        return BEGIN_FULL;
    if (child_write_command(&r->spec) < 0) {
        int error = errno;
        buf_printf(detail, "the command could not be written: %s", strerror(error));
        return is_full(error) ? BEGIN_FULL : -1;
    }
    FAILPOINT("runner.before_gate");
    int gate = pass_gate(r);
    FAILPOINT("runner.after_gate");
    if (gate < 0 && is_full(errno))
        return BEGIN_FULL;
    if (gate < 0)
        buf_printf(detail, "the run's folder cannot be written: %s", strerror(errno));
    if (gate != 0)
        return gate < 0 ? gate : BEGIN_OVER;
    return child_start(r, detail);
}

/* ---- the loop ---- */

static int wait_ms(const struct runner *r)
{
    int64_t now = record_boot_ms(), until = INT64_MAX;
    if (r->total != r->told_total)
        until = r->told_boot_ms + TELL_MS_MIN;
    if (r->kill_boot_ms && r->kill_boot_ms < until)
        until = r->kill_boot_ms;
    if (r->record_boot_ms && r->record_boot_ms < until)
        until = r->record_boot_ms;
    if (until == INT64_MAX)
        return -1;
    return until > now ? (int)(until - now < 60000 ? until - now : 60000) : 0;
}

enum { POLL_SIGNAL, POLL_LISTEN, POLL_SOURCE, POLL_SINK, POLL_CONNECTIONS, POLL_N = POLL_CONNECTIONS + CONNECTIONS_MAX };

static void poll_fill(const struct runner *r, struct pollfd polls[POLL_N])
{
    polls[POLL_SIGNAL] = (struct pollfd){.fd = r->signal_fd, .events = POLLIN};
    polls[POLL_LISTEN] = (struct pollfd){.fd = r->listen_fd, .events = POLLIN};
    polls[POLL_SOURCE] = (struct pollfd){.fd = r->source_fd, .events = POLLIN};
    polls[POLL_SINK] = (struct pollfd){.fd = input_waits(r) ? r->sink_fd : -1, .events = POLLOUT};
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        polls[POLL_CONNECTIONS + i] = (struct pollfd){.fd = r->connections[i].fd, .events = POLLIN};
}

static void poll_handle(struct runner *r, const struct pollfd polls[POLL_N])
{
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        if (polls[POLL_CONNECTIONS + i].revents && r->connections[i].fd == polls[POLL_CONNECTIONS + i].fd)
            control_read(r, &r->connections[i]);
    if (polls[POLL_LISTEN].revents)
        control_accept(r);
    if (polls[POLL_SOURCE].revents)
        output_read(r);
    if (polls[POLL_SINK].revents)
        input_write(r);
    if (polls[POLL_SIGNAL].revents) {
        struct signalfd_siginfo info;
        while (read(r->signal_fd, &info, sizeof info) == sizeof info)
            if (info.ssi_signo == SIGTERM)
                ending_kill(r, r->kill_grace_ms);
        ending_reap(r);
    }
}

static void keep(struct runner *r)
{
    while (!r->childless) {
        struct pollfd polls[POLL_N];
        poll_fill(r, polls);
        if (poll(polls, POLL_N, wait_ms(r)) > 0)
            poll_handle(r, polls);
        ending_tick(r);
        if (r->total != r->told_total && record_boot_ms() >= r->told_boot_ms + TELL_MS_MIN)
            control_tell_output(r);
    }
    output_drain(r);
    if (r->total != r->told_total)
        control_tell_output(r);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    static struct runner r;
    r = (struct runner){.source_fd = -1, .slave_fd = -1, .out_fd = -1, .sink_fd = -1, .record_fd = -1, .listen_fd = RUNNER_FD_LISTEN};
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        r.connections[i].fd = -1;
    if (independent(&r, argv[1]) < 0)
        return 71; /* EX_OSERR; the daemon sees a runner that is gone */
    r.started_wall_ms = record_wall_ms();
    r.started_boot_ms = record_boot_ms();
    record_boot_id(r.boot_id);

    CLEANUP(buf_free) struct buf detail = {0};
    int begun = begin(&r, &detail);
    if (begun > 0)
        return begun == BEGIN_FULL ? RUNNER_EXIT_FULL : 0;
    if (begun < 0) {
        ending_not_started(&r, buf_view(&detail)); /* the daemon reads it when it sees that we are gone */
        return 0;
    }
    r.kill_grace_ms = r.spec.kill_grace_ms;
    buf_free(&r.spec_bytes);
    keep(&r);
    return 0;
}
