#pragma once
/* What the files of this folder share: a request on its way through its command, and the two ways to answer
 * it. */
#include "daemon/commands/commands.h"
#include "daemon/daemon.h"

struct command {
    struct daemon *d;
    struct rpc_call *call;
    struct command_client client;
    enum method method;
    struct str params_json;
};

/* One for each method; each answers the call. */
void command_task_create(const struct command *c, const struct params_task_create *params);
void command_task_steer(const struct command *c, const struct params_task_steer *params);
void command_task_cancel(const struct command *c, const struct params_task_cancel *params);
void command_task_pause(const struct command *c, const struct params_task_pause *params);
void command_task_resume(const struct command *c, const struct params_task_resume *params);
void command_task_get(const struct command *c, const struct params_task_get *params);
void command_task_list(const struct command *c, const struct params_task_list *params);
void command_task_events(const struct command *c, const struct params_task_events *params);
void command_daemon_status(const struct command *c);
void command_daemon_shutdown(const struct command *c, const struct params_daemon_shutdown *params);
void command_daemon_doctor(const struct command *c);
void command_daemon_backup(const struct command *c, const struct params_daemon_backup *params);
void command_models_list(const struct command *c);
void command_rpc_describe(const struct command *c);

/* Answers at once with the result struct of the method. */
void command_reply(const struct command *c, const void *result);
/* Answers once everything applied so far is durable. */
void command_reply_after(const struct command *c, struct str result_json);
/* Calls fn once everything applied so far is durable. On a full disk at once: a view then shows what is
 * committed, which is all that it ever shows, and does not wait for somebody to make room. The command is
 * copied. */
typedef void command_view_fn(const struct command *c, const void *params);
void command_view(const struct command *c, command_view_fn *fn, const void *params);
