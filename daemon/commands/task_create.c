/* task/create: checks all that can be known before the task is accepted, so that what is accepted can run;
 * resolves the model and puts what the task keeps of it into its spec. */
#include "env.h"
#include "instructions.h"
#include "key.h"
#include "name.h"
#include "spec.h"

#include "daemon/base/mem.h"
#include "daemon/base/ulid.h"
#include "daemon/base/utf8.h"
#include "daemon/model/provider.h"
#include "daemon/tools/tools.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct creation {
    struct daemon *d;
    const struct params_task_create *params;
    char id[TASK_ID_SIZE];
    struct buf name;
    char *workspace; /* real path, of malloc() */
    const struct config_model *model;
    const struct config_provider *config_provider;
    const struct provider *provider;
    char **env;
    struct buf instructions;
    struct buf detail; /* of an error */
};

/* ---- checks ---- */

static enum rpc_error check_name(struct creation *t)
{
    struct str name = t->params->name;
    if (name.p && !name_valid(name)) {
        buf_puts(&t->detail, "\"name\" takes letters, digits, \"-\", \"_\" and \".\", and begins with none "
                             "of \"-\" and \".\"");
        return RPC_INVALID_PARAMS;
    }
    if (name.p) {
        buf_str(&t->name, name);
        if (!core_task_named(t->d->core, name))
            return RPC_OK;
        buf_printf(&t->detail, "a live task has the name \"%.*s\"", STR_ARG(name));
        return RPC_NAME_TAKEN;
    }
    name_from_prompt(t->params->prompt, &t->name);
    size_t base = t->name.n;
    for (int i = 2; core_task_named(t->d->core, buf_view(&t->name)); i++) {
        t->name.n = base;
        buf_printf(&t->name, "-%d", i);
    }
    return RPC_OK;
}

static enum rpc_error check_policy(struct creation *t)
{
    if (!t->params->policy.p || str_eqz(t->params->policy, "open"))
        return RPC_OK;
    buf_printf(&t->detail, "there is no policy \"%.*s\"", STR_ARG(t->params->policy));
    return RPC_POLICY_UNKNOWN;
}

static enum rpc_error check_workspace(struct creation *t)
{
    CLEANUP(buf_free) struct buf path = {0};
    buf_str(&path, t->params->workspace);
    struct stat st;
    if (path.p[0] != '/')
        buf_printf(&t->detail, "the workspace must be an absolute path, not \"%s\"", path.p);
    else if (!(t->workspace = realpath(path.p, NULL)) || stat(t->workspace, &st) < 0)
        buf_printf(&t->detail, "the workspace %s cannot be used: %s", path.p, strerror(errno));
    else if (!S_ISDIR(st.st_mode))
        buf_printf(&t->detail, "the workspace %s is not a folder", path.p);
    else if (access(t->workspace, R_OK | X_OK) < 0)
        buf_printf(&t->detail, "the workspace %s cannot be entered: %s", path.p, strerror(errno));
    else if (!utf8_valid(str_of(t->workspace)))
        buf_printf(&t->detail, "the path behind the workspace %s is not UTF-8", path.p);
    return t->detail.n ? RPC_WORKSPACE_INVALID : RPC_OK;
}

static enum rpc_error no_model(struct creation *t)
{
    const struct config *config = t->d->config;
    if (config->advice)
        buf_puts(&t->detail, config->advice);
    return RPC_MODEL_NOT_CONFIGURED;
}

static enum rpc_error check_model(struct creation *t)
{
    const struct config *config = t->d->config;
    struct str name = t->params->model;
    if (config->models_n == 0 || (!name.p && !config->model))
        return no_model(t);
    t->model = config_model_find(config, name);
    if (!t->model) {
        buf_printf(&t->detail, "there is no model \"%.*s\"; configured:", STR_ARG(name));
        for (size_t i = 0; i < config->models_n; i++)
            buf_printf(&t->detail, "%s %s", i ? "," : "", config->models[i].name);
        return RPC_MODEL_UNKNOWN;
    }
    t->config_provider = config_provider_find(config, t->model->provider);
    t->provider = t->config_provider ? provider_find(str_of(t->config_provider->wire)) : NULL;
    if (t->provider)
        return RPC_OK;
    buf_printf(&t->detail, "the model %s has no usable provider: %s", t->model->name,
               t->config_provider ? t->config_provider->wire : t->model->provider);
    return RPC_MODEL_NOT_CONFIGURED;
}

/* A task that could not even send its first request is better refused while somebody is looking. */
static enum rpc_error check_credentials(struct creation *t)
{
    CLEANUP(buf_free) struct buf key = {0};
    int rc = config_key(t->config_provider, &key, &t->detail);
    if (key.p)
        sodium_memzero(key.p, key.cap);
    return rc < 0 ? RPC_CREDENTIALS_MISSING : RPC_OK;
}

