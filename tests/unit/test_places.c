/* Where things are: flag, then our variable, then XDG, then HOME. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/mem.h"
#include "daemon/base/places.h"

#include <stdlib.h>
#include <unistd.h>

static int clear(void **state)
{
    static const char *const names[] = {"AGENTD_STATE_DIR", "AGENTD_SOCKET", "AGENTD_CONFIG", "XDG_STATE_HOME", "XDG_CONFIG_HOME",
                                        "XDG_RUNTIME_DIR"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unsetenv(names[i]);
    setenv("HOME", "/home/me", 1);
    return chdir("/usr");
}

static void expect_state_dir(const char *flag, const char *expected)
{
    CLEANUP(buf_free) struct buf got = {0}, error = {0};
    assert_int_equal(places_state_dir(flag, &got, &error), 0);
    assert_string_equal(buf_cstr(&got), expected);
    assert_int_equal(error.n, 0);
}

static void expect_socket(const char *flag, const char *state_dir_flag, const char *expected)
{
    CLEANUP(buf_free) struct buf got = {0}, error = {0};
    assert_int_equal(places_socket(flag, state_dir_flag, &got, &error), 0);
    assert_string_equal(buf_cstr(&got), expected);
}

static void expect_config(const char *flag, const char *expected, bool named)
{
    CLEANUP(buf_free) struct buf got = {0}, error = {0};
    bool is_named = !named;
    assert_int_equal(places_config(flag, &got, &is_named, &error), 0);
    assert_string_equal(buf_cstr(&got), expected);
    assert_int_equal(is_named, named);
}

static void test_state_dir(void **state)
{
    (void)state;
    expect_state_dir(NULL, "/home/me/.local/state/agentd");
    setenv("XDG_STATE_HOME", "relative", 1); /* the specification: to be ignored */
    expect_state_dir(NULL, "/home/me/.local/state/agentd");
    setenv("XDG_STATE_HOME", "/x/", 1);
    expect_state_dir(NULL, "/x/agentd");
    setenv("AGENTD_STATE_DIR", "", 1); /* empty counts as unset */
    expect_state_dir(NULL, "/x/agentd");
    setenv("AGENTD_STATE_DIR", "/ours//./here/", 1);
    expect_state_dir(NULL, "/ours/here");
    expect_state_dir("/flag", "/flag");
}

static void test_paths_become_absolute(void **state)
{
    (void)state;
    expect_state_dir("here/./there//", "/usr/here/there");
    expect_state_dir("../up", "/usr/../up"); /* what .. means depends on links */
    expect_state_dir(".", "/usr");
    expect_state_dir("/", "/");
}

static void test_socket(void **state)
{
    (void)state;
    expect_socket(NULL, NULL, "/home/me/.local/state/agentd/agentd.sock");
    setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
    expect_socket(NULL, NULL, "/run/user/7/agentd/agentd.sock");
    expect_socket(NULL, "/s", "/s/agentd.sock");
    setenv("AGENTD_STATE_DIR", "/ours", 1);
    expect_socket(NULL, NULL, "/ours/agentd.sock");
    setenv("AGENTD_SOCKET", "/sock", 1);
    expect_socket(NULL, NULL, "/sock");
    expect_socket(NULL, "/s", "/sock");
    expect_socket("/flag/", "/s", "/flag");
}

static void test_config(void **state)
{
    (void)state;
    expect_config(NULL, "/home/me/.config/agentd/config.yaml", false);
    setenv("XDG_CONFIG_HOME", "/c", 1);
    expect_config(NULL, "/c/agentd/config.yaml", false);
    setenv("AGENTD_CONFIG", "mine.yaml", 1);
    expect_config(NULL, "/usr/mine.yaml", true);
    expect_config("/flag.yaml", "/flag.yaml", true);
}

static void test_errors_say_what_to_set(void **state)
{
    CLEANUP(buf_free) struct buf got = {0}, error = {0};
    bool named;
    (void)state;
    unsetenv("HOME");
    assert_int_equal(places_state_dir(NULL, &got, &error), -1);
    assert_non_null(strstr(buf_cstr(&error), "AGENTD_STATE_DIR"));
    buf_clear(&error);
    assert_int_equal(places_config(NULL, &got, &named, &error), -1);
    assert_non_null(strstr(buf_cstr(&error), "AGENTD_CONFIG"));
    buf_clear(&error);
    assert_int_equal(places_socket("", NULL, &got, &error), -1);
    assert_non_null(strstr(buf_cstr(&error), "--socket"));
    assert_int_equal(got.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_state_dir, clear),
        cmocka_unit_test_setup(test_paths_become_absolute, clear),
        cmocka_unit_test_setup(test_socket, clear),
        cmocka_unit_test_setup(test_config, clear),
        cmocka_unit_test_setup(test_errors_say_what_to_set, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
