/* Real runners under a real loop: what a tool sees, what becomes of its output and its end, and what a daemon that comes later finds. */
#include "runs_box.h"

#include "daemon/base/mem.h"
#include "daemon/base/pack.h"
#include "daemon/runner/patch.h"
#include "daemon/runner/protocol.h"
#include "daemon/runner/record.h"
#include "daemon/tools/runs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- ends ---- */

static void test_exit_code(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "echo out; echo err >&2; exit 3");
    WAIT(b, s->gone);
    assert_int_equal(s->ended, 1);
    assert_int_equal(s->exit.outcome, RUN_OUTCOME_DONE);
    assert_true(s->exit.has_exit_code);
    assert_false(s->exit.has_signal);
    assert_int_equal(s->exit.exit_code, 3);
    assert_int_equal(s->exit.output_bytes, 8);
    assert_string_equal(output_of(b, "r1"), "out\nerr\n");
}

static void test_signal(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "kill -SEGV $$");
    WAIT(b, s->gone);
    assert_int_equal(s->exit.outcome, RUN_OUTCOME_DONE);
    assert_true(s->exit.has_signal);
    assert_false(s->exit.has_exit_code);
    assert_int_equal(s->exit.signal, SIGSEGV);
}

static void test_ignored_signals(void **state)
{
    struct box *b = *state;
    /* What a daemon does to its own signals must not reach a tool. */
    sigset_t all, old;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &old);
    signal(SIGPIPE, SIG_IGN);
    struct seen *s = start(b, "r1", "grep -E '^Sig(Blk|Ign)' /proc/self/status; yes | head -1; echo ${PIPESTATUS[0]}");
    sigprocmask(SIG_SETMASK, &old, NULL);
    signal(SIGPIPE, SIG_DFL);
    WAIT(b, s->gone);
    assert_string_equal(output_of(b, "r1"), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\ny\n141\n");
}

static void test_no_workdir(void **state)
{
    struct box *b = *state;
    struct seen *s = seen_of(b, "r1");
    runs_start(b->runs, &(struct run_start){.task = task_id, .run = "r1", .program = RUN_PROGRAM_SHELL, .payload = STR("true"),
                                            .workdir = STR("/nonexistent/folder"), .env = plain_env});
    WAIT(b, s->gone);
    assert_int_equal(s->ended, 1);
    assert_int_equal(s->exit.outcome, RUN_OUTCOME_NOT_STARTED);
    assert_non_null(strstr(s->detail, "/nonexistent/folder"));
    assert_non_null(strstr(s->detail, "No such file"));
}

static void test_no_runner(void **state)
{
    struct box *b = *state;
    daemon_down(b);
    daemon_up_with(b, "/nonexistent/runner");
    struct seen *s = start(b, "r1", "true");
    WAIT(b, s->gone);
    assert_int_equal(s->exit.outcome, RUN_OUTCOME_NOT_STARTED);
    struct run_exit e;
    assert_int_equal(runs_probe(b->runs, task_id, "r1", true, false, &e), RUN_PROBE_NOT_STARTED);
}

static void test_once(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "echo x >> ran");
    WAIT(b, s->gone);
    s->gone = s->ended = 0;
    start(b, "r1", "echo x >> ran");
    WAIT(b, s->gone);
    assert_int_equal(s->ended, 1); /* told again, not run again */
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/ran", b->work);
    CLEANUP(buf_free) struct buf ran = {0};
    read_file(path, &ran);
    assert_string_equal(ran.p, "x\n");
}

static void test_kill_stubborn(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "trap '' TERM; (trap '' TERM HUP; setsid sleep 1000) & echo ready; while :; do sleep 1000; done");
    WAIT(b, wrote(b, "r1", "ready"));
    runs_kill(b->runs, task_id, "r1");
    WAIT(b, s->gone);
    assert_int_equal(s->exit.outcome, RUN_OUTCOME_KILLED);
    assert_int_equal(s->exit.signal, SIGKILL);
}

static void test_kill_polite(void **state)
{
    struct box *b = *state;
    b->limits.kill_grace_ms = 20000;
    struct seen *s = start(b, "r1", "trap 'echo bye; exit 7' TERM; echo ready; sleep 1000 & wait");
    WAIT(b, wrote(b, "r1", "ready"));
    runs_kill(b->runs, task_id, "r1");
    WAIT(b, s->gone);
    assert_int_equal(s->exit.outcome, RUN_OUTCOME_KILLED);
    assert_int_equal(s->exit.exit_code, 7);
    assert_string_equal(output_of(b, "r1"), "ready\nbye\n");
}

/* A server in the background holds the pipe; the end of the command is told at once, the run goes on. */
static void test_background(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "mkfifo go; (read line < go; echo $line; exec sleep 1000) & echo started");
    WAIT(b, s->ended);
    assert_int_equal(s->exit.exit_code, 0);
    assert_int_equal(s->gone, 0);
    struct run_exit e;
    assert_int_equal(runs_probe(b->runs, task_id, "r1", true, false, &e), RUN_PROBE_ENDED);
    struct seen *t = start(b, "r2", "echo hello from the next call > go");
    WAIT(b, t->gone);
    WAIT(b, wrote(b, "r1", "hello from the next call"));
    assert_int_equal(s->gone, 0);
    runs_kill(b->runs, task_id, "r1");
    WAIT(b, s->gone);
    assert_int_equal(s->exit.outcome, RUN_OUTCOME_DONE);
}

