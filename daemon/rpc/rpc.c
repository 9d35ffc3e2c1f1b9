/* The server: the list of connections, and what the pump's world tells all of them. */
#include "server.h"

#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"
#include "daemon/rpc/subscription.h"

#include <signal.h>
#include <unistd.h>

#define OWNER_WAIT_MS 5000 /* at the start: who listens at our path may be just ending */

static void live_news(struct rpc *r, struct live_task *t)
{
    struct conn *c;
    LIST_EACH(c, &r->conns, struct conn, node)
    {
        subscriptions_live(c, t);
    }
}

/* One pass: what it makes dirty again waits for the next one, so that the loop sees its other events in
 * between. */
static void on_service(uv_idle_t *handle)
{
    struct rpc *r = handle->data;
    uv_idle_stop(handle);
    while (!list_empty(&r->live.changed)) {
        struct live_task *t = LIST_ENTRY(r->live.changed.next, struct live_task, changed_node);
        live_settle(t);
        live_news(r, t);
    }
    if (list_empty(&r->dirty))
        return;
    struct list now = r->dirty;
    now.next->prev = now.prev->next = &now;
    list_init(&r->dirty);
    while (!list_empty(&now)) {
        struct conn *c = LIST_ENTRY(now.next, struct conn, dirty_node);
        list_remove(&c->dirty_node);
        conn_service(c);
    }
}

void rpc_put_unreadable(const struct rpc *r, struct buf *b)
{
    int64_t at_ms;
    const char *why = store_unread(r->d->store, &at_ms);
    buf_puts(b, "the state could not be read");
    if (!why)
        return;
    buf_puts(b, ": ");
    utf8_put_valid(b, str_of(why), false);
}

void rpc_wake(struct rpc *r)
{
    if (!uv_is_closing((uv_handle_t *)&r->service))
        uv_idle_start(&r->service, on_service);
}

/* ---- life ---- */

static struct rpc *server_new(struct daemon *d, const char *path)
{
    struct rpc *r = MEM_NEW(struct rpc);
    r->d = d;
    r->path = mem_strdup(path);
    r->pos = store_pos_last(d->store);
    list_init(&r->conns);
    list_init(&r->dirty);
    live_init(&r->live, (size_t)d->config->limits.response_bytes_max);
    uv_idle_init(d->loop, &r->service);
    r->service.data = r;
    r->handles_n = 1;
    return r;
}

int rpc_new(struct daemon *d, const char *path, int fd, struct rpc **ret, struct buf *error)
{
    struct listen_file file = {0};
    int rc = fd >= 0 ? listen_inherited(fd, error) : listen_open(path, OWNER_WAIT_MS, &fd, &file, error);
    if (rc < 0)
        return rc;
    signal(SIGPIPE, SIG_IGN); /* a client that goes away is an error of its write */
    struct rpc *r = server_new(d, path);
    if (listener_open(r, fd, &file, error) < 0) {
        rpc_free(r);
        return -1;
    }
    *ret = r;
    return 0;
}

void rpc_unref(struct rpc *r)
{
    if (--r->handles_n > 0)
        return;
    live_free(&r->live);
    mem_free(r->path);
    mem_free(r);
}

static void on_handle_closed(uv_handle_t *handle)
{
    rpc_unref(handle->data);
}

void rpc_free(struct rpc *r)
{
    listener_close(r);
    struct conn *c;
    LIST_EACH(c, &r->conns, struct conn, node)
    {
        conn_flush(c);
        conn_close(c);
    }
    uv_close((uv_handle_t *)&r->service, on_handle_closed);
}

size_t rpc_clients(const struct rpc *r)
{
    return r->conns_n;
}

/* ---- from the pump's world ---- */

/* The events that hold, or void, what was live. */
static bool ends_live_text(enum event_kind kind)
{
    return kind == EVENT_MESSAGE || kind == EVENT_REASONING || kind == EVENT_STEP_ENDED ||
           kind == EVENT_STEP_RETRY;
}

void rpc_event(struct rpc *r, const struct pump_event *event, struct str json)
{
    r->pos = event->pos;
    if (ends_live_text(event->kind))
        live_text_end(&r->live, event->task);
    struct conn *c;
    LIST_EACH(c, &r->conns, struct conn, node)
    {
        subscriptions_event(c, event, json);
    }
}

void rpc_task_removed(struct rpc *r, const char *task)
{
    struct conn *c;
    LIST_EACH(c, &r->conns, struct conn, node)
    {
        subscriptions_task_removed(c, task);
    }
}

void rpc_flush(struct rpc *r)
{
    struct conn *c;
    LIST_EACH(c, &r->dirty, struct conn, dirty_node)
    {
        conn_flush(c);
    }
}

void rpc_live_text(struct rpc *r, const char *task, int64_t step, int64_t attempt, int64_t item,
                   enum delta_kind kind, struct str text)
{
    struct live_item where = {.step = step, .attempt = attempt, .item = item, .kind = kind};
    live_text(&r->live, task, &where, text);
    rpc_wake(r);
}

/* Those who keep up get the last piece too. */
void rpc_live_end(struct rpc *r, const char *task)
{
    struct live_task *t = live_find(&r->live, task);
    if (!t)
        return;
    live_news(r, t);
    live_text_end(&r->live, task);
}

void rpc_live_run(struct rpc *r, const char *task, int64_t run, int64_t total)
{
    live_run(&r->live, task, run, total);
    rpc_wake(r);
}

void rpc_live_run_end(struct rpc *r, const char *task, int64_t run)
{
    struct live_task *t = live_find(&r->live, task);
    struct live_run *it = t ? live_run_find(t, run) : NULL;
    if (!it)
        return;
    struct conn *c;
    LIST_EACH(c, &r->conns, struct conn, node)
    {
        subscriptions_run_end(c, t, it);
    }
    live_run_end(&r->live, task, run);
}
