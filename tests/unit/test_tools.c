/* From a call as a model wrote it to what is to be done; and raw output to text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>

#include "daemon/base/mem.h"
#include "daemon/tools/clean.h"
#include "daemon/tools/image.h"
#include "daemon/tools/tools.h"
#include "proto/proto.h"

static struct limits limits;
static struct proto_arena arena;
static struct call_spec spec;

static int setup(void **state)
{
    (void)state;
    limits = limits_default();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    proto_arena_free(&arena);
    arena = (struct proto_arena){0};
    return 0;
}

static void prepare_n(const char *name, struct str arguments)
{
    spec = (struct call_spec){.wire_id = STR("wire")};
    tools_prepare(str_of(name), arguments, STR("/work/space"), &limits, &arena, &spec);
    assert_true(str_eqz(spec.wire_id, "wire"));
    assert_true(str_eqz(spec.tool, name));
    assert_non_null(spec.arguments.p);
    json_t *record = json_loadb(spec.arguments.p, spec.arguments.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    assert_true(json_is_object(record) || json_is_string(record));
    assert_null(memchr(spec.arguments.p, '\n', spec.arguments.n));
    json_decref(record);
}

static void prepare(const char *name, const char *arguments)
{
    prepare_n(name, str_of(arguments));
}

static void is(struct str got, const char *want)
{
    if (!got.p || !str_eqz(got, want))
        fail_msg("got \"%.*s\", want \"%s\"", STR_ARG(got), want);
}

static void refused(const char *because)
{
    assert_int_equal(spec.sort, CALL_SORT_ANSWER);
    assert_true(spec.is_error);
    if (!memmem(spec.answer.p, spec.answer.n, because, strlen(because)))
        fail_msg("expected \"%s\" in: %.*s", because, STR_ARG(spec.answer));
}

static void test_definitions(void **state)
{
    (void)state;
    static const char *const names[] = {"exec_command", "write_stdin", "apply_patch", "update_plan", "view_image", "wait"};
    size_t n;
    const struct tool *all = tools_all(&n);
    assert_int_equal(n, 6);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(all[i].name, names[i]);
        assert_true(strlen(all[i].description) > 20);
        assert_null(strchr(all[i].parameters, '\n'));
        json_error_t why;
        json_t *schema = json_loads(all[i].parameters, 0, &why);
        assert_non_null(schema);
        assert_string_equal(json_string_value(json_object_get(schema, "type")), "object");
        /* What is required is described. */
        size_t k;
        json_t *required;
        json_array_foreach(json_object_get(schema, "required"), k, required)
            assert_non_null(json_object_get(json_object_get(schema, "properties"), json_string_value(required)));
        json_decref(schema);
    }
}

static void test_exec(void **state)
{
    (void)state;
    prepare("exec_command", "{\"cmd\": \"make test\"}");
    assert_int_equal(spec.sort, CALL_SORT_RUN);
    assert_int_equal(spec.program, RUN_PROGRAM_SHELL);
    assert_false(spec.is_error);
    assert_false(spec.tty);
    is(spec.payload, "make test");
    is(spec.command, "make test");
    is(spec.workdir, "/work/space");
    is(spec.arguments, "{\"cmd\":\"make test\"}");
    assert_int_equal(spec.yield_ms, 10000);
    assert_int_equal(spec.output_bytes, 40000);
    prepare("exec_command", "{\"cmd\":\"a\\nb\\nc\",\"workdir\":\"sub/dir\",\"tty\":true,\"yield_time_ms\":60000,\"max_output_tokens\":2000}");
    is(spec.payload, "a\nb\nc");
    is(spec.command, "a [+2 lines]");
    is(spec.workdir, "/work/space/sub/dir");
    assert_true(spec.tty);
    assert_int_equal(spec.yield_ms, 60000);
    assert_int_equal(spec.output_bytes, 8000);
}