/* ---- output ---- */

static void test_output_whole(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "seq 1 200000");
    WAIT(b, s->gone);
    CLEANUP(buf_free) struct buf want = {0};
    for (int i = 1; i <= 200000; i++)
        buf_printf(&want, "%d\n", i);
    CLEANUP(buf_free) struct buf got = {0};
    got.n = runs_read(b->runs, task_id, "r1", 0, buf_reserve(&got, want.n + 1), want.n + 1);
    assert_int_equal(got.n, want.n);
    assert_memory_equal(got.p, want.p, want.n);
    assert_int_equal(s->exit.output_bytes, want.n);
    assert_int_equal(s->total, want.n);
}

static void test_output_cap(void **state)
{
    struct box *b = *state;
    b->limits.run_output_bytes_max = 1000000;
    struct seen *s = start(b, "r1", "head -c 100000000 /dev/zero | tr '\\0' 'x'");
    WAIT(b, s->gone);
    assert_int_equal(s->exit.exit_code, 0);
    assert_int_equal(s->exit.output_bytes, 100000000);
    struct stat st;
    assert_int_equal(stat(path_of(b, "r1", RUN_FILE_OUT), &st), 0);
    assert_int_equal(st.st_size, 1000000);
    CLEANUP(buf_free) struct buf scratch = {0};
    struct run_output o;
    runs_collect(b->runs, task_id, "r1", 0, 10000, false, &scratch, &o);
    assert_true(o.text.n < 10200 && o.text.n > 5000);
    assert_non_null(strstr(scratch.p, " bytes left out ...]\n"));
    assert_non_null(strstr(scratch.p, "[... 99,000,000 bytes more were written and not kept ...]"));
    assert_int_equal(o.end, 100000000);
    assert_int_equal(o.covered, 100000000);
}

static void test_output_broken(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "printf 'a\\0b\\377\\303(\\342\\202\\n10%%\\r20%%\\r100%%\\nend\\r\\n'");
    WAIT(b, s->gone);
    assert_string_equal(output_of(b, "r1"), "a\xEF\xBF\xBD" "b\xEF\xBF\xBD\xEF\xBF\xBD(\xEF\xBF\xBD\n100%\nend\n");
}

/* A character that arrives in two halves is never cut. */
static void test_output_split_character(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "printf 'a\\342\\202'; read x; printf '\\254b'");
    WAIT(b, s->total == 3);
    CLEANUP(buf_free) struct buf scratch = {0};
    struct run_output o;
    runs_collect(b->runs, task_id, "r1", 0, 1000, false, &scratch, &o);
    assert_string_equal(scratch.p, "a");
    assert_int_equal(o.end, 1);
    runs_input(b->runs, task_id, "r1", "c1", STR("\n"));
    WAIT(b, s->gone);
    runs_collect(b->runs, task_id, "r1", o.end, 1000, false, &scratch, &o);
    assert_string_equal(scratch.p, "\xE2\x82\xAC" "b");
    assert_int_equal(o.end, 5);
}

static void test_collect_gap(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "seq -w 1 100000");
    WAIT(b, s->gone);
    CLEANUP(buf_free) struct buf scratch = {0};
    struct run_output o;
    runs_collect(b->runs, task_id, "r1", 0, 4000, false, &scratch, &o);
    assert_true(o.text.n <= 4000 && o.text.n > 3500);
    const char *gap = strstr(scratch.p, "[... ");
    assert_non_null(gap);
    assert_true(str_starts(o.text, "000001\n000002\n"));
    assert_string_equal(scratch.p + o.text.n - 14, "099999\n100000\n");
    /* Kept and left out together are all there is. */
    const char *gap_end = strchr(gap, '\n') + 1;
    int64_t left_out = 0;
    for (const char *p = gap + 5; *p == ',' || (*p >= '0' && *p <= '9'); p++)
        if (*p != ',')
            left_out = left_out * 10 + (*p - '0');
    assert_int_equal((gap - scratch.p) + (scratch.p + o.text.n - gap_end) + left_out, 700000);
    runs_collect(b->runs, task_id, "r1", 699993, 4000, false, &scratch, &o);
    assert_string_equal(scratch.p, "100000\n");
    runs_collect(b->runs, task_id, "r1", 700000, 4000, false, &scratch, &o);
    assert_string_equal(o.text.p, "");
    assert_int_equal(o.end, 700000);
}

/* ---- input ---- */

static void test_input_once(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "cat");
    runs_input(b->runs, task_id, "r1", "c1", STR("one\n"));
    WAIT(b, s->inputs_ok == 1);
    runs_input(b->runs, task_id, "r1", "c1", STR("one\n"));
    WAIT(b, s->inputs_ok == 2);
    runs_input(b->runs, task_id, "r1", "c2", STR("two\n"));
    runs_input(b->runs, task_id, "r1", "c3", STR("\x04")); /* the end of the input */
    WAIT(b, s->gone);
    assert_string_equal(output_of(b, "r1"), "one\ntwo\n");
    CLEANUP(buf_free) struct buf ids = {0};
    read_file(path_of(b, "r1", RUN_FILE_INPUT), &ids);
    assert_string_equal(ids.p, "c1\nc2\nc3\n");
    runs_input(b->runs, task_id, "r1", "c4", STR("late"));
    WAIT(b, s->inputs_bad == 1);
    assert_string_equal(s->error, "the process has ended");
}

