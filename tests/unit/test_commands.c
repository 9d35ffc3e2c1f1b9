/* What each command answers, over the real core, pump and store; and the small pure parts beside them. */
#include "command_box.h"

#include "daemon/base/envname.h"
#include "daemon/commands/env.h"
#include "daemon/commands/name.h"
#include "daemon/commands/spec.h"
#include "daemon/store/state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- names, environment, spec ---- */

static void expect_name(const char *prompt, const char *name)
{
    CLEANUP(buf_free) struct buf got = {0};
    name_from_prompt(str_of(prompt), &got);
    assert_string_equal(got.p, name);
    assert_true(name_valid(buf_view(&got)));
}

static void test_names(void **state)
{
    (void)state;
    expect_name("Port the parser to streaming, keep the tests green", "port-the-parser-to-streaming");
    expect_name("fix", "fix");
    expect_name("  -- Don't  panic!\n", "dont-panic");
    expect_name("café olé", "caf-ol");
    expect_name("修复解析器", "task");
    expect_name("", "task");
    expect_name("...", "task");
    expect_name("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa b",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    assert_true(name_valid(STR("A.b-c_9")));
    assert_false(name_valid(STR("")));
    assert_false(name_valid(STR("-a")));
    assert_false(name_valid(STR(".a")));
    assert_false(name_valid(STR("@last")));
    assert_false(name_valid(STR("a b")));
    assert_false(name_valid(STR("a\0b")));
    assert_false(name_valid(STR("é")));
}

static void test_env_names(void **state)
{
    (void)state;
    static const char *const yes[] = {"PATH",        "HOME",   "LC_ALL",     "CONDA_PREFIX",
                                      "VIRTUAL_ENV", "GOPATH", "CCACHE_DIR", "PKG_CONFIG_PATH",
                                      "MAKEFLAGS"};
    static const char *const no[] = {"OPENAI_API_KEY",
                                     "GITHUB_TOKEN",
                                     "AWS_SECRET_ACCESS_KEY",
                                     "CONDA_TOKEN",
                                     "LC_KEY",
                                     "PATHX",
                                     "PAT",
                                     "path",
                                     "",
                                     "LC_A=B",
                                     "AGENTD_SOCKET",
                                     "LD_PRELOAD",
                                     "SSH_AUTH_SOCK",
                                     "PATH HOME",
                                     "LC_*",
                                     "CONDA_Password",
                                     "LC_ALL\n"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        assert_true(envname_allowed(str_of(yes[i])));
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        assert_false(envname_allowed(str_of(no[i])));
}

static const char *env_value(char *const *env, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; env[i]; i++) {
        if (strncmp(env[i], name, n) == 0 && env[i][n] == '=')
            return env[i] + n + 1;
    }
    return NULL;
}

static void test_env(void **state)
{
    (void)state;
    char **env;
    CLEANUP(buf_free) struct buf error = {0}, big = {0};
    assert_int_equal(
        env_read(STR("{\"PATH\":\"/p\",\"LANG\":\"\",\"OPENAI_API_KEY\":\"x\",\"FOO\":\"y\"}"), &env, &error),
        0);
    assert_string_equal(env_value(env, "PATH"), "/p");
    assert_string_equal(env_value(env, "LANG"), "");
    assert_non_null(env_value(env, "HOME"));
    assert_null(env_value(env, "OPENAI_API_KEY"));
    assert_null(env_value(env, "FOO"));
    env_free(env);
    assert_int_equal(env_read(STR_NONE, &env, &error), 0);
    assert_non_null(env_value(env, "PATH"));
    env_free(env);
    assert_int_equal(env_read(STR("[]"), &env, &error), -1);
    assert_int_equal(env_read(STR("null"), &env, &error), -1);
    assert_int_equal(env_read(STR("{\"PATH\":1}"), &env, &error), -1);
    assert_int_equal(env_read(STR("{\"PATH\":\"a\\u0000b\"}"), &env, &error), -1);

    buf_puts(&big, "{\"PATH\":\"");
    memset(buf_reserve(&big, ENV_BYTES_MAX), 'x', ENV_BYTES_MAX);
    big.n += ENV_BYTES_MAX;
    buf_puts(&big, "\"}");
    buf_clear(&error);
    assert_int_equal(env_read(buf_view(&big), &env, &error), -1);
    assert_non_null(strstr(error.p, "65536"));
    buf_clear(&big);
    for (int i = 0; i <= ENV_NAMES_MAX; i++)
        buf_printf(&big, "%c\"LC_%d\":\"\"", i ? ',' : '{', i);
    buf_putc(&big, '}');
    assert_int_equal(env_read(buf_view(&big), &env, &error), -1);
}

static void test_spec(void **state)
{
    (void)state;
    char *env[] = {(char *)"A=1", (char *)"B=", (char *)"C=x=\"y\"\n", NULL};
    struct task_spec in = {
        .model = {.wire = STR("openai-chat"),
                  .base_url = STR("http://h/v1"),
                  .name = STR("m\"1"),
                  .context_window = 7,
                  .max_output_tokens = 8,
                  .price_input = 9,
                  .price_cached_input = 10,
                  .price_output = INT64_C(9007199254740993)},
        .provider = (char *)"p",
        .workspace = (char *)"/w é",
        .instructions = (char *)"do\nthis",
        .env = env,
    };
    struct task_spec out;
    CLEANUP(buf_free) struct buf json = {0};
    spec_encode(&in, &json);
    assert_int_equal(spec_decode(buf_view(&json), &out), 0);
    assert_true(str_eq(out.model.wire, in.model.wire));
    assert_true(str_eq(out.model.base_url, in.model.base_url));
    assert_true(str_eq(out.model.name, in.model.name));
    assert_int_equal(out.model.context_window, 7);
    assert_int_equal(out.model.max_output_tokens, 8);
    assert_int_equal(out.model.price_input, 9);
    assert_int_equal(out.model.price_cached_input, 10);
    assert_true(out.model.price_output == INT64_C(9007199254740993));
    assert_string_equal(out.provider, "p");
    assert_string_equal(out.workspace, "/w é");
    assert_string_equal(out.instructions, "do\nthis");
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(out.env[i], env[i]);
    assert_null(out.env[3]);
    spec_free(&out);
    assert_int_equal(spec_decode(STR("{"), &out), -1);
    assert_int_equal(spec_decode(STR("{\"wire\":\"x\"}"), &out), -1);
    assert_int_equal(spec_decode(STR_NONE, &out), -1);
}

/* ---- helpers ---- */

static const char *text_of(const json_t *json, const char *name)
{
    return json_string_value(json_object_get(json, name));
}

static int64_t int_of(const json_t *json, const char *name)
{
    return json_integer_value(json_object_get(json, name));
}

/* task/create with further members; the id goes to `id`. */
static void create(const char *members, char id[TASK_ID_SIZE])
{
    CLEANUP(buf_free) struct buf params = {0};
    buf_printf(&params, "{\"workspace\":\"%s\",%s}", box.workspace, members);
    struct answer *answer = ask(METHOD_TASK_CREATE, params.p);
    if (!answer->answered || answer->error)
        fail_msg("%s", buf_cstr(&answer->text));
    assert_int_equal(int_of(answer->result, "seq"), 1);
    snprintf(id, TASK_ID_SIZE, "%s", text_of(answer->result, "task"));
    answer_free(answer);
}

static struct answer *ask_about(enum method method, const char *task, const char *members)
{
    CLEANUP(buf_free) struct buf params = {0};
    buf_printf(&params, "{\"task\":\"%s\"%s}", task, members);
    return ask(method, params.p);
}

static void expect_task(const char *task, const char *member, const char *value)
{
    struct answer *answer = ask_about(METHOD_TASK_GET, task, "");
    assert_string_equal(text_of(json_object_get(answer->result, "task"), member), value);
    answer_free(answer);
}

/* ---- task/create ---- */

static void test_create(void **state)
{
    (void)state;
    char id[TASK_ID_SIZE];
    struct task_spec spec;
    create("\"prompt\":\"Fix the parser\",\"env\":{\"PATH\":\"/p\",\"MY_TOKEN\":\"hush\"}", id);
    assert_int_equal(strlen(id), 27);
    assert_int_equal(id[0], 't');
    expect_task(id, "name", "fix-the-parser");
    expect_task("@last", "model", "main");
    expect_task("fix-the-parser", "workspace", box.workspace);

    assert_null(strstr(box.spec.p, SECRET_VALUE));
    assert_null(strstr(box.spec.p, "hush"));
    assert_int_equal(spec_decode(buf_view(&box.spec), &spec), 0);
    assert_true(str_eqz(spec.model.wire, "openai-responses"));
    assert_true(str_eqz(spec.model.name, "model-1"));
    assert_int_equal(spec.model.price_output, 14000);
    assert_string_equal(spec.provider, "local");
    assert_string_equal(env_value(spec.env, "PATH"), "/p");
    assert_non_null(strstr(spec.instructions, box.workspace));
    assert_non_null(strstr(spec.instructions, "[agentd]"));
    spec_free(&spec);
    assert_non_null(strstr(box.head.p, "exec_command"));
    assert_non_null(strstr(box.head.p, box.workspace));
    assert_non_null(strstr(box.head.p, id)); /* the cache key */
    const struct task *task = core_task(box.d.core, id);
    assert_true(task->context_bytes > (int64_t)box.head.n);
    assert_true(task->tail_bytes > 0);
}

static void test_create_names(void **state)
{
    (void)state;
    char id[TASK_ID_SIZE];
    create("\"prompt\":\"go\"", id);
    create("\"prompt\":\"go\"", id);
    expect_task(id, "name", "go-2");
    create("\"prompt\":\"go\"", id);
    expect_task(id, "name", "go-3");
    create("\"prompt\":\"x\",\"name\":\"mine\",\"model\":\"second\"", id);
    expect_task("mine", "model", "second");
    CLEANUP(buf_free) struct buf params = {0};
    buf_printf(&params, "{\"prompt\":\"x\",\"workspace\":\"%s\",\"name\":\"mine\"}", box.workspace);
    ask_in_vain(METHOD_TASK_CREATE, params.p, RPC_NAME_TAKEN, "");
    buf_clear(&params);
    buf_printf(&params, "{\"prompt\":\"x\",\"workspace\":\"%s\",\"name\":\"@last\"}", box.workspace);
    ask_in_vain(METHOD_TASK_CREATE, params.p, RPC_INVALID_PARAMS, "name");
}

static void refuse(const char *workspace, const char *members, enum rpc_error error, const char *words)
{
    CLEANUP(buf_free) struct buf params = {0};
    buf_printf(&params, "{\"prompt\":\"x\",\"workspace\":\"%s\"%s}", workspace, members);
    ask_in_vain(METHOD_TASK_CREATE, params.p, error, words);
}

static void test_create_refusals(void **state)
{
    (void)state;
    CLEANUP(buf_free) struct buf file = {0};
    buf_printf(&file, "%s/agentd.db", box.dir);
    refuse("work", "", RPC_WORKSPACE_INVALID, "absolute");
    refuse("/no/such/folder", "", RPC_WORKSPACE_INVALID, "/no/such/folder");
    refuse(file.p, "", RPC_WORKSPACE_INVALID, "not a folder");
    refuse(box.workspace, ",\"model\":\"fourth\"", RPC_MODEL_UNKNOWN, "main, second, third");
    refuse(box.workspace, ",\"model\":\"third\"", RPC_CREDENTIALS_MISSING, "TEST_COMMANDS_UNSET");
    refuse(box.workspace, ",\"policy\":\"strict\"", RPC_POLICY_UNKNOWN, "strict");
    refuse(box.workspace, ",\"env\":[]", RPC_INVALID_PARAMS, "env");
    box.config.model = NULL;
    box.config.advice = (char *)"set THIS";
    refuse(box.workspace, "", RPC_MODEL_NOT_CONFIGURED, "set THIS");
    box.config.models_n = 0;
    refuse(box.workspace, ",\"model\":\"main\"", RPC_MODEL_NOT_CONFIGURED, "set THIS");
    assert_int_equal(core_tasks_n(box.d.core), 0);
    assert_true(pump_settled(box.d.pump));
}

static void test_workspace_is_resolved(void **state)
{
    (void)state;
    char id[TASK_ID_SIZE];
    CLEANUP(buf_free) struct buf link = {0}, params = {0};
    buf_printf(&link, "%s/link", box.dir);
    assert_int_equal(symlink(box.workspace, link.p), 0);
    buf_printf(&params, "{\"prompt\":\"x\",\"workspace\":\"%s/.\"}", link.p);
    struct answer *answer = ask(METHOD_TASK_CREATE, params.p);
    snprintf(id, sizeof id, "%s", text_of(answer->result, "task"));
    expect_task(id, "workspace", box.workspace);
    answer_free(answer);
}

/* ---- durability ---- */

static void test_answers_wait_for_the_commit(void **state)
{
    (void)state;
    char id[TASK_ID_SIZE];
    create("\"prompt\":\"x\"", id);
    box_commits = false;
    struct answer *steer = ask_about(METHOD_TASK_STEER, id, ",\"text\":\"y\"");
    struct answer *get = ask_about(METHOD_TASK_GET, id, "");
    struct answer *events = ask_about(METHOD_TASK_EVENTS, id, "");
    struct answer *list = ask(METHOD_TASK_LIST, "{}");
    struct answer *status = ask(METHOD_DAEMON_STATUS, "{}");
    assert_true(status->answered); /* rests on nothing */
    assert_false(steer->answered || get->answered || events->answered || list->answered);
    box_commit();
    assert_true(steer->answered && get->answered && events->answered && list->answered);
    int64_t seq = int_of(steer->result, "seq");
    assert_true(int_of(json_object_get(get->result, "task"), "seq") >= seq);
    assert_true(int_of(events->result, "end") >= seq);
    answer_free(steer);
    answer_free(get);
    answer_free(events);
    answer_free(list);
    answer_free(status);
}

static void test_full_disk(void **state)
{
    (void)state;
    char id[TASK_ID_SIZE];
    create("\"prompt\":\"x\"", id);
    box_commits = false;
    struct answer *late = ask_about(METHOD_TASK_STEER, id, ",\"text\":\"y\"");
    struct answer *before = ask_about(METHOD_TASK_GET, id, "");
    box.d.disk_full = true;
    refuse(box.workspace, "", RPC_DISK_FULL, "");
    struct answer *get = ask_about(METHOD_TASK_GET, id, "");
    assert_true(get->answered); /* shows what is committed, and waits for nobody */
    assert_int_equal(int_of(json_object_get(json_object_get(get->result, "task"), "pending"), "steers"), 0);
    assert_false(late->answered);
    struct answer *status = ask(METHOD_DAEMON_STATUS, "{}");
    assert_string_equal(text_of(json_object_get(status->result, "daemon"), "admission"), "disk_full");
    struct answer *steer = ask_about(METHOD_TASK_STEER, id, ",\"text\":\"z\"");
    assert_int_equal(steer->error, RPC_DISK_FULL);
    box.stops = 0;
    struct answer *pause = ask_about(METHOD_TASK_PAUSE, id, ""); /* who stops something is heard */
    struct answer *cancel = ask_about(METHOD_TASK_CANCEL, id, "");
    assert_int_equal(box.stops, 2);
    assert_false(cancel->answered);
    box.d.disk_full = false;
    box_commit();
    assert_true(late->answered && before->answered && pause->answered && cancel->answered);
    assert_int_equal(cancel->error, RPC_OK);
    answer_free(steer);
    answer_free(pause);
    answer_free(cancel);
    answer_free(late);
    answer_free(before);
    answer_free(get);
    answer_free(status);
}

/* ---- keys ---- */

static void test_keys(void **state)
{
    (void)state;
    char first[TASK_ID_SIZE], again[TASK_ID_SIZE];
    create("\"prompt\":\"x\",\"key\":\"k1\"", first);
    create("\"prompt\":\"x\",\"key\":\"k1\"", again);
    assert_string_equal(first, again);
    assert_int_equal(core_tasks_n(box.d.core), 1);
    refuse(box.workspace, ",\"name\":\"other\",\"key\":\"k1\"", RPC_KEY_CONFLICT, "");
    struct answer *cross = ask_about(METHOD_TASK_CANCEL, first, ",\"key\":\"k1\"");
    assert_int_equal(cross->error, RPC_KEY_CONFLICT);
    answer_free(cross);

    struct answer *a = ask_about(METHOD_TASK_STEER, first, ",\"text\":\"t\",\"key\":\"k2\"");
    struct answer *b = ask_about(METHOD_TASK_STEER, first, ",\"text\":\"t\",\"key\":\"k2\"");
    struct answer *c = ask_about(METHOD_TASK_STEER, first, ",\"text\":\"u\",\"key\":\"k2\"");
    assert_string_equal(a->text.p, b->text.p);
    assert_int_equal(c->error, RPC_KEY_CONFLICT);
    assert_int_equal(core_task(box.d.core, first)->steers_n, 1);
    answer_free(a);
    answer_free(b);
    answer_free(c);
}

/* The second time comes while the first is not committed yet: one change, two answers after the commit. */
static void test_key_before_the_commit(void **state)
{
    (void)state;
    char id[TASK_ID_SIZE];
    create("\"prompt\":\"x\"", id);
    box_commits = false;
    struct answer *a = ask_about(METHOD_TASK_STEER, id, ",\"text\":\"t\",\"key\":\"k\"");
    struct answer *b = ask_about(METHOD_TASK_STEER, id, ",\"text\":\"t\",\"key\":\"k\"");
    assert_false(a->answered || b->answered);
    box_commit();
    assert_string_equal(a->text.p, b->text.p);
    assert_int_equal(core_task(box.d.core, id)->steers_n, 1);
    answer_free(a);
    answer_free(b);
}

/* A refusal is no answer to remember. */
static void test_key_of_a_refused_change(void **state)
{
    (void)state;
    char id[TASK_ID_SIZE];
    refuse(box.workspace, ",\"model\":\"third\",\"key\":\"k\"", RPC_CREDENTIALS_MISSING, "");
    setenv("TEST_COMMANDS_UNSET", "now-set", 1);
    create("\"prompt\":\"x\",\"model\":\"third\",\"key\":\"k\"", id);
    unsetenv("TEST_COMMANDS_UNSET");
}

/* ---- control ---- */

static void test_control(void **state)
{
    (void)state;
    char id[TASK_ID_SIZE];
    create("\"prompt\":\"x\"", id);
    struct answer *pause = ask_about(METHOD_TASK_PAUSE, id, "");
    assert_true(int_of(pause->result, "seq") > 1);
    expect_task(id, "state", "paused");
    struct answer *twice = ask_about(METHOD_TASK_PAUSE, id, "");
    assert_int_equal(twice->error, RPC_BAD_STATE);
    struct answer *resume = ask_about(METHOD_TASK_RESUME, id, "");
    assert_int_equal(resume->error, RPC_OK);
    struct answer *cancel = ask_about(METHOD_TASK_CANCEL, id, "");
    assert_int_equal(cancel->error, RPC_OK);
    expect_task(id, "state", "cancelled");
    ask_in_vain(METHOD_TASK_CANCEL, "{\"task\":\"nobody\"}", RPC_TASK_NOT_FOUND, "");
    ask_in_vain(METHOD_TASK_GET, "{\"task\":\"nobody\"}", RPC_TASK_NOT_FOUND, "nobody");
    answer_free(pause);
    answer_free(twice);
    answer_free(resume);
    answer_free(cancel);
}

static void test_stopping(void **state)
{
    (void)state;
    struct answer *answer = ask(METHOD_DAEMON_SHUTDOWN, "{\"restart\":true}");
    assert_true(answer->answered && box.stopped && box.restarted && box.d.stop_asked);
    answer_free(answer);
    refuse(box.workspace, "", RPC_STOPPING, "");
    answer = ask(METHOD_DAEMON_STATUS, "{}");
    assert_string_equal(text_of(json_object_get(answer->result, "daemon"), "admission"), "stopping");
    answer_free(answer);
    answer = ask(METHOD_DAEMON_SHUTDOWN, "{}");
    assert_int_equal(answer->error, RPC_OK);
    answer_free(answer);
}

/* ---- views ---- */

static void test_list(void **state)
{
    (void)state;
    char ids[7][TASK_ID_SIZE];
    for (int i = 0; i < 7; i++)
        create("\"prompt\":\"x\"", ids[i]);
    struct answer *cancel = ask_about(METHOD_TASK_CANCEL, ids[2], "");
    answer_free(cancel);
    CLEANUP(buf_free) struct buf params = {0};
    buf_puts(&params, "{\"limit\":3}");
    for (int at = 6; at >= 0;) {
        struct answer *page = ask(METHOD_TASK_LIST, params.p);
        const json_t *tasks = json_object_get(page->result, "tasks");
        assert_int_equal(json_array_size(tasks), at >= 2 ? 3 : at + 1);
        for (size_t i = 0; i < json_array_size(tasks); i++)
            assert_string_equal(text_of(json_array_get(tasks, i), "id"), ids[at--]);
        const char *next = text_of(page->result, "next");
        assert_true((next != NULL) == (at >= 0));
        buf_clear(&params);
        buf_printf(&params, "{\"limit\":3,\"after\":\"%s\"}", next ? next : "");
        answer_free(page);
    }
    ask_in_vain(METHOD_TASK_LIST, "{\"after\":\"t00000000000000000000000000\"}", RPC_INVALID_PARAMS, "next");
}

static void expect_events(const char *id, const char *members, int64_t first, int64_t last, int64_t next,
                          int64_t prev)
{
    struct answer *answer = ask_about(METHOD_TASK_EVENTS, id, members);
    assert_int_equal(answer->error, RPC_OK);
    const json_t *events = json_object_get(answer->result, "events");
    assert_int_equal(json_array_size(events), first ? last - first + 1 : 0);
    for (size_t i = 0; i < json_array_size(events); i++)
        assert_int_equal(int_of(json_array_get(events, i), "seq"), first + (int64_t)i);
    assert_int_equal(int_of(answer->result, "next"), next); /* null counts as 0 */
    assert_int_equal(int_of(answer->result, "prev"), prev);
    answer_free(answer);
}

static void test_events(void **state)
{
    (void)state;
    char id[TASK_ID_SIZE];
    create("\"prompt\":\"x\"", id);
    while (core_task(box.d.core, id)->seq < 9)
        answer_free(ask_about(METHOD_TASK_STEER, id, ",\"text\":\"t\""));
    int64_t end = core_task(box.d.core, id)->seq;
    expect_events(id, "", 1, end, 0, 0);
    expect_events(id, ",\"limit\":4", 1, 4, 4, 0);
    expect_events(id, ",\"limit\":4,\"after\":4", 5, 8, 8, 5);
    expect_events(id, ",\"limit\":4,\"before\":9", 5, 8, 8, 5);
    expect_events(id, ",\"limit\":4,\"before\":5", 1, 4, 4, 0);
    expect_events(id, ",\"before\":100000", 1, end, 0, 0);
    CLEANUP(buf_free) struct buf at_end = {0};
    buf_printf(&at_end, ",\"after\":%" PRId64, end);
    expect_events(id, at_end.p, 0, 0, 0, end + 1);
    struct answer *both = ask_about(METHOD_TASK_EVENTS, id, ",\"after\":1,\"before\":2");
    assert_int_equal(both->error, RPC_INVALID_PARAMS);
    answer_free(both);
}

/* ---- the daemon ---- */

static const json_t *named(const json_t *array, const char *name)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        if (strcmp(text_of(json_array_get(array, i), "name"), name) == 0)
            return json_array_get(array, i);
    }
    fail_msg("there is no %s", name);
    return NULL;
}

