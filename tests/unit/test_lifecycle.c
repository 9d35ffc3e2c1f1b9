/* The state folder, its lock, the mark of a stop, and what is put back for tools. */
#include "daemon/lifecycle.h"

#include "daemon/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct folder {
    char root[64];
    char state[128]; /* root/state, not made yet */
    mode_t mask;
};

static int setup(void **state)
{
    struct folder *f = MEM_NEW(struct folder);
    snprintf(f->root, sizeof f->root, "/tmp/agentd-lifecycle-XXXXXX");
    assert_non_null(mkdtemp(f->root));
    snprintf(f->state, sizeof f->state, "%s/state", f->root);
    f->mask = umask(022);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct folder *f = *state;
    char path[200];
    static const char *const names[] = {"lock", "stopped", "other"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", f->state, names[i]);
        unlink(path);
    }
    rmdir(f->state);
    umask(f->mask);
    int rc = rmdir(f->root);
    mem_free(f);
    return rc;
}

static struct lifecycle begin(const struct folder *f)
{
    CLEANUP(buf_free) struct buf error = {0};
    struct lifecycle l;
    if (lifecycle_begin(f->state, &l, &error) != 0)
        fail_msg("%s", buf_cstr(&error));
    return l;
}

static void refused(const char *path, enum lifecycle_exit status, const char *says)
{
    CLEANUP(buf_free) struct buf error = {0};
    struct lifecycle l;
    assert_int_equal(lifecycle_begin(path, &l, &error), status);
    if (!strstr(buf_cstr(&error), says))
        fail_msg("wanted \"%s\", got: %s", says, buf_cstr(&error));
}

static mode_t mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

static void touch(const struct folder *f, const char *name)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", f->state, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    close(fd);
}

/* ---- the folder ---- */

static void test_folder_is_made(void **state)
{
    const struct folder *f = *state;
    char middle[100], deep[120], lock[140];
    CLEANUP(buf_free) struct buf error = {0};
    struct lifecycle l;
    snprintf(middle, sizeof middle, "%s/a", f->root);
    snprintf(deep, sizeof deep, "%s/b", middle);
    assert_int_equal(lifecycle_begin(deep, &l, &error), 0);
    assert_int_equal(mode_of(deep), 0700);
    assert_int_equal(mode_of(middle), 0700);
    lifecycle_end(&l);
    snprintf(lock, sizeof lock, "%s/lock", deep);
    assert_int_equal(mode_of(lock), 0600);
    unlink(lock);
    rmdir(deep);
    rmdir(middle);
}

static void test_folder_modes(void **state)
{
    const struct folder *f = *state;
    mkdir(f->state, 0755);
    struct lifecycle l = begin(f); /* empty: ours, and made private */
    lifecycle_end(&l);
    assert_int_equal(mode_of(f->state), 0700);

    chmod(f->state, 0770);
    l = begin(f); /* with our lock in it: ours too */
    lifecycle_end(&l);
    assert_int_equal(mode_of(f->state), 0700);
}

static void test_folder_of_others_stays(void **state)
{
    const struct folder *f = *state;
    mkdir(f->state, 0755);
    touch(f, "other");
    struct lifecycle l = begin(f); /* readable: used, and its user is told */
    lifecycle_end(&l);
    assert_int_equal(mode_of(f->state), 0755);
    char lock[200];
    snprintf(lock, sizeof lock, "%s/lock", f->state);
    unlink(lock);
    chmod(f->state, 01777);
    refused(f->state, LIFECYCLE_EXIT_STATE, "written by other users");
    assert_int_equal(mode_of(f->state), 01777);
}

static void test_folder_refused(void **state)
{
    const struct folder *f = *state;
    char path[200];
    snprintf(path, sizeof path, "%s/link", f->root);
    mkdir(f->state, 0700);
    assert_int_equal(symlink(f->state, path), 0);
    refused(path, LIFECYCLE_EXIT_STATE, "symbolic link");
    unlink(path);

    touch(f, "other");
    snprintf(path, sizeof path, "%s/other", f->state);
    refused(path, LIFECYCLE_EXIT_STATE, "cannot be used");
    snprintf(path, sizeof path, "%s/other/below", f->state);
    refused(path, LIFECYCLE_EXIT_STATE, "cannot be made");
    unlink(path);

    if (geteuid() == 0) /* the superuser owns all the folders of the system, and may give one away */
        assert_int_equal(chown(f->state, 12345, 12345), 0);
    refused(geteuid() == 0 ? f->state : "/usr", LIFECYCLE_EXIT_STATE, "another user");
}

static void test_lock_is_no_link(void **state)
{
    const struct folder *f = *state;
    char lock[200], target[200];
    mkdir(f->state, 0700);
    snprintf(lock, sizeof lock, "%s/lock", f->state);
    snprintf(target, sizeof target, "%s/other", f->state);
    assert_int_equal(symlink(target, lock), 0);
    refused(f->state, LIFECYCLE_EXIT_STATE, "lock file");
    assert_int_equal(access(target, F_OK), -1);
}

/* ---- the lock ---- */

static void test_second_is_refused(void **state)
{
    const struct folder *f = *state;
    char pid[40];
    snprintf(pid, sizeof pid, "(pid %ld)", (long)getpid());
    struct lifecycle first = begin(f);
    refused(f->state, LIFECYCLE_EXIT_LOCKED, pid);
    refused(f->state, LIFECYCLE_EXIT_LOCKED, pid); /* and the refusals left the first alone */
    lifecycle_end(&first);
    first = begin(f);
    lifecycle_end(&first);
}