/* No room for the id: nothing is written to the process, and the next one's line stands alone. */
static void test_input_unrecorded(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "cat");
    runs_input(b->runs, task_id, "r1", "c1", STR("one\n"));
    WAIT(b, s->inputs_ok == 1);
    struct rlimit before, small;
    assert_int_equal(prlimit(runner_pid(b, "r1"), RLIMIT_FSIZE, NULL, &before), 0);
    small = (struct rlimit){.rlim_cur = 5, .rlim_max = before.rlim_max};
    assert_int_equal(prlimit(runner_pid(b, "r1"), RLIMIT_FSIZE, &small, NULL), 0);
    runs_input(b->runs, task_id, "r1", "c2", STR("two\n"));
    WAIT(b, s->inputs_bad == 1);
    assert_non_null(strstr(s->error, "could not be recorded"));
    assert_int_equal(prlimit(runner_pid(b, "r1"), RLIMIT_FSIZE, &before, NULL), 0);
    runs_input(b->runs, task_id, "r1", "c3", STR("three\n"));
    runs_input(b->runs, task_id, "r1", "c4", STR("\x04"));
    WAIT(b, s->gone);
    assert_int_equal(s->inputs_ok, 3);
    CLEANUP(buf_free) struct buf ids = {0};
    read_file(path_of(b, "r1", RUN_FILE_INPUT), &ids);
    assert_string_equal(ids.p, "c1\nc3\nc4\n");
}

/* Both directions are full at once: nobody waits for the other. */
static void test_input_large(void **state)
{
    struct box *b = *state;
    CLEANUP(buf_free) struct buf big = {0};
    for (int i = 0; big.n < 1000000; i++)
        buf_printf(&big, "%d\n", i);
    struct seen *s = start(b, "r1", "tee copy");
    runs_input(b->runs, task_id, "r1", "c1", buf_view(&big));
    runs_input(b->runs, task_id, "r1", "c2", STR("\x04"));
    WAIT(b, s->gone);
    assert_int_equal(s->exit.output_bytes, big.n);
    CLEANUP(buf_free) struct buf out = {0};
    read_file(path_of(b, "r1", RUN_FILE_OUT), &out);
    assert_memory_equal(out.p, big.p, big.n);
}

static void test_input_unread(void **state)
{
    struct box *b = *state;
    b->limits.input_bytes_max = 100000;
    struct seen *s = start(b, "r1", "exec sleep 1000");
    CLEANUP(buf_free) struct buf big = {0};
    memset(buf_reserve(&big, 100000), 'x', 100000);
    big.n = 100000;
    for (int i = 0; i < 4; i++) {
        char call[8];
        snprintf(call, sizeof call, "c%d", i);
        runs_input(b->runs, task_id, "r1", call, buf_view(&big));
    }
    WAIT(b, s->inputs_ok + s->inputs_bad == 4);
    assert_int_equal(s->inputs_bad, 2); /* one in the pipe in part, two waiting, no more */
    assert_non_null(strstr(s->error, "does not read"));
}

static void test_interrupt_without_terminal(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "trap 'echo int; exit 5' INT; echo ready; while :; do sleep 0.01; done");
    WAIT(b, wrote(b, "r1", "ready"));
    runs_input(b->runs, task_id, "r1", "c1", STR("\x03"));
    WAIT(b, s->gone);
    assert_int_equal(s->exit.exit_code, 5);
}

static void test_terminal(void **state)
{
    struct box *b = *state;
    struct seen *s = start_program(b, "r1", RUN_PROGRAM_SHELL,
                                   STR("test -t 0 && test -t 1 && test -t 2 && echo on $(ps -o tty= -p $$); stty size; read x; "
                                       "echo \"got $x\"; exec cat"),
                                   true);
    WAIT(b, wrote(b, "r1", "30 120"));
    assert_true(wrote(b, "r1", "on pts/"));
    runs_input(b->runs, task_id, "r1", "c1", STR("hello\n"));
    WAIT(b, wrote(b, "r1", "got hello"));
    runs_input(b->runs, task_id, "r1", "c2", STR("\x03"));
    WAIT(b, s->gone);
    assert_int_equal(s->exit.outcome, RUN_OUTCOME_DONE);
    assert_int_equal(s->exit.signal, SIGINT);
    /* All that was written on a terminal before the end is there. */
    struct seen *t = start_program(b, "r2", RUN_PROGRAM_SHELL, STR("seq 1 5000; echo last"), true);
    WAIT(b, t->gone);
    assert_true(wrote(b, "r2", "\n4999\n5000\nlast\n"));
}

/* ---- a daemon that dies, a runner that dies ---- */

static void test_reattach(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "echo one; read x; echo \"got $x\"; read y; echo \"got $y\"; exit 4");
    WAIT(b, wrote(b, "r1", "one"));
    runs_input(b->runs, task_id, "r1", "c1", STR("first\n"));
    WAIT(b, wrote(b, "r1", "got first"));
    daemon_down(b);
    assert_int_equal(s->ended, 0);
    daemon_up(b);
    struct run_exit e;
    assert_int_equal(runs_probe(b->runs, task_id, "r1", true, false, &e), RUN_PROBE_ALIVE);
    runs_attach(b->runs, task_id, "r1", false);
    runs_input(b->runs, task_id, "r1", "c1", STR("first\n")); /* nobody told the first daemon's successor */
    WAIT(b, s->inputs_ok == 2 || (s->inputs_ok == 1 && s->total > 0));
    runs_input(b->runs, task_id, "r1", "c2", STR("second\n"));
    WAIT(b, s->gone);
    assert_int_equal(s->ended, 1);
    assert_int_equal(s->exit.exit_code, 4);
    assert_string_equal(output_of(b, "r1"), "one\ngot first\ngot second\n");
}

