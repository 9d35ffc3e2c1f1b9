/* Real runners under a real loop: how a tool ends, what it sees, and what is left of its run. */
#include "runs_box.h"

#include "daemon/base/mem.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
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

int main(int argc, char **argv)
{
    runs_begin(argc, argv);
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
        CASE(test_surroundings),
        cmocka_unit_test_setup_teardown(test_long_paths, runs_setup_long, runs_teardown),
        CASE(test_long_command),
        CASE(test_patch),
        CASE(test_runner_terminated),
        CASE(test_image),
        CASE(test_delete),
        CASE(test_many),
        CASE(test_no_room_at_any_step),
    };
    return cmocka_run_group_tests_name("runs", tests, NULL, NULL);
}
