/* agentctl steer: input to a task; returns once it is durable, or later if asked. */
#include "client/client.h"
#include "client/follow.h"
#include "client/say.h"

#include "daemon/base/mem.h"

#define TEXT_BYTES_MAX 1048576

enum stage { STAGE_ACCEPTED, STAGE_DELIVERED, STAGE_SEEN };
static const char *const stages[] = {"accepted", "delivered", "seen"};

static int read_options(const struct client *c, enum delivery *ret_delivery, enum stage *ret_stage)
{
    bool now = args_has(&c->args, "--now"), next = args_has(&c->args, "--next"), queue = args_has(&c->args, "--queue");
    const char *wait = args_option(&c->args, "--wait");
    if (now + next + queue > 1)
        return client_usage(c, "choose one of --now, --next and --queue");
    *ret_delivery = now ? DELIVERY_NOW : queue ? DELIVERY_QUEUE : DELIVERY_NEXT;
    *ret_stage = STAGE_ACCEPTED;
    for (int i = 0; wait && i < 3; i++) {
        if (strcmp(wait, stages[i]) == 0) {
            *ret_stage = (enum stage)i;
            return EXIT_DONE;
        }
    }
    return wait ? client_usage(c, "--wait takes accepted, delivered or seen, not %s", wait) : EXIT_DONE;
}

/* The stage that this event tells of, or -1. */
static int stage_of(const json_t *event, const char *steer)
{
    const char *kind = client_string(event, "kind");
    if (strcmp(client_string(event, "steer"), steer) != 0)
        return -1;
    return strcmp(kind, "steer.delivered") == 0 ? STAGE_DELIVERED : strcmp(kind, "steer.seen") == 0 ? STAGE_SEEN : -1;
}

/* A task that ends or rests before that has to be told apart from one that merely takes its time. */
static int say_unreached(const json_t *event, enum stage stage)
{
    int verdict = strcmp(client_string(event, "kind"), "task.state") == 0
                      ? follow_verdict(client_string(event, "to"), json_object_get(event, "waiting"))
                      : -1;
    if (verdict >= 0)
        say_talkf("the task is %s; the steer was accepted, but is not %s yet", client_string(event, "to"), stages[stage]);
    return verdict == EXIT_DONE ? EXIT_FAILED : verdict;
}

static int wait_for(struct client *c, const char *task, int64_t seq, const char *steer, enum stage stage)
{
    int subscription, rc = link_subscribe(c->link, task, seq, false, &subscription);
    while (rc == LINK_OK) {
        CLEANUP(link_message_free) struct link_message m = {0};
        rc = link_next(c->link, -1, -1, &m);
        if (rc != LINK_OK)
            break;
        if (stage_of(m.json, steer) >= (int)stage)
            return EXIT_DONE;
        int code = say_unreached(m.json, stage);
        if (code >= 0)
            return code;
    }
    if (rc == LINK_E_INTERRUPTED)
        say_talk("left; the steer is accepted and stays so");
    return client_fail(c, rc);
}

int cmd_steer(struct client *c)
{
    CLEANUP(link_reply_free) struct link_reply reply = {0}, known = {0};
    CLEANUP(buf_free) struct buf text = {0};
    char key[LINK_KEY_SIZE];
    enum delivery delivery = DELIVERY_NEXT;
    enum stage stage;
    const char *task = c->args.args[0];
    int code = read_options(c, &delivery, &stage);
    if (code == EXIT_DONE)
        code = client_text(c, c->args.args[1], "TEXT", TEXT_BYTES_MAX, &text);
    if (code != EXIT_DONE)
        return code;
    client_catch_interrupt();
    if (stage != STAGE_ACCEPTED) { /* @last and names may mean another task by the time that we wait */
        code = client_get_task(c, task, &known);
        if (code != EXIT_DONE)
            return code;
        task = client_string(json_object_get(known.json, "task"), "id");
    }
    struct params_task_steer params = {
        .task = str_of(task), .text = buf_view(&text), .delivery = delivery, .key = client_key(c, key)};
    int rc = link_call(c->link, METHOD_TASK_STEER, &params, &reply);
    if (rc != LINK_OK)
        return client_fail(c, rc);
    const char *steer = client_string(reply.json, "steer");
    if (stage != STAGE_ACCEPTED)
        code = wait_for(c, task, json_integer_value(json_object_get(reply.json, "seq")), steer, stage);
    if (c->json)
        say_json(reply.text);
    else if (code == EXIT_DONE)
        say_talkf("%s %s", steer, stages[stage]);
    return code;
}