/* ---- other versions ---- */

/* A runner as a later version may be: it holds the lock, and its messages are longer and of more kinds than ours. */
struct later {
    int spec_fd, listen_fd, fd;
};

static void later_begin(const struct box *b, struct later *l)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char dir[PATH_MAX + 64];
    snprintf(dir, sizeof dir, "%s/%s", b->dir, task_id);
    assert_int_equal(mkdir(dir, 0700), 0);
    snprintf(dir, sizeof dir, "%s/%s/r1", b->dir, task_id);
    assert_int_equal(mkdir(dir, 0700), 0);
    l->spec_fd = open(path_of(b, "r1", RUN_FILE_SPEC), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(flock(l->spec_fd, LOCK_EX | LOCK_NB), 0);
    write_file(path_of(b, "r1", RUN_FILE_START), STR("of a form that nobody knows yet"));
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path_of(b, "r1", RUN_FILE_CTL));
    l->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(l->listen_fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(l->listen_fd, 4), 0);
    l->fd = -1;
}

static bool later_accepts(struct later *l)
{
    struct pollfd p = {.fd = l->listen_fd, .events = POLLIN};
    if (poll(&p, 1, 0) > 0)
        l->fd = accept4(l->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    return l->fd >= 0;
}

/* The body, and eight bytes that only a later version understands. */
static void later_says(const struct later *l, uint32_t kind, const void *body, size_t n, struct str behind)
{
    struct buf frame = {0};
    struct ctl_head head = {.size = (uint32_t)(n + behind.n + 8), .kind = kind};
    buf_put(&frame, &head, sizeof head);
    buf_put(&frame, body, n);
    buf_str(&frame, behind);
    buf_puts(&frame, "tomorrow");
    assert_int_equal(send(l->fd, frame.p, frame.n, MSG_NOSIGNAL), frame.n);
    buf_free(&frame);
}

static void later_speaks(const struct later *l)
{
    struct ctl_hello hello = {.version = 99, .pid = getpid(), .total = 5};
    later_says(l, CTL_HELLO, &hello, sizeof hello, STR_NONE);
    later_says(l, 77, "what is this", 12, STR_NONE);
    later_says(l, CTL_OUTPUT, &(struct ctl_output){.total = 7}, sizeof(struct ctl_output), STR_NONE);
}

static void test_later_runner(void **state)
{
    struct box *b = *state;
    struct later l;
    struct seen *s = seen_of(b, "r1");
    struct run_exit e;
    later_begin(b, &l);
    assert_int_equal(runs_probe(b->runs, task_id, "r1", true, false, &e), RUN_PROBE_ALIVE);
    runs_attach(b->runs, task_id, "r1", false);
    WAIT(b, later_accepts(&l));
    later_speaks(&l);
    WAIT(b, s->total == 7);
    /* An answer that it gives for a reason of its own is a refusal, and said as one. */
    runs_input(b->runs, task_id, "r1", "c1", STR("words\n"));
    struct ctl_input_done done = {.id_n = 2, .refused = 99};
    later_says(&l, CTL_INPUT_DONE, &done, sizeof done, STR("c1"));
    WAIT(b, s->inputs_bad == 1);
    assert_string_equal(s->error, "the runner refused the input");
    close(l.fd);
    close(l.listen_fd);
    close(l.spec_fd);
    WAIT(b, s->gone);
    assert_int_equal(s->exit.outcome, RUN_OUTCOME_IN_DOUBT);
    assert_non_null(strstr(s->detail, "without a record"));
}

/* A daemon that believes it has to start what such a runner keeps follows it instead. */
static void test_later_runner_is_not_doubled(void **state)
{
    struct box *b = *state;
    struct later l;
    later_begin(b, &l);
    assert_int_equal(unlink(path_of(b, "r1", RUN_FILE_START)), 0);
    struct seen *s = start(b, "r1", "echo a second one > doubled");
    WAIT(b, later_accepts(&l));
    later_speaks(&l);
    WAIT(b, s->total == 7);
    assert_int_equal(access(path_of(b, "r1", RUN_FILE_START), F_OK), -1);
    close(l.fd);
    close(l.listen_fd);
    close(l.spec_fd);
    WAIT(b, s->gone);
    assert_int_equal(s->exit.outcome, RUN_OUTCOME_NOT_STARTED);
    assert_int_equal(access(path_of(b, "r1", RUN_FILE_OUT), F_OK), -1);
}

/* One that is older than the daemon says what it cannot do. */
static void test_program_of_a_later_daemon(void **state)
{
    struct box *b = *state;
    struct seen *s = start_program(b, "r1", (enum run_program)99, STR("something new"), false);
    WAIT(b, s->gone);
    assert_int_equal(s->exit.outcome, RUN_OUTCOME_NOT_STARTED);
    assert_non_null(strstr(s->detail, "install both of one version"));
}

/* The process ends while no daemon lives. */
static void test_ended_alone(void **state)
{
    struct box *b = *state;
    char go[PATH_MAX + 8];
    snprintf(go, sizeof go, "%s/go", b->work);
    assert_int_equal(mkfifo(go, 0600), 0);
    struct seen *s = start(b, "r1", "read x < go; echo done; exit 9");
    daemon_down(b);
    int fd = open(go, O_WRONLY); /* returns when the command has it open */
    assert_int_equal(write(fd, "\n", 1), 1);
    close(fd);
    /* The runner lets go of its lock when it is gone. */
    int lock = open(path_of(b, "r1", RUN_FILE_SPEC), O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    close(lock);
    daemon_up(b);
    runs_attach(b->runs, task_id, "r1", false);
    WAIT(b, s->gone);
    assert_int_equal(s->ended, 1);
    assert_int_equal(s->exit.exit_code, 9);
    struct run_exit e;
    assert_int_equal(runs_probe(b->runs, task_id, "r1", false, false, &e), RUN_PROBE_ENDED);
    assert_int_equal(e.exit_code, 9);
    /* Known already: only the runner's end is told. */
    s->gone = 0;
    runs_attach(b->runs, task_id, "r1", true);
    WAIT(b, s->gone);
    assert_int_equal(s->ended, 1);
}

static void test_runner_killed(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "echo before; setsid sh -c 'trap \"\" TERM HUP; echo $$ > left; exec sleep 1000' & exec sleep 1000");
    WAIT(b, wrote(b, "r1", "before"));
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/left", b->work);
    struct stat st;
    WAIT(b, stat(path, &st) == 0 && st.st_size > 0);
    CLEANUP(buf_free) struct buf left = {0};
    read_file(path, &left);
    pid_t pid = (pid_t)atoi(left.p);
    assert_int_equal(kill(pid, 0), 0);
    assert_int_equal(kill(runner_pid(b, "r1"), SIGKILL), 0);
    WAIT(b, s->gone);
    assert_int_equal(s->ended, 1);
    assert_int_equal(s->exit.outcome, RUN_OUTCOME_IN_DOUBT);
    assert_int_equal(s->exit.output_bytes, 7);
    assert_non_null(strstr(s->detail, "had started at 2"));
    assert_non_null(strstr(s->detail, "7 bytes of output are kept, the last written at 2"));
    assert_non_null(strstr(s->detail, "been killed"));
    CLEANUP(buf_free) struct buf command = {0};
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    assert_true(record_read_file(AT_FDCWD, path, 65536, &command) < 0 || command.n == 0); /* gone, or a zombie of init's */
    struct run_exit e;
    assert_int_equal(runs_probe(b->runs, task_id, "r1", true, false, &e), RUN_PROBE_ENDED);
    assert_int_equal(e.outcome, RUN_OUTCOME_IN_DOUBT);
    assert_int_equal(runs_probe(b->runs, task_id, "r1", false, false, &e), RUN_PROBE_ENDED);
    assert_true(str_starts(e.detail, "the machine was restarted"));
}

/* No descriptor is left: that says nothing about a run. It is neither taken for dead, and killed, nor for lost. */
static rlim_t use_up_descriptors(void)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    rlim_t before = limit.rlim_cur;
    int next = dup(2);
    close(next);
    limit.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    return before;
}

