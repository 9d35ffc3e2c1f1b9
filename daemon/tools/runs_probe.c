/* What is known of a run whose runner may be dead. The lock says whether it lives, the exit record how it ended; where both are
 * missing nothing is guessed: what is left of it is killed, and it is in doubt. */
#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"
#include "daemon/runner/record.h"
#include "daemon/tools/link.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int runs_open_dir(const struct runs *r, const char *task, const char *run)
{
    CLEANUP(buf_free) struct buf path = {0};
    buf_printf(&path, "%s/%s/%s", r->dir, task, run);
    return open(path.p, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

bool runs_error_passes(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOLCK || error == EINTR;
}

bool runs_lock_held(int dirfd)
{
    int fd = dirfd < 0 ? -1 : openat(dirfd, RUN_FILE_SPEC, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return runs_error_passes(errno);
    bool held = flock(fd, LOCK_EX | LOCK_NB) < 0 && (errno == EWOULDBLOCK || runs_error_passes(errno));
    close(fd);
    return held;
}

static struct run_exit exit_of(const struct run_record *record)
{
    struct run_exit ended = {
        .outcome = record->killed ? RUN_OUTCOME_KILLED : RUN_OUTCOME_DONE,
        .output_bytes = record->output_bytes,
        .duration_ms = record->duration_ms,
        .detail = record->detail,
    };
    if (record->end == RUN_END_NOT_STARTED)
        ended.outcome = RUN_OUTCOME_NOT_STARTED;
    ended.has_exit_code = record->end == RUN_END_EXITED;
    ended.exit_code = record->code;
    ended.has_signal = record->end == RUN_END_SIGNALED;
    ended.signal = record->signal;
    return ended;
}

int runs_read_exit(struct runs *r, int dirfd, struct run_exit *ret)
{
    CLEANUP(buf_free) struct buf bytes = {0};
    struct run_record record;
    if (dirfd < 0 || record_read_file(dirfd, RUN_FILE_EXIT, RUN_RECORD_BYTES_MAX, &bytes) < 0)
        return runs_error_passes(errno) ? RUNS_EXIT_LATER : RUNS_EXIT_NONE;
    if (run_record_get(buf_view(&bytes), &record) < 0)
        return RUNS_EXIT_NONE;
    *ret = exit_of(&record);
    if (record.detail.p) {
        buf_clear(&r->detail);
        utf8_put_valid(&r->detail, record.detail, false);
        ret->detail = buf_view(&r->detail);
    }
    return 0;
}

bool runs_input_taken(int dirfd, const char *call)
{
    CLEANUP(buf_free) struct buf taken = {0}, line = {0};
    buf_putc(&taken, '\n');
    if (dirfd < 0 || record_read_file(dirfd, RUN_FILE_INPUT, RUN_SPEC_BYTES_MAX, &taken) < 0)
        return false;
    buf_printf(&line, "\n%s\n", call);
    return strstr(taken.p, line.p) != NULL;
}

/* ---- in doubt ---- */

static void put_time(struct buf *b, int64_t wall_ms)
{
    char text[CLOCK_TEXT_SIZE];
    clock_format(wall_ms, text);
    buf_puts(b, text);
}

static void describe_start(struct buf *b, int dirfd)
{
    CLEANUP(buf_free) struct buf bytes = {0};
    struct run_mark mark;
    if (dirfd >= 0 && record_read_file(dirfd, RUN_FILE_START, RUN_RECORD_BYTES_MAX, &bytes) == 0 &&
        run_mark_get(buf_view(&bytes), &mark) == 0 && mark.wall_ms) {
        buf_puts(b, "; it had started at ");
        put_time(b, mark.wall_ms);
    }
}

static int64_t describe_output(struct buf *b, int dirfd)
{
    struct stat st;
    if (dirfd < 0 || fstatat(dirfd, RUN_FILE_OUT, &st, 0) < 0) {
        buf_puts(b, "; no output is known of it");
        return 0;
    }
    buf_printf(b, "; %lld bytes of output are kept, the last written at ", (long long)st.st_size);
    put_time(b, (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000);
    return st.st_size;
}

int runs_take_exit(struct runs *r, const char *task, const char *run, int dirfd, struct run_exit *ret)
{
    int found = runs_read_exit(r, dirfd, ret);
    if (found == 0)
        runs_settle_patch(r, task, run, dirfd, ret);
    return found;
}

static void not_started(struct runs *r, struct run_exit *ret)
{
    buf_clear(&r->detail);
    buf_puts(&r->detail, "its runner ended before it had started anything");
    *ret = (struct run_exit){.outcome = RUN_OUTCOME_NOT_STARTED, .detail = buf_view(&r->detail)};
}

void runs_in_doubt(struct runs *r, const char *task, const char *run, int dirfd, bool this_boot, bool patch, struct run_exit *ret)
{
    if (this_boot && dirfd >= 0 && faccessat(dirfd, RUN_FILE_START, F_OK, 0) < 0 && errno == ENOENT) {
        not_started(r, ret);
        return;
    }
    size_t left = this_boot ? runs_kill_left(task, run) : 0;
    if (runs_recover_patch(r, task, run, dirfd, patch, ret))
        return;
    struct buf *b = &r->detail;
    buf_clear(b);
    buf_puts(b, this_boot ? "its runner ended without a record of how the process ended"
                          : "the machine was restarted before the end of the process was recorded");
    describe_start(b, dirfd);
    *ret = (struct run_exit){.outcome = RUN_OUTCOME_IN_DOUBT};
    ret->output_bytes = describe_output(b, dirfd);
    if (left)
        buf_printf(b, "; %zu process%s of it still lived and %s been killed", left, left == 1 ? "" : "es",
                   left == 1 ? "has" : "have");
    ret->detail = buf_view(b);
}

/* The lock is tried before the record is looked for: a runner that lets go of it has written its record by then. */
static enum run_probe probe(struct runs *r, const char *task, const char *run, int dirfd, bool this_boot, bool patch,
                            struct run_exit *ret)
{
    bool held = runs_lock_held(dirfd);
    int found = runs_take_exit(r, task, run, dirfd, ret);
    if (found == 0)
        return RUN_PROBE_ENDED;
    if (held || found == RUNS_EXIT_LATER)
        return RUN_PROBE_ALIVE; /* or not to be seen now: who follows it will look again */
    bool started = dirfd >= 0 && faccessat(dirfd, RUN_FILE_START, F_OK, 0) == 0;
    if (!started && this_boot)
        return RUN_PROBE_NOT_STARTED;
    runs_in_doubt(r, task, run, dirfd, this_boot, patch, ret);
    return RUN_PROBE_ENDED;
}

enum run_probe runs_probe(struct runs *r, const char *task, const char *run, bool this_boot, bool patch, struct run_exit *ret)
{
    int dirfd = runs_open_dir(r, task, run);
    enum run_probe found = probe(r, task, run, dirfd, this_boot, patch, ret);
    if (dirfd >= 0)
        close(dirfd);
    return found;
}