static void test_exec_habits(void **state)
{
    (void)state;
    prepare("exec_command", "{\"command\":[\"bash\",\"-lc\",\"ls | wc\"],\"cwd\":\"/abs\",\"tty\":\"true\",\"why\":1,\"workdir\":null}");
    is(spec.payload, "ls | wc");
    is(spec.workdir, "/abs");
    assert_true(spec.tty);
    prepare("shell", "{\"command\":[\"grep\",\"it's\",\"a b\",\"\"]}");
    is(spec.payload, "grep 'it'\\''s' 'a b' ''");
    prepare("functions.exec_command", "{\"cmd\":\"x\",\"yield_time_ms\":\"5000\",\"max_output_tokens\":\"1e3\"}");
    assert_int_equal(spec.yield_ms, 5000);
    assert_int_equal(spec.output_bytes, 4000);
    prepare("exec_command", "{\"cmd\":\"x\",\"timeout\":120,\"workdir\":\"./\"}");
    assert_int_equal(spec.yield_ms, 120000);
    is(spec.workdir, "/work/space");
    prepare("exec_command", "{\"cmd\":\"x\",\"timeout\":\"2 min\"}");
    assert_int_equal(spec.yield_ms, 120000);
    prepare("exec_command", "{\"cmd\":\"x\",\"yield_time_ms\":1,\"max_output_tokens\":-5}");
    assert_int_equal(spec.yield_ms, 250);
    assert_int_equal(spec.output_bytes, 1024);
    prepare("exec_command", "{\"cmd\":\"x\",\"yield_time_ms\":1800000000,\"max_output_tokens\":1e12}");
    assert_int_equal(spec.yield_ms, limits.yield_ms_max);
    assert_int_equal(spec.output_bytes, limits.tool_output_bytes_max);
    /* Encoded twice. */
    prepare("exec_command", "\"{\\\"cmd\\\":\\\"x\\\"}\"");
    is(spec.payload, "x");
    prepare("exec_command", "{\"cmd\":\"apply_patch <<'EOF'\\n*** Begin Patch\\n*** Add File: a b\\n+x\\n*** End Patch\\nEOF\\n\",\"workdir\":\"d\"}");
    assert_int_equal(spec.program, RUN_PROGRAM_PATCH);
    is(spec.payload, "*** Begin Patch\n*** Add File: a b\n+x\n*** End Patch");
    is(spec.command, "apply_patch a b");
    is(spec.workdir, "/work/space/d");
    /* More than a patch is a command like any other. */
    prepare("exec_command", "{\"cmd\":\"apply_patch <<'EOF'\\n*** Begin Patch\\n*** Add File: a\\n+x\\n*** End Patch\\nEOF\\nmake && ./a\"}");
    assert_int_equal(spec.program, RUN_PROGRAM_SHELL);
}

static void test_exec_refused(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"{}", "`cmd` must be"},
        {"", "`cmd` must be"},
        {"{\"cmd\":\"  \\n\"}", "`cmd` must be"},
        {"{\"cmd\":7}", "`cmd` must be"},
        {"{\"cmd\":[\"a\",1]}", "`cmd` must be"},
        {"{\"cmd\":\"a\\u0000b\"}", "holds a NUL"},
        {"{\"cmd\":\"a\",\"workdir\":3}", "`workdir` must be a string"},
        {"{\"cmd\":\"a\",\"tty\":\"maybe\"}", "`tty` must be true or false"},
        {"{\"cmd\":\"a\",\"yield_time_ms\":\"soon\"}", "`yield_time_ms` must be a number"},
        {"{\"cmd\":\"a\",\"yield_time_ms\":[]}", "`yield_time_ms` must be a number"},
        {"{\"cmd\":\"a\",\"yield_time_ms\":\"nan\"}", "`yield_time_ms` must be a number"},
        {"{\"cmd\":", "not valid JSON"},
        {"[1]", "must be a JSON object"},
        {"ls -l", "not valid JSON"},
        {"{\"cmd\":\"\\ud800\"}", "not valid JSON"},
        {"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]", "nested too deeply"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        prepare("exec_command", bad[i][0]);
        refused(bad[i][1]);
    }
    prepare_n("exec_command", STR("\xff\0{"));
    refused("not valid JSON");
    prepare("make_coffee", "{}");
    refused("there is no tool \"make_coffee\"; the tools are exec_command, write_stdin");
    prepare("make_coffee", "{\"cmd\":");
    refused("not carried out: there is no tool \"make_coffee\"; the tools are exec_command, write_stdin");
    CLEANUP(buf_free) struct buf big = {0};
    buf_puts(&big, "{\"cmd\":\"");
    for (int i = 0; i < 1100; i++)
        buf_printf(&big, "%01000d", 0);
    buf_puts(&big, "\"}");
    prepare_n("exec_command", buf_view(&big));
    refused("longer than");
}

