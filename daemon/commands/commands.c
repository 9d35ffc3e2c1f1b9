#include "command.h"

#include "daemon/base/mem.h"

static void dispatch(const struct command *c, const void *params)
{
    switch (c->method) {
    case METHOD_TASK_CREATE:
        command_task_create(c, params);
        return;
    case METHOD_TASK_GET:
        command_task_get(c, params);
        return;
    case METHOD_TASK_LIST:
        command_task_list(c, params);
        return;
    case METHOD_TASK_STEER:
        command_task_steer(c, params);
        return;
    case METHOD_TASK_CANCEL:
        command_task_cancel(c, params);
        return;
    case METHOD_TASK_PAUSE:
        command_task_pause(c, params);
        return;
    case METHOD_TASK_RESUME:
        command_task_resume(c, params);
        return;
    case METHOD_TASK_EVENTS:
        command_task_events(c, params);
        return;
    case METHOD_DAEMON_STATUS:
        command_daemon_status(c);
        return;
    case METHOD_DAEMON_SHUTDOWN:
        command_daemon_shutdown(c, params);
        return;
    case METHOD_DAEMON_DOCTOR:
        command_daemon_doctor(c);
        return;
    case METHOD_DAEMON_BACKUP:
        command_daemon_backup(c, params);
        return;
    case METHOD_MODELS_LIST:
        command_models_list(c);
        return;
    case METHOD_RPC_DESCRIBE:
        command_rpc_describe(c);
        return;
    case METHOD_INITIALIZE:
    case METHOD_EVENTS_SUBSCRIBE:
    case METHOD_EVENTS_UNSUBSCRIBE:
        break; /* rpc answers these itself */
    }
    rpc_fail(c->call, RPC_METHOD_NOT_FOUND, STR_NONE);
}

void commands_run(struct daemon *d, struct rpc_call *call, const struct command_client *client,
                  enum method method, const void *params, struct str params_json)
{
    struct command c = {
        .d = d, .call = call, .client = *client, .method = method, .params_json = params_json};
    dispatch(&c, params);
}

void command_reply(const struct command *c, const void *result)
{
    CLEANUP(buf_free) struct buf json = {0};
    proto_encode(&json, method_descriptors[c->method].result, result);
    rpc_reply(c->call, buf_view(&json));
}

/* ---- what waits for its commit ---- */

struct answer {
    struct rpc_call *call;
    struct buf json;
};

static void on_answer_durable(void *arg)
{
    struct answer *answer = arg;
    rpc_reply(answer->call, buf_view(&answer->json));
    buf_free(&answer->json);
    mem_free(answer);
}

void command_reply_after(const struct command *c, struct str result_json)
{
    if (pump_settled(c->d->pump)) {
        rpc_reply(c->call, result_json);
        return;
    }
    struct answer *answer = MEM_NEW(struct answer);
    answer->call = c->call;
    buf_str(&answer->json, result_json);
    pump_after(c->d->pump, on_answer_durable, answer);
}

struct view {
    struct command command;
    command_view_fn *fn;
    const void *params;
};

static void on_view_durable(void *arg)
{
    struct view *view = arg;
    view->fn(&view->command, view->params);
    mem_free(view);
}

void command_view(const struct command *c, command_view_fn *fn, const void *params)
{
    if (c->d->disk_full || pump_settled(c->d->pump)) {
        fn(c, params);
        return;
    }
    struct view *view = MEM_NEW(struct view);
    *view = (struct view){.command = *c, .fn = fn, .params = params};
    view->command.client.name = STR_NONE; /* the connection may go first; a view does not need it */
    view->command.params_json = STR_NONE;
    pump_after(c->d->pump, on_view_durable, view);
}
