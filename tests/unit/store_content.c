/* The store's content outside of SQLite: large bodies in files; and its copies. */
#include "test_store.h"

#include "daemon/store/check.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define A "t01aaaaaaaaaaaaaaaaaaaaaaaaa"
#define LARGE 300000

static void box_new(struct box *b)
{
    box_make(b);
    assert_int_equal(box_open(b), 0);
}

/* Three rows with two contents of that size: two events that are equal, one element of a prompt. */
static struct store_batch *large_batch(size_t n)
{
    struct store_batch *batch = store_batch_new();
    put_task(batch, A, 3, 1);
    put_event(batch, 1, A, 1);
    store_batch_event(batch, 2, A, 2, 1, 1, bytes_of('x', n));
    store_batch_event(batch, 3, A, 3, 1, 1, bytes_of('x', n));
    store_batch_context(batch, A, 1, 0, STR("["));
    store_batch_context(batch, A, 1, 1, bytes_of('y', n));
    store_batch_context(batch, A, 1, 2, STR("1"));
    return batch;
}

struct expected {
    int64_t n;
    size_t size;
};

static int check_event(void *arg, const struct store_event *event)
{
    struct expected *e = arg;
    assert_int_equal(event->seq, ++e->n);
    if (event->seq > 1)
        assert_true(str_eq(event->json, bytes_of('x', e->size)));
    return 0;
}

static void check_large(struct store *s, size_t n)
{
    struct expected e = {.size = n};
    CLEANUP(buf_free) struct buf prompt = {0};
    assert_int_equal(store_events_after(s, A, 0, 10, 1 << 24, check_event, &e), 0);
    assert_int_equal(e.n, 3);
    assert_int_equal(store_context_read(s, A, 1, &prompt), 0);
    assert_int_equal(prompt.n, 1 + n + 2);
    assert_memory_equal(prompt.p + 1, bytes_of('y', n).p, n);
    assert_memory_equal(prompt.p + 1 + n, ",1", 2);
}

/* How many files the folder holds; the name of one of them. */
static int blob_files(const struct box *b, char *ret_path, size_t size)
{
    int n = 0;
    struct dirent *entry;
    DIR *dir = opendir(box_path(b, "blobs"));
    assert_non_null(dir);
    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.') {
            n++;
            if (ret_path)
                snprintf(ret_path, size, "%s/blobs/%s", b->dir, entry->d_name);
        }
    closedir(dir);
    return n;
}

void large_content_is_in_files(void **state)
{
    (void)state;
    struct box b;
    char path[1024];
    struct stat st;
    box_new(&b);
    box_commit_ok(&b, large_batch(131072)); /* at the bound: in the row */
    assert_int_equal(blob_files(&b, NULL, 0), 0);
    check_large(b.store, 131072);
    box_free(&b);

    box_new(&b);
    box_commit_ok(&b, large_batch(LARGE));
    assert_int_equal(blob_files(&b, path, sizeof path), 2);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, LARGE);
    assert_int_equal(st.st_mode & 0777, 0600);
    check_large(b.store, LARGE);
    assert_int_equal(stat(box_path(&b, "agentd.db-wal"), &st), 0);
    assert_true(st.st_size < LARGE);
    box_close(&b);
    assert_int_equal(box_open(&b), 0);
    check_large(b.store, LARGE);
    assert_int_equal(box_check(&b), 0);
    box_free(&b);
}

static int any_event(void *arg, const struct store_event *event)
{
    (void)event;
    ++*(int *)arg;
    return 0;
}

static void change_one_byte(const char *path)
{
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    assert_int_equal(fseek(f, LARGE / 2, SEEK_SET), 0);
    assert_int_equal(fputc('!', f), '!');
    assert_int_equal(fclose(f), 0);
}

