/* task/steer */
#include "key.h"

#include "daemon/base/mem.h"

#include <inttypes.h>
#include <stdio.h>

void command_task_steer(const struct command *c, const struct params_task_steer *params)
{
    struct change change;
    if (!change_begin(&change, c, params->key))
        return;
    enum rpc_error error = RPC_OK;
    const struct task *task = world_task(c->d, params->task, &error);
    if (!task) {
        change_fail_no_task(&change, error, params->task);
        return;
    }
    struct input input = {
        .kind = INPUT_STEER,
        .task = task->id,
        .client = c->client.name,
        .role = c->client.role,
        .steer = {.text = params->text, .key = params->key, .delivery = params->delivery},
    };
    struct outcome outcome = {0};
    CLEANUP(buf_free) struct buf detail = {0};
    error = pump_input(c->d->pump, &input, &outcome, &detail);
    if (error != RPC_OK) {
        change_fail(&change, error, buf_view(&detail));
        return;
    }
    char id[32];
    snprintf(id, sizeof id, "s%" PRId64, outcome.steer);
    struct result_task_steer result = {.steer = str_of(id), .seq = outcome.seq};
    change_end(&change, task->id, &result);
}
