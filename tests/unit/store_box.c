#include "test_store.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void box_make(struct box *b)
{
    *b = (struct box){0};
    const char *tmp = getenv("TMPDIR");
    snprintf(b->dir, sizeof b->dir, "%.200s/store-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(b->dir));
    assert_int_equal(uv_loop_init(&b->loop), 0);
}

int box_open(struct box *b)
{
    assert_null(b->store);
    buf_clear(&b->error);
    return store_open(b->dir, &b->loop, &b->store, &b->error);
}

void box_close(struct box *b)
{
    if (!b->store)
        return;
    store_close(b->store);
    b->store = NULL;
    uv_run(&b->loop, UV_RUN_DEFAULT);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void box_free(struct box *b)
{
    box_close(b);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    assert_int_equal(nftw(b->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
    buf_free(&b->error);
}

const char *box_path(const struct box *b, const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", b->dir, name);
    return path;
}

struct commit_end {
    struct box *box;
    int calls, status;
    struct store_batch *batch;
};

static void commit_ended(void *arg, int status, struct store_batch *batch, const char *error)
{
    struct commit_end *end = arg;
    end->calls++;
    end->status = status;
    end->batch = batch;
    buf_clear(&end->box->error);
    buf_puts(&end->box->error, error);
}

int box_commit(struct box *b, struct store_batch *batch, struct store_batch **ret_batch)
{
    struct commit_end end = {.box = b};
    store_commit(b->store, batch, commit_ended, &end);
    uv_run(&b->loop, UV_RUN_DEFAULT); /* the commit alone keeps the loop alive */
    assert_int_equal(end.calls, 1);
    assert_int_equal(end.batch != NULL, end.status == STORE_E_FULL);
    if (ret_batch)
        *ret_batch = end.batch;
    else
        store_batch_free(end.batch);
    return end.status;
}

void box_commit_ok(struct box *b, struct store_batch *batch)
{
    int status = box_commit(b, batch, NULL);
    if (status)
        print_message("%s\n", buf_cstr(&b->error));
    assert_int_equal(status, 0);
}

struct check_end {
    int calls, status;
    struct buf *error;
};

static void check_ended(void *arg, int status, const char *error)
{
    struct check_end *end = arg;
    end->calls++;
    end->status = status;
    buf_clear(end->error);
    buf_puts(end->error, error);
}

int box_check(struct box *b)
{
    struct check_end end = {.error = &b->error};
    store_check(b->store, check_ended, &end);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    assert_int_equal(end.calls, 1);
    return end.status;
}

void put_task(struct store_batch *batch, const char *id, int64_t seq, int64_t created_ms)
{
    struct store_task row = {.id = id,
                             .name = id,
                             .state = 2,
                             .live = true,
                             .seq = seq,
                             .created_ms = created_ms,
                             .updated_ms = created_ms + seq,
                             .snapshot = STR("snapshot")};
    store_batch_task(batch, &row);
}

static int event_text(char *p, size_t n, const char *id, int64_t seq)
{
    return snprintf(p, n, "{\"seq\":%" PRId64 ",\"task\":\"%s\"}", seq, id);
}

void put_event(struct store_batch *batch, int64_t pos, const char *id, int64_t seq)
{
    char text[128];
    int n = event_text(text, sizeof text, id, seq);
    store_batch_event(batch, pos, id, seq, 1, 1000 + seq, str_n(text, (size_t)n));
}

struct str bytes_of(char fill, size_t n)
{
    static struct buf b;
    buf_free(&b);
    memset(buf_reserve(&b, n), fill, n);
    b.n = n;
    return buf_view(&b);
}

static int count_one(void *arg, const struct store_event *event)
{
    int64_t *n = arg;
    char text[128];
    int length = event_text(text, sizeof text, event->task, event->seq);
    assert_int_equal(event->seq, *n + 1);
    assert_true(str_eq(event->json, str_n(text, (size_t)length)));
    *n = event->seq;
    return 0;
}

int64_t count_events(struct store *s, const char *id)
{
    int64_t n = 0, before;
    do {
        before = n;
        assert_int_equal(store_events_after(s, id, n, 1000, 1 << 20, count_one, &n), 0);
    } while (n > before);
    return n;
}