void a_damaged_file_is_noticed(void **state)
{
    (void)state;
    struct box b;
    char path[1024];
    int n = 0;
    box_new(&b);
    struct store_batch *batch = store_batch_new();
    put_task(batch, A, 2, 1);
    put_event(batch, 1, A, 1);
    store_batch_event(batch, 2, A, 2, 1, 1, bytes_of('x', LARGE));
    box_commit_ok(&b, batch);
    assert_int_equal(blob_files(&b, path, sizeof path), 1);
    change_one_byte(path);
    assert_int_equal(store_events_after(b.store, A, 0, 10, 1 << 24, any_event, &n), STORE_E_FOREIGN);
    assert_int_equal(n, 1); /* what stands before it is given */

    batch = store_batch_new(); /* the same content once more: the damaged file is not trusted, but replaced */
    store_batch_event(batch, 3, A, 3, 1, 1, bytes_of('x', LARGE));
    box_commit_ok(&b, batch);
    n = 0;
    assert_int_equal(store_events_after(b.store, A, 0, 10, 1 << 24, any_event, &n), 0);
    assert_int_equal(n, 3);

    assert_int_equal(box_check(&b), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(box_check(&b), STORE_E_FOREIGN);
    assert_non_null(strstr(buf_cstr(&b.error), "event 2"));
    box_free(&b);
}

/* ---- copies ---- */

struct backup_end {
    int calls, status;
    struct buf error;
};

static void backup_ended(void *arg, int status, const char *error)
{
    struct backup_end *end = arg;
    end->calls++;
    end->status = status;
    buf_clear(&end->error);
    buf_puts(&end->error, error);
}

/* No file of a copy that is not finished. */
static void expect_no_partial(const struct box *b)
{
    struct dirent *entry;
    DIR *dir = opendir(b->dir);
    assert_non_null(dir);
    while ((entry = readdir(dir)))
        assert_null(strstr(entry->d_name, ".partial"));
    closedir(dir);
}

static void move_into(struct box *from, struct box *to)
{
    CLEANUP(buf_free) struct buf copy = {0};
    buf_puts(&copy, box_path(from, "copy"));
    assert_int_equal(rename(buf_cstr(&copy), box_path(to, "agentd.db")), 0);
}

void a_backup_is_one_whole_file(void **state)
{
    (void)state;
    struct box b, restored;
    struct stat st;
    CLEANUP(buf_free) struct buf path = {0};
    struct backup_end end = {0};
    box_new(&b);
    box_make(&restored);
    box_commit_ok(&b, large_batch(LARGE));
    buf_puts(&path, box_path(&b, "copy"));
    store_backup(b.store, buf_cstr(&path), backup_ended, &end);
    uv_run(&b.loop, UV_RUN_DEFAULT);
    assert_int_equal(end.calls, 1);
    assert_int_equal(end.status, 0);
    assert_int_equal(stat(buf_cstr(&path), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    expect_no_partial(&b);
    assert_int_equal(access(box_path(&b, "copy-wal"), F_OK), -1);

    move_into(&b, &restored); /* without the folder of files: it needs none */
    assert_int_equal(box_open(&restored), 0);
    check_large(restored.store, LARGE);
    assert_int_equal(blob_files(&restored, NULL, 0), 0);
    assert_int_equal(box_check(&restored), 0);
    check_large(b.store, LARGE); /* the live one still has its files */
    assert_int_equal(blob_files(&b, NULL, 0), 2);
    buf_free(&end.error);
    box_free(&restored);
    box_free(&b);
}

struct busy {
    struct box *box;
    struct backup_end backup;
    int64_t n, committed_in_backup;
};

static void busy_next(struct busy *busy);

static void busy_done(void *arg, int status, struct store_batch *batch, const char *error)
{
    struct busy *busy = arg;
    (void)batch;
    (void)error;
    assert_int_equal(status, 0);
    if (!busy->backup.calls) {
        busy->committed_in_backup++;
        busy_next(busy);
    }
}

static void busy_next(struct busy *busy)
{
    struct store_batch *batch = store_batch_new();
    int64_t n = ++busy->n;
    put_task(batch, A, n, 1);
    put_event(batch, n, A, n);
    store_commit(busy->box->store, batch, busy_done, busy);
}

/* Several slices long: commits are not held up by it, and what they write is in the copy or not, but never
 * half. */
void a_backup_is_made_between_commits(void **state)
{
    (void)state;
    struct box b, restored;
    struct busy busy = {.box = &b};
    CLEANUP(buf_free) struct buf path = {0};
    box_new(&b);
    box_make(&restored);
    struct store_batch *batch = store_batch_new();
    put_task(batch, A, 0, 1);
    for (int i = 0; i < 100; i++)
        store_batch_context(batch, A, 1, i, bytes_of('x', 100000));
    box_commit_ok(&b, batch);
    buf_puts(&path, box_path(&b, "copy"));
    store_backup(b.store, buf_cstr(&path), backup_ended, &busy.backup);
    busy_next(&busy);
    uv_run(&b.loop, UV_RUN_DEFAULT);
    assert_int_equal(busy.backup.calls, 1);
    assert_int_equal(busy.backup.status, 0);
    assert_true(busy.committed_in_backup > 1);
    move_into(&b, &restored);
    assert_int_equal(box_open(&restored), 0);
    assert_int_equal(box_check(&restored), 0);
    int64_t copied = count_events(restored.store, A);
    assert_true(copied <= count_events(b.store, A));
    assert_int_equal(store_pos_last(restored.store), copied);
    buf_free(&busy.backup.error);
    box_free(&restored);
    box_free(&b);
}

void a_backup_that_fails_leaves_nothing(void **state)
{
    (void)state;
    struct box b;
    char file[1024];
    struct backup_end end = {0};
    CLEANUP(buf_free) struct buf path = {0};
    box_new(&b);
    box_commit_ok(&b, large_batch(LARGE));
    store_backup(b.store, box_path(&b, "no-such-folder/copy"), backup_ended, &end);
    uv_run(&b.loop, UV_RUN_DEFAULT);
    assert_int_equal(end.calls, 1);
    assert_int_equal(end.status, STORE_E_IO);
    assert_non_null(strstr(buf_cstr(&end.error), "no-such-folder"));

    assert_int_equal(blob_files(&b, file, sizeof file), 2);
    assert_int_equal(unlink(file), 0);
    buf_puts(&path, box_path(&b, "copy"));
    store_backup(b.store, buf_cstr(&path), backup_ended, &end);
    uv_run(&b.loop, UV_RUN_DEFAULT);
    assert_int_equal(end.calls, 2);
    assert_int_equal(end.status, STORE_E_FOREIGN);
    assert_int_equal(access(buf_cstr(&path), F_OK), -1);
    expect_no_partial(&b);

    struct store_batch *batch = store_batch_new(); /* the journal goes on */
    put_event(batch, 4, A, 4);
    box_commit_ok(&b, batch);
    store_backup(b.store, buf_cstr(&path), backup_ended, &end);
    box_close(&b); /* while it is under way: dropped, and told so */
    assert_int_equal(end.calls, 3);
    assert_int_equal(end.status, STORE_E_STOPPED);
    expect_no_partial(&b);
    buf_free(&end.error);
    box_free(&b);
}

void a_backup_replaces_no_file(void **state)
{
    (void)state;
    struct box b;
    struct stat st;
    struct backup_end end = {0};
    CLEANUP(buf_free) struct buf path = {0};
    box_new(&b);
    box_commit_ok(&b, large_batch(1000));
    buf_puts(&path, box_path(&b, "copy"));
    FILE *f = fopen(buf_cstr(&path), "w");
    assert_non_null(f);
    fputs("mine", f);
    fclose(f);
    store_backup(b.store, buf_cstr(&path), backup_ended, &end);
    uv_run(&b.loop, UV_RUN_DEFAULT);
    assert_int_equal(end.status, STORE_E_IO);
    assert_non_null(strstr(buf_cstr(&end.error), "exists already"));
    assert_int_equal(stat(buf_cstr(&path), &st), 0);
    assert_int_equal(st.st_size, 4);

    assert_int_equal(unlink(buf_cstr(&path)), 0);
    store_backup(b.store, buf_cstr(&path), backup_ended,
                 &end); /* two of one name: the second finds the first */
    store_backup(b.store, buf_cstr(&path), backup_ended, &end);
    uv_run(&b.loop, UV_RUN_DEFAULT);
    assert_int_equal(end.calls, 3);
    assert_int_equal(end.status, STORE_E_IO);
    assert_int_equal(stat(buf_cstr(&path), &st), 0);
    assert_true(st.st_size > 4096);
    expect_no_partial(&b);
    buf_free(&end.error);
    box_free(&b);
}

/* ---- checks ---- */

/* Several at once, and commits meanwhile; those that are under way at the end are told. */
void checks_do_not_hold_the_loop_up(void **state)
{
    (void)state;
    struct box b;
    struct backup_end end = {0};
    box_new(&b);
    box_commit_ok(&b, large_batch(1000));
    for (int i = 0; i < 3; i++)
        store_check(b.store, backup_ended, &end);
    assert_int_equal(end.calls, 0);
    struct store_batch *batch = store_batch_new();
    put_event(batch, 4, A, 4);
    box_commit_ok(&b, batch);
    assert_int_equal(end.calls, 3);
    assert_int_equal(end.status, 0);
    for (int i = 0; i < 3; i++)
        store_check(b.store, backup_ended, &end);
    box_close(&b);
    assert_int_equal(end.calls, 6);
    buf_free(&end.error);
    box_free(&b);
}

/* One that is stopped says neither that the database is whole nor that it is not. */
void a_check_gives_way(void **state)
{
    (void)state;
    struct box b;
    struct check check;
    check_init(&check);
    box_new(&b);
    box_commit_ok(&b, large_batch(1000));
    const char *path = box_path(&b, "agentd.db");
    assert_int_equal(check_run(&check, path, NULL, &b.error), 0);
    check_stop(&check);
    assert_int_equal(check_run(&check, path, NULL, &b.error), STORE_E_STOPPED);
    check_stop_wait(&check);
    check_reset(&check);
    buf_clear(&b.error);
    assert_int_equal(check_run(&check, path, NULL, &b.error), 0);
    check_destroy(&check);
    box_free(&b);
}
