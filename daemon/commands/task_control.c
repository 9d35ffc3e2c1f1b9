/* task/cancel, task/pause, task/resume: one input each, without anything but the task. */
#include "key.h"

#include "daemon/base/mem.h"

#include <assert.h>

/* The three results are of one shape. */
static_assert(sizeof(struct result_task_cancel) == sizeof(int64_t), "");
static_assert(sizeof(struct result_task_pause) == sizeof(int64_t), "");
static_assert(sizeof(struct result_task_resume) == sizeof(int64_t), "");

static void control(const struct command *c, enum input_kind kind, struct str ref, struct str key)
{
    struct change change;
    bool stops = kind != INPUT_RESUME;
    if (!(stops ? change_begin_stop(&change, c, key) : change_begin(&change, c, key)))
        return;
    enum rpc_error error = RPC_OK;
    const struct task *task = world_task(c->d, ref, &error);
    if (!task) {
        change_fail_no_task(&change, error, ref);
        return;
    }
    struct input input = {.kind = kind, .task = task->id, .client = c->client.name, .role = c->client.role};
    struct outcome outcome = {0};
    CLEANUP(buf_free) struct buf detail = {0};
    error = pump_input(c->d->pump, &input, &outcome, &detail);
    if (error != RPC_OK) {
        change_fail(&change, error, buf_view(&detail));
        return;
    }
    change_end(&change, task->id, &outcome.seq);
    if (stops)
        world_stop_through(c->d);
}

void command_task_cancel(const struct command *c, const struct params_task_cancel *params)
{
    control(c, INPUT_CANCEL, params->task, params->key);
}

void command_task_pause(const struct command *c, const struct params_task_pause *params)
{
    control(c, INPUT_PAUSE, params->task, params->key);
}

void command_task_resume(const struct command *c, const struct params_task_resume *params)
{
    control(c, INPUT_RESUME, params->task, params->key);
}
