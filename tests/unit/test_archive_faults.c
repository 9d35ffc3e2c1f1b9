/* What must not happen to others while a task is archived or removed: crashes between two steps, damage, files in use. */
#include "archive_box.h"
#include "fault_vfs.h"

#include "daemon/store/state.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define NOISE_BYTES 1300000 /* of one content that stays a file when it is archived */
#define PAGE_BYTES 4096

static void box_empty(struct box *b)
{
    box_make(b);
    assert_int_equal(box_open(b), 0);
}

/* A task of one event, that is over or not. `p`: what the event says. */
static void put_whole(struct box *b, int n, bool live, struct str text)
{
    char id[32];
    CLEANUP(buf_free) struct buf json = {0};
    struct store_batch *batch = store_batch_new();
    task_id(n, id);
    buf_printf(&json, "{\"task\":%d,\"text\":\"%.*s\"}", n, STR_ARG(text));
    struct store_task row = {
        .id = id, .name = id, .live = live, .seq = 1, .created_ms = 1000, .updated_ms = 2000 + n, .snapshot = STR("s"), .spec = STR("{}")};
    store_batch_task(batch, &row);
    store_batch_event(batch, 10 + n, id, 1, 1, 1000, buf_view(&json));
    store_batch_context(batch, id, 1, 0, STR("head"));
    box_commit_ok(b, batch);
}

static bool is_archived(struct box *b, void *arg)
{
    return look(b, "SELECT count(*) FROM tasks t JOIN archives a ON a.task = t.n AND a.seq = t.seq") == *(int *)arg;
}

static void wait_archived(struct box *b, int n)
{
    turn_until(b, is_archived, &n);
}

static int count_cb(void *arg, const struct store_event *event)
{
    (void)event;
    ++*(int *)arg;
    return 0;
}

static bool no_blocks_of_removed(struct box *b, void *arg)
{
    (void)arg;
    return look(b, "SELECT count(*) FROM archives WHERE seq < 0") == 0;
}

