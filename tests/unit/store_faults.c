/* The store when the disk fails or is full: what was said to be committed is there, a batch is there whole or not at all, and no failure
 * is taken for success. */
#include "store_numbered.h"

#include "fault_vfs.h"

#include <sqlite3.h>
#include <string.h>

/* ---- full ---- */

/* The nth write finds the disk full, once or until there is room: the batch is handed back and can be
 * committed again. */
static bool full_at(long nth, bool forever)
{
    struct box b;
    struct store_batch *batch;
    box_numbered(&b, 2);
    fault_vfs_arm(FAULT_WRITE, nth, SQLITE_FULL, forever);
    int status = box_commit(&b, numbered(3), &batch);
    if (status && forever) {
        assert_int_equal(status, STORE_E_FULL);
        assert_int_equal(check_whole(&b), 2);
        status = box_commit(&b, batch, &batch); /* still full */
        assert_int_equal(status, STORE_E_FULL);
    }
    bool fired = fault_vfs_disarm();
    if (status) {
        assert_int_equal(status, STORE_E_FULL);
        assert_true(fired);
        assert_non_null(strstr(buf_cstr(&b.error), "full"));
        assert_int_equal(check_whole(&b), 2);
        box_commit_ok(&b, batch);
    }
    assert_int_equal(check_whole(&b), 3);
    box_commit_ok(&b, numbered(4));
    box_close(&b);
    assert_int_equal(box_open(&b), 0);
    assert_int_equal(check_whole(&b), 4);
    box_free(&b);
    return fired;
}

void a_full_disk_loses_nothing(void **state)
{
    (void)state;
    long n = 1;
    while (full_at(n, false))
        n++;
    assert_true(n > 4);
    for (long i = 1; i < n; i++)
        full_at(i, true);
}

/* A log of so many pages needs a second region of its index; the frames of that commit are in the log when it is refused. */
void an_index_that_cannot_grow_is_a_full_disk(void **state)
{
    (void)state;
    struct box b;
    box_make(&b);
    fault_vfs_arm(FAULT_INDEX, 1, SQLITE_IOERR_SHMSIZE, true);
    assert_int_equal(box_open(&b), 0);
    struct store_batch *batch = NULL;
    int64_t n = 0;
    int status = 0;
    while (!status && n < 40) {
        batch = numbered(++n);
        for (int k = 0; k < 10; k++)
            store_batch_context(batch, A, 100 + n, k, bytes_of('z', 100000));
        status = box_commit(&b, batch, &batch);
    }
    assert_int_equal(status, STORE_E_FULL);
    assert_true(store_disk_low(b.store));
    assert_int_equal(check_whole(&b), n - 1);
    assert_true(fault_vfs_disarm());
    box_commit_ok(&b, batch);
    assert_int_equal(check_whole(&b), n);
    box_close(&b);
    assert_int_equal(box_open(&b), 0);
    assert_int_equal(check_whole(&b), n);
    box_free(&b);
}

/* ---- failing ---- */

/* By sort of call. */
static const int io_codes[] = {[FAULT_WRITE] = SQLITE_IOERR_WRITE, [FAULT_SYNC] = SQLITE_IOERR_FSYNC};

/* A failed write or sync is in doubt: after a new start the batch is there whole, or not at all. */
static bool fails_at(enum fault_call call, long nth, bool forever)
{
    struct box b;
    box_numbered(&b, 2);
    fault_vfs_arm(call, nth, io_codes[call], forever);
    int status = box_commit(&b, numbered(3), NULL);
    bool fired = fault_vfs_disarm();
    assert_int_equal(status, fired ? STORE_E_IO : 0);
    if (fired)
        assert_non_null(strstr(buf_cstr(&b.error), "SQLite"));
    box_close(&b);
    assert_int_equal(box_open(&b), 0);
    int64_t n = check_whole(&b);
    assert_true(fired ? n == 2 || n == 3 : n == 3);
    box_commit_ok(&b, numbered(n + 1));
    assert_int_equal(check_whole(&b), n + 1);
    box_free(&b);
    return fired;
}

void a_failing_disk_is_never_taken_for_success(void **state)
{
    (void)state;
    for (int forever = 0; forever < 2; forever++) {
        long n = 1;
        while (fails_at(FAULT_WRITE, n, forever))
            n++;
        assert_true(n > 4);
        n = 1;
        while (fails_at(FAULT_SYNC, n, forever))
            n++;
        assert_true(n > 1); /* a commit at FULL syncs at least once */
    }
}

static int count_task_cb(void *arg, const struct store_task *row)
{
    (void)row;
    ++*(int *)arg;
    return 0;
}

static int count_event_cb(void *arg, const struct store_event *event)
{
    (void)event;
    ++*(int *)arg;
    return 0;
}

