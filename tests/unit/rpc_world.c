#include "rpc_world.h"

#include "daemon/base/mem.h"
#include "daemon/commands/commands.h"

#include <stdio.h>

struct row {
    int64_t pos, seq;
    char task[TASK_ID_SIZE];
    enum event_kind kind;
    struct buf json;
};

static struct row *rows;
static size_t rows_n, published_n;
static struct task tasks[8];
static size_t tasks_n;
static bool unsettled;
static struct {
    pump_after_cb *fn;
    void *arg;
} after[64];
static size_t after_n;
static struct rpc_call *waiting[4096];
static size_t waiting_n;
struct buf fake_output;
size_t fake_pages;
const char *fake_unreadable;

void fake_reset(void)
{
    for (size_t i = 0; i < rows_n; i++)
        buf_free(&rows[i].json);
    mem_free(rows);
    rows = NULL;
    rows_n = published_n = tasks_n = after_n = waiting_n = fake_pages = 0;
    unsettled = false;
    fake_unreadable = NULL;
    buf_free(&fake_output);
}

int64_t fake_seq(const char *task)
{
    int64_t seq = 0;
    for (size_t i = 0; i < rows_n; i++)
        seq = strcmp(rows[i].task, task) == 0 ? rows[i].seq : seq;
    return seq;
}

int64_t fake_commit(const char *task, enum event_kind kind, size_t text_bytes)
{
    struct row row = {.pos = rows_n ? rows[rows_n - 1].pos + 2 : 11, .seq = fake_seq(task) + 1, .kind = kind};
    snprintf(row.task, sizeof row.task, "%s", task);
    buf_printf(&row.json, "{\"seq\":%lld,\"pos\":%lld,\"task\":\"%s\",\"kind\":\"%s\",\"text\":\"",
               (long long)row.seq, (long long)row.pos, task, event_descriptors[kind].kind);
    memset(buf_reserve(&row.json, text_bytes), 'x', text_bytes);
    row.json.n += text_bytes;
    buf_puts(&row.json, "\"}");
    rows = mem_realloc(rows, (rows_n + 1) * sizeof *rows);
    rows[rows_n++] = row;
    return row.pos;
}

void fake_publish(struct rpc *r)
{
    for (; published_n < rows_n; published_n++) {
        const struct row *row = &rows[published_n];
        struct pump_event event = {.pos = row->pos, .seq = row->seq, .task = row->task, .kind = row->kind};
        rpc_event(r, &event, buf_view(&row->json));
    }
}

void fake_task(const char *id)
{
    snprintf(tasks[tasks_n++].id, TASK_ID_SIZE, "%s", id);
}

const struct task *world_task(struct daemon *d, struct str ref, enum rpc_error *ret_error)
{
    (void)d;
    for (size_t i = 0; i < tasks_n; i++) {
        if (str_eqz(ref, tasks[i].id))
            return &tasks[i];
    }
    *ret_error = RPC_TASK_NOT_FOUND;
    return NULL;
}

/* ---- pump ---- */

void pump_after(struct pump *p, pump_after_cb *fn, void *arg)
{
    (void)p;
    if (!unsettled) {
        fn(arg);
        return;
    }
    after[after_n].fn = fn;
    after[after_n++].arg = arg;
}

void fake_unsettle(void)
{
    unsettled = true;
}

void fake_settle(void)
{
    unsettled = false;
    for (size_t i = 0; i < after_n; i++)
        after[i].fn(after[i].arg);
    after_n = 0;
}

/* ---- store ---- */

int64_t store_pos_last(struct store *s)
{
    (void)s;
    return rows_n ? rows[rows_n - 1].pos : 0;
}

const char *store_unread(const struct store *s, int64_t *ret_ms)
{
    (void)s;
    *ret_ms = 1;
    return fake_unreadable;
}

static int give(const struct row *row, store_event_cb *cb, void *arg)
{
    struct store_event event = {
        .pos = row->pos, .seq = row->seq, .task = row->task, .json = buf_view(&row->json)};
    return cb(arg, &event);
}

static int walk(const char *task, int64_t after_at, int64_t limit, int64_t bytes, store_event_cb *cb,
                void *arg)
{
    fake_pages++;
    if (fake_unreadable)
        return STORE_E_IO;
    for (size_t i = 0; i < rows_n && limit > 0 && bytes > 0; i++) {
        const struct row *row = &rows[i];
        if ((task && strcmp(task, row->task) != 0) || (task ? row->seq : row->pos) <= after_at)
            continue;
        int rc = give(row, cb, arg);
        if (rc != 0)
            return rc;
        limit--;
        bytes -= (int64_t)row->json.n;
    }
    return 0;
}

int store_events_after(struct store *s, const char *task, int64_t after_seq, int64_t limit, int64_t bytes,
                       store_event_cb *cb, void *arg)
{
    (void)s;
    return walk(task, after_seq, limit, bytes, cb, arg);
}

int store_journal_after(struct store *s, int64_t after_pos, int64_t limit, int64_t bytes, store_event_cb *cb,
                        void *arg)
{
    (void)s;
    return walk(NULL, after_pos, limit, bytes, cb, arg);
}

int store_events_before(struct store *s, const char *task, int64_t before, int64_t limit, int64_t bytes,
                        store_event_cb *cb, void *arg)
{
    (void)s, (void)bytes;
    for (size_t i = rows_n; i > 0 && limit > 0; i--) {
        const struct row *row = &rows[i - 1];
        if (strcmp(task, row->task) != 0 || row->seq >= before)
            continue;
        int rc = give(row, cb, arg);
        if (rc != 0)
            return rc;
        limit--;
    }
    return 0;
}

/* ---- runs ---- */

size_t runs_read(struct runs *r, const char *task, const char *run, int64_t from, char *to, size_t n)
{
    (void)r, (void)task, (void)run;
    if ((size_t)from >= fake_output.n)
        return 0;
    size_t left = fake_output.n - (size_t)from;
    n = n < left ? n : left;
    memcpy(to, fake_output.p + from, n);
    return n;
}

/* ---- commands ---- */

size_t fake_waiting(void)
{
    return waiting_n;
}

void fake_answer(void)
{
    for (size_t i = 0; i < waiting_n; i++)
        rpc_reply(waiting[i], STR("{\"late\":true}"));
    waiting_n = 0;
}

void commands_run(struct daemon *d, struct rpc_call *call, const struct command_client *client,
                  enum method method, const void *params, struct str params_json)
{
    (void)d, (void)client, (void)params;
    if (method == METHOD_TASK_GET)
        waiting[waiting_n++] = call;
    else if (method == METHOD_TASK_STEER)
        rpc_reply(call, params_json.n ? params_json : STR("{}"));
    else if (method == METHOD_DAEMON_STATUS)
        rpc_reply(call, STR("{\"daemon\":{}}"));
    else
        rpc_fail(call, RPC_INTERNAL_ERROR, STR_NONE);
}
