#include "follow.h"

#include "client/say.h"
#include "client/text.h"

#include "daemon/base/clock.h"
#include "daemon/base/mem.h"

int follow_verdict(const char *state, const json_t *waiting)
{
    static const char *const person[] = {"input", "approval", "question", "budget", "progress", "credentials"};
    if (strcmp(state, "completed") == 0)
        return EXIT_DONE;
    if (strcmp(state, "failed") == 0)
        return EXIT_FAILED;
    if (strcmp(state, "cancelled") == 0)
        return EXIT_CANCELLED;
    if (strcmp(state, "paused") == 0)
        return EXIT_PERSON;
    const char *reason = client_string(waiting, "for");
    for (size_t i = 0; strcmp(state, "waiting") == 0 && i < sizeof person / sizeof person[0]; i++) {
        if (strcmp(reason, person[i]) == 0)
            return EXIT_PERSON;
    }
    return -1;
}

static void show(const struct follow *f, const struct link_message *m)
{
    if (f->json && !m->delta) {
        CLEANUP(buf_free) struct buf text = {0};
        link_message_text(m, &text);
        say_json(buf_view(&text));
    } else if (f->view && m->delta) {
        view_delta(f->view, m->json);
    } else if (f->view) {
        view_event(f->view, m->json);
    }
}

/* The verdict that this event brings, or -1. */
static int verdict_of(const json_t *event, int64_t known_seq, int known_verdict)
{
    int64_t seq = json_integer_value(json_object_get(event, "seq"));
    if (seq == known_seq && known_verdict >= 0)
        return known_verdict;
    if (seq <= known_seq || strcmp(client_string(event, "kind"), "task.state") != 0)
        return -1;
    return follow_verdict(client_string(event, "to"), json_object_get(event, "waiting"));
}

/* The next notification, until the deadline. */
static int next(struct client *c, const struct follow *f, struct link_message *m)
{
    int64_t left = f->deadline_ms < 0 ? -1 : f->deadline_ms - link_now_ms();
    if (f->deadline_ms >= 0 && left < 0)
        left = 0;
    say_flush();
    return link_next(c->link, -1, left, m);
}

int follow_run(struct client *c, const struct follow *f)
{
    int64_t known_seq = json_integer_value(json_object_get(f->known, "seq"));
    int known_verdict = follow_verdict(client_string(f->known, "state"), json_object_get(f->known, "waiting"));
    int subscription;
    if (f->after_seq >= known_seq && known_verdict >= 0)
        return known_verdict;
    int rc = link_subscribe(c->link, f->task, f->after_seq, f->view && say_is_terminal(), &subscription);
    while (rc == LINK_OK) {
        CLEANUP(link_message_free) struct link_message m = {0};
        rc = next(c, f, &m);
        if (rc != LINK_OK)
            break;
        show(f, &m);
        int verdict = m.delta ? -1 : verdict_of(m.json, known_seq, known_verdict);
        if (verdict >= 0)
            return verdict;
    }
    if (f->view)
        view_break(f->view);
    say_flush();
    if (rc == LINK_TIMEOUT)
        return EXIT_TIMEOUT;
    return rc == LINK_E_INTERRUPTED ? EXIT_INTERRUPTED : client_fail(c, rc);
}

/* ---- the end ---- */

static int64_t time_of(const json_t *o, const char *name)
{
    int64_t ms = 0;
    return clock_parse(client_string(o, name), &ms) == 0 ? ms : 0;
}

static void put_tokens(struct buf *b, const json_t *usage, const char *name, const char *after)
{
    text_put_count(b, json_integer_value(json_object_get(usage, name)));
    buf_puts(b, after);
}

void follow_put_usage(struct buf *b, const json_t *task)
{
    const json_t *usage = json_object_get(task, "usage");
    long long steps = json_integer_value(json_object_get(task, "steps"));
    double cost = json_number_value(json_object_get(usage, "cost_usd"));
    double uncertain = json_number_value(json_object_get(usage, "uncertain_usd"));
    buf_printf(b, "%lld step%s in ", steps, steps == 1 ? "" : "s");
    text_put_duration(b, time_of(task, "updated_at") - time_of(task, "created_at"));
    buf_puts(b, "; ");
    put_tokens(b, usage, "input_tokens", " tokens in (");
    put_tokens(b, usage, "cached_input_tokens", " cached), ");
    put_tokens(b, usage, "output_tokens", " out");
    if (cost > 0)
        buf_printf(b, ", $%.*f", cost < 0.1 ? 4 : 2, cost);
    if (uncertain > 0)
        buf_printf(b, " (perhaps $%.4f more)", uncertain);
}

/* What a person has to do. */
static void say_person(const json_t *task)
{
    const json_t *waiting = json_object_get(task, "waiting");
    const char *name = client_string(task, "name"), *detail = view_waiting_detail(waiting);
    if (strcmp(client_string(task, "state"), "paused") == 0) {
        say_talkf("%s is paused; agentctl resume %s lets it go on", name, name);
        return;
    }
    const char *reason = client_string(waiting, "for");
    say_talkf("%s waits for %s%s%s", name, reason, *detail ? ": " : "", detail);
    if (strcmp(reason, "input") == 0)
        say_talkf("  agentctl steer %s TEXT, or agentctl attach %s", name, name);
    else if (strcmp(reason, "credentials") == 0)
        say_talkf("  set them, restart the daemon (agentctl daemon restart), then: agentctl resume %s", name);
}

void follow_say_end(struct client *c, const char *task, int code)
{
    CLEANUP(link_reply_free) struct link_reply reply = {0};
    CLEANUP(buf_free) struct buf usage = {0};
    struct params_task_get params = {.task = str_of(task)};
    if (code == EXIT_INTERRUPTED || code == EXIT_NO_DAEMON || code == EXIT_USAGE ||
        link_call(c->link, METHOD_TASK_GET, &params, &reply) != LINK_OK)
        return;
    const json_t *t = json_object_get(reply.json, "task");
    if (code == EXIT_PERSON) {
        say_person(t);
        return;
    }
    follow_put_usage(&usage, t);
    say_talkf("%s %s: %s", client_string(t, "name"), client_string(t, "state"), buf_cstr(&usage));
}
