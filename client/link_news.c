/* Notifications: each event once, whatever connections it came on. */
#include "client/link_state.h"

#include "daemon/base/json.h"
#include "daemon/base/mem.h"

#include <string.h>

static int find_subscription(const struct link *l, const json_t *params)
{
    const json_t *id = json_object_get(params, "subscription");
    for (int i = 0; i < l->subscriptions_n; i++) {
        if (json_is_integer(id) && l->subscriptions[i].id == json_integer_value(id))
            return i;
    }
    return -1;
}

#define KEPT_HINT "limits.keep_ms and limits.storage_bytes_max of the configuration say how long and how much is kept."

static int end_removed(struct link *l, struct link_subscription *s)
{
    s->ended = true;
    s->id = -1;
    link_fail(l, 0, "the task %s was removed: it had ended, and is not kept any longer", s->task);
    buf_puts(&l->hint, KEPT_HINT);
    l->error_code = RPC_TASK_NOT_FOUND;
    return LINK_E_REMOTE;
}

int link_end_absent(struct link *l, struct link_subscription *s)
{
    s->ended = true;
    s->id = -1;
    link_fail(l, 0, "the task %s is not there any more: it was removed, or an older backup was restored", s->task);
    buf_puts(&l->hint, KEPT_HINT);
    l->error_code = RPC_TASK_NOT_FOUND;
    return LINK_E_REMOTE;
}

/* The daemon has ended a subscription. */
static int take_end(struct link *l, struct link_subscription *s, const json_t *params)
{
    const char *reason = json_string_value(json_object_get(params, "reason"));
    const char *detail = json_string_value(json_object_get(params, "detail"));
    if (reason && strcmp(reason, "removed") == 0)
        return end_removed(l, s);
    s->ended = true;
    s->id = -1;
    link_fail(l, 0, "%s", detail ? detail : reason ? reason : "the daemon has ended the subscription");
    buf_puts(&l->hint, "agentctl doctor says what it finds.");
    l->error_code = RPC_STATE_UNREADABLE;
    return LINK_E_REMOTE;
}

/* LINK_TIMEOUT: it is of no subscription of ours, was handed out before, or is a kind of notification that we do not know. */
static int take_message(struct link *l, char *line, size_t n, struct link_message *ret)
{
    CLEANUP(link_message_free) struct link_message m = {.line = line};
    json_t *whole = link_parse(line, n);
    struct str method = str_of(json_string_value(json_object_get(whole, "method")));
    m.delta = str_eqz(method, "delta");
    bool end = str_eqz(method, "end"), known = m.delta || end || str_eqz(method, "event");
    m.json = json_incref(json_object_get(whole, "params"));
    json_decref(whole);
    m.text = json_find(str_n(line, n), "params");
    m.subscription = find_subscription(l, m.json);
    if (!known || m.subscription < 0)
        return LINK_TIMEOUT;
    if (end)
        return take_end(l, &l->subscriptions[m.subscription], m.json);
    if (!m.delta) {
        struct link_subscription *s = &l->subscriptions[m.subscription];
        int64_t seq = json_integer_value(json_object_get(m.json, "seq"));
        int64_t pos = json_integer_value(json_object_get(m.json, "pos"));
        if (s->task ? seq <= s->after_seq : pos <= s->after_pos)
            return LINK_TIMEOUT;
        s->after_seq = seq;
        s->after_pos = pos;
    }
    *ret = m;
    m = (struct link_message){0};
    return LINK_OK;
}

int link_next(struct link *l, int fd, int64_t timeout_ms, struct link_message *ret)
{
    struct wire_wait wait = link_wait(l, timeout_ms < 0 ? -1 : link_now_ms() + timeout_ms, fd);
    int rc = l->wire.fd >= 0 ? LINK_OK : link_reconnect(l, wait.deadline_ms);
    while (rc == LINK_OK || rc == LINK_E_LOST) {
        char *line;
        size_t n;
        if (rc == LINK_E_LOST)
            rc = link_reconnect(l, wait.deadline_ms);
        else if (link_dequeue(l, &line, &n) ||
                 (rc = link_from_wire(l, wire_receive(&l->wire, LINK_FRAME_BYTES_MAX, &wait, &line, &n))) == LINK_OK) {
            int taken = take_message(l, line, n, ret);
            if (taken != LINK_TIMEOUT)
                return taken;
        }
    }
    return rc;
}

/* Where the member begins whose value is at `value`. */
static size_t member_start(struct str text, size_t value, size_t name_n)
{
    while (value > 0 && text.p[value - 1] != '"')
        value--;
    return value - name_n - 2;
}

void link_message_text(const struct link_message *m, struct buf *b)
{
    static const char name[] = "subscription";
    struct str value = json_find(m->text, name);
    if (!value.p) {
        buf_str(b, m->text);
        return;
    }
    size_t from = member_start(m->text, (size_t)(value.p - m->text.p), sizeof name - 1);
    size_t to = (size_t)(value.p - m->text.p) + value.n;
    while (to < m->text.n && strchr(" \t\r", m->text.p[to]))
        to++;
    if (to < m->text.n && m->text.p[to] == ',') {
        to++;
    } else {
        while (from > 0 && strchr(" \t\r", m->text.p[from - 1]))
            from--;
        from -= from > 0 && m->text.p[from - 1] == ',';
    }
    buf_put(b, m->text.p, from);
    buf_put(b, m->text.p + to, m->text.n - to);
}

void link_message_free(struct link_message *m)
{
    json_decref(m->json);
    mem_free(m->line);
    *m = (struct link_message){0};
}
