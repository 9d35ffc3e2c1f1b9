/* agentd-supervise against small shell scripts in agentd's place. Each script says what happens to it through
 * a named pipe, and the supervisor becomes a child of the test when its own parent leaves, so that every end
 * can be awaited. */
#include "daemon/base/buf.h"
#include "daemon/base/mem.h"
#include "daemon/lifecycle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 20000
/* What scripts begin with: their pid, their parent's; and that they serve (from the second start on nobody
 * listens, and SIGPIPE ends the subshell). */
#define SAY_START "echo start $$ $PPID >events; "
#define SERVE "(printf 1 >&$AGENTD_READY_FD) 2>/dev/null; "

struct folder {
    char root[64];
    char agentd[100], log[100], old_log[110], events_path[100], said_path[100];
    int events; /* open both ways, so that no script waits for a reader */
    struct buf unread;
};

static int setup(void **state)
{
    struct folder *f = MEM_NEW(struct folder);
    snprintf(f->root, sizeof f->root, "/tmp/agentd-supervisor-XXXXXX");
    assert_non_null(mkdtemp(f->root));
    snprintf(f->agentd, sizeof f->agentd, "%s/agentd", f->root);
    snprintf(f->log, sizeof f->log, "%s/log", f->root);
    snprintf(f->old_log, sizeof f->old_log, "%s.1", f->log);
    snprintf(f->events_path, sizeof f->events_path, "%s/events", f->root);
    snprintf(f->said_path, sizeof f->said_path, "%s/said", f->root);
    assert_int_equal(mkfifo(f->events_path, 0600), 0);
    f->events = open(f->events_path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    assert_true(f->events >= 0);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    alarm(3 * PATIENCE_MS / 1000);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct folder *f = *state;
    const char *const paths[] = {f->agentd, f->log, f->old_log, f->events_path, f->said_path};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        unlink(paths[i]);
    close(f->events);
    buf_free(&f->unread);
    int rc = rmdir(f->root);
    mem_free(f);
    while (waitpid(-1, NULL, 0) >
           0) /* a subshell may outlive its script by a moment; one that stays trips the alarm */
        ;
    alarm(0);
    return rc;
}

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void write_script(const struct folder *f, const char *body)
{
    FILE *out = fopen(f->agentd, "w");
    assert_non_null(out);
    fprintf(out, "#!/bin/sh\ncd %s\n%s\n", f->root, body);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(chmod(f->agentd, 0700), 0);
}

/* Runs the supervisor to the point where it lets its caller go. What it says goes to the file `said`. */
static int supervise(const struct folder *f, const char *const *argv)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        int said = open(f->said_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(said, STDOUT_FILENO);
        dup2(said, STDERR_FILENO);
        if (said > STDERR_FILENO)
            close(said);
        signal(SIGUSR1, SIG_IGN); /* what a daemon must not inherit */
        dup2(STDERR_FILENO, 50);
        execv(SUPERVISE, (char *const *)(uintptr_t)argv);
        _exit(126);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int run(const struct folder *f)
{
    const char *const argv[] = {SUPERVISE, "--agentd",    f->agentd,     "--log", f->log,
                                "--",      "--state-dir", "/some where", NULL};
    return supervise(f, argv);
}

static char *contents(const char *path, char *ret, size_t size)
{
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    ret[fread(ret, 1, size - 1, in)] = 0;
    fclose(in);
    return ret;
}

/* The next line that a script wrote; without any in time the test fails. */
static void next_event(struct folder *f, char *ret, size_t size)
{
    int64_t until = now_ms() + PATIENCE_MS;
    const char *end;
    while (!(end = f->unread.n ? memchr(f->unread.p, '\n', f->unread.n) : NULL)) {
        struct pollfd p = {.fd = f->events, .events = POLLIN};
        if (poll(&p, 1, (int)(until - now_ms())) <= 0) {
            char text[4096];
            fail_msg("no event came; the log: %s", contents(f->log, text, sizeof text));
        }
        ssize_t n = read(f->events, buf_reserve(&f->unread, 4096), 4096);
        f->unread.n += n > 0 ? (size_t)n : 0;
    }
    size_t n = (size_t)(end - f->unread.p);
    assert_true(n < size);
    memcpy(ret, f->unread.p, n);
    ret[n] = 0;
    buf_consume(&f->unread, n + 1);
}

struct started {
    int pid, supervisor;
};

static struct started next_start(struct folder *f)
{
    char line[200];
    struct started s = {0};
    next_event(f, line, sizeof line);
    if (sscanf(line, "start %d %d", &s.pid, &s.supervisor) != 2)
        fail_msg("wanted a start, got: %s", line);
    return s;
}

static void assert_no_event(struct folder *f)
{
    char byte;
    assert_int_equal(f->unread.n, 0);
    assert_int_equal(read(f->events, &byte, 1), -1);
    assert_int_equal(errno, EAGAIN);
}

/* The status of an orphan that became ours. */
static int await_end(int pid)
{
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)); at += strlen(what))
        n++;
    return n;
}

