/* agentctl log: the events of a task. */
#include "client/client.h"
#include "client/follow.h"
#include "client/say.h"
#include "client/text.h"

#include "daemon/base/json.h"
#include "daemon/base/mem.h"

static void show_page(struct client *c, struct view *v, const struct link_reply *page)
{
    struct str events = json_find(page->text, "events"), event;
    size_t i;
    json_t *e;
    if (c->json) {
        while (json_next(&events, &event))
            say_json(event);
        return;
    }
    json_array_foreach(json_object_get(page->json, "events"), i, e) view_event(v, e);
}

/* Shows pages up to the end; *after is the last event shown. */
static int show_all(struct client *c, struct view *v, const char *task, int64_t *after)
{
    for (;;) {
        CLEANUP(link_reply_free) struct link_reply page = {0};
        struct params_task_events params = {.task = str_of(task), .after = *after, .limit = 1000, .bytes = 1048576};
        int rc = link_call(c->link, METHOD_TASK_EVENTS, &params, &page);
        if (rc != LINK_OK)
            return client_fail(c, rc);
        show_page(c, v, &page);
        const json_t *next = json_object_get(page.json, "next");
        if (!json_is_integer(next))
            return EXIT_DONE;
        *after = json_integer_value(next);
    }
}

static int follow(struct client *c, struct view *v, const char *ref, int64_t after)
{
    CLEANUP(link_reply_free) struct link_reply reply = {0};
    int code = client_get_task(c, ref, &reply);
    if (code != EXIT_DONE)
        return code;
    const json_t *task = json_object_get(reply.json, "task");
    struct follow f = {.task = client_string(task, "id"), .after_seq = after, .known = task, .view = v, .json = c->json, .deadline_ms = -1};
    return follow_run(c, &f);
}

int cmd_log(struct client *c)
{
    const char *given = args_option(&c->args, "--after");
    struct view_options options = {.times = true};
    int64_t after = 0;
    if (given && text_parse_number(given, &after) < 0)
        return client_usage(c, "--after needs the number of an event, not %s", given);
    client_catch_interrupt();
    struct view *v = c->json ? NULL : view_new(&options);
    int code = args_has(&c->args, "--follow") ? follow(c, v, c->args.args[0], after) : show_all(c, v, c->args.args[0], &after);
    if (v)
        view_break(v);
    view_free(v);
    return code;
}
