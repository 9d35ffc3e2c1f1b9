#include "archive_box.h"

#include <dirent.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <time.h>

#define WAIT_MS 120000
#define LARGE_BYTES 200000
#define HUGE_BYTES 1300000

void task_id(int n, char ret[32])
{
    snprintf(ret, 32, "t01a%023d", n);
}

static uint32_t roll(struct fill *f, uint32_t n)
{
    f->seed = f->seed * 1664525u + 1013904223u;
    return (f->seed >> 8) % n;
}

/* Text that is neither all equal nor pure noise. */
static void put_words(struct fill *f, struct buf *b, size_t n)
{
    static const char *const words[] = {"the ", "parser ", "reads ", "\xc3\xa4hnlich ", "return 0; ", "12", "make: *** ", "{}"};
    while (b->n < n)
        buf_puts(b, words[roll(f, 8)]);
}

static size_t some_bytes(struct fill *f)
{
    if (f->large && roll(f, (uint32_t)f->large) == 0)
        return roll(f, 5) ? LARGE_BYTES : HUGE_BYTES;
    return roll(f, 20) ? roll(f, 300) : roll(f, 40000);
}

static void put_state(struct store_batch *batch, const struct fill *f, int n, bool live)
{
    char id[32];
    task_id(n, id);
    struct store_task row = {.id = id,
                             .name = id,
                             .state = live ? 2 : 5,
                             .live = live,
                             .seq = f->seq[n],
                             .created_ms = 1000 + n,
                             .updated_ms = live ? 1000 : f->ended_ms + n,
                             .snapshot = STR("snapshot"),
                             .spec = STR("{}")};
    store_batch_task(batch, &row);
}

static void put_one(struct store_batch *batch, struct fill *f, int n)
{
    char id[32];
    CLEANUP(buf_free) struct buf text = {0};
    task_id(n, id);
    buf_printf(&text, "{\"seq\":%" PRId64 ",\"pos\":%" PRId64 ",\"task\":\"%s\",\"text\":\"", ++f->seq[n], ++f->pos, id);
    put_words(f, &text, text.n + some_bytes(f));
    buf_puts(&text, "\"}");
    store_batch_event(batch, f->pos, id, f->seq[n], 1, 1000, buf_view(&text));
    if (roll(f, 2)) {
        store_batch_context(batch, id, 1 + f->elements[n] / 300, f->elements[n] % 300, buf_view(&text));
        f->elements[n]++;
    }
}

void fill_more(struct box *b, struct fill *f, int events)
{
    while (events > 0) {
        struct store_batch *batch = store_batch_new();
        for (int n = 0; n < f->tasks; n++)
            put_state(batch, f, n, true);
        for (int i = 0; i < 50 && events > 0; i++, events--)
            put_one(batch, f, (int)roll(f, (uint32_t)f->tasks));
        box_commit_ok(b, batch);
    }
}

void fill_end(struct box *b, struct fill *f, int n, bool live)
{
    struct store_batch *batch = store_batch_new();
    char id[32];
    CLEANUP(buf_free) struct buf text = {0};
    task_id(n, id);
    buf_printf(&text, "{\"seq\":%" PRId64 ",\"end\":%d}", ++f->seq[n], live);
    store_batch_event(batch, ++f->pos, id, f->seq[n], 1, 1000, buf_view(&text));
    put_state(batch, f, n, live);
    box_commit_ok(b, batch);
}

/* ---- reading ---- */

struct reading {
    struct buf *text;
    int64_t n, last, bytes;
    bool journal;
};

static int read_one(void *arg, const struct store_event *event)
{
    struct reading *r = arg;
    buf_printf(r->text, "%" PRId64 " %" PRId64 " %s ", event->pos, event->seq, event->task);
    buf_str(r->text, event->json);
    buf_putc(r->text, '\n');
    r->n++;
    r->bytes += (int64_t)event->json.n;
    r->last = r->journal ? event->pos : event->seq;
    return 0;
}

typedef int read_page(struct store *s, const char *task, int64_t from, int64_t limit, int64_t bytes, store_event_cb *cb, void *arg);

static int read_journal(struct store *s, const char *task, int64_t from, int64_t limit, int64_t bytes, store_event_cb *cb, void *arg)
{
    (void)task;
    return store_journal_after(s, from, limit, bytes, cb, arg);
}