static void give_descriptors(rlim_t before)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = before;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void turn_for(struct box *b, uint64_t ms)
{
    uint64_t until = uv_now(&b->loop) + ms;
    while (uv_now(&b->loop) < until)
        uv_run(&b->loop, UV_RUN_ONCE);
}

static void test_no_descriptors(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "echo one; read x; echo \"got $x\"; exit 6");
    WAIT(b, wrote(b, "r1", "one"));
    daemon_down(b);
    daemon_up(b);
    rlim_t before = use_up_descriptors();
    struct run_exit e;
    enum run_probe found = runs_probe(b->runs, task_id, "r1", true, false, &e);
    runs_attach(b->runs, task_id, "r1", false);
    turn_for(b, 50);
    give_descriptors(before);
    assert_int_equal(found, RUN_PROBE_ALIVE);
    assert_int_equal(s->ended, 0);
    runs_input(b->runs, task_id, "r1", "c1", STR("it\n"));
    WAIT(b, s->gone);
    assert_int_equal(s->exit.exit_code, 6);
    assert_string_equal(output_of(b, "r1"), "one\ngot it\n");
}

/* The end comes when its record cannot be read: it is told when it can. */
static void test_ended_without_descriptors(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "echo one; read x; exit 7");
    WAIT(b, wrote(b, "r1", "one"));
    rlim_t before = use_up_descriptors();
    runs_input(b->runs, task_id, "r1", "c1", STR("it\n"));
    turn_for(b, 300);
    give_descriptors(before);
    assert_int_equal(s->ended, 0);
    WAIT(b, s->gone);
    assert_int_equal(s->ended, 1);
    assert_int_equal(s->exit.outcome, RUN_OUTCOME_DONE);
    assert_int_equal(s->exit.exit_code, 7);
}

/* The one who sent the input died before it heard what became of it, and the run has ended since. */
static void test_input_of_ended_run(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "read x; exit 8");
    runs_input(b->runs, task_id, "r1", "c1", STR("it\n"));
    WAIT(b, s->gone && s->inputs_ok == 1);
    runs_input(b->runs, task_id, "r1", "c1", STR("it\n"));
    runs_input(b->runs, task_id, "r1", "c2", STR("more\n"));
    WAIT(b, s->inputs_ok + s->inputs_bad == 3);
    assert_int_equal(s->inputs_ok, 2);
}

