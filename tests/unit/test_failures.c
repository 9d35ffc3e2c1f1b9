/* How the ends of daemons are noted and counted: where, how long, and what "try" means. */
#include "daemon/failures.h"

#include "daemon/base/mem.h"
#include "daemon/lifecycle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define BOOT "00000000-1111-2222-3333-444444444444"

static struct {
    char dir[64], state[96], run[96], socket[128];
    struct failures f;
} box;

static int make(void **state)
{
    (void)state;
    unsetenv(LIFECYCLE_IO_EXITS_ENV);
    strcpy(box.dir, "/tmp/agentd-failures-XXXXXX");
    assert_non_null(mkdtemp(box.dir));
    snprintf(box.state, sizeof box.state, "%s/state", box.dir);
    snprintf(box.run, sizeof box.run, "%s/run", box.dir);
    snprintf(box.socket, sizeof box.socket, "%s/agentd.sock", box.run);
    assert_int_equal(mkdir(box.state, 0700) | mkdir(box.run, 0700), 0);
    failures_open(&box.f, box.socket, box.state, BOOT);
    return 0;
}

static int drop(void **state)
{
    (void)state;
    failures_close(&box.f);
    char command[160];
    snprintf(command, sizeof command, "rm -rf %s", box.dir);
    return system(command);
}

static void again(const char *boot)
{
    failures_close(&box.f);
    failures_open(&box.f, box.socket, box.state, boot);
}

static bool there(const char *folder)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, folder == box.run ? "agentd.sock.failures" : "agentd.failures");
    return access(path, F_OK) == 0;
}

static void put_line(const char *word, int64_t age_ms, const char *reason)
{
    struct timespec ts;
    char path[160];
    clock_gettime(CLOCK_BOOTTIME, &ts);
    snprintf(path, sizeof path, "%s/agentd.sock.failures", box.run);
    FILE *f = fopen(path, "ae");
    assert_non_null(f);
    fprintf(f, "%s %s %lld %d%s%s\n", word, BOOT, (long long)((int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000 - age_ms), 5, *reason ? " " : "",
            reason);
    fclose(f);
}

static void test_three_make_it_read_only(void **state)
{
    (void)state;
    assert_int_equal(box.f.n, 0);
    for (int i = 0; i < FAILURES_MAX; i++) {
        assert_false(failures_read_only(&box.f));
        failures_note_end(&box.f, i == 2 ? "the last\nreason" : "an earlier one");
        again(BOOT);
    }
    assert_true(failures_read_only(&box.f));
    assert_string_equal(box.f.reason, "the last reason"); /* one line a fact */
    assert_true(box.f.told_ms > 1000000000000);
    assert_true(there(box.run));
    assert_false(there(box.state));
    again("99999999-1111-2222-3333-444444444444"); /* another boot begins anew */
    assert_false(failures_read_only(&box.f));
    assert_int_equal(box.f.told_ms, 0);
}

static void test_a_try_is_one_try(void **state)
{
    (void)state;
    for (int i = 0; i < FAILURES_MAX; i++)
        failures_note_end(&box.f, "x");
    failures_note_try(&box.f);
    again(BOOT);
    assert_true(box.f.tried);
    assert_false(failures_read_only(&box.f));
    failures_note_end(&box.f, "y");
    again(BOOT);
    assert_true(failures_read_only(&box.f));
    assert_int_equal(box.f.n, FAILURES_MAX + 1);
}

static void test_what_fails_again_after_a_try_is_enough(void **state)
{
    (void)state;
    put_line("try", 2000, ""); /* those before it are so old that they do not count */
    failures_note_end(&box.f, "y");
    again(BOOT);
    assert_int_equal(box.f.n, 1);
    assert_true(failures_read_only(&box.f));
    usleep(2000);
    failures_note_try(&box.f);
    again(BOOT);
    assert_false(failures_read_only(&box.f));
}

static void test_each_daemon_has_its_own(void **state)
{
    (void)state;
    char socket[128], other[96];
    snprintf(socket, sizeof socket, "%s/other.sock", box.run);
    snprintf(other, sizeof other, "%s/other", box.dir);
    for (int i = 0; i < FAILURES_MAX; i++)
        failures_note_end(&box.f, "x");
    failures_close(&box.f);
    failures_open(&box.f, socket, other, BOOT);
    assert_int_equal(box.f.n, 0);
    assert_int_equal(box.f.told_ms, 0);
}

static void test_nobody_else_says_so(void **state)
{
    (void)state;
    char path[160];
    if (geteuid() != 0)
        skip();
    for (int i = 0; i < FAILURES_MAX; i++)
        put_line("end", 0, "planted");
    snprintf(path, sizeof path, "%s/agentd.sock.failures", box.run);
    assert_int_equal(chown(path, 1, 1), 0);
    again(BOOT);
    assert_int_equal(box.f.n, 0);
    failures_note_end(&box.f, "ours");
    assert_true(there(box.state));
}

static void test_old_ones_are_told_and_not_counted(void **state)
{
    (void)state;
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    if (ts.tv_sec * 1000 < FAILURES_WINDOW_MS + 120000)
        skip(); /* nothing can be that old in this boot */
    for (int i = 0; i < 5; i++)
        put_line("end", FAILURES_WINDOW_MS + 60000, "old");
    again(BOOT);
    assert_int_equal(box.f.n, 0);
    assert_string_equal(box.f.reason, "old");
    put_line("end", FAILURES_TOLD_MS + 1000000, "from the future of a clock"); /* before the boot: not ours, or nonsense */
    put_line("hello", 0, "world");
    again(BOOT);
    assert_string_equal(box.f.reason, "old");
    assert_false(box.f.tried);
}

static void test_the_other_place(void **state)
{
    (void)state;
    assert_int_equal(rmdir(box.run), 0);
    for (int i = 0; i < FAILURES_MAX; i++)
        failures_note_end(&box.f, "x");
    assert_true(there(box.state));
    again(BOOT);
    assert_true(failures_read_only(&box.f));
    assert_int_equal(mkdir(box.run, 0700), 0);
    usleep(2000); /* the clock has milliseconds, and the last word counts */
    failures_note_try(&box.f);
    again(BOOT); /* both are read */
    assert_true(there(box.run));
    assert_false(failures_read_only(&box.f));
}

static void test_the_supervisor_counts_too(void **state)
{
    (void)state;
    setenv(LIFECYCLE_IO_EXITS_ENV, "2", 1);
    assert_false(failures_read_only(&box.f));
    setenv(LIFECYCLE_IO_EXITS_ENV, "3", 1);
    assert_true(failures_read_only(&box.f));
}

static void test_it_stays_small(void **state)
{
    (void)state;
    struct stat st;
    char path[160], reason[600];
    memset(reason, 'r', sizeof reason - 1);
    reason[sizeof reason - 1] = 0;
    for (int i = 0; i < 400; i++)
        failures_note_end(&box.f, reason);
    snprintf(path, sizeof path, "%s/agentd.sock.failures", box.run);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size < 70000);
    again(BOOT);
    assert_true(failures_read_only(&box.f));
    assert_int_equal(strlen(box.f.reason), FAILURES_REASON_MAX - 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make, drop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_three_make_it_read_only),
        TEST(test_what_fails_again_after_a_try_is_enough),
        TEST(test_each_daemon_has_its_own),
        TEST(test_nobody_else_says_so),
        TEST(test_a_try_is_one_try),
        TEST(test_old_ones_are_told_and_not_counted),
        TEST(test_the_other_place),
        TEST(test_the_supervisor_counts_too),
        TEST(test_it_stays_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