/* Page after page until there are no more; each within its bounds. */
static void read_pages(struct store *s, read_page *page, const char *task, int64_t from, int64_t limit, int64_t bytes, struct buf *ret)
{
    struct reading r = {.text = ret, .last = from, .journal = page == read_journal};
    do {
        r.n = r.bytes = 0;
        assert_int_equal(page(s, task, r.last, limit, bytes, read_one, &r), 0);
        assert_true(r.n <= limit);
        assert_true(r.n <= 1 || r.bytes <= bytes);
    } while (r.n);
}

void read_all(struct store *s, const struct fill *f, struct buf *ret)
{
    static const struct {
        int64_t limit, bytes;
    } sizes[] = {{1000, 1 << 20}, {7, 30000}};
    char id[32];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int n = 0; n < f->tasks; n++) {
            task_id(n, id);
            read_pages(s, store_events_after, id, 0, sizes[i].limit, sizes[i].bytes, ret);
            read_pages(s, store_events_after, id, f->seq[n] / 3, sizes[i].limit, sizes[i].bytes, ret);
            read_pages(s, store_events_before, id, INT64_MAX, sizes[i].limit, sizes[i].bytes, ret);
            read_pages(s, store_events_before, id, f->seq[n] / 2, sizes[i].limit, sizes[i].bytes, ret);
        }
        read_pages(s, read_journal, NULL, 0, sizes[i].limit, sizes[i].bytes, ret);
        read_pages(s, read_journal, NULL, f->pos / 2, sizes[i].limit, sizes[i].bytes, ret);
    }
    for (int n = 0; n < f->tasks; n++) {
        task_id(n, id);
        for (int64_t epoch = 1; epoch <= 3; epoch++) {
            int status = store_context_read(s, id, epoch, ret);
            buf_printf(ret, "\ncontext %d %" PRId64 ": %d\n", n, epoch, status);
        }
    }
}

/* ---- keeping ---- */

static bool may_forget(void *arg, const char *task)
{
    (void)arg;
    assert_int_equal(strlen(task), 27);
    return true;
}

int removed_told;

static void kept(void *arg, const char *task, bool removed)
{
    (void)arg;
    removed_told += removed;
    assert_int_equal(strlen(task), 27);
}

void retain(struct box *b, int64_t after_ms, int64_t keep_ms, int64_t bytes_max)
{
    const struct store_retention r = {.archive_after_ms = after_ms, .keep_ms = keep_ms, .bytes_max = bytes_max};
    static const struct store_keeper keeper = {.may_forget = may_forget, .kept = kept};
    removed_told = 0;
    store_retain(b->store, &r, &keeper, NULL);
}

static void tick(uv_timer_t *timer)
{
    (void)timer;
}

void turn_until(struct box *b, bool (*done)(struct box *b, void *arg), void *arg)
{
    uv_timer_t timer;
    uv_timer_init(&b->loop, &timer);
    uv_timer_start(&timer, tick, 1, 1);
    uint64_t until = uv_hrtime() + WAIT_MS * 1000000ull;
    while (!done(b, arg) && uv_hrtime() < until)
        uv_run(&b->loop, UV_RUN_ONCE);
    assert_true(done(b, arg));
    uv_close((uv_handle_t *)&timer, NULL);
    while (uv_run(&b->loop, UV_RUN_NOWAIT))
        continue;
}

static bool usage_reached(struct box *b, void *arg)
{
    const struct store_usage *wanted = arg;
    struct store_usage usage;
    store_usage(b->store, &usage);
    return usage.archived >= wanted->archived && usage.removed >= wanted->removed;
}

void wait_usage(struct box *b, int64_t archived, int64_t removed)
{
    struct store_usage wanted = {.archived = archived, .removed = removed}, usage;
    turn_until(b, usage_reached, &wanted);
    store_usage(b->store, &usage);
    assert_int_equal(usage.archived, archived);
    assert_int_equal(usage.removed, removed);
}

int64_t look(const struct box *b, const char *sql)
{
    sqlite3 *h;
    sqlite3_stmt *q = NULL;
    assert_int_equal(sqlite3_open_v2(box_path(b, "agentd.db"), &h, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    sqlite3_db_config(h, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    assert_int_equal(sqlite3_prepare_v2(h, sql, -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    int64_t n = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(h);
    return n;
}

void change(const struct box *b, const char *sql)
{
    sqlite3 *h;
    assert_null(b->store);
    assert_int_equal(sqlite3_open_v2(box_path(b, "agentd.db"), &h, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_exec(h, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(h);
}

int count_files(const struct box *b, const char *folder)
{
    int n = 0;
    struct dirent *entry;
    DIR *dir = opendir(box_path(b, folder));
    assert_non_null(dir);
    while ((entry = readdir(dir)))
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}
