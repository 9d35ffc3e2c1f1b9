/* agentctl attach: a live view; a line typed steers the task. Plain streaming, no screen of its own. */
#include "client/client.h"
#include "client/follow.h"
#include "client/say.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define HISTORY_EVENTS 60
#define LINE_BYTES_MAX 1048576

struct attach {
    struct client *c;
    struct view *view;
    const char *task;
    int64_t known_seq, last_seq;
    struct buf typed;
    char key[LINK_KEY_SIZE + 24]; /* prefix of the keys of what is typed here */
    size_t key_n;
    int steers;
    bool input_over;
};

static int steer(struct attach *a, struct str text)
{
    CLEANUP(link_reply_free) struct link_reply reply = {0};
    snprintf(a->key + a->key_n, sizeof a->key - a->key_n, "-%d", ++a->steers);
    struct params_task_steer params = {.task = str_of(a->task), .text = text, .delivery = DELIVERY_NEXT, .key = str_of(a->key)};
    int rc = link_call(a->c->link, METHOD_TASK_STEER, &params, &reply);
    a->key[a->key_n] = 0;
    /* What the daemon refuses (too many steers wait) is said; watching goes on. */
    if (rc == LINK_E_REMOTE) {
        view_break(a->view);
        client_fail(a->c, rc);
        return LINK_OK;
    }
    int64_t seq = json_integer_value(json_object_get(reply.json, "seq"));
    a->known_seq = seq > a->known_seq ? seq : a->known_seq;
    return rc;
}

static int steer_line(struct attach *a, struct str line)
{
    CLEANUP(buf_free) struct buf valid = {0};
    while (line.n > 0 && (line.p[line.n - 1] == '\r' || line.p[line.n - 1] == ' '))
        line.n--;
    if (line.n == 0)
        return LINK_OK;
    utf8_put_valid(&valid, line, false);
    return steer(a, buf_view(&valid));
}

/* Reads what was typed; every whole line is a steer. */
static int take_input(struct attach *a)
{
    ssize_t n = read(STDIN_FILENO, buf_reserve(&a->typed, 4096), 4096);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return LINK_OK;
    a->input_over = n <= 0;
    a->typed.n += n > 0 ? (size_t)n : 0;
    int rc = LINK_OK;
    while (rc == LINK_OK && a->typed.n > 0) {
        const char *end = memchr(a->typed.p, '\n', a->typed.n);
        if (!end && !a->input_over && a->typed.n < LINE_BYTES_MAX)
            break;
        size_t length = end ? (size_t)(end - a->typed.p) : a->typed.n < LINE_BYTES_MAX ? a->typed.n : LINE_BYTES_MAX;
        rc = steer_line(a, str_n(a->typed.p, length));
        buf_consume(&a->typed, length + (end != NULL));
    }
    return rc;
}

static void show(struct attach *a, const struct link_message *m)
{
    if (m->delta) {
        view_delta(a->view, m->json);
        return;
    }
    view_event(a->view, m->json);
    a->last_seq = json_integer_value(json_object_get(m->json, "seq"));
    if (strcmp(client_string(m->json, "kind"), "task.state") != 0 || a->last_seq < a->known_seq)
        return;
    int verdict = follow_verdict(client_string(m->json, "to"), json_object_get(m->json, "waiting"));
    if (verdict >= 0 && !a->input_over && isatty(STDIN_FILENO)) {
        view_break(a->view);
        say_talk("type to go on with it; Ctrl-D leaves");
    }
}

/* Until the user leaves. With standard input at its end: until everything up to then has been shown. */
static int watch(struct attach *a)
{
    int rc = LINK_OK;
    while (rc == LINK_OK && !(a->input_over && a->last_seq >= a->known_seq)) {
        CLEANUP(link_message_free) struct link_message m = {0};
        say_flush();
        rc = link_next(a->c->link, a->input_over ? -1 : STDIN_FILENO, -1, &m);
        if (rc == LINK_OK)
            show(a, &m);
        else if (rc == LINK_INPUT)
            rc = take_input(a);
    }
    return rc;
}

/* Where the part of the history begins that is worth showing at the start. */
static int64_t history_start(int64_t seq)
{
    return seq > HISTORY_EVENTS ? seq - HISTORY_EVENTS : 0;
}

int cmd_attach(struct client *c)
{
    CLEANUP(link_reply_free) struct link_reply reply = {0};
    struct attach a = {.c = c, .last_seq = -1};
    struct view_options options = {.own_key = a.key};
    int subscription;
    client_catch_interrupt();
    int code = client_get_task(c, c->args.args[0], &reply);
    if (code != EXIT_DONE)
        return code;
    const json_t *task = json_object_get(reply.json, "task");
    const char *name = client_string(task, "name");
    link_make_key(a.key);
    a.key_n = strlen(a.key);
    a.task = client_string(task, "id");
    a.known_seq = json_integer_value(json_object_get(task, "seq"));
    a.view = view_new(&options);
    say_talkf("attached to %s (%s): what you type steers it, Ctrl-C leaves", name, client_string(task, "state"));
    int64_t after = history_start(a.known_seq);
    if (after > 0)
        say_talkf("  (agentctl log %s shows the %lld events before)", name, (long long)after);
    int rc = link_subscribe(c->link, a.task, after, say_is_terminal(), &subscription);
    if (rc == LINK_OK)
        rc = watch(&a);
    view_break(a.view);
    if (rc == LINK_E_INTERRUPTED)
        say_interrupted();
    say_flush();
    view_free(a.view);
    buf_free(&a.typed);
    if (rc == LINK_OK || rc == LINK_E_INTERRUPTED)
        say_talkf("left; agentctl attach %s comes back", name);
    return rc == LINK_OK ? EXIT_DONE : client_fail(c, rc);
}
