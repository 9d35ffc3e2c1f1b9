/* agentctl run: creates a task and follows it. */
#include "client/client.h"
#include "client/environment.h"
#include "client/follow.h"
#include "client/say.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>

#define PROMPT_BYTES_MAX 1048576

static int find_workspace(struct client *c, char ret[PATH_MAX])
{
    struct stat st;
    const char *given = args_option(&c->args, "--workspace");
    if (!realpath(given ? given : ".", ret))
        return client_usage(c, "the workspace %s: %s", given ? given : "(the current folder)", strerror(errno));
    if (stat(ret, &st) < 0 || !S_ISDIR(st.st_mode))
        return client_usage(c, "the workspace %s is not a folder", ret);
    if (!utf8_valid(str_of(ret)))
        return client_usage(c, "the workspace's path is not valid UTF-8: %s", ret);
    return EXIT_DONE;
}

static struct str option(const struct client *c, const char *name)
{
    return str_of(args_option(&c->args, name));
}

/* Creates it; the reply is task/create's. */
static int create(struct client *c, struct link_reply *ret)
{
    CLEANUP(buf_free) struct buf prompt = {0}, env = {0};
    char workspace[PATH_MAX], key[LINK_KEY_SIZE];
    int code = find_workspace(c, workspace);
    if (code == EXIT_DONE)
        code = client_text(c, c->args.args[0], "PROMPT", PROMPT_BYTES_MAX, &prompt);
    if (code != EXIT_DONE)
        return code;
    environment_put(&env);
    struct params_task_create params = {
        .prompt = buf_view(&prompt),
        .workspace = str_of(workspace),
        .model = option(c, "--model"),
        .name = option(c, "--name"),
        .keep_open = args_has(&c->args, "--keep-open"),
        .policy = option(c, "--policy"),
        .env = buf_view(&env),
        .key = client_key(c, key),
    };
    client_catch_interrupt();
    int rc = link_call(c->link, METHOD_TASK_CREATE, &params, ret);
    if (rc == LINK_E_INTERRUPTED)
        say_talk("left before the daemon had answered; agentctl status shows whether the task exists");
    return rc == LINK_OK ? EXIT_DONE : client_fail(c, rc);
}

static int follow_new(struct client *c, const char *id, const json_t *task)
{
    const char *name = client_string(task, "name");
    struct view_options options = {.hide_objective = true, .hide_end = true};
    struct follow f = {.task = id, .known = task, .json = c->json, .deadline_ms = -1};
    say_talkf("task %s (%s)", name, id);
    say_talk("  its tools run with your rights (policy open); Ctrl-C leaves, the task goes on");
    if (!c->json)
        f.view = view_new(&options);
    int code = follow_run(c, &f);
    if (f.view)
        view_break(f.view);
    if (code == EXIT_INTERRUPTED)
        say_interrupted();
    say_flush();
    view_free(f.view);
    follow_say_end(c, id, code);
    if (code == EXIT_INTERRUPTED)
        say_talkf("left; %s goes on. agentctl attach %s comes back to it", name, name);
    return code;
}

int cmd_run(struct client *c)
{
    CLEANUP(link_reply_free) struct link_reply created = {0}, task = {0};
    int code = create(c, &created);
    if (code != EXIT_DONE)
        return code;
    const char *id = client_string(created.json, "task");
    if (args_has(&c->args, "--detach")) {
        if (c->json) {
            say_json(created.text);
        } else {
            say_data(str_of(id));
            say_data(STR("\n"));
        }
        return EXIT_DONE;
    }
    code = client_get_task(c, id, &task);
    if (code == EXIT_INTERRUPTED)
        say_talkf("left; %s goes on", id);
    return code == EXIT_DONE ? follow_new(c, id, json_object_get(task.json, "task")) : code;
}
