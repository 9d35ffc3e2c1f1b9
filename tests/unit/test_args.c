/* The command line, by the schema's own tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/args.h"

#include "daemon/base/mem.h"

#include <stdio.h>
#include <string.h>

/* Splits at spaces; "_" stands for a space inside an argument. */
static int parse(const char *line, struct args *ret, struct buf *error)
{
    static char storage[512];
    char *argv[16] = {"agentctl"};
    int argc = 1;
    snprintf(storage, sizeof storage, "%s", line);
    for (char *word = strtok(storage, " "); word; word = strtok(NULL, " ")) {
        for (char *c = word; *c; c++)
            *c = *c == '_' ? ' ' : *c;
        argv[argc++] = word;
    }
    buf_clear(error);
    return args_parse(argc, argv, ret, error);
}

static struct args good(const char *line)
{
    CLEANUP(buf_free) struct buf error = {0};
    struct args a;
    if (parse(line, &a, &error) < 0)
        fail_msg("%s: %s", line, buf_cstr(&error));
    return a;
}

static void bad(const char *line, const char *part)
{
    CLEANUP(buf_free) struct buf error = {0};
    struct args a;
    assert_int_equal(parse(line, &a, &error), -1);
    if (!strstr(buf_cstr(&error), part))
        fail_msg("%s: \"%s\" does not say \"%s\"", line, buf_cstr(&error), part);
}

static void test_forms_of_options(void **state)
{
    (void)state;
    static const char *const lines[] = {"run -C /x -m big fix_it", "run fix_it --workspace /x --model big",
                                        "run --workspace=/x -mbig fix_it", "run -C/x -m big -- fix_it"};
    for (size_t i = 0; i < 4; i++) {
        struct args a = good(lines[i]);
        assert_string_equal(a.command->name, "run");
        assert_string_equal(args_option(&a, "--workspace"), "/x");
        assert_string_equal(args_option(&a, "-m"), "big");
        assert_null(args_option(&a, "--name"));
        assert_int_equal(a.args_n, 1);
        assert_string_equal(a.args[0], "fix it");
    }
}

static void test_common_options_stand_anywhere(void **state)
{
    (void)state;
    struct args a = good("--json --state-dir /s status --no-start --all");
    assert_true(args_has(&a, "--json") && args_has(&a, "--no-start") && args_has(&a, "--all"));
    assert_string_equal(args_option(&a, "--state-dir"), "/s");
    assert_int_equal(a.args_n, 0);
}

static void test_two_words(void **state)
{
    (void)state;
    struct args a = good("daemon start --foreground");
    assert_string_equal(a.command->name, "daemon start");
    assert_true(args_has(&a, "--foreground"));
    assert_string_equal(good("daemon --json status").command->name, "daemon status");
}

static void test_what_begins_with_a_dash_and_is_no_option(void **state)
{
    (void)state;
    assert_string_equal(good("run -").args[0], "-");
    assert_string_equal(good("run -_a_list").args[0], "- a list");
    assert_string_equal(good("run -- --help").args[0], "--help");
    assert_null(good("run -- --help").help);
    struct args a = good("log --after -1 x");
    assert_string_equal(args_option(&a, "--after"), "-1");
}

static void test_help_and_version(void **state)
{
    (void)state;
    assert_ptr_equal(good("--help").help, cli_help);
    assert_ptr_equal(good("help").help, cli_help);
    assert_ptr_equal(good("help run").help, good("run -h").help);
    assert_non_null(strstr(good("steer --help").help, "agentctl steer"));
    assert_true(good("--version").version);
}

static void test_mistakes_name_what_is_near(void **state)
{
    (void)state;
    bad("stauts", "did you mean status?");
    bad("canc x", "did you mean cancel?");
    bad("daemon strat", "did you mean daemon start?");
    bad("fly", "the commands are: run, status");
    bad("daemon", "start, stop, restart, status");
    bad("", "no command");
    bad("run --moddel x y", "did you mean --model?");
    bad("run --zzz x", "agentctl run --help");
    bad("--all status", "come after it");
    bad("run -Jx y", "unknown option -Jx");
    bad("run", "PROMPT is missing");
    bad("steer one", "TEXT is missing");
    bad("run fix it", "quotes");
    bad("run x --model", "needs a value: --model MODEL");
    bad("status --all=yes", "takes no value");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms_of_options),
        cmocka_unit_test(test_common_options_stand_anywhere),
        cmocka_unit_test(test_two_words),
        cmocka_unit_test(test_what_begins_with_a_dash_and_is_no_option),
        cmocka_unit_test(test_help_and_version),
        cmocka_unit_test(test_mistakes_name_what_is_near),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