static void test_probe_nothing(void **state)
{
    struct box *b = *state;
    struct run_exit e;
    assert_int_equal(runs_probe(b->runs, task_id, "r9", true, false, &e), RUN_PROBE_NOT_STARTED);
    assert_int_equal(runs_probe(b->runs, task_id, "r9", false, false, &e), RUN_PROBE_ENDED);
    assert_int_equal(e.outcome, RUN_OUTCOME_IN_DOUBT);
}

/* ---- what a tool sees ---- */

static void test_surroundings(void **state)
{
    struct box *b = *state;
    int leak = open("/dev/null", O_RDONLY); /* as of libraries that know no close-on-exec */
    assert_true(leak > 2);
    struct seen *s = start(b, "r1", "ls /proc/$$/fd; tr '\\0' '\\n' < /proc/$$/environ; "
                                    "cat /proc/$$/oom_score_adj; umask; pwd; ps -o sid= -p $$ | grep -qw $$ && echo leader");
    WAIT(b, s->gone);
    close(leak);
    char want[PATH_MAX + 300];
    snprintf(want, sizeof want, "0\n1\n2\nPATH=/usr/local/bin:/usr/bin:/bin\nLC_ALL=C\nAGENTD_TASK=%s\nAGENTD_RUN=%s/r1\n500\n0022\n%s\nleader\n",
             task_id, task_id, b->work);
    assert_string_equal(output_of(b, "r1"), want);
}

static void test_long_paths(void **state)
{
    struct box *b = *state;
    assert_true(strlen(b->dir) > 300);
    struct seen *s = start(b, "r1", "cat");
    runs_input(b->runs, task_id, "r1", "c1", STR("hello"));
    WAIT(b, wrote(b, "r1", "hello"));
    daemon_down(b);
    daemon_up(b);
    runs_attach(b->runs, task_id, "r1", false);
    runs_input(b->runs, task_id, "r1", "c2", STR("\x04"));
    WAIT(b, s->gone);
    assert_int_equal(s->exit.exit_code, 0);
}

static void test_long_command(void **state)
{
    struct box *b = *state;
    CLEANUP(buf_free) struct buf command = {0};
    buf_puts(&command, "cat <<'END' | wc -c\n");
    for (int i = 0; i < 30000; i++)
        buf_puts(&command, "0123456789\n");
    buf_puts(&command, "END\necho $#\n");
    struct seen *s = start_program(b, "r1", RUN_PROGRAM_SHELL, buf_view(&command), false);
    WAIT(b, s->gone);
    assert_string_equal(output_of(b, "r1"), "330000\n0\n");
}

static void test_patch(void **state)
{
    struct box *b = *state;
    struct seen *s = start_program(b, "r1", RUN_PROGRAM_PATCH,
                                   STR("*** Begin Patch\n*** Add File: a/new.txt\n+hello\n*** End Patch\n"), false);
    WAIT(b, s->gone);
    assert_int_equal(s->exit.exit_code, 0);
    assert_string_equal(output_of(b, "r1"), "A a/new.txt\n");
    s = start_program(b, "r2", RUN_PROGRAM_PATCH,
                      STR("*** Begin Patch\n*** Delete File: a/none.txt\n*** End Patch\n"), false);
    WAIT(b, s->gone);
    assert_int_equal(s->exit.exit_code, 1);
    assert_true(wrote(b, "r2", "a/none.txt: there is no such file to delete\nNothing was changed."));
}

/* What a runner and its agentd-tool leave that were killed in the middle of a patch. */
static void cut_patch(struct box *b, const char *run, bool manifest)
{
    char path[PATH_MAX + 64], temp[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", b->dir, task_id);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/%s/%s", b->dir, task_id, run);
    assert_int_equal(mkdir(path, 0700), 0);
    CLEANUP(buf_free) struct buf bytes = {0};
    run_spec_put(&bytes, &(struct run_spec){.program = RUN_SPEC_PATCH, .payload = STR("")});
    write_file(path_of(b, run, RUN_FILE_SPEC), buf_view(&bytes));
    write_file(path_of(b, run, RUN_FILE_START), STR(""));
    if (!manifest)
        return;
    snprintf(path, sizeof path, "%s/file", b->work);
    snprintf(temp, sizeof temp, "%s/.file.new", b->work);
    write_file(path, STR("old"));
    write_file(temp, STR("new"));
    char hash[PATCH_HASH_SIZE];
    buf_clear(&bytes);
    size_t mark = pack_open(&bytes, "change");
    pack_str(&bytes, "path", str_of(path));
    pack_str(&bytes, "temp", str_of(temp));
    patch_hash(STR("old"), hash);
    pack_str(&bytes, "pre", str_n(hash, sizeof hash));
    patch_hash(STR("new"), hash);
    pack_str(&bytes, "post", str_n(hash, sizeof hash));
    pack_close(&bytes, mark);
    pack_i64(&bytes, "ready", 1);
    write_file(path_of(b, run, RUN_FILE_PATCH), buf_view(&bytes));
}

