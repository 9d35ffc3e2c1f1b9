/* The store: what is put in comes out, in pages, by name, again after a reopen, while more is being written.
 */
#include "test_store.h"

#include "daemon/store/batch.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define A "t01aaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "t01aaaaaaaaaaaaaaaaaaaaaaaab"
#define C "t01bbbbbbbbbbbbbbbbbbbbbbbbb"

struct found {
    int n;
    struct store_task row; /* copies, of the last one */
    char id[32], name[64];
    struct buf snapshot, spec, ids;
    bool has_spec;
    int stop_at;
};

static int find_task(void *arg, const struct store_task *row)
{
    struct found *f = arg;
    f->n++;
    f->row = *row;
    snprintf(f->id, sizeof f->id, "%s", row->id);
    snprintf(f->name, sizeof f->name, "%s", row->name);
    buf_clear(&f->snapshot);
    buf_str(&f->snapshot, row->snapshot);
    buf_clear(&f->spec);
    buf_str(&f->spec, row->spec);
    f->has_spec = row->spec.p != NULL;
    buf_printf(&f->ids, "%s ", row->name);
    return f->n == f->stop_at ? -7 : 0;
}

static void found_free(struct found *f)
{
    buf_free(&f->snapshot);
    buf_free(&f->spec);
    buf_free(&f->ids);
}

static void box_new(struct box *b)
{
    box_make(b);
    assert_int_equal(box_open(b), 0);
}

static struct store_batch *everything(void)
{
    struct store_batch *batch = store_batch_new();
    /* Events before the row of their task, as the pump puts them. */
    put_event(batch, 11, A, 1);
    put_event(batch, 12, A, 2);
    store_batch_context(batch, A, 1, 0, STR("{\"input\":["));
    store_batch_context(batch, A, 1, 1, STR("\"a\0b\""));
    store_batch_context(batch, A, 1, 2, STR("2"));
    struct store_task row = {.id = A,
                             .name = "fix-parser",
                             .state = 3,
                             .live = true,
                             .seq = 2,
                             .created_ms = 100,
                             .updated_ms = 200,
                             .snapshot = STR("snap\0shot"),
                             .spec = STR("{\"model\":1}")};
    store_batch_task(batch, &row);
    store_batch_key(batch, "key-1", A, STR("digest\0"), STR("{\"seq\":1}"), 5);
    store_batch_key(batch, "key-2", NULL, STR("d"), STR("r"), 5);
    store_batch_meta(batch, "boot", STR("one"));
    return batch;
}

static void check_everything(struct store *s)
{
    CLEANUP(found_free) struct found f = {0};
    CLEANUP(buf_free) struct buf a = {0};
    CLEANUP(buf_free) struct buf b = {0};
    assert_int_equal(store_pos_last(s), 12);
    assert_int_equal(count_events(s, A), 2);
    assert_int_equal(store_task_load(s, A, find_task, &f), 0);
    assert_string_equal(f.id, A);
    assert_string_equal(f.name, "fix-parser");
    assert_int_equal(f.row.state, 3);
    assert_true(f.row.live);
    assert_int_equal(f.row.seq, 2);
    assert_int_equal(f.row.created_ms, 100);
    assert_int_equal(f.row.updated_ms, 200);
    assert_true(str_eq(buf_view(&f.snapshot), STR("snap\0shot")));
    assert_true(str_eq(buf_view(&f.spec), STR("{\"model\":1}")));
    assert_int_equal(store_context_read(s, A, 1, &a), 0);
    assert_true(str_eq(buf_view(&a), STR("{\"input\":[\"a\0b\",2")));
    buf_clear(&a);
    assert_int_equal(store_key_find(s, "key-1", &a, &b), 0);
    assert_true(str_eq(buf_view(&a), STR("digest\0")));
    assert_true(str_eq(buf_view(&b), STR("{\"seq\":1}")));
    assert_int_equal(store_key_find(s, "key-2", &a, &b), 0);
    buf_clear(&a);
    assert_int_equal(store_meta(s, "boot", &a), 0);
    assert_string_equal(buf_cstr(&a), "one");
}