static void assert_log(const struct folder *f, const char *what, int times)
{
    char text[8192];
    if (count(contents(f->log, text, sizeof text), what) != times)
        fail_msg("wanted \"%s\" %d times in the log: %s", what, times, text);
}

/* ---- tests ---- */

static void test_killed_comes_back(void **state)
{
    struct folder *f = *state;
    write_script(f, SAY_START SERVE "exec sleep 1000");
    assert_int_equal(run(f), 0);
    struct started first = next_start(f);
    int64_t at = now_ms();
    kill(first.pid, SIGKILL);
    struct started second = next_start(f);
    assert_true(now_ms() - at >= 100);
    assert_int_not_equal(second.pid, first.pid);
    assert_int_equal(second.supervisor, first.supervisor);

    at = now_ms();
    kill(second.pid, SIGKILL);
    struct started third = next_start(f);
    assert_true(now_ms() - at >= 200);
    assert_log(f, "ended by signal 9; it starts again in 100 ms", 1);
    assert_log(f, "ended by signal 9; it starts again in 200 ms", 1);

    kill(third.supervisor, SIGTERM); /* goes on to the daemon, and both end */
    int status = await_end(third.supervisor);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 128 + SIGTERM);
    assert_int_equal(kill(third.pid, 0), -1);
    assert_no_event(f);
}

static void test_failed_comes_back(void **state)
{
    struct folder *f = *state;
    write_script(f, SAY_START "[ -e said.1 ] && " SERVE
                              "[ -e said.1 ] && rm said.1 && exit 0; : >said.1; exit 74");
    assert_int_equal(run(f), 0);
    next_start(f);
    struct started second = next_start(f);
    assert_int_equal(await_end(second.supervisor), 0);
    assert_log(f, "ended with status 74; it starts again in 100 ms", 1);
    assert_no_event(f);
}

/* The configuration was being written when it crashed. */
static void test_crash_beside_a_bad_configuration(void **state)
{
    struct folder *f = *state;
    write_script(f, SAY_START SERVE "[ -e said.2 ] && rm said.1 said.2 && exit 0; [ -e said.1 ] && : >said.2 && exit 78; : >said.1; kill -9 $$");
    assert_int_equal(run(f), 0);
    next_start(f);
    next_start(f);
    struct started third = next_start(f);
    assert_int_equal(await_end(third.supervisor), 0);
    assert_log(f, "ended with status 78; it starts again in 200 ms", 1);
    assert_no_event(f);
}

static void test_orderly_end_stays(void **state)
{
    struct folder *f = *state;
    write_script(f, SAY_START SERVE "exit 0");
    assert_int_equal(run(f), 0);
    assert_int_equal(await_end(next_start(f).supervisor), 0);
    assert_no_event(f);
}

/* An end that a restart cannot help is told to whoever started it, with the daemon's own words. */
static void test_final_statuses(void **state)
{
    static const int statuses[] = {LIFECYCLE_EXIT_USAGE, LIFECYCLE_EXIT_NEWER, LIFECYCLE_EXIT_LOCKED,
                                   LIFECYCLE_EXIT_STATE, LIFECYCLE_EXIT_CONFIG};
    struct folder *f = *state;
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        char script[200], said[1024];
        snprintf(script, sizeof script, SAY_START "echo config.yaml:%zu: wrong >&2; exit %d", i, statuses[i]);
        write_script(f, script);
        assert_int_equal(run(f), statuses[i]);
        snprintf(script, sizeof script, "config.yaml:%zu: wrong\n", i);
        assert_string_equal(contents(f->said_path, said, sizeof said),
                            script); /* not those of earlier starts */
        int status = await_end(next_start(f).supervisor);
        assert_int_equal(WEXITSTATUS(status), statuses[i]);
        assert_no_event(f);
    }
}

static void test_restart_is_at_once(void **state)
{
    struct folder *f = *state;
    write_script(f, SAY_START "echo $* >events; [ -e said.1 ] && rm said.1 && exit 0; : >said.1; " SERVE
                              "exit 75");
    assert_int_equal(run(f), 0);
    char line[100];
    struct started first = next_start(f);
    next_event(f, line, sizeof line);
    assert_string_equal(line, "--state-dir /some where");
    struct started second = next_start(f);
    assert_int_equal(second.supervisor, first.supervisor);
    next_event(f, line, sizeof line);
    assert_string_equal(line, "--state-dir /some where");
    assert_int_equal(await_end(second.supervisor), 0);
    assert_log(f, "ended with status 75; it starts again in 0 ms", 1);
}