static void test_patch_cut_short(void **state)
{
    struct box *b = *state;
    struct run_exit e;
    cut_patch(b, "r1", false);
    assert_int_equal(runs_probe(b->runs, task_id, "r1", true, false, &e), RUN_PROBE_ENDED);
    assert_int_equal(e.outcome, RUN_OUTCOME_DONE);
    assert_int_equal(e.exit_code, 1);
    assert_true(str_starts(e.detail, "the patch was cut short before it had changed anything"));
    cut_patch(b, "r2", true);
    assert_int_equal(runs_probe(b->runs, task_id, "r2", true, false, &e), RUN_PROBE_ENDED);
    assert_int_equal(e.outcome, RUN_OUTCOME_DONE);
    assert_true(e.has_exit_code);
    assert_int_equal(e.exit_code, 0);
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/file", b->work);
    CLEANUP(buf_free) struct buf now = {0};
    read_file(path, &now);
    assert_string_equal(now.p, "new");
    buf_clear(&now);
    read_file(path_of(b, "r2", RUN_FILE_OUT), &now); /* as if it had come to its end */
    char line[PATH_MAX + 16];
    snprintf(line, sizeof line, "M %s\n", path);
    assert_string_equal(now.p, line);
    assert_int_equal(e.output_bytes, (int64_t)now.n);
}

/* agentd-tool ends so wherever it was when there was no memory: in the middle of the patch, too. */
static void test_patch_without_memory(void **state)
{
    struct box *b = *state;
    struct run_exit e;
    cut_patch(b, "r1", true);
    CLEANUP(buf_free) struct buf record = {0};
    run_record_put(&record, &(struct run_record){.end = RUN_END_EXITED, .code = MEM_EXIT_STATUS});
    write_file(path_of(b, "r1", RUN_FILE_EXIT), buf_view(&record));
    assert_int_equal(runs_probe(b->runs, task_id, "r1", true, false, &e), RUN_PROBE_ENDED);
    assert_int_equal(e.outcome, RUN_OUTCOME_DONE);
    assert_int_equal(e.exit_code, 0);
    assert_true(str_starts(e.detail, "the patch was cut short; its contents were compared and it is now applied"));
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/file", b->work);
    CLEANUP(buf_free) struct buf now = {0};
    read_file(path, &now);
    assert_string_equal(now.p, "new");
}

/* The power went before the run's folder lasted; its manifest would have. */
static void test_patch_without_folder(void **state)
{
    struct box *b = *state;
    struct run_exit e;
    assert_int_equal(runs_probe(b->runs, task_id, "r1", false, true, &e), RUN_PROBE_ENDED);
    assert_int_equal(e.outcome, RUN_OUTCOME_DONE);
    assert_int_equal(e.exit_code, 1);
    assert_true(str_starts(e.detail, "the patch was cut short before it had changed anything"));
    assert_int_equal(runs_probe(b->runs, task_id, "r1", false, false, &e), RUN_PROBE_ENDED);
    assert_int_equal(e.outcome, RUN_OUTCOME_IN_DOUBT);
    assert_int_equal(runs_probe(b->runs, task_id, "r1", true, true, &e), RUN_PROBE_NOT_STARTED);
}

/* A signal for the runner itself ends the run, in order. */
static void test_runner_terminated(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done");
    WAIT(b, wrote(b, "r1", "ready"));
    pid_t pid = runner_pid(b, "r1");
    kill(pid, SIGHUP);
    kill(pid, SIGINT);
    kill(pid, SIGTERM);
    WAIT(b, s->gone);
    assert_int_equal(s->exit.outcome, RUN_OUTCOME_KILLED);
    assert_int_equal(s->exit.exit_code, 7);
}