static void test_stdin(void **state)
{
    (void)state;
    prepare("write_stdin", "{\"session_id\":3,\"chars\":\"y\\u0003\\u0000\\n\"}");
    assert_int_equal(spec.sort, CALL_SORT_INPUT);
    assert_int_equal(spec.session, 3);
    assert_int_equal(spec.input.n, 4);
    assert_memory_equal(spec.input.p, "y\x03\0\n", 4);
    assert_int_equal(spec.yield_ms, 1000);
    prepare("write_stdin", "{\"session_id\":\"12\"}");
    assert_int_equal(spec.session, 12);
    assert_int_equal(spec.input.n, 0);
    assert_non_null(spec.input.p);
    assert_int_equal(spec.yield_ms, 10000);
    prepare("write_stdin", "{\"session_id\":\"r7\",\"chars\":null}");
    assert_int_equal(spec.session, 7);
    prepare("write_stdin", "{\"chars\":\"x\"}");
    refused("`session_id` must be the number");
    prepare("write_stdin", "{\"session_id\":\"one\"}");
    refused("`session_id` must be the number");
    prepare("write_stdin", "{\"session_id\":0}");
    refused("`session_id` must be the number");
    limits.input_bytes_max = 3;
    prepare("write_stdin", "{\"session_id\":1,\"chars\":\"long\"}");
    refused("longer than 3 bytes");
}

static void test_patch(void **state)
{
    (void)state;
    const char *patch = "*** Begin Patch\n*** Delete File: a\n*** Update File: b/c\n@@\n-1\n+2\n*** End Patch\n";
    json_t *object = json_pack("{s:s}", "input", patch);
    char *text = json_dumps(object, 0);
    prepare("apply_patch", text);
    free(text);
    json_decref(object);
    assert_int_equal(spec.sort, CALL_SORT_RUN);
    assert_int_equal(spec.program, RUN_PROGRAM_PATCH);
    is(spec.payload, patch);
    is(spec.command, "apply_patch a b/c");
    is(spec.workdir, "/work/space");
    assert_true(spec.yield_ms > 0 && spec.output_bytes > 0);
    prepare("apply_patch", patch); /* as plain text */
    is(spec.payload, patch);
    assert_int_equal(spec.arguments.p[0], '"');
    prepare("apply_patch", "{\"input\":\"--- a\\n+++ b\\n\"}");
    refused("`*** Begin Patch`");
    prepare("apply_patch", "{}");
    refused("`*** Begin Patch`");
    limits.patch_bytes_max = 10;
    prepare("apply_patch", patch);
    refused("longer than 10 bytes");
}

static void test_plan(void **state)
{
    (void)state;
    prepare("update_plan", "{\"explanation\":\"e\",\"plan\":[{\"step\":\"read\",\"status\":\"completed\"},{\"step\":\"write\",\"status\":"
                           "\"in_progress\"},{\"text\":\"test\"},\"ship\",{\"step\":\"x\",\"status\":\"done\"}]}");
    assert_int_equal(spec.sort, CALL_SORT_ANSWER);
    assert_false(spec.is_error);
    assert_int_equal(spec.plan_n, 5);
    is(spec.plan[0].text, "read");
    assert_int_equal(spec.plan[0].status, PLAN_STATUS_COMPLETED);
    assert_int_equal(spec.plan[1].status, PLAN_STATUS_IN_PROGRESS);
    is(spec.plan[2].text, "test");
    assert_int_equal(spec.plan[2].status, PLAN_STATUS_PENDING);
    is(spec.plan[3].text, "ship");
    assert_int_equal(spec.plan[4].status, PLAN_STATUS_COMPLETED);
    prepare("update_plan", "{\"plan\":[]}");
    assert_non_null(spec.plan);
    assert_int_equal(spec.plan_n, 0);
    prepare("update_plan", "{\"plan\":\"x\"}");
    refused("`plan` must be an array");
    assert_null(spec.plan);
    prepare("update_plan", "{\"plan\":[{\"step\":\"a\",\"status\":\"perhaps\"}]}");
    refused("`status` of a step must be");
    prepare("update_plan", "{\"plan\":[{\"step\":\"\"}]}");
    refused("each element of `plan`");
    prepare("update_plan", "{\"plan\":[5]}");
    refused("each element of `plan`");
}

