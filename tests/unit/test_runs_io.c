/* What becomes of a tool's output, and how input comes to it: under a real runner and a real loop. */
#include "runs_box.h"

#include "daemon/base/mem.h"

#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

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

int main(int argc, char **argv)
{
    runs_begin(argc, argv);
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests_name("runs-io", tests, NULL, NULL);
}
