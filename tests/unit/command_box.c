#include "command_box.h"

#include "daemon/base/list.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct command_box box;
bool box_commits;

/* ---- calls ---- */

struct rpc_call {
    enum method method;
    json_t *json;
    void *params;
    struct proto_arena arena;
    struct answer *answer;
};

static void call_free(struct rpc_call *call)
{
    mem_free(call->params);
    proto_arena_free(&call->arena);
    json_decref(call->json);
    mem_free(call);
}

void rpc_reply(struct rpc_call *call, struct str result)
{
    const struct proto_object *type = method_descriptors[call->method].result;
    struct answer *answer = call->answer;
    CLEANUP(buf_free) struct buf error = {0};
    struct proto_arena arena = {0};
    void *decoded = mem_alloc(type->size);
    assert_false(answer->answered);
    answer->answered = true;
    buf_str(&answer->text, result);
    answer->result = json_loadb(result.p, result.n, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(answer->result);
    assert_null(memchr(result.p, '\n', result.n));
    if (proto_decode(type, answer->result, PROTO_STRICT, decoded, &arena, &error) < 0)
        fail_msg("%s", error.p);
    assert_null(strstr(answer->text.p, SECRET_VALUE));
    proto_arena_free(&arena);
    mem_free(decoded);
    call_free(call);
}

void rpc_fail(struct rpc_call *call, enum rpc_error error, struct str detail)
{
    struct answer *answer = call->answer;
    assert_false(answer->answered);
    assert_int_not_equal(error, RPC_OK);
    answer->answered = true;
    answer->error = error;
    buf_str(&answer->text, detail);
    assert_null(strstr(buf_cstr(&answer->text), SECRET_VALUE));
    call_free(call);
}

void rpc_fail_unreadable(struct rpc_call *call)
{
    int64_t at_ms;
    const char *why = store_unread(box.d.store, &at_ms);
    rpc_fail(call, RPC_STATE_UNREADABLE, str_of(why ? why : "no reason"));
}

void rpc_fail_no_task(struct rpc_call *call, enum rpc_error error, struct str ref)
{
    rpc_fail(call, error, ref);
}

struct answer *ask(enum method method, const char *params)
{
    const struct proto_object *type = method_descriptors[method].params;
    CLEANUP(buf_free) struct buf error = {0};
    struct rpc_call *call = MEM_NEW(struct rpc_call);
    struct answer *answer = call->answer = MEM_NEW(struct answer);
    call->method = method;
    call->json = json_loads(params, JSON_ALLOW_NUL, NULL);
    call->params = mem_alloc(type->size);
    assert_non_null(call->json);
    if (proto_decode(type, call->json, PROTO_STRICT, call->params, &call->arena, &error) < 0)
        fail_msg("%s", error.p);
    char *canonical = json_dumps(call->json, JSON_COMPACT | JSON_SORT_KEYS);
    struct command_client client = {.name = STR("test"), .role = ROLE_OWNER};
    commands_run(&box.d, call, &client, method, call->params, str_of(canonical));
    free(canonical);
    if (box_commits)
        box_commit();
    return answer;
}

void answer_free(struct answer *answer)
{
    buf_free(&answer->text);
    json_decref(answer->result);
    mem_free(answer);
}

void ask_in_vain(enum method method, const char *params, enum rpc_error error, const char *words)
{
    struct answer *answer = ask(method, params);
    assert_true(answer->answered);
    assert_int_equal(answer->error, error);
    if (!strstr(buf_cstr(&answer->text), words))
        fail_msg("\"%s\" does not say \"%s\"", buf_cstr(&answer->text), words);
    answer_free(answer);
}

/* ---- the world of the pump ---- */

static struct store_batch *batch;
static bool committing;
static struct key {
    char *name;
    struct buf digest, result;
} keys[16];
static size_t keys_n;

static struct clock_now now(void *ctx)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    (void)ctx;
    return (struct clock_now){
        .wall_ms = (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000, .boot_ms = 1, .boot_id = "b"};
}

static uint64_t chance(void *ctx)
{
    (void)ctx;
    return 4;
}

static void journal_event(void *ctx, const struct event *event)
{
    CLEANUP(buf_free) struct buf json = {0}, task = {0};
    (void)ctx;
    event_encode(&json, event);
    buf_str(&task, event->task);
    store_batch_event(batch, event->pos, task.p, event->seq, (int)event->kind, event->at, buf_view(&json));
}

static int64_t journal_context(void *ctx, const struct task *t, int64_t index,
                               const struct context_item *item)
{
    (void)ctx;
    store_batch_context(batch, t->id, t->epoch, index, STR("{}"));
    return item ? 2 : 0;
}

static void journal_task(void *ctx, const struct task *t)
{
    CLEANUP(buf_free) struct buf snapshot = {0};
    (void)ctx;
    task_snapshot(t, &snapshot);
    struct store_task row = {
        .id = t->id,
        .name = t->name,
        .state = (int)t->state,
        .live = task_live(t),
        .seq = t->seq,
        .created_ms = t->created_ms,
        .updated_ms = t->updated_ms,
        .snapshot = buf_view(&snapshot),
        .spec = buf_view(&box.spec),
    };
    store_batch_task(batch, &row);
}

static void commit(void *ctx)
{
    (void)ctx;
    committing = true;
}

static void published(void *ctx, const struct pump_event *events, size_t n)
{
    (void)ctx, (void)events, (void)n;
}

static void effect(void *ctx, const char *task, const struct effect *e)
{
    (void)ctx, (void)task, (void)e;
}

static void wake_in(void *ctx, int64_t delay_ms)
{
    (void)ctx, (void)delay_ms;
}

static void collect(void *ctx, const struct task *t, const struct run *run, int64_t bytes_max,
                    struct run_output *ret)
{
    (void)ctx, (void)t, (void)run, (void)bytes_max;
    *ret = (struct run_output){.text = STR("")};
}

static struct str partial(void *ctx, const char *task)
{
    (void)ctx, (void)task;
    return STR("");
}

void box_commit(void)
{
    CLEANUP(buf_free) struct buf error = {0};
    pump_flush(box.d.pump);
    while (committing) {
        struct store_batch *full = batch;
        batch = store_batch_new();
        committing = false;
        if (store_commit_wait(box.d.store, full, &error) != 0)
            fail_msg("%s", error.p);
        for (; keys_n > 0; keys_n--) {
            mem_free(keys[keys_n - 1].name);
            buf_free(&keys[keys_n - 1].digest);
            buf_free(&keys[keys_n - 1].result);
        }
        pump_committed(box.d.pump);
        pump_flush(box.d.pump);
    }
}

/* ---- daemon.h ---- */

void world_task_spec(struct daemon *d, const char *task, struct str spec, struct str head)
{
    (void)d, (void)task;
    buf_clear(&box.spec);
    buf_clear(&box.head);
    buf_str(&box.spec, spec);
    buf_str(&box.head, head);
}

void world_stop_through(struct daemon *d)
{
    (void)d;
    box.stops++;
}

void world_key_put(struct daemon *d, const char *key, const char *task, struct str digest, struct str result)
{
    struct key *k = &keys[keys_n++];
    k->name = mem_strdup(key);
    buf_str(&k->digest, digest);
    buf_str(&k->result, result);
    store_batch_key(batch, key, task, digest, result, now(NULL).wall_ms);
    pump_dirty(d->pump);
}

int world_key_find(struct daemon *d, const char *key, struct buf *ret_digest, struct buf *ret_result)
{
    for (size_t i = 0; i < keys_n; i++) {
        if (strcmp(keys[i].name, key) != 0)
            continue;
        buf_str(ret_digest, buf_view(&keys[i].digest));
        buf_str(ret_result, buf_view(&keys[i].result));
        return 0;
    }
    return store_key_find(d->store, key, ret_digest, ret_result);
}

const struct task *world_task(struct daemon *d, struct str ref, enum rpc_error *ret_error)
{
    char id[32];
    *ret_error = RPC_TASK_NOT_FOUND;
    const struct task *t = core_task_named(d->core, ref);
    if (!t && store_task_resolve(d->store, ref, id) == 0)
        t = core_task(d->core, id);
    return t;
}

void world_stop(struct daemon *d, bool restart)
{
    d->stopping = true;
    box.stopped = true;
    box.restarted = restart;
}

size_t rpc_clients(const struct rpc *r)
{
    (void)r;
    return 3;
}

/* ---- life ---- */

static struct config_provider providers[] = {
    {"local", "openai-responses", "http://127.0.0.1:1/v1", "env:TEST_COMMANDS_KEY"},
    {"bare", "openai-chat", "http://127.0.0.1:1/v1", NULL},
    {"locked", "openai-chat", "http://127.0.0.1:1/v1", "env:TEST_COMMANDS_UNSET"},
};
static struct config_model models[] = {
    {"main", "local", "model-1", 1000, 100, 1750, 175, 14000},
    {"second", "bare", "model-2", 0, 0, 0, 0, 0},
    {"third", "locked", "model-3", 0, 0, 0, 0, 0},
};

static struct world world_of_box(void)
{
    return (struct world){
        .now = now,
        .random = chance,
        .journal_event = journal_event,
        .journal_context = journal_context,
        .journal_task = journal_task,
        .commit = commit,
        .published = published,
        .effect_start = effect,
        .effect_cancel = effect,
        .wake_in = wake_in,
        .collect = collect,
        .partial = partial,
    };
}

int box_open(void **state)
{
    CLEANUP(buf_free) struct buf error = {0};
    (void)state;
    box = (struct command_box){0};
    box_commits = true;
    keys_n = 0;
    committing = false;
    assert_true(sodium_init() >= 0);
    setenv("TEST_COMMANDS_KEY", SECRET_VALUE, 1);
    unsetenv("TEST_COMMANDS_UNSET");
    snprintf(box.dir, sizeof box.dir, "/tmp/agentd-commands-XXXXXX");
    assert_non_null(mkdtemp(box.dir));
    snprintf(box.workspace, sizeof box.workspace, "%s/work", box.dir);
    mkdir(box.workspace, 0700);
    uv_loop_init(&box.loop);
    box.config = (struct config){.model = (char *)"main",
                                 .models = models,
                                 .models_n = 3,
                                 .providers = providers,
                                 .providers_n = 3,
                                 .limits = limits_default()};
    box.d = (struct daemon){.loop = &box.loop,
                            .config = &box.config,
                            .state_dir = box.dir,
                            .socket_path = "/s",
                            .runner_path = "/bin/sh",
                            .tool_path = "/nowhere/agentd-tool",
                            .rpc = (struct rpc *)&box};
    if (store_open(box.dir, &box.loop, &box.d.store, &error) != 0)
        fail_msg("%s", error.p);
    struct world world = world_of_box();
    box.d.core = core_new(&box.config.limits);
    box.d.pump = pump_new(box.d.core, &world, &box.config.limits, store_pos_last(box.d.store));
    batch = store_batch_new();
    return 0;
}

int box_close(void **state)
{
    char command[128];
    (void)state;
    box_commit();
    pump_free(box.d.pump);
    core_free(box.d.core);
    store_batch_free(batch);
    store_close(box.d.store);
    uv_run(&box.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&box.loop), 0);
    buf_free(&box.spec);
    buf_free(&box.head);
    snprintf(command, sizeof command, "rm -rf '%s'", box.dir);
    return system(command);
}