static void test_image(void **state)
{
    (void)state;
    prepare("view_image", "{\"path\":\"shots/a b.png\"}");
    assert_int_equal(spec.sort, CALL_SORT_RUN);
    assert_int_equal(spec.program, RUN_PROGRAM_IMAGE);
    is(spec.payload, "/work/space/shots/a b.png");
    is(spec.command, "view_image shots/a b.png");
    prepare("view_image", "{}");
    refused("`path` must be");
    is(str_of(image_type(STR("\xff\xd8\xff\xe0"))), "image/jpeg");
    is(str_of(image_type(STR("GIF89a"))), "image/gif");
    is(str_of(image_type(STR("RIFF\1\2\3\4WEBPVP8 "))), "image/webp");
    assert_null(image_type(STR("RIFF\1\2\3\4WAVE")));
    assert_null(image_type(STR("")));
}

static void cleans(struct str raw, bool more, const char *want, size_t used)
{
    CLEANUP(buf_free) struct buf b = {0};
    size_t got = clean_put(&b, raw, more);
    assert_string_equal(buf_cstr(&b), want);
    assert_int_equal(got, used);
}

#define FFFD "\xEF\xBF\xBD"

static void test_wait(void **state)
{
    (void)state;
    prepare("wait", "{\"seconds\":1.5,\"path\":\"out/log\",\"session_id\":3,\"until\":\"2026-01-02T15:04:05Z\"}");
    assert_int_equal(spec.sort, CALL_SORT_WAIT);
    assert_int_equal(spec.conditions_n, 4);
    assert_int_equal(spec.conditions[0].kind, CONDITION_RUN);
    assert_int_equal(spec.conditions[0].run, 3);
    assert_int_equal(spec.conditions[1].kind, CONDITION_FILE);
    is(spec.conditions[1].path, "/work/space/out/log");
    assert_int_equal(spec.conditions[2].kind, CONDITION_CLOCK);
    assert_int_equal(spec.conditions[2].wall_ms, INT64_C(1767366245000));
    assert_int_equal(spec.conditions[3].kind, CONDITION_TIME);
    assert_int_equal(spec.conditions[3].delay_ms, 1500);
    prepare("wait", "{\"until\":\"2026-01-02T15:04:05.250Z\"}");
    assert_int_equal(spec.conditions[0].wall_ms, INT64_C(1767366245250));
}

static void test_wait_habits(void **state)
{
    (void)state;
    prepare("wait", "{\"seconds\":\"90\"}");
    assert_int_equal(spec.conditions[0].delay_ms, 90000);
    prepare("wait", "{\"seconds\":\"90 \"}");
    assert_int_equal(spec.conditions[0].delay_ms, 90000);
    prepare("wait", "{\"duration\":\"2 min\",\"path\":null,\"timeout\":null}");
    assert_int_equal(spec.conditions[0].delay_ms, 120000);
    prepare("wait", "{\"seconds\":0}");
    assert_int_equal(spec.conditions[0].delay_ms, 0);
    prepare("wait", "{\"session_id\":[\"r1\",\"2\"],\"paths\":[\"a\",\"/b\"]}");
    assert_int_equal(spec.conditions_n, 4);
    assert_int_equal(spec.conditions[0].run, 1);
    assert_int_equal(spec.conditions[1].run, 2);
    is(spec.conditions[2].path, "/work/space/a");
    is(spec.conditions[3].path, "/b");
}

