#include "subscription.h"

#include "daemon/base/json.h"
#include "daemon/base/mem.h"
#include "daemon/rpc/delta.h"

#include <inttypes.h>
#include <stdio.h>

#define PAGE_EVENTS 1000
#define LOOK_BACK_EVENTS 256
#define LOOK_BACK_BYTES 262144

void subscription_open(const struct subscription *s, const char *method)
{
    buf_printf(&s->conn->out,
               "{\"jsonrpc\":\"2.0\",\"method\":\"%s\",\"params\":{\"subscription\":%" PRId64 ",", method,
               s->id);
}

void subscription_close(const struct subscription *s)
{
    buf_puts(&s->conn->out, "}}\n");
}

/* `json` is an object; its members follow ours. */
static void put_event(const struct subscription *s, struct str json)
{
    subscription_open(s, "event");
    buf_put(&s->conn->out, json.p + 1, json.n - 1);
    buf_puts(&s->conn->out, "}\n");
}

static bool concerns(const struct subscription *s, const char *task)
{
    return s->task[0] == 0 || strcmp(s->task, task) == 0;
}

/* Live text follows the events that are published. Who has read ahead of them in the store may hold the end
 * of an item already. */
static bool wants_live(const struct subscription *s)
{
    return s->deltas && !s->lagging && s->pos <= s->conn->rpc->pos;
}

static void lag(struct subscription *s)
{
    s->lagging = true;
    conn_touch(s->conn);
}

/* ---- live ---- */

static void event(struct subscription *s, const struct pump_event *e, struct str json)
{
    int64_t at = s->task[0] ? e->seq : e->pos;
    if (s->scan)
        conn_touch(s->conn);
    if (s->lagging || !concerns(s, e->task) || at <= s->cursor)
        return;
    size_t queued = conn_queued(s->conn);
    bool full = queued && queued + json.n > (size_t)s->conn->rpc->d->config->limits.client_queue_bytes_max;
    bool gap = s->task[0] && at != s->cursor + 1;
    if (full || gap) {
        lag(s);
        return;
    }
    s->cursor = at;
    s->pos = e->pos;
    if (e->pos <= s->pos_min)
        return;
    put_event(s, json);
    conn_touch(s->conn);
}

void subscriptions_event(struct conn *c, const struct pump_event *e, struct str json)
{
    struct subscription *s;
    LIST_EACH(s, &c->subscriptions, struct subscription, node)
    {
        event(s, e, json);
    }
}

void subscriptions_live(struct conn *c, struct live_task *t)
{
    struct subscription *s;
    LIST_EACH(s, &c->subscriptions, struct subscription, node)
    {
        if (!s->deltas || s->lagging || s->scan || !concerns(s, t->id))
            continue;
        s->scan = !wants_live(s) || !delta_send_task(s, t);
        conn_touch(c);
    }
}

void subscriptions_run_end(struct conn *c, struct live_task *t, struct live_run *run)
{
    struct subscription *s;
    LIST_EACH(s, &c->subscriptions, struct subscription, node)
    {
        if (!wants_live(s) || s->scan || !concerns(s, t->id))
            continue;
        delta_send_run_end(s, t, run);
        conn_touch(c);
    }
}

/* ---- lagging ---- */

static void subscription_free(struct subscription *s)
{
    if (s->deltas)
        live_forget(&s->conn->rpc->live, s->reader);
    s->conn->subscriptions_n--;
    list_remove(&s->node);
    mem_free(s);
}

struct page {
    struct subscription *s;
    size_t n;
};

static int on_row(void *arg, const struct store_event *row)
{
    struct page *page = arg;
    struct subscription *s = page->s;
    page->n++;
    s->cursor = s->task[0] ? row->seq : row->pos;
    s->pos = row->pos;
    if (row->pos > s->pos_min)
        put_event(s, row->json);
    return 0;
}

/* It is told once, and not tried again and again: whoever wants to may subscribe anew. */
static void end_unreadable(struct subscription *s)
{
    CLEANUP(buf_free) struct buf why = {0};
    struct conn *c = s->conn;
    rpc_put_unreadable(c->rpc, &why);
    subscription_open(s, "end");
    buf_puts(&c->out, "\"task\":");
    if (s->task[0])
        json_put_string(&c->out, str_of(s->task));
    else
        buf_puts(&c->out, "null");
    buf_puts(&c->out, ",\"reason\":\"unreadable\",\"detail\":");
    json_put_string(&c->out, buf_view(&why));
    subscription_close(s);
    subscription_free(s);
    conn_touch(c);
}

static void feed_page(struct subscription *s)
{
    struct conn *c = s->conn;
    struct store *store = c->rpc->d->store;
    int64_t bytes = c->rpc->d->config->limits.client_queue_bytes_max / 4;
    struct page page = {.s = s};
    int rc = s->task[0] ? store_events_after(store, s->task, s->cursor, PAGE_EVENTS, bytes, on_row, &page)
                        : store_journal_after(store, s->cursor, PAGE_EVENTS, bytes, on_row, &page);
    if (rc != 0) {
        end_unreadable(s);
    } else if (page.n == 0) {
        s->lagging = false;
        s->scan = s->deltas;
    }
}

/* Everybody gets a turn: who was served goes to the end of the line. */
void subscriptions_feed(struct conn *c)
{
    for (size_t i = c->subscriptions_n; i > 0 && !c->closing && conn_has_room(c); i--) {
        struct subscription *s = LIST_ENTRY(c->subscriptions.next, struct subscription, node);
        list_remove(&s->node);
        list_append(&c->subscriptions, &s->node);
        if (s->lagging)
            feed_page(s);
        else if (s->scan && wants_live(s))
            s->scan = !delta_send_all(s);
    }
}

