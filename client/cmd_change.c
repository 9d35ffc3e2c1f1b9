/* agentctl cancel, pause, resume: one change each, alike but for the method. */
#include "client/client.h"
#include "client/say.h"

/* params_task_cancel, _pause and _resume are alike. */
_Static_assert(sizeof(struct params_task_cancel) == sizeof(struct params_task_pause) &&
                   sizeof(struct params_task_cancel) == sizeof(struct params_task_resume),
               "the three methods take the same");

static int change(struct client *c, enum method method, const char *done)
{
    char key[LINK_KEY_SIZE];
    struct params_task_cancel params = {.task = str_of(c->args.args[0]), .key = client_key(c, key)};
    int code = client_call(c, method, &params, NULL);
    if (code == EXIT_DONE && !c->json)
        say_talkf("%s: %s", c->args.args[0], done);
    return code;
}

int cmd_cancel(struct client *c)
{
    return change(c, METHOD_TASK_CANCEL, "cancelled");
}

int cmd_pause(struct client *c)
{
    return change(c, METHOD_TASK_PAUSE, "paused; agentctl resume lets it go on");
}

int cmd_resume(struct client *c)
{
    return change(c, METHOD_TASK_RESUME, "goes on");
}