static enum rpc_error check_env(struct creation *t)
{
    return env_read(t->params->env, &t->env, &t->detail) < 0 ? RPC_INVALID_PARAMS : RPC_OK;
}

/* More of tasks that have ended cannot be removed: see store_retain(). */
static enum rpc_error check_storage(struct creation *t)
{
    struct store_usage usage;
    store_usage(t->d->store, &usage);
    if (!usage.over)
        return RPC_OK;
    buf_printf(&t->detail,
               "%lld bytes are stored, limits.storage_bytes_max allows %lld, and all of it is of tasks that have not ended: cancel "
               "some, or raise the limit",
               (long long)usage.bytes, (long long)usage.bytes_max);
    return RPC_LIMIT_REACHED;
}

static enum rpc_error check(struct creation *t)
{
    static enum rpc_error (*const checks[])(struct creation * t) = {
        check_policy, check_workspace, check_env, check_model, check_credentials, check_name, check_storage,
    };
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        enum rpc_error error = checks[i](t);
        if (error != RPC_OK)
            return error;
    }
    return RPC_OK;
}

/* ---- making ---- */

static void make_id(char ret[TASK_ID_SIZE])
{
    struct timespec now;
    uint8_t random[ULID_RANDOM_SIZE];
    clock_gettime(CLOCK_REALTIME, &now);
    randombytes_buf(random, sizeof random);
    ret[0] = 't';
    ulid_format((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000, random, ret + 1);
}

static struct task_spec spec_of(struct creation *t)
{
    return (struct task_spec){
        .model =
            {
                .wire = str_of(t->config_provider->wire),
                .base_url = str_of(t->config_provider->base_url),
                .name = str_of(t->model->model),
                .context_window = t->model->context_window,
                .max_output_tokens = t->model->max_output_tokens,
                .price_input = t->model->price_input,
                .price_cached_input = t->model->price_cached_input,
                .price_output = t->model->price_output,
            },
        .provider = t->config_provider->name,
        .workspace = t->workspace,
        .instructions = t->instructions.p,
        .env = t->env,
    };
}

static void put_head(struct creation *t, const struct model_spec *model, struct buf *head)
{
    size_t n;
    const struct tool *tools = tools_all(&n);
    struct provider_tool *told = mem_alloc(n * sizeof *told);
    for (size_t i = 0; i < n; i++)
        told[i] = (struct provider_tool){tools[i].name, tools[i].description, tools[i].parameters};
    t->provider->put_head(head, model, told, n, buf_view(&t->instructions), str_of(t->id));
    mem_free(told);
}

static enum rpc_error create(struct creation *t, const struct command_client *client, struct outcome *ret)
{
    make_id(t->id);
    instructions_put(&t->instructions, str_of(t->workspace));
    struct task_spec spec = spec_of(t);
    CLEANUP(buf_free) struct buf spec_json = {0}, head = {0}, tail = {0};
    spec_encode(&spec, &spec_json);
    put_head(t, &spec.model, &head);
    t->provider->put_tail(&tail, &spec.model);
    world_task_spec(t->d, t->id, buf_view(&spec_json), buf_view(&head));
    struct input input = {
        .kind = INPUT_TASK_CREATE,
        .task = t->id,
        .client = client->name,
        .role = client->role,
        .create =
            {
                .name = buf_view(&t->name),
                .prompt = t->params->prompt,
                .workspace = str_of(t->workspace),
                .model = str_of(t->model->name),
                .policy = STR("open"),
                .keep_open = t->params->keep_open,
                .head_bytes = (int64_t)head.n,
                .tail_bytes = (int64_t)tail.n,
                .price_input = t->model->price_input,
                .price_output = t->model->price_output,
                .max_output_tokens = t->model->max_output_tokens,
            },
    };
    return pump_input(t->d->pump, &input, ret, &t->detail);
}

static void creation_free(struct creation *t)
{
    buf_free(&t->name);
    buf_free(&t->instructions);
    buf_free(&t->detail);
    free(t->workspace);
    env_free(t->env);
}

void command_task_create(const struct command *c, const struct params_task_create *params)
{
    struct change change;
    if (!change_begin(&change, c, params->key))
        return;
    CLEANUP(creation_free) struct creation t = {.d = c->d, .params = params};
    struct outcome outcome = {0};
    enum rpc_error error = check(&t);
    if (error == RPC_OK)
        error = create(&t, &c->client, &outcome);
    if (error != RPC_OK) {
        change_fail(&change, error, buf_view(&t.detail));
        return;
    }
    struct result_task_create result = {.task = str_of(t.id), .seq = outcome.seq};
    change_end(&change, NULL, &result); /* no task yet that the key could be remembered with */
}