static void test_image(void **state)
{
    struct box *b = *state;
    static const char png[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/i.png", b->work);
    FILE *f = fopen(path, "w");
    fwrite(png, 1, sizeof png, f);
    fclose(f);
    struct seen *s = start_program(b, "r1", RUN_PROGRAM_IMAGE, str_of(path), false);
    WAIT(b, s->gone);
    CLEANUP(buf_free) struct buf scratch = {0};
    struct run_output o;
    runs_collect(b->runs, task_id, "r1", 0, 1000, true, &scratch, &o);
    assert_true(o.has_image);
    assert_true(str_eqz(o.image.media_type, "image/png"));
    assert_int_equal(o.image_data.n, sizeof png);
    assert_memory_equal(o.image_data.p, png, sizeof png);
    s = start_program(b, "r2", RUN_PROGRAM_IMAGE, STR("/etc/passwd"), false);
    WAIT(b, s->gone);
    assert_int_equal(s->exit.exit_code, 1);
    runs_collect(b->runs, task_id, "r2", 0, 1000, true, &scratch, &o);
    assert_false(o.has_image);
    assert_non_null(strstr(scratch.p, "no PNG, JPEG, GIF or WebP"));
}

static void test_delete(void **state)
{
    struct box *b = *state;
    static const char *const names[] = {"r1", "r2", "r3", "r4"};
    struct seen *seen[4];
    bool more;
    for (int i = 0; i < 4; i++)
        seen[i] = start(b, names[i], i == 3 ? "read x" : "echo x");
    for (int i = 0; i < 3; i++)
        WAIT(b, seen[i]->gone);
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", b->dir, task_id);
    assert_int_equal(runs_delete(b->runs, task_id, (int64_t[]){2}, 1, 1, &more), 1);
    assert_true(more);
    assert_int_equal(runs_delete(b->runs, task_id, (int64_t[]){2}, 1, 9, &more), 1);
    assert_false(more);
    assert_int_equal(access(path_of(b, "r2", RUN_FILE_OUT), F_OK), 0);
    assert_int_equal(access(path_of(b, "r4", RUN_FILE_START), F_OK), 0); /* it lives */
    assert_int_equal(runs_delete(b->runs, task_id, NULL, 0, 9, &more), 1);
    assert_int_equal(access(path_of(b, "r4", RUN_FILE_START), F_OK), 0);
    runs_kill(b->runs, task_id, "r4");
    WAIT(b, seen[3]->gone);
    assert_int_equal(runs_delete(b->runs, task_id, NULL, 0, 9, &more), 1);
    assert_int_equal(access(path, F_OK), -1);
}

/* No descriptor of a run stays behind in the daemon. */
static size_t open_descriptors(void)
{
    size_t n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void test_many(void **state)
{
    struct box *b = *state;
    size_t before = open_descriptors();
    char run[16];
    for (int i = 0; i < 20; i++) {
        snprintf(run, sizeof run, "r%d", i);
        start(b, run, "exit $((2 + 3))");
    }
    for (int i = 0; i < 20; i++) {
        snprintf(run, sizeof run, "r%d", i);
        struct seen *s = seen_of(b, run);
        WAIT(b, s->gone);
        assert_int_equal(s->exit.exit_code, 5);
    }
    assert_int_equal(open_descriptors(), before);
}

/* ---- a full disk ---- */

static bool limit_files(const struct box *b, unsigned long flags, int files_max)
{
    char options[32];
    snprintf(options, sizeof options, "nr_inodes=%d,mode=700", files_max);
    return mount("none", b->dir, "tmpfs", flags, options) == 0;
}

/* A file system that takes one file more whenever its start finds no room, wherever that is: it waits, and then it starts, once. */
static void test_no_room_at_any_step(void **state)
{
    struct box *b = *state;
    int files_max = 1;
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || !limit_files(b, 0, files_max)) {
        print_message("no right to mount a small file system here\n");
        skip();
    }
    CLEANUP(buf_free) struct buf command = {0};
    buf_puts(&command, "echo x >> ran\n");
    while (command.n < 120000) /* it gets a file of its own */
        buf_puts(&command, "# and no more than that\n");
    const struct run_start run = {.task = task_id, .run = "r1", .program = RUN_PROGRAM_SHELL, .payload = buf_view(&command),
                                  .workdir = str_of(b->work), .env = plain_env};
    struct seen *s = seen_of(b, "r1");
    int refused = 0;
    while (access(path_of(b, "r1", RUN_FILE_START), F_OK) < 0) {
        int roomless = s->roomless;
        assert_in_range(files_max, 1, 20);
        if (runs_start(b->runs, &run) == RUNS_E_FULL)
            refused++;
        else
            WAIT(b, s->ended || s->roomless > roomless || access(path_of(b, "r1", RUN_FILE_START), F_OK) == 0);
        assert_true(!s->ended || s->exit.outcome == RUN_OUTCOME_DONE);
        assert_true(limit_files(b, MS_REMOUNT, ++files_max));
    }
    assert_true(limit_files(b, MS_REMOUNT, 1000));
    WAIT(b, s->gone);
    assert_true(refused >= 5); /* two folders, spec, exit.tmp, ctl */
    assert_int_equal(s->roomless, 2); /* command, start */
    assert_int_equal(s->ended, 1);
    assert_int_equal(s->exit.outcome, RUN_OUTCOME_DONE);
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/ran", b->work);
    CLEANUP(buf_free) struct buf ran = {0};
    read_file(path, &ran);
    assert_string_equal(ran.p, "x\n");
    umount2(b->dir, MNT_DETACH);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, runs_setup, runs_teardown)

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    snprintf(task_id, sizeof task_id, "t%d", (int)getpid());
    alarm(100); /* a call that never returns has no guard of its own */
    const struct CMUnitTest tests[] = {
        CASE(test_exit_code),
        CASE(test_signal),
        CASE(test_ignored_signals),
        CASE(test_no_workdir),
        CASE(test_no_runner),
        CASE(test_once),
        CASE(test_kill_stubborn),
        CASE(test_kill_polite),
        CASE(test_background),
        CASE(test_output_whole),
        CASE(test_output_cap),
        CASE(test_output_broken),
        CASE(test_output_split_character),
        CASE(test_collect_gap),
        CASE(test_input_once),
        CASE(test_input_unrecorded),
        CASE(test_input_large),
        CASE(test_input_unread),
        CASE(test_interrupt_without_terminal),
        CASE(test_terminal),
        CASE(test_reattach),
        CASE(test_later_runner),
        CASE(test_later_runner_is_not_doubled),
        CASE(test_program_of_a_later_daemon),
        CASE(test_ended_alone),
        CASE(test_runner_killed),
        CASE(test_no_descriptors),
        CASE(test_ended_without_descriptors),
        CASE(test_input_of_ended_run),
        CASE(test_probe_nothing),
        CASE(test_surroundings),
        cmocka_unit_test_setup_teardown(test_long_paths, runs_setup_long, runs_teardown),
        CASE(test_long_command),
        CASE(test_patch),
        CASE(test_patch_cut_short),
        CASE(test_patch_without_memory),
        CASE(test_patch_without_folder),
        CASE(test_runner_terminated),
        CASE(test_image),
        CASE(test_delete),
        CASE(test_many),
        CASE(test_no_room_at_any_step),
    };
    return cmocka_run_group_tests_name("runs", tests, NULL, NULL);
}