/* A task was removed, and the daemon killed before its blocks were. */
static void a_new_task_has_nothing_of_a_removed_one(void **state)
{
    (void)state;
    struct box b;
    char id[32];
    int n = 0;
    CLEANUP(buf_free) struct buf prompt = {0};
    box_empty(&b);
    put_whole(&b, 0, false, STR("of the one that is removed"));
    retain(&b, 0, 0, 0);
    wait_archived(&b, 1);
    box_close(&b);
    change(&b, "DELETE FROM specs; DELETE FROM tasks; UPDATE archives SET seq = -1");
    assert_int_equal(box_open(&b), 0);
    put_whole(&b, 1, false, STR("of its own"));
    task_id(1, id);
    assert_int_equal(store_events_after(b.store, id, 0, 100, 1 << 20, count_cb, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(store_context_read(b.store, id, 1, &prompt), 0);
    assert_string_equal(buf_cstr(&prompt), "head");
    retain(&b, 0, 0, 0);
    turn_until(&b, no_blocks_of_removed, NULL);
    wait_archived(&b, 1);
    n = 0;
    assert_int_equal(store_events_after(b.store, id, 0, 100, 1 << 20, count_cb, &n), 0);
    assert_int_equal(n, 1);
    n = 0;
    assert_int_equal(store_journal_after(b.store, 0, 100, 1 << 20, count_cb, &n), 0);
    assert_int_equal(n, 1);
    box_free(&b);
}

/* ---- files in use ---- */

static bool a_file_waits(struct box *b, void *arg)
{
    (void)arg;
    return __atomic_load_n(&b->store->journal.archive.sweep.again, __ATOMIC_RELAXED);
}

static bool has_files(struct box *b, void *arg)
{
    return count_files(b, "blobs") <= *(int *)arg;
}

/* A backup may read for minutes. The room of a file that waits for it is as good as free: no other task goes for it. */
static void a_file_in_use_costs_no_other_task(void **state)
{
    (void)state;
    struct box b;
    struct store_usage usage;
    int left = 3;
    box_empty(&b);
    for (int n = 0; n < 4; n++)
        put_whole(&b, n, false, bytes_of((char)('a' + n), NOISE_BYTES));
    assert_int_equal(count_files(&b, "blobs"), 4);
    blobs_hold(&b.store->blobs);
    retain(&b, 0, 0, 3 * NOISE_BYTES + NOISE_BYTES / 2);
    turn_until(&b, a_file_waits, NULL);
    blobs_release(&b.store->blobs);
    turn_until(&b, has_files, &left);
    store_usage(b.store, &usage);
    assert_int_equal(usage.removed, 1);
    assert_int_equal(look(&b, "SELECT count(*) FROM tasks"), 3);
    box_free(&b);
}

/* ---- damage ---- */

/* Breaks the chain of pages that a large content of that letter is in. */
static void break_chain(const struct box *b, char letter)
{
    static const char nowhere[] = {0x7f, 0x7f, 0x7f, 0x7f};
    char page[PAGE_BYTES], wanted[PAGE_BYTES - 4];
    bool found = false;
    int fd = open(box_path(b, "agentd.db"), O_RDWR);
    assert_true(fd >= 0);
    memset(wanted, letter, sizeof wanted);
    for (off_t at = 0; !found && pread(fd, page, sizeof page, at) == sizeof page; at += PAGE_BYTES) {
        found = memcmp(page + 4, wanted, sizeof wanted) == 0;
        if (found)
            assert_int_equal(pwrite(fd, nowhere, sizeof nowhere, at), sizeof nowhere);
    }
    close(fd);
    assert_true(found);
}

/* Makes the pages that hold the text pages of no kind. */
static void break_pages(const struct box *b, struct str text)
{
    char page[PAGE_BYTES];
    int found = 0;
    int fd = open(box_path(b, "agentd.db"), O_RDWR);
    assert_true(fd >= 0);
    for (off_t at = PAGE_BYTES; pread(fd, page, sizeof page, at) == sizeof page; at += PAGE_BYTES) {
        if (!memmem(page, sizeof page, text.p, text.n))
            continue;
        assert_int_equal(pwrite(fd, "\xff", 1, at), 1);
        found++;
    }
    close(fd);
    assert_true(found > 0);
}

static bool keeping_is_over(struct box *b, void *arg)
{
    (void)arg;
    return !atomic_load(&b->store->journal.archive.on);
}

static bool nothing_is_hidden(struct box *b, void *arg)
{
    (void)arg;
    return !b->store->forgetting[0];
}

/* What was never read again would end the daemon, start after start. */
static void damage_in_an_old_task_stops_nobody(void **state)
{
    (void)state;
    struct box b;
    char id[32], found[32];
    box_empty(&b);
    put_whole(&b, 0, false, bytes_of('z', 60000));
    put_whole(&b, 1, true, STR("at work"));
    box_close(&b);
    break_chain(&b, 'z');
    assert_int_equal(box_open(&b), 0);
    retain(&b, 0, 0, 0);
    turn_until(&b, keeping_is_over, NULL);
    put_whole(&b, 2, true, STR("goes on"));
    task_id(0, id);
    assert_int_equal(store_task_resolve(b.store, str_of(id), found), 0);
    assert_int_equal(look(&b, "SELECT count(*) FROM events"), 3);
    box_free(&b);
}

/* It cannot be removed: then it is there for readers again. */
static void damage_of_a_task_that_is_to_go_stops_nobody(void **state)
{
    (void)state;
    struct box b;
    char id[32], found[32];
    box_empty(&b);
    put_whole(&b, 0, false, STR("old"));
    struct store_batch *batch = store_batch_new();
    task_id(0, id);
    store_batch_key(batch, "key-of-the-damaged-page", id, STR("digest"), STR("result"), 1);
    box_commit_ok(&b, batch);
    retain(&b, 0, 0, 0);
    wait_archived(&b, 1);
    box_close(&b);
    break_pages(&b, STR("key-of-the-damaged-page"));
    assert_int_equal(box_open(&b), 0);
    retain(&b, 0, 1, 0);
    turn_until(&b, keeping_is_over, NULL);
    put_whole(&b, 1, true, STR("goes on"));
    turn_until(&b, nothing_is_hidden, NULL);
    assert_int_equal(store_task_resolve(b.store, str_of(id), found), 0);
    box_free(&b);
}

/* It is removed, and its blocks stay. */
static void a_damaged_block_that_is_to_go_stops_nobody(void **state)
{
    (void)state;
    struct box b;
    char id[32], found[32];
    box_empty(&b);
    put_whole(&b, 0, false, STR("said on a damaged page"));
    retain(&b, 0, 0, 0);
    wait_archived(&b, 1);
    box_close(&b);
    break_pages(&b, STR("said on a damaged page"));
    assert_int_equal(box_open(&b), 0);
    retain(&b, 0, 1, 0);
    turn_until(&b, keeping_is_over, NULL);
    put_whole(&b, 1, true, STR("goes on"));
    task_id(0, id);
    assert_int_equal(store_task_resolve(b.store, str_of(id), found), STORE_E_NONE);
    box_free(&b);
}

static bool one_is_archived(struct box *b, void *arg)
{
    (void)arg;
    struct store_usage usage;
    store_usage(b->store, &usage);
    return usage.archived > 0;
}

/* So many files are open that the folder of large contents cannot be looked through. */
static void without_a_look_at_the_files_work_goes_on(void **state)
{
    (void)state;
    struct box b;
    struct rlimit before, none;
    box_empty(&b);
    put_whole(&b, 0, false, STR("old"));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    int next = dup(0);
    close(next);
    none.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    retain(&b, 0, 0, 0);
    turn_until(&b, one_is_archived, NULL);
    put_whole(&b, 1, true, STR("goes on"));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    box_free(&b);
}

static bool archived_or_given_up(struct box *b, void *arg)
{
    return one_is_archived(b, arg) || keeping_is_over(b, arg);
}

static bool read_fails_at(long nth)
{
    struct box b;
    box_empty(&b);
    put_whole(&b, 0, false, bytes_of('z', 60000));
    put_whole(&b, 1, true, STR("at work"));
    box_close(&b);
    assert_int_equal(box_open(&b), 0);
    fault_vfs_arm(FAULT_READ, nth, SQLITE_IOERR_READ, false);
    retain(&b, 0, 0, 0);
    turn_until(&b, archived_or_given_up, NULL);
    bool fired = fault_vfs_disarm();
    put_whole(&b, 2, true, STR("goes on"));
    assert_int_equal(box_check(&b), 0);
    box_free(&b);
    return fired;
}

/* A sector of what nobody has read for weeks. */
static void a_read_that_fails_stops_nobody(void **state)
{
    (void)state;
    long nth = 1;
    while (read_fails_at(nth))
        nth++;
    assert_true(nth > 10);
}

int main(void)
{
    fault_vfs_install();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_task_has_nothing_of_a_removed_one),
        cmocka_unit_test(a_file_in_use_costs_no_other_task),
        cmocka_unit_test(damage_in_an_old_task_stops_nobody),
        cmocka_unit_test(damage_of_a_task_that_is_to_go_stops_nobody),
        cmocka_unit_test(a_damaged_block_that_is_to_go_stops_nobody),
        cmocka_unit_test(without_a_look_at_the_files_work_goes_on),
        cmocka_unit_test(a_read_that_fails_stops_nobody),
    };
    return cmocka_run_group_tests_name("archive_faults", tests, NULL, NULL);
}