/* Between the word of an orderly end and the end itself, the next daemon waits; it is not turned away. */
static void test_next_waits_for_ending(void **state)
{
    const struct folder *f = *state;
    CLEANUP(buf_free) struct buf error = {0};
    int ready[2], status = 0;
    char byte;
    struct lifecycle first = begin(f);
    assert_int_equal(lifecycle_ending(&first, false, &error), 0);
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct lifecycle next;
        lifecycle_end(&first); /* a copy of the lock's descriptor would hold it in this process as well */
        (void)!write(ready[1], "x", 1);
        int rc = lifecycle_begin(f->state, &next, &error);
        _exit(rc == 0 && !next.was_stopped ? 0 : 1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    lifecycle_end(&first);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(ready[0]);
    close(ready[1]);
}

/* A daemon that was killed leaves its pid in the file and no lock: nothing stands in the way of the next. */
static void test_killed_leaves_no_lock(void **state)
{
    const struct folder *f = *state;
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        begin(f);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    struct lifecycle next = begin(f);
    lifecycle_end(&next);
}

/* ---- the mark ---- */

static void test_mark(void **state)
{
    const struct folder *f = *state;
    CLEANUP(buf_free) struct buf error = {0};
    assert_false(lifecycle_stopped(f->state));
    struct lifecycle l = begin(f);
    assert_false(l.was_stopped);
    assert_int_equal(lifecycle_ending(&l, true, &error), 0);
    lifecycle_end(&l);
    assert_true(lifecycle_stopped(f->state));

    l = begin(f);
    assert_true(l.was_stopped);
    assert_false(lifecycle_stopped(f->state));
    assert_int_equal(lifecycle_ending(&l, false, &error), 0); /* a restart, or the end of the session */
    lifecycle_end(&l);
    assert_false(lifecycle_stopped(f->state));
}

/* ---- the process ---- */

static void test_limits_and_mask(void **state)
{
    const struct folder *f = *state;
    struct rlimit before, after;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit low = {.rlim_cur = 200, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    umask(027);
    signal(SIGPIPE, SIG_DFL);
    struct lifecycle l = begin(f);
    assert_int_equal(l.tool_files_max, 200);
    assert_int_equal(l.tool_umask, 027);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &after), 0);
    assert_true(after.rlim_cur > 200 || before.rlim_max <= 200);
    assert_true(after.rlim_max == before.rlim_max);
    assert_int_equal(umask(0), 077);
    assert_true(signal(SIGPIPE, SIG_DFL) == SIG_IGN);
    assert_int_equal(strlen(l.boot_id), 36);
    assert_true(fcntl(l.lock_fd, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(l.state_fd, F_GETFD) & FD_CLOEXEC);
    lifecycle_end(&l);
    setrlimit(RLIMIT_NOFILE, &before);
}

/* Keys are in its memory and its environment. */
static void test_memory_is_private(void **state)
{
    const struct folder *f = *state;
    prctl(PR_SET_DUMPABLE, 1);
    setenv("AGENTD_DUMPABLE", "1", 1);
    struct lifecycle l = begin(f);
    assert_int_equal(prctl(PR_GET_DUMPABLE), 1); /* for who debugs it */
    lifecycle_end(&l);
    unsetenv("AGENTD_DUMPABLE");
    l = begin(f);
    assert_int_equal(prctl(PR_GET_DUMPABLE), 0);
    lifecycle_end(&l);
    prctl(PR_SET_DUMPABLE, 1);
}

static void test_ready(void **state)
{
    int fds[2];
    char text[12], got[4];
    (void)state;
    lifecycle_ready(); /* nobody waits */
    assert_int_equal(pipe(fds), 0);
    snprintf(text, sizeof text, "%d", fds[1]);
    setenv(LIFECYCLE_READY_ENV, text, 1);
    lifecycle_ready();
    assert_null(getenv(LIFECYCLE_READY_ENV));
    assert_int_equal(read(fds[0], got, sizeof got), 1);
    assert_int_equal(got[0], '1');
    assert_int_equal(read(fds[0], got, sizeof got), 0); /* closed */
    lifecycle_ready();
    close(fds[0]);
}

static void test_statuses(void **state)
{
    (void)state;
    assert_true(lifecycle_exit_final(LIFECYCLE_EXIT_OK));
    assert_true(lifecycle_exit_final(LIFECYCLE_EXIT_LOCKED));
    assert_false(lifecycle_exit_final(LIFECYCLE_EXIT_RESTART));
    assert_false(lifecycle_exit_final(LIFECYCLE_EXIT_IO));
    assert_false(lifecycle_exit_final(MEM_EXIT_STATUS)); /* out of memory: comes back */
    assert_false(lifecycle_exit_final(1));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_folder_is_made),
        TEST(test_folder_modes),
        TEST(test_folder_of_others_stays),
        TEST(test_folder_refused),
        TEST(test_lock_is_no_link),
        TEST(test_second_is_refused),
        TEST(test_next_waits_for_ending),
        TEST(test_killed_leaves_no_lock),
        TEST(test_mark),
        TEST(test_limits_and_mask),
        TEST(test_memory_is_private),
        TEST(test_ready),
        TEST(test_statuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