void rows_come_back(void **state)
{
    (void)state;
    struct box b;
    box_new(&b);
    struct store *s = b.store;
    CLEANUP(buf_free) struct buf text = {0};
    assert_int_equal(store_pos_last(s), 0);
    assert_int_equal(store_task_load(s, A, find_task, NULL), STORE_E_NONE);
    assert_int_equal(store_key_find(s, "key-1", &text, &text), STORE_E_NONE);
    assert_int_equal(store_meta(s, "boot", &text), STORE_E_NONE);
    assert_int_equal(store_context_read(s, A, 1, &text), STORE_E_NONE);
    box_commit_ok(&b, everything());
    check_everything(s);
    assert_int_equal(store_context_read(s, A, 2, &text), STORE_E_NONE);
    assert_int_equal(text.n, 0);
    box_free(&b);
}

void rows_survive_a_reopen(void **state)
{
    (void)state;
    struct box b;
    struct stat st;
    box_new(&b);
    assert_int_equal(store_commit_wait(b.store, everything(), &b.error), 0);
    box_close(&b);
    assert_int_equal(box_open(&b), 0);
    check_everything(b.store);
    assert_int_equal(box_check(&b), 0);
    assert_int_equal(stat(box_path(&b, "agentd.db"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(box_path(&b, "agentd.ballast"), &st), 0);
    assert_true(st.st_blocks * 512 >= 4194304);
    assert_false(store_disk_low(b.store));
    box_free(&b);
}

void a_task_is_replaced_but_for_its_spec(void **state)
{
    (void)state;
    struct box b;
    CLEANUP(found_free) struct found f = {0};
    box_new(&b);
    box_commit_ok(&b, everything());
    struct store_task row = {.id = A,
                             .name = "fix-parser",
                             .state = 4,
                             .live = true,
                             .seq = 9,
                             .created_ms = 999,
                             .updated_ms = 300,
                             .snapshot = STR("next")};
    struct store_batch *batch = store_batch_new();
    store_batch_task(batch, &row); /* stays live under its name: the short way */
    box_commit_ok(&b, batch);
    assert_int_equal(store_task_load(b.store, A, find_task, &f), 0);
    assert_int_equal(f.row.state, 4);
    assert_int_equal(f.row.seq, 9);
    assert_int_equal(f.row.created_ms, 100);
    assert_int_equal(f.row.updated_ms, 300);
    assert_string_equal(buf_cstr(&f.snapshot), "next");
    assert_string_equal(buf_cstr(&f.spec), "{\"model\":1}");

    row.name = "other";
    row.live = false;
    row.seq = 10;
    batch = store_batch_new();
    store_batch_task(batch, &row);
    box_commit_ok(&b, batch);
    assert_int_equal(store_task_load(b.store, A, find_task, &f), 0);
    assert_string_equal(f.name, "other");
    assert_false(f.row.live);
    assert_int_equal(f.row.seq, 10);
    assert_int_equal(f.row.created_ms, 100);
    assert_string_equal(buf_cstr(&f.spec), "{\"model\":1}");
    f.n = 0;
    assert_int_equal(store_tasks_live(b.store, find_task, &f), 0);
    assert_int_equal(f.n, 0);
    box_free(&b);
}

/* An error of the program must not be taken for a full disk, nor write half of the batch. */
void a_row_without_its_task_is_refused(void **state)
{
    (void)state;
    struct box b;
    CLEANUP(buf_free) struct buf text = {0};
    box_new(&b);
    struct store_batch *batch = store_batch_new();
    store_batch_meta(batch, "half", STR("1"));
    put_event(batch, 1, A, 1);
    assert_int_equal(box_commit(&b, batch, NULL), STORE_E_IO);
    assert_non_null(strstr(buf_cstr(&b.error), A));
    assert_int_equal(store_meta(b.store, "half", &text), STORE_E_NONE);
    box_free(&b);
}

void the_first_answer_to_a_key_stays(void **state)
{
    (void)state;
    struct box b;
    box_new(&b);
    box_commit_ok(&b, everything());
    struct store_batch *batch = store_batch_new();
    store_batch_key(batch, "key-1", A, STR("other"), STR("other"), 6);
    store_batch_meta(batch, "boot", STR("one"));
    box_commit_ok(&b, batch);
    check_everything(b.store);
    box_free(&b);
}

static bool key_there(struct store *s, const char *key)
{
    CLEANUP(buf_free) struct buf digest = {0}, result = {0};
    int status = store_key_find(s, key, &digest, &result);
    assert_true(status == 0 || status == STORE_E_NONE);
    return status == 0;
}

/* Those of more than one step: 600 old ones and as many of yesterday, and old ones of a task. */
static struct store_batch *keys_of_all_ages(int64_t now_ms)
{
    const int64_t day_ms = 24 * 3600 * 1000LL;
    struct store_batch *batch = store_batch_new();
    put_task(batch, A, 1, 1);
    for (int i = 0; i < 600; i++) {
        char key[32];
        snprintf(key, sizeof key, "old-%03d", i);
        store_batch_key(batch, key, NULL, STR("d"), STR("r"), now_ms - 8 * day_ms);
        snprintf(key, sizeof key, "new-%03d", i);
        store_batch_key(batch, key, NULL, STR("d"), STR("r"), now_ms - 6 * day_ms);
        snprintf(key, sizeof key, "task-%03d", i);
        store_batch_key(batch, key, A, STR("d"), STR("r"), now_ms - 800 * day_ms);
    }
    return batch;
}

void old_keys_without_a_task_are_forgotten(void **state)
{
    (void)state;
    struct box b;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    box_new(&b);
    box_commit_ok(&b, keys_of_all_ages((int64_t)now.tv_sec * 1000));
    box_close(&b);
    assert_int_equal(box_open(&b), 0);
    while (key_there(b.store, "old-599")) /* the last of the walk; it goes on while nothing else is done */
        usleep(10000);
    for (int i = 0; i < 600; i++) {
        char key[32];
        snprintf(key, sizeof key, "old-%03d", i);
        assert_false(key_there(b.store, key));
        snprintf(key, sizeof key, "new-%03d", i);
        assert_true(key_there(b.store, key));
        snprintf(key, sizeof key, "task-%03d", i);
        assert_true(key_there(b.store, key));
    }
    box_free(&b);
}

struct page {
    int64_t n, first, last, bytes;
};

static int page_one(void *arg, const struct store_event *event)
{
    struct page *p = arg;
    p->first = p->n ? p->first : event->seq;
    p->last = event->seq;
    p->bytes += (int64_t)event->json.n;
    p->n++;
    return 0;
}

static void check_page(struct store *s, bool forward, int64_t from, int64_t limit, int64_t bytes, int64_t n,
                       int64_t first, int64_t last)
{
    struct page p = {0};
    int status = forward ? store_events_after(s, A, from, limit, bytes, page_one, &p)
                         : store_events_before(s, A, from, limit, bytes, page_one, &p);
    assert_int_equal(status, 0);
    assert_int_equal(p.n, n);
    assert_int_equal(p.first, first);
    assert_int_equal(p.last, last);
}

static void put_events(struct box *b, int64_t n)
{
    struct store_batch *batch = store_batch_new();
    put_task(batch, A, n, 1);
    put_task(batch, B, n, 2);
    for (int64_t seq = 1; seq <= n; seq++) {
        put_event(batch, 2 * seq, A, seq);
        put_event(batch, 2 * seq + 1, B, seq);
    }
    box_commit_ok(b, batch);
}

void pages_of_events_go_both_ways(void **state)
{
    (void)state;
    struct box b;
    box_new(&b);
    put_events(&b, 100);
    check_page(b.store, true, 0, 10, 1 << 20, 10, 1, 10);
    check_page(b.store, true, 10, 10, 1 << 20, 10, 11, 20);
    check_page(b.store, true, 95, 10, 1 << 20, 5, 96, 100);
    check_page(b.store, true, 100, 10, 1 << 20, 0, 0, 0);
    check_page(b.store, false, INT64_MAX, 10, 1 << 20, 10, 100, 91);
    check_page(b.store, false, 91, 10, 1 << 20, 10, 90, 81);
    check_page(b.store, false, 3, 10, 1 << 20, 2, 2, 1);
    check_page(b.store, false, 1, 10, 1 << 20, 0, 0, 0);
    check_page(b.store, true, 0, 0, 1 << 20, 0, 0, 0);
    struct page p = {0};
    assert_int_equal(store_events_after(b.store, "t-unknown", 0, 10, 1000, page_one, &p), 0);
    assert_int_equal(p.n, 0);
    box_free(&b);
}

void a_page_is_bounded_by_bytes(void **state)
{
    (void)state;
    struct box b;
    box_new(&b);
    struct store_batch *batch = store_batch_new();
    put_task(batch, A, 4, 1);
    for (int64_t seq = 1; seq <= 4; seq++)
        store_batch_event(batch, seq, A, seq, 1, 1, bytes_of('x', seq == 3 ? 200000 : 1000));
    box_commit_ok(&b, batch);
    check_page(b.store, true, 0, 100, 1, 1, 1, 1); /* at least one */
    check_page(b.store, true, 0, 100, 2000, 2, 1, 2);
    check_page(b.store, true, 0, 100, 150000, 2, 1, 2); /* the third is large, and counts before it is read */
    check_page(b.store, true, 2, 100, 150000, 1, 3, 3);
    check_page(b.store, true, 0, 100, 250000, 4, 1, 4);
    check_page(b.store, false, 100, 100, 1500, 1, 4, 4);
    box_free(&b);
}

static int stop_at_two(void *arg, const struct store_event *event)
{
    (void)event;
    return ++*(int *)arg == 2 ? -5 : 0;
}

/* However a walk ends, no statement stays open: the next walk is whole, and the log can start again. */
void a_callback_ends_a_walk(void **state)
{
    (void)state;
    struct box b;
    CLEANUP(found_free) struct found f = {.stop_at = 1};
    box_new(&b);
    put_events(&b, 10);
    for (int round = 0; round < 3; round++) {
        int n = 0;
        assert_int_equal(store_events_after(b.store, A, 0, 10, 1000, stop_at_two, &n), -5);
        assert_int_equal(n, 2);
        n = 0;
        assert_int_equal(store_journal_after(b.store, 0, 10, 1000, stop_at_two, &n), -5);
        f.n = 0;
        assert_int_equal(store_tasks_live(b.store, find_task, &f), -7);
    }
    check_page(b.store, true, 0, 100, 1 << 20, 10, 1, 10);
    box_free(&b);
}

void a_hundred_thousand_events(void **state)
{
    (void)state;
    enum { EVENTS = 100000, BATCH = 5000, PAGE = 500 };
    struct box b;
    box_new(&b);
    for (int64_t seq = 0; seq < EVENTS;) {
        struct store_batch *batch = store_batch_new();
        for (int i = 0; i < BATCH; i++) {
            seq++;
            put_event(batch, seq, A, seq);
        }
        put_task(batch, A, seq, 1);
        box_commit_ok(&b, batch);
    }
    assert_int_equal(count_events(b.store, A), EVENTS);
    struct page p = {.last = INT64_MAX};
    for (int64_t before = EVENTS + 1; before > 1; before = p.last) {
        p.n = 0;
        assert_int_equal(store_events_before(b.store, A, before, PAGE, 1 << 20, page_one, &p), 0);
        assert_int_equal(p.n, PAGE);
        assert_int_equal(p.first, before - 1);
        assert_int_equal(p.last, before - PAGE);
    }
    box_free(&b);
}

static int journal_one(void *arg, const struct store_event *event)
{
    struct page *p = arg;
    assert_int_equal(event->pos, p->last + 1);
    assert_string_equal(event->task, event->pos % 2 ? B : A);
    assert_int_equal(event->seq, event->pos / 2);
    p->last = event->pos;
    p->n++;
    return 0;
}

void the_journal_runs_over_all_tasks(void **state)
{
    (void)state;
    struct box b;
    box_new(&b);
    put_events(&b, 50);
    struct page p = {.last = 1};
    int64_t before = -1;
    while (before != p.n) {
        before = p.n;
        assert_int_equal(store_journal_after(b.store, p.last, 7, 1 << 20, journal_one, &p), 0);
    }
    assert_int_equal(p.n, 100);
    box_free(&b);
}

static void put_row(struct store_batch *batch, const char *id, const char *name, bool live, int64_t created,
                    int64_t updated)
{
    struct store_task row = {.id = id,
                             .name = name,
                             .state = 1,
                             .live = live,
                             .created_ms = created,
                             .updated_ms = updated,
                             .snapshot = STR("s"),
                             .spec = STR("spec")};
    store_batch_task(batch, &row);
}

static void check_tasks(struct store *s, struct str after, int64_t since, int64_t limit, const char *names)
{
    CLEANUP(found_free) struct found f = {0};
    assert_int_equal(store_tasks_page(s, after, since, limit, find_task, &f), 0);
    assert_string_equal(buf_cstr(&f.ids), names);
    assert_false(f.has_spec);
}

void pages_of_tasks(void **state)
{
    (void)state;
    struct box b;
    box_new(&b);
    struct store_batch *batch = store_batch_new();
    put_row(batch, "t1", "one", false, 10, 1000); /* long lived, ended late */
    put_row(batch, "t2", "two", true, 20, 20);
    put_row(batch, "t3", "three", false, 30, 35);
    put_row(batch, "t4", "four", true, 40, 40);
    put_row(batch, "t5", "five", false, 40, 900); /* made at the same time: the later row is newer */
    box_commit_ok(&b, batch);
    check_tasks(b.store, STR_NONE, 0, 100, "five four three two one ");
    check_tasks(b.store, STR_NONE, 0, 2, "five four ");
    check_tasks(b.store, STR("t4"), 0, 2, "three two ");
    check_tasks(b.store, STR("t1"), 0, 2, "");
    check_tasks(b.store, STR_NONE, 900, 100, "five four two one ");
    check_tasks(b.store, STR_NONE, 901, 100, "four two one ");
    check_tasks(b.store, STR_NONE, 901, 2, "four two ");
    check_tasks(b.store, STR("t2"), 901, 2, "one ");
    CLEANUP(found_free) struct found f = {0};
    assert_int_equal(store_tasks_page(b.store, STR("t9"), 0, 9, find_task, &f), STORE_E_NONE);
    assert_int_equal(store_tasks_live(b.store, find_task, &f), 0);
    assert_int_equal(f.n, 2);
    assert_true(f.has_spec);
    box_free(&b);
}

static void check_resolve(struct store *s, const char *text, int status, const char *id)
{
    char found[32] = "";
    assert_int_equal(store_task_resolve(s, str_of(text), found), status);
    assert_string_equal(found, status ? "" : id);
}

void texts_resolve_to_tasks(void **state)
{
    (void)state;
    struct box b;
    box_new(&b);
    check_resolve(b.store, "@last", STORE_E_NONE, NULL);
    struct store_batch *batch = store_batch_new();
    put_row(batch, A, "parser", true, 10, 10);
    put_row(batch, B, "parser", false, 20, 20); /* newer, but not live */
    put_row(batch, C, "lexer", false, 30, 30);
    put_row(batch, "t01ccccccccccccccccccccccccc", "lexer", false, 40, 40);
    put_row(batch, "t01ddddddddddddddddddddddddd", A, true, 35, 35); /* an id wins over a name */
    box_commit_ok(&b, batch);
    check_resolve(b.store, A, 0, A);
    check_resolve(b.store, "parser", 0, A);
    check_resolve(b.store, "lexer", 0, "t01ccccccccccccccccccccccccc");
    check_resolve(b.store, "t01bbb", 0, C);
    check_resolve(b.store, "t01bb", STORE_E_NONE, NULL);
    check_resolve(b.store, "t01aaaaaaa", STORE_E_AMBIGUOUS, NULL);
    check_resolve(b.store, "t01zzz", STORE_E_NONE, NULL);
    check_resolve(b.store, "@last", 0, "t01ccccccccccccccccccccccccc");
    check_resolve(b.store, "", STORE_E_NONE, NULL);
    check_resolve(b.store, NULL, STORE_E_NONE, NULL);
    check_resolve(b.store, "a text that is much longer than any id could ever be", STORE_E_NONE, NULL);
    box_free(&b);
}

void a_prompt_is_put_together(void **state)
{
    (void)state;
    struct box b;
    CLEANUP(buf_free) struct buf text = {0};
    box_new(&b);
    struct store_batch *batch = store_batch_new();
    put_task(batch, A, 1, 1);
    store_batch_context(batch, A, 1, 0, STR("["));
    store_batch_context(batch, A, 2, 0, STR("{"));
    for (int64_t i = 1; i <= 3; i++)
        store_batch_context(batch, A, 2, i, str_n(&"xyz"[i - 1], 1));
    store_batch_context(batch, A, 3, 0, STR("a"));
    store_batch_context(batch, A, 3, 2, STR("c")); /* 1 is missing */
    box_commit_ok(&b, batch);
    buf_puts(&text, "before");
    assert_int_equal(store_context_read(b.store, A, 1, &text), 0);
    assert_string_equal(buf_cstr(&text), "before[");
    assert_int_equal(store_context_read(b.store, A, 2, &text), 0);
    assert_string_equal(buf_cstr(&text), "before[{x,y,z");
    assert_int_equal(store_context_read(b.store, A, 3, &text), STORE_E_FOREIGN);
    assert_string_equal(buf_cstr(&text), "before[{x,y,z");
    box_free(&b);
}

/* ---- commits and reads at once ---- */

struct stream {
    struct box *box;
    uv_idle_t reader;
    int64_t committed, submitted, batches, reads;
};

static void stream_next(struct stream *st);

static void stream_done(void *arg, int status, struct store_batch *batch, const char *error)
{
    struct stream *st = arg;
    (void)error;
    assert_int_equal(status, 0);
    assert_null(batch);
    st->committed = st->submitted;
    stream_next(st);
}

static void stream_next(struct stream *st)
{
    if (st->submitted == st->batches)
        return;
    struct store_batch *batch = store_batch_new();
    int64_t n = ++st->submitted;
    put_event(batch, 2 * n - 1, A, 2 * n - 1);
    put_event(batch, 2 * n, A, 2 * n);
    put_task(batch, A, 2 * n, 1);
    store_commit(st->box->store, batch, stream_done, st);
}

/* Each read sees whole batches, and at least all that was said to be committed. */
static void stream_read(uv_idle_t *idle)
{
    struct stream *st = idle->data;
    struct page p = {0};
    assert_int_equal(store_events_before(st->box->store, A, INT64_MAX, 50, 1 << 20, page_one, &p), 0);
    assert_true(p.first >= 2 * st->committed);
    assert_int_equal(p.first % 2, 0);
    st->reads++;
    if (st->committed == st->batches)
        uv_idle_stop(idle);
}

static void run_stream(struct box *b, struct stream *st)
{
    st->box = b;
    uv_idle_init(&b->loop, &st->reader);
    st->reader.data = st;
    uv_idle_start(&st->reader, stream_read);
    stream_next(st);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    uv_close((uv_handle_t *)&st->reader, NULL);
    uv_run(&b->loop, UV_RUN_DEFAULT);
}

void reading_goes_on_while_batches_commit(void **state)
{
    (void)state;
    struct box b;
    struct stream st = {.batches = 500};
    box_new(&b);
    run_stream(&b, &st);
    assert_int_equal(st.committed, 500);
    assert_true(st.reads > 0);
    assert_int_equal(count_events(b.store, A), 1000);
    box_free(&b);
}

static void must_not_run(void *arg, int status, struct store_batch *batch, const char *error)
{
    (void)arg;
    (void)status;
    (void)batch;
    (void)error;
    fail();
}

void commits_wait_for_each_other(void **state)
{
    (void)state;
    struct box b;
    box_new(&b);
    struct store_batch *batch = store_batch_new();
    put_task(batch, A, 1, 1);
    put_event(batch, 1, A, 1);
    store_commit(b.store, batch, must_not_run, NULL);
    batch = store_batch_new();
    put_event(batch, 2, A, 2); /* rests on the task of the one before */
    assert_int_equal(store_commit_wait(b.store, batch, &b.error), 0);
    assert_int_equal(count_events(b.store, A), 2);
    box_close(&b); /* before the loop turned: its callback is not called any more */
    assert_int_equal(box_open(&b), 0);
    batch = store_batch_new();
    put_event(batch, 3, A, 3);
    store_commit(b.store, batch, must_not_run, NULL);
    box_close(&b); /* waits for it */
    assert_int_equal(box_open(&b), 0);
    assert_int_equal(count_events(b.store, A), 3);
    box_commit_ok(&b, store_batch_new()); /* an empty one is no error */
    box_free(&b);
}

/* 100 MB through the log in small commits, with a reader at work: it is copied back in time, and starts
 * again. */
void the_log_stays_small(void **state)
{
    (void)state;
    enum { COMMITS = 900, BYTES = 120000 };
    struct box b;
    struct stat st;
    off_t most = 0;
    box_new(&b);
    for (int64_t n = 1; n <= COMMITS; n++) {
        struct store_batch *batch = store_batch_new();
        put_task(batch, A, n, 1);
        store_batch_event(batch, n, A, n, 1, 1, bytes_of('x', BYTES));
        box_commit_ok(&b, batch);
        struct page p = {0};
        assert_int_equal(store_events_after(b.store, A, n - 2, 2, 1 << 20, page_one, &p), 0);
        if (n % 50)
            continue;
        assert_int_equal(stat(box_path(&b, "agentd.db-wal"), &st), 0);
        most = st.st_size > most ? st.st_size : most;
    }
    assert_true(most < 64 << 20);
    box_free(&b);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return store_child(argc, argv);
    const struct CMUnitTest tests[] = {
#define X(name) cmocka_unit_test(name),
        STORE_TESTS(X)
#undef X
    };
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