/* A daemon that asks for nothing but restarts must not turn into a busy loop. */
static void test_restart_loop_is_slowed(void **state)
{
    struct folder *f = *state;
    write_script(f, SAY_START SERVE "exit 75");
    assert_int_equal(run(f), 0);
    struct started s = next_start(f);
    bool slow = false; /* a life that took a second on a busy machine is no part of a loop */
    for (int i = 0; i < 5; i++) {
        int64_t at = now_ms();
        s = next_start(f);
        slow = slow || now_ms() - at >= 1000;
    }
    kill(s.supervisor, SIGTERM); /* in its back-off, or just before */
    int status = await_end(s.supervisor);
    assert_true(WIFEXITED(status));
    if (slow)
        skip();
    assert_log(f, "it starts again in 0 ms", 3);
    assert_log(f, "it starts again in 500 ms", 2);
}

/* The new file at the path runs after a restart. */
static void test_update_takes_effect(void **state)
{
    struct folder *f = *state;
    write_script(f, SAY_START SERVE "read line <events.1; exit 75");
    char gate[120];
    snprintf(gate, sizeof gate, "%s/events.1", f->root);
    assert_int_equal(mkfifo(gate, 0600), 0);
    assert_int_equal(run(f), 0);
    struct started first = next_start(f);
    unlink(f->agentd);
    write_script(f, SAY_START "echo updated >events; exit 0");
    int fd = open(gate, O_WRONLY | O_CLOEXEC);
    assert_int_equal(write(fd, "go\n", 3), 3);
    close(fd);
    next_start(f);
    char line[100];
    next_event(f, line, sizeof line);
    assert_string_equal(line, "updated");
    assert_int_equal(await_end(first.supervisor), 0);
    unlink(gate);
}

static void test_supervisor_killed_daemon_goes_on(void **state)
{
    struct folder *f = *state;
    write_script(f, SAY_START SERVE "trap 'echo end >events; exit 0' TERM; read line <events.1");
    char gate[120], line[100];
    snprintf(gate, sizeof gate, "%s/events.1", f->root);
    assert_int_equal(mkfifo(gate, 0600), 0);
    assert_int_equal(run(f), 0);
    struct started s = next_start(f);
    kill(s.supervisor, SIGKILL);
    await_end(s.supervisor);
    int fd = open(
        gate, O_WRONLY | O_CLOEXEC); /* waits until the script reads there: it lives, and is past its trap */
    kill(s.pid, SIGTERM);
    close(fd);
    next_event(f, line, sizeof line);
    assert_string_equal(line, "end");
    await_end(s.pid);
    unlink(gate);
}

static void test_surroundings(void **state)
{
    struct folder *f = *state;
    /* input, folder, session, a descriptor of the caller, ignored signals; `cd` came first, so the folder is
     * the old one */
    write_script(f, SAY_START SERVE "echo $(readlink /proc/$$/fd/0) $OLDPWD $(cut -d' ' -f6 /proc/$$/stat) "
                                    "$([ -e /proc/$$/fd/50 ] && echo leak || echo none) $(sed -n "
                                    "'s/^SigIgn:\\t//p' /proc/$$/status) >events; exit 0");
    assert_int_equal(run(f), 0);
    char line[200], wanted[200];
    struct started s = next_start(f);
    next_event(f, line, sizeof line);
    snprintf(wanted, sizeof wanted, "/dev/null / %d none 0000000000000000", s.supervisor);
    assert_string_equal(line, wanted);
    assert_int_equal(await_end(s.supervisor), 0);
}

static void test_log_is_bounded(void **state)
{
    struct folder *f = *state;
    struct stat st;
    write_script(f, SAY_START "echo out; echo err >&2; " SERVE "exit 0");
    int fd = open(f->log, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, 9000000), 0);
    close(fd);
    assert_int_equal(run(f), 0);
    assert_int_equal(await_end(next_start(f).supervisor), 0);
    assert_int_equal(stat(f->old_log, &st), 0);
    assert_int_equal(st.st_size, 9000000);
    assert_int_equal(stat(f->log, &st), 0);
    assert_int_equal(st.st_size, 8);
    assert_int_equal(st.st_mode & 0777, 0600);

    assert_int_equal(run(f), 0); /* a small one is appended to */
    assert_int_equal(await_end(next_start(f).supervisor), 0);
    assert_log(f, "out\nerr\n", 2);
}

