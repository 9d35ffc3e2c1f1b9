/* task/get, task/list, task/events: what is committed, read from the store. A view brings no task into
 * memory. */
#include "command.h"

#include "daemon/base/json.h"
#include "daemon/base/mem.h"

#include <stdio.h>
#include <time.h>

#define RECENT_MS (24 * 3600 * 1000LL)

static bool resolve(const struct command *c, struct str ref, char ret_id[32])
{
    int rc = store_task_resolve(c->d->store, ref, ret_id);
    if (rc == 0)
        return true;
    enum rpc_error error = rc == STORE_E_NONE        ? RPC_TASK_NOT_FOUND
                           : rc == STORE_E_AMBIGUOUS ? RPC_TASK_AMBIGUOUS
                                                     : RPC_STATE_UNREADABLE;
    rpc_fail_no_task(c->call, error, ref);
    return false;
}

/* -1: the row is damaged. */
static int put_row(struct store *store, struct buf *b, const struct store_task *row)
{
    struct task *task = task_from_snapshot(row->snapshot);
    if (!task) {
        char sentence[96];
        snprintf(sentence, sizeof sentence, "the stored state of task %s is damaged", row->id);
        store_fail_read(store, sentence);
        return -1;
    }
    struct proto_task view = {0};
    task_view(task, &view);
    proto_encode(b, &proto_task_type, &view);
    task_free(task);
    return 0;
}

/* ---- task/get ---- */

struct one_task {
    struct store *store;
    struct buf json;
};

static int on_task(void *arg, const struct store_task *row)
{
    struct one_task *one = arg;
    buf_puts(&one->json, "{\"task\":");
    int rc = put_row(one->store, &one->json, row);
    buf_putc(&one->json, '}');
    return rc;
}

static void get(const struct command *c, const void *arg)
{
    const struct params_task_get *params = arg;
    char id[32];
    if (!resolve(c, params->task, id))
        return;
    struct one_task one = {.store = c->d->store};
    if (store_task_load(c->d->store, id, on_task, &one) == 0)
        rpc_reply(c->call, buf_view(&one.json));
    else
        rpc_fail_unreadable(c->call);
    buf_free(&one.json);
}

void command_task_get(const struct command *c, const struct params_task_get *params)
{
    command_view(c, get, params);
}

/* ---- task/list ---- */

struct list_page {
    struct store *store;
    struct buf json;
    int64_t n, limit;
    char last[TASK_ID_SIZE];
    bool more;
};

static int on_listed(void *arg, const struct store_task *row)
{
    struct list_page *page = arg;
    if (page->n == page->limit) {
        page->more = true;
        return -1;
    }
    page->n++;
    snprintf(page->last, sizeof page->last, "%s", row->id);
    size_t before = page->json.n;
    if (page->json.p[before - 1] != '[')
        buf_putc(&page->json, ',');
    if (put_row(page->store, &page->json, row) < 0)
        page->json.n = before; /* the others are shown */
    return 0;
}

static int64_t wall_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void list(const struct command *c, const void *arg)
{
    const struct params_task_list *params = arg;
    int64_t since = params->all ? 0 : wall_ms() - RECENT_MS;
    struct list_page page = {.store = c->d->store, .limit = params->limit};
    buf_puts(&page.json, "{\"tasks\":[");
    int rc = store_tasks_page(c->d->store, params->after, since, params->limit + 1, on_listed, &page);
    buf_puts(&page.json, "],\"next\":");
    if (page.more)
        json_put_string(&page.json, str_of(page.last));
    else
        buf_puts(&page.json, "null");
    buf_putc(&page.json, '}');
    if (rc == 0 || page.more)
        rpc_reply(c->call, buf_view(&page.json));
    else if (rc == STORE_E_NONE)
        rpc_fail(c->call, RPC_INVALID_PARAMS, STR("\"after\" must be the \"next\" of the page before"));
    else
        rpc_fail_unreadable(c->call);
    buf_free(&page.json);
}

void command_task_list(const struct command *c, const struct params_task_list *params)
{
    command_view(c, list, params);
}

/* ---- task/events ---- */

struct event_page {
    struct buf text; /* of all events */
    struct {
        size_t offset, n;
    } * lines;
    size_t n, cap;
    int64_t first, last; /* seq */
};

static int on_event(void *arg, const struct store_event *event)
{
    struct event_page *page = arg;
    if (page->n == page->cap) {
        page->cap = page->cap ? page->cap * 2 : 64;
        page->lines = mem_realloc(page->lines, page->cap * sizeof *page->lines);
    }
    page->lines[page->n].offset = page->text.n;
    page->lines[page->n++].n = event->json.n;
    buf_str(&page->text, event->json);
    page->first = page->n == 1 || event->seq < page->first ? event->seq : page->first;
    page->last = event->seq > page->last ? event->seq : page->last;
    return 0;
}

static int on_seq(void *arg, const struct store_task *row)
{
    *(int64_t *)arg = row->seq;
    return 0;
}

static int read_page(const struct command *c, const char *id, const struct params_task_events *params,
                     struct event_page *page)
{
    if (params->before > 0)
        return store_events_before(c->d->store, id, params->before, params->limit, params->bytes, on_event,
                                   page);
    return store_events_after(c->d->store, id, params->after, params->limit, params->bytes, on_event, page);
}

/* The store gives a page backwards newest first; clients get every page oldest first. */
static void reply_events(const struct command *c, const struct event_page *page, const struct params_task_events *params,
                         int64_t end)
{
    bool backwards = params->before > 0;
    int64_t base = backwards ? params->before - 1 : params->after; /* an empty page stands right behind it */
    int64_t first = page->n ? page->first : base + 1;
    int64_t last = page->n ? page->last : base;
    struct str *events = mem_alloc(page->n * sizeof *events);
    for (size_t i = 0; i < page->n; i++) {
        size_t at = backwards ? page->n - 1 - i : i;
        events[i] = str_n(page->text.p + page->lines[at].offset, page->lines[at].n);
    }
    struct result_task_events result = {
        .events = events,
        .events_n = page->n,
        .next = last,
        .has_next = last < end,
        .prev = first,
        .has_prev = (first > 1) && (first <= end + 1),
        .end = end,
    };
    command_reply(c, &result);
    mem_free(events);
}

static void events(const struct command *c, const void *arg)
{
    const struct params_task_events *params = arg;
    char id[32];
    if (!resolve(c, params->task, id))
        return;
    struct event_page page = {0};
    int64_t end = 0;
    if (store_task_load(c->d->store, id, on_seq, &end) == 0 && read_page(c, id, params, &page) == 0)
        reply_events(c, &page, params, end);
    else
        rpc_fail_unreadable(c->call);
    buf_free(&page.text);
    mem_free(page.lines);
}

void command_task_events(const struct command *c, const struct params_task_events *params)
{
    if (params->after > 0 && params->before > 0)
        rpc_fail(c->call, RPC_INVALID_PARAMS, STR("give \"after\" or \"before\", not both"));
    else
        command_view(c, events, params);
}