static void test_status(void **state)
{
    (void)state;
    char id[TASK_ID_SIZE];
    create("\"prompt\":\"x\"", id);
    struct answer *answer = ask(METHOD_DAEMON_STATUS, "{}");
    const json_t *daemon = json_object_get(answer->result, "daemon");
    assert_int_equal(int_of(daemon, "pid"), getpid());
    assert_true(int_of(daemon, "rss_bytes") > 100000);
    assert_int_equal(int_of(daemon, "tasks_live"), 1);
    assert_int_equal(int_of(daemon, "clients"), 3);
    assert_string_equal(text_of(daemon, "admission"), "open");
    assert_true(json_is_null(json_object_get(daemon, "config")));
    answer_free(answer);
}

static void test_models(void **state)
{
    (void)state;
    struct answer *answer = ask(METHOD_MODELS_LIST, "{}");
    const json_t *models = json_object_get(answer->result, "models");
    assert_true(json_is_true(json_object_get(named(models, "main"), "default")));
    assert_true(json_is_true(json_object_get(named(models, "main"), "ready")));
    assert_true(json_is_true(json_object_get(named(models, "second"), "ready")));
    assert_true(json_is_false(json_object_get(named(models, "third"), "ready")));
    assert_non_null(strstr(text_of(named(models, "third"), "detail"), "TEST_COMMANDS_UNSET"));
    answer_free(answer);
}

