/* agentctl wait: blocks until a task ends or needs a person. */
#include "client/client.h"
#include "client/follow.h"
#include "client/say.h"
#include "client/text.h"

#include "daemon/base/mem.h"

int cmd_wait(struct client *c)
{
    CLEANUP(link_reply_free) struct link_reply reply = {0}, end = {0};
    const char *given = args_option(&c->args, "--timeout");
    int64_t timeout_ms = 0;
    if (given && text_parse_duration(given, &timeout_ms) < 0)
        return client_usage(c, "--timeout takes a duration like 30s, 10m, 2h or 3d, not %s", given);
    client_catch_interrupt();
    int64_t deadline_ms = given ? link_now_ms() + timeout_ms : -1;
    int code = client_get_task(c, c->args.args[0], &reply);
    if (code != EXIT_DONE)
        return code;
    const json_t *task = json_object_get(reply.json, "task");
    const char *id = client_string(task, "id");
    struct follow f = {.task = id,
                       .after_seq = json_integer_value(json_object_get(task, "seq")),
                       .known = task,
                       .deadline_ms = deadline_ms};
    code = follow_run(c, &f);
    if (code == EXIT_INTERRUPTED || code == EXIT_NO_DAEMON || code == EXIT_USAGE)
        return code;
    if (!c->json) {
        if (code == EXIT_TIMEOUT)
            say_talkf("%s is still at work", client_string(task, "name"));
        else
            follow_say_end(c, id, code);
        return code;
    }
    int failed = client_get_task(c, id, &end);
    if (failed != EXIT_DONE)
        return failed;
    say_json(end.text);
    return code;
}