/* A daemon may live for months. */
static void test_log_of_a_long_life_is_bounded(void **state)
{
    struct folder *f = *state;
    struct stat st;
    write_script(f, SAY_START "head -c 9000000 /dev/zero; echo last; " SERVE
                              "while [ $(stat -c %s log) -gt 1000000 ]; do :; done; echo more; echo small >events; exit 0");
    assert_int_equal(run(f), 0);
    struct started s = next_start(f);
    assert_int_equal(stat(f->log, &st), 0);
    assert_true(st.st_size > 9000000);
    kill(s.supervisor, SIGHUP); /* look now */
    char line[100], text[100];
    next_event(f, line, sizeof line);
    assert_string_equal(line, "small");
    assert_int_equal(await_end(s.supervisor), 0);
    assert_string_equal(contents(f->log, text, sizeof text), "more\n");
    assert_int_equal(stat(f->old_log, &st), 0);
    assert_int_equal(st.st_size, 8388608); /* its end */
    assert_int_equal(st.st_mode & 0777, 0600);
    int fd = open(f->old_log, O_RDONLY | O_CLOEXEC);
    assert_int_equal(pread(fd, text, 5, st.st_size - 5), 5);
    assert_memory_equal(text, "last\n", 5);
    close(fd);
}

/* Another supervisor came, and went because its daemon was locked out by ours, which ended meanwhile: somebody has to stay. */
static void test_other_that_goes(void **state)
{
    struct folder *f = *state;
    write_script(f, SAY_START SERVE "[ -e said.1 ] && rm said.1 && exit 0; : >said.1\n"
                                    "sleep 1000 & echo $! >supervisor\n"
                                    "(until grep -q 'another supervisor' log; do :; done; rm supervisor; kill $!) >/dev/null 2>&1 &\n"
                                    "exit 74");
    const char *const argv[] = {SUPERVISE, "--agentd", f->agentd, "--log", f->log, "--watch", f->root, "--", NULL};
    assert_int_equal(supervise(f, argv), 0);
    struct started first = next_start(f);
    struct started second = next_start(f);
    assert_int_equal(second.supervisor, first.supervisor);
    assert_int_equal(await_end(second.supervisor), 0);
}

/* The other came, and its daemon was stopped: the daemon is to stay down, whoever would start it. */
static void test_other_that_is_stopped(void **state)
{
    struct folder *f = *state;
    char line[100], mark[120];
    write_script(f, SAY_START SERVE "sleep 1000 & echo $! >supervisor\n"
                                    "(until grep -q 'another supervisor' log; do :; done; : >stopped; rm supervisor; kill $!) >/dev/null 2>&1 &\n"
                                    "exit 75");
    const char *const argv[] = {SUPERVISE, "--agentd", f->agentd, "--log", f->log, "--watch", f->root, "--", NULL};
    assert_int_equal(supervise(f, argv), 0);
    struct started first = next_start(f);
    assert_int_equal(await_end(first.supervisor), 0);
    snprintf(mark, sizeof mark, "%s/stopped", f->root);
    assert_int_equal(unlink(mark), 0);
    if (read(f->events, line, sizeof line) > 0)
        fail_msg("it was started again");
    assert_log(f, "agentd was stopped", 1);
}

static void test_refused(void **state)
{
    struct folder *f = *state;
    char said[1024];
    const char *const none[] = {SUPERVISE, "--", NULL};
    assert_int_equal(supervise(f, none), LIFECYCLE_EXIT_USAGE);
    assert_non_null(strstr(contents(f->said_path, said, sizeof said), "usage: agentd-supervise"));
    assert_int_equal(run(f), LIFECYCLE_EXIT_USAGE); /* no script was written */
    assert_non_null(strstr(contents(f->said_path, said, sizeof said), "No such file"));
    write_script(f, "exit 0");
    assert_int_equal(symlink("/dev/null", f->log), 0);
    assert_int_equal(run(f), LIFECYCLE_EXIT_STATE);
    assert_non_null(strstr(contents(f->said_path, said, sizeof said), f->log));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_killed_comes_back),
        TEST(test_failed_comes_back),
        TEST(test_crash_beside_a_bad_configuration),
        TEST(test_orderly_end_stays),
        TEST(test_final_statuses),
        TEST(test_restart_is_at_once),
        TEST(test_restart_loop_is_slowed),
        TEST(test_update_takes_effect),
        TEST(test_supervisor_killed_daemon_goes_on),
        TEST(test_surroundings),
        TEST(test_log_is_bounded),
        TEST(test_log_of_a_long_life_is_bounded),
        TEST(test_other_that_goes),
        TEST(test_other_that_is_stopped),
        TEST(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