static void expect_finding(const json_t *checks, const char *name, bool ok, const char *words)
{
    const json_t *check = named(checks, name);
    assert_int_equal(json_is_true(json_object_get(check, "ok")), ok);
    assert_non_null(strstr(text_of(check, "detail"), words));
}

static void test_doctor(void **state)
{
    (void)state;
    struct answer *answer = ask(METHOD_DAEMON_DOCTOR, "{}");
    assert_false(answer->answered); /* the loop is free while the database is read */
    uv_run(&box.loop, UV_RUN_DEFAULT);
    const json_t *checks = json_object_get(answer->result, "checks");
    named(checks, "state folder");
    expect_finding(checks, "lock", false, "not locked");
    expect_finding(checks, "database", true, "whole");
    expect_finding(checks, "model", true, "main");
    expect_finding(checks, "provider local", true, "env:TEST_COMMANDS_KEY");
    expect_finding(checks, "provider bare", true, "no key");
    expect_finding(checks, "provider locked", false, "TEST_COMMANDS_UNSET");
    expect_finding(checks, "agentd-runner", true, "/bin/sh");
    expect_finding(checks, "agentd-tool", false, "/nowhere");
    expect_finding(checks, "policy", true, "rights");
    answer_free(answer);
}

/* It was the disk's moment, not the database's: the check that doctor makes shows which. What makes no sense stays. */
static void test_doctor_after_a_read_that_failed(void **state)
{
    (void)state;
    store_read_failed(box.d.store, "cannot read a value");
    assert_false(store_unread_passed(box.d.store));
    struct answer *answer = ask(METHOD_DAEMON_DOCTOR, "{}");
    uv_run(&box.loop, UV_RUN_DEFAULT);
    expect_finding(json_object_get(answer->result, "checks"), "journal", true, "All could be read since");
    answer_free(answer);
    answer = ask(METHOD_DAEMON_DOCTOR, "{}");
    store_read_failed(box.d.store, "cannot read a key"); /* after the check has begun */
    uv_run(&box.loop, UV_RUN_DEFAULT);
    expect_finding(json_object_get(answer->result, "checks"), "journal", false, "cannot read a key");
    answer_free(answer);
    store_fail_read(box.d.store, "an event makes no sense");
    answer = ask(METHOD_DAEMON_DOCTOR, "{}");
    uv_run(&box.loop, UV_RUN_DEFAULT);
    expect_finding(json_object_get(answer->result, "checks"), "journal", false, "makes no sense");
    answer_free(answer);
}

static void test_describe(void **state)
{
    (void)state;
    struct answer *answer = ask(METHOD_RPC_DESCRIBE, "{}");
    const json_t *schema = json_object_get(answer->result, "schema");
    assert_int_equal(int_of(schema, "protocol"), PROTOCOL_VERSION);
    assert_non_null(json_object_get(json_object_get(schema, "methods"), "rpc/describe"));
    answer_free(answer);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, box_open, box_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_env_names),
        cmocka_unit_test(test_env),
        cmocka_unit_test(test_spec),
        TEST(test_create),
        TEST(test_create_names),
        TEST(test_create_refusals),
        TEST(test_workspace_is_resolved),
        TEST(test_answers_wait_for_the_commit),
        TEST(test_full_disk),
        TEST(test_keys),
        TEST(test_key_before_the_commit),
        TEST(test_key_of_a_refused_change),
        TEST(test_control),
        TEST(test_stopping),
        TEST(test_list),
        TEST(test_events),
        TEST(test_status),
        TEST(test_models),
        TEST(test_doctor),
        TEST(test_doctor_after_a_read_that_failed),
        TEST(test_describe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