/* The `which`th way to read what three numbered batches left: -1 if there are no more, else its status; what it found is whole. */
static int read_in_a_way(struct store *s, int which)
{
    CLEANUP(buf_free) struct buf b = {0};
    char id[32] = "";
    int n = 0, status;
    int64_t pos;
    switch (which) {
    case 0:
        pos = store_pos_last(s);
        assert_true(pos == 3 * EVENTS_PER_BATCH || pos < 0);
        return pos < 0 ? (int)-pos : 0;
    case 1:
        status = store_tasks_live(s, count_task_cb, &n);
        break;
    case 2:
        status = store_tasks_page(s, STR_NONE, 0, 10, count_task_cb, &n);
        break;
    case 3:
        status = store_task_load(s, A, count_task_cb, &n);
        break;
    case 4:
        status = store_task_resolve(s, STR(A), id);
        n = strcmp(id, A) == 0;
        break;
    case 5:
        status = store_events_after(s, A, 3 * EVENTS_PER_BATCH - 1, 10, 1 << 20, count_event_cb, &n);
        break;
    case 6:
        status = store_events_before(s, A, 2, 10, 1 << 20, count_event_cb, &n);
        break;
    case 7:
        status = store_journal_after(s, 3 * EVENTS_PER_BATCH - 1, 10, 1 << 20, count_event_cb, &n);
        break;
    case 8:
        status = store_context_read(s, A, 1, &b);
        n = b.n > 0;
        break;
    default:
        return -1;
    }
    if (status == 0)
        assert_int_equal(n, 1);
    return status;
}

/* Whatever is asked for is there, or it is said that it could not be read: never that there is nothing. */
void a_disk_that_cannot_be_read_is_not_taken_for_empty(void **state)
{
    (void)state;
    struct box b;
    box_numbered(&b, 3);
    for (int way = 0; read_in_a_way(b.store, way) >= 0; way++) {
        bool fired = true;
        for (long nth = 1; fired; nth++) {
            box_close(&b); /* what was read before is forgotten */
            assert_int_equal(box_open(&b), 0);
            fault_vfs_arm(FAULT_READ, nth, SQLITE_IOERR_READ, true);
            int status = read_in_a_way(b.store, way);
            fired = fault_vfs_disarm();
            assert_true(status == 0 || (fired && status == STORE_E_IO));
            int64_t at_ms;
            const char *why = store_unread(b.store, &at_ms);
            assert_true(status == 0 ? !why : at_ms > 0 && strstr(why, "disk I/O error"));
            assert_int_equal(read_in_a_way(b.store, way), 0); /* it can be read again */
        }
    }
    box_free(&b);
}

/* The same process never tries again: a page that could not be synced may count as clean by then. */
void a_failed_journal_stays_failed(void **state)
{
    (void)state;
    struct box b;
    box_numbered(&b, 2);
    fault_vfs_arm(FAULT_SYNC, 1, SQLITE_IOERR_FSYNC, false);
    assert_int_equal(box_commit(&b, numbered(3), NULL), STORE_E_IO);
    assert_true(fault_vfs_disarm());
    assert_int_equal(box_commit(&b, numbered(3), NULL), STORE_E_IO);
    buf_clear(&b.error);
    assert_int_equal(store_commit_wait(b.store, numbered(3), &b.error), STORE_E_IO);
    assert_non_null(strstr(buf_cstr(&b.error), "cannot write the journal"));
    box_free(&b);
}

/* Commits of 1 MB until the log was copied back, which is tried when it has grown to 32 MB; the status of the
 * last. */
static int commit_until_checkpoint(struct box *b, int64_t *n)
{
    int status = 0;
    for (int i = 0; i < 60 && !status; i++) {
        struct store_batch *batch = numbered(++*n);
        for (int k = 0; k < 10; k++)
            store_batch_context(batch, A, 100 + *n, k, bytes_of('z', 100000));
        status = box_commit(b, batch, NULL);
    }
    return status;
}

/* What the log holds is safe when it cannot be copied back for lack of room; when the disk fails, no commit
 * is promised any more. */
void a_checkpoint_that_fails_loses_nothing(void **state)
{
    (void)state;
    static const struct {
        enum fault_call call;
        int code, status;
    } cases[] = {
        {FAULT_CHECKPOINT_WRITE, SQLITE_FULL, 0},
        {FAULT_CHECKPOINT_WRITE, SQLITE_IOERR_WRITE, STORE_E_IO},
        {FAULT_CHECKPOINT_SYNC, SQLITE_IOERR_FSYNC, STORE_E_IO},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct box b;
        int64_t n = 2;
        box_numbered(&b, 2);
        fault_vfs_arm(cases[i].call, 1, cases[i].code, true);
        assert_int_equal(commit_until_checkpoint(&b, &n), cases[i].status);
        assert_true(fault_vfs_disarm());
        if (!cases[i].status) {
            assert_true(store_disk_low(b.store));
        } else {
            n--; /* the last was not taken */
            assert_non_null(strstr(buf_cstr(&b.error), "cannot checkpoint the journal"));
        }
        box_close(&b);
        assert_int_equal(box_open(&b), 0);
        assert_int_equal(check_whole(&b), n);
        box_commit_ok(&b, numbered(n + 1));
        box_free(&b);
    }
}