static void test_waits_that_cannot_be(void **state)
{
    (void)state;
    static const struct {
        const char *arguments, *because;
    } bad[] = {
        {"{}", "what to wait for: `seconds`, `until`, `session_id` or `path`"},
        {"{\"seconds\":-1}", "from 0 to 2592000"},
        {"{\"seconds\":1e99}", "from 0 to 2592000"},
        {"{\"seconds\":2592001}", "from 0 to 2592000"},
        {"{\"seconds\":\"soon\"}", "`seconds` must be a number"},
        {"{\"seconds\":\"\"}", "`seconds` must be a number"},
        {"{\"path\":\"a\",\"timeout_ms\":60000}", "`timeout_ms` is not known; name `seconds`"},
        {"{\"path\":\"a\",\"timeout\":60000}", "`timeout` is not known; name `seconds`"},
        {"{\"path\":\"a\",\"second\":1}", "`second` is not known"},
        {"{\"seconds\":true}", "`seconds` must be a number"},
        {"{\"until\":\"tomorrow\"}", "a moment in UTC like"},
        {"{\"until\":\"2026-02-31T15:04:05Z\"}", "a moment in UTC like"},
        {"{\"until\":\"2026-01-02T15:04:05+\"}", "a moment in UTC like"},
        {"{\"until\":\"2026-01-02T15:04:05Z\\u0000\"}", "a moment in UTC like"},
        {"{\"until\":5}", "`until` must be a string"},
        {"{\"session_id\":0}", "the number that exec_command returned"},
        {"{\"session_id\":\"r1x\"}", "the number that exec_command returned"},
        {"{\"session_id\":[1,{}]}", "the number that exec_command returned"},
        {"{\"path\":\"\"}", "`path` must be"},
        {"{\"path\":7}", "`path` must be"},
        {"{\"path\":\"a\\u0000b\"}", "`path` must be"},
        {"{\"session_id\":[1,2,3,4,5,6,7,8,9]}", "more than 8 conditions"},
        {"{\"path\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\"]}", "more than 8 conditions"},
        {"{\"session_id\":[1,2,3,4,5,6,7,8],\"seconds\":1}", "more than 8 conditions"},
        {"{\"session_id\":[1,2,3,4,5,6,7,8],\"until\":\"2026-01-02T15:04:05Z\"}", "more than 8 conditions"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        prepare("wait", bad[i].arguments);
        refused(bad[i].because);
    }
    struct buf long_path = {0};
    buf_puts(&long_path, "{\"path\":\"");
    for (int i = 0; i < 5000; i++)
        buf_putc(&long_path, 'a');
    buf_puts(&long_path, "\"}");
    prepare("wait", buf_cstr(&long_path));
    refused("`path` is too long");
    buf_clear(&long_path);
    buf_printf(&long_path, "{\"path\":\"a/%0256d/b\"}", 0);
    prepare("wait", buf_cstr(&long_path));
    refused("`path` is too long");
    buf_clear(&long_path);
    buf_printf(&long_path, "{\"path\":\"a/%0255d/b\"}", 0);
    prepare("wait", buf_cstr(&long_path));
    assert_int_equal(spec.conditions_n, 1);
    buf_free(&long_path);
}

static void test_clean(void **state)
{
    (void)state;
    cleans(STR("a\nb"), false, "a\nb", 3);
    cleans(STR("a\r\nb\r\n"), false, "a\nb\n", 6);
    cleans(STR("10%\r50%\r100%\n"), false, "100%\n", 13);
    cleans(STR("10%\r50%\r"), true, "50%", 8);
    cleans(STR("\r\r\n\r"), false, "\n", 4);
    cleans(STR("x\0y\0"), false, "x" FFFD "y" FFFD, 4);
    cleans(STR("\xff\xc3("), false, FFFD FFFD "(", 3);
    cleans(STR("a\xe2\x82"), true, "a", 1);
    cleans(STR("a\xe2\x82"), false, "a" FFFD, 3);
    cleans(STR("a\r\xe2\x82"), true, "", 2);
    cleans(STR("a\xe2\x82\n"), true, "a" FFFD "\n", 4);
    cleans(STR("a\xe2\0"), true, "a" FFFD FFFD, 3);
    cleans(STR(""), true, "", 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_definitions), CASE(test_exec),  CASE(test_exec_habits), CASE(test_exec_refused), CASE(test_stdin),
        CASE(test_patch),       CASE(test_plan),  CASE(test_image),      CASE(test_wait),
        CASE(test_wait_habits), CASE(test_waits_that_cannot_be),       CASE(test_clean),
    };
    return cmocka_run_group_tests_name("tools", tests, NULL, NULL);
}
