/* The end of the process: the exit record first, then everything else; and the end of all that it left behind. */
#include "daemon/runner/runner.h"

#include "daemon/base/failpoint.h"
#include "daemon/runner/processes.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILL_AGAIN_MS_MIN 20 /* until nothing is left: a process may fork while it is being killed */
#define KILL_AGAIN_MS_MAX 1000 /* what hangs in the kernel, or has become another user, may stay for ever */
#define RECORD_AGAIN_MS 1000 /* while there is no room for the exit record, where none could be kept for it */

int ending_reserve(struct runner *r)
{
    r->record_fd = open(RUN_FILE_EXIT_TMP, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    int error = r->record_fd < 0 ? errno : posix_fallocate(r->record_fd, 0, RUN_EXIT_RESERVE_BYTES);
    errno = error;
    return error == ENOSPC || error == EDQUOT ? -1 : 0; /* whatever else it is, the end may find it better */
}

static int record_put(int fd, struct str bytes)
{
    if (lseek(fd, 0, SEEK_SET) < 0 || record_write_all(fd, bytes) < 0)
        return -1;
    return ftruncate(fd, (off_t)bytes.n);
}

/* Whole or not at all: the name appears when the record is complete. One that is there already stands. */
static int record_link(struct runner *r, const struct run_record *record)
{
    struct buf b = {0};
    run_record_put(&b, record);
    if (r->record_fd < 0)
        r->record_fd = open(RUN_FILE_EXIT_TMP, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    int result = r->record_fd < 0 ? -1 : record_put(r->record_fd, buf_view(&b));
    if (result == 0 && linkat(AT_FDCWD, RUN_FILE_EXIT_TMP, AT_FDCWD, RUN_FILE_EXIT, 0) < 0 && errno != EEXIST)
        result = -1;
    int error = errno;
    if (result == 0)
        unlink(RUN_FILE_EXIT_TMP);
    buf_free(&b);
    errno = error;
    return result;
}

/* What passes when somebody makes room. How a process ended is not to be lost to a full disk: it stays a zombie until then. */
static bool may_pass(int error)
{
    return error == ENOSPC || error == EDQUOT || error == ENFILE || error == EMFILE || error == ENOMEM;
}

static struct run_record record_start(const struct runner *r)
{
    return (struct run_record){
        .wall_ms = r->started_wall_ms,
        .duration_ms = record_boot_ms() - r->started_boot_ms,
        .boot_id = str_of(r->boot_id),
        .killed = r->killed,
        .output_bytes = r->total,
        .output_kept = r->kept,
    };
}

void ending_not_started(struct runner *r, struct str detail)
{
    struct run_record record = record_start(r);
    record.end = RUN_END_NOT_STARTED;
    record.detail = detail;
    record_link(r, &record);
    unlink(RUN_FILE_EXIT_TMP);
}

/* -1: to be tried again. */
static int main_ended(struct runner *r, const siginfo_t *info, const struct rusage *used)
{
    output_drain(r);
    int sync_error = output_sync(r) < 0 ? errno : 0;
    struct run_record record = record_start(r);
    bool exited = info->si_code == CLD_EXITED;
    record.end = exited ? RUN_END_EXITED : RUN_END_SIGNALED;
    if (exited)
        record.code = info->si_status;
    else
        record.signal = info->si_status;
    record.cpu_us = ((int64_t)used->ru_utime.tv_sec + used->ru_stime.tv_sec) * 1000000 + used->ru_utime.tv_usec +
                    used->ru_stime.tv_usec;
    record.memory_bytes = (int64_t)used->ru_maxrss * 1024;
    char detail[160];
    int error = r->out_error ? r->out_error : sync_error;
    if (error) {
        snprintf(detail, sizeof detail, "its output could not all be kept: %s", strerror(error));
        record.detail = str_of(detail);
    }
    r->record_boot_ms = 0;
    FAILPOINT("runner.before_record");
    if (record_link(r, &record) < 0 && may_pass(errno)) {
        r->record_boot_ms = record_boot_ms() + RECORD_AGAIN_MS;
        return -1;
    }
    FAILPOINT("runner.after_record");
    r->ended = true;
    /* What it was just starting when its end was asked for has not heard of it. */
    if (r->kill_boot_ms)
        processes_signal_below(getpid(), SIGTERM);
    return 0;
}

void ending_reap(struct runner *r)
{
    for (;;) {
        siginfo_t info = {0};
        struct rusage used = {0};
        /* The system call, because it also tells what was used; the process stays a zombie until its record is in place. */
        if (syscall(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT, &used) < 0) {
            r->childless = errno == ECHILD;
            return;
        }
        if (info.si_pid == 0)
            return;
        bool is_main = info.si_pid == r->child && !r->ended;
        if (is_main && main_ended(r, &info, &used) < 0)
            return;
        waitpid(info.si_pid, NULL, 0);
        if (is_main)
            control_tell_ended(r);
    }
}

void ending_kill(struct runner *r, int64_t grace_ms)
{
    if (!r->ended)
        r->killed = true;
    if (r->kill_boot_ms)
        return;
    r->kill_boot_ms = record_boot_ms() + grace_ms;
    processes_signal_below(getpid(), SIGTERM);
    processes_signal_below(getpid(), SIGCONT); /* one that is stopped would not notice */
    if (r->slave_fd >= 0)
        processes_signal_below(getpid(), SIGHUP); /* interactive shells ignore SIGTERM */
}

void ending_tick(struct runner *r)
{
    if (r->record_boot_ms && record_boot_ms() >= r->record_boot_ms)
        ending_reap(r);
    if (!r->kill_boot_ms || r->childless || record_boot_ms() < r->kill_boot_ms)
        return;
    processes_signal_below(getpid(), SIGKILL);
    r->kill_again_ms = r->kill_again_ms ? r->kill_again_ms * 2 : KILL_AGAIN_MS_MIN;
    if (r->kill_again_ms > KILL_AGAIN_MS_MAX)
        r->kill_again_ms = KILL_AGAIN_MS_MAX;
    r->kill_boot_ms = record_boot_ms() + r->kill_again_ms;
}