bool subscriptions_hungry(const struct conn *c)
{
    if (!conn_has_room(c))
        return false;
    for (const struct list *node = c->subscriptions.next; node != &c->subscriptions; node = node->next) {
        const struct subscription *s = LIST_ENTRY(node, const struct subscription, node);
        if (s->lagging || (s->scan && wants_live(s)))
            return true;
    }
    return false;
}

/* ---- beginning and end ---- */

struct look_back {
    int64_t pos; /* look for the newest event up to here */
    int64_t seq; /* 0: not found */
};

static int on_row_back(void *arg, const struct store_event *row)
{
    struct look_back *look = arg;
    if (row->pos > look->pos)
        return 0;
    look->seq = row->seq;
    return -1;
}

/* A point in the journal as a point in a task. Where it is too far back to be found at once, the subscription
 * reads the task from its beginning and passes over what is not wanted. */
static void start_at_pos(struct subscription *s, int64_t pos)
{
    struct look_back look = {.pos = pos};
    store_events_before(s->conn->rpc->d->store, s->task, INT64_MAX, LOOK_BACK_EVENTS, LOOK_BACK_BYTES,
                        on_row_back, &look);
    s->cursor = look.seq;
    s->pos_min = pos;
}

static void start(struct subscription *s, const struct params_events_subscribe *params)
{
    int64_t now = s->conn->rpc->pos;
    s->lagging = true;
    s->deltas = params->deltas;
    if (params->after_seq >= 0)
        s->cursor = params->after_seq;
    else if (s->task[0])
        start_at_pos(s, params->after_pos >= 0 ? params->after_pos : now);
    else
        s->cursor = params->after_pos >= 0 ? params->after_pos : now;
}

static struct subscription *subscription_new(struct conn *c, const struct task *task)
{
    struct subscription *s = MEM_NEW(struct subscription);
    s->conn = c;
    s->id = ++c->subscription_last;
    s->reader = ++c->rpc->reader_last;
    if (task)
        snprintf(s->task, sizeof s->task, "%s", task->id);
    list_append(&c->subscriptions, &s->node);
    c->subscriptions_n++;
    return s;
}

void subscriptions_end(struct conn *c)
{
    struct subscription *s;
    LIST_EACH(s, &c->subscriptions, struct subscription, node)
    {
        subscription_free(s);
    }
}

void subscriptions_task_removed(struct conn *c, const char *task)
{
    struct subscription *s;
    LIST_EACH(s, &c->subscriptions, struct subscription, node)
    {
        if (strcmp(s->task, task) != 0)
            continue;
        subscription_open(s, "end");
        buf_printf(&c->out, "\"task\":\"%s\",\"reason\":\"removed\"", task);
        subscription_close(s);
        subscription_free(s);
        conn_touch(c);
    }
}

static void reply(struct rpc_call *call, const struct subscription *s)
{
    struct result_events_subscribe result = {.subscription = s->id,
                                             .task = s->task[0] ? str_of(s->task) : STR_NONE};
    CLEANUP(buf_free) struct buf json = {0};
    proto_encode(&json, &result_events_subscribe_type, &result);
    rpc_reply(call, buf_view(&json));
}

/* The task that it names is durable now. */
static void on_durable(void *arg)
{
    struct rpc_call *call = arg;
    struct conn *c = request_conn(call);
    const struct params_events_subscribe *params = request_params(call);
    enum rpc_error error = RPC_TASK_NOT_FOUND;
    const struct task *task = c && params->task.p ? world_task(c->rpc->d, params->task, &error) : NULL;
    if (!c || (params->task.p && !task)) {
        rpc_fail_no_task(call, error, params->task);
    } else if (c->subscriptions_n >= (size_t)c->rpc->d->config->limits.subscriptions_max) {
        rpc_fail(call, RPC_LIMIT_REACHED,
                 STR("this connection has subscriptions_max subscriptions; end one first"));
    } else {
        struct subscription *s = subscription_new(c, task);
        start(s, params);
        reply(call, s); /* before its first event: those are written when the connection is serviced */
    }
}

void subscription_begin(struct rpc_call *call, const struct params_events_subscribe *params)
{
    if (params->after_seq >= 0 && !params->task.p)
        rpc_fail(call, RPC_INVALID_PARAMS,
                 STR("\"after_seq\" counts within one task: give \"task\" too, or \"after_pos\""));
    else if (params->after_seq >= 0 && params->after_pos >= 0)
        rpc_fail(call, RPC_INVALID_PARAMS, STR("give \"after_seq\" or \"after_pos\", not both"));
    else if (request_conn(call)->rpc->d->disk_full)
        on_durable(
            call); /* to look on must be possible while the disk is full; only what is committed is shown */
    else
        pump_after(request_conn(call)->rpc->d->pump, on_durable, call);
}

void subscription_stop(struct rpc_call *call, const struct params_events_unsubscribe *params)
{
    struct conn *c = request_conn(call);
    struct subscription *s;
    LIST_EACH(s, &c->subscriptions, struct subscription, node)
    {
        if (s->id != params->subscription)
            continue;
        subscription_free(s);
        rpc_reply(call, STR("{}"));
        return;
    }
    rpc_fail(call, RPC_SUBSCRIPTION_UNKNOWN, STR_NONE);
}
