/* The archive: what has ended is compressed and reads as before; what is removed, and when; crashes and damage. */
#include "archive_box.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void box_filled(struct box *b, struct fill *f, int tasks, int events, int large)
{
    *f = (struct fill){.tasks = tasks, .seed = 7, .large = large, .ended_ms = 2000};
    box_make(b);
    assert_int_equal(box_open(b), 0);
    fill_more(b, f, events);
}

static void check_same(struct store *s, const struct fill *f, const struct buf *before)
{
    CLEANUP(buf_free) struct buf now = {0};
    read_all(s, f, &now);
    size_t n = 0;
    while (n < now.n && n < before->n && now.p[n] == before->p[n])
        n++;
    if (n < now.n || n < before->n)
        print_message("differs at %zu: %.200s\nwas %.200s\n", n, now.p + (n > 60 ? n - 60 : 0), before->p + (n > 60 ? n - 60 : 0));
    assert_int_equal(now.n, before->n);
    assert_memory_equal(now.p, before->p, now.n);
}

static void archived_tasks_read_as_before(void **state)
{
    (void)state;
    struct box b;
    struct fill f;
    CLEANUP(buf_free) struct buf before = {0};
    box_filled(&b, &f, 5, 2500, 120);
    for (int n = 0; n < 4; n++)
        fill_end(&b, &f, n, false);
    read_all(b.store, &f, &before);
    int files = count_files(&b, "blobs");
    assert_true(files > 5);
    retain(&b, 0, 0, 0);
    wait_usage(&b, 4, 0);
    check_same(b.store, &f, &before);
    assert_int_equal(look(&b, "SELECT count(DISTINCT task) FROM events"), 1); /* the one that lives */
    assert_int_equal(look(&b, "SELECT count(DISTINCT task) FROM context"), 1);
    assert_true(look(&b, "SELECT sum(length(body)) < sum(bytes) / 2 FROM archive_events WHERE codec = 1"));
    assert_int_equal(box_check(&b), 0);
    box_close(&b);
    assert_int_equal(box_open(&b), 0);
    check_same(b.store, &f, &before);
    assert_int_equal(store_pos_last(b.store), f.pos);
    box_free(&b);
}

static bool files_are_gone(struct box *b, void *arg)
{
    return count_files(b, "blobs") == *(int *)arg;
}

static void files_that_nobody_names_are_removed(void **state)
{
    (void)state;
    struct box b;
    struct fill f;
    FILE *file;
    box_filled(&b, &f, 2, 400, 40);
    static const char orphan[] = "blobs/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    file = fopen(box_path(&b, orphan), "w");
    assert_non_null(file);
    fclose(file);
    file = fopen(box_path(&b, "blobs/notes"), "w"); /* somebody else's */
    assert_non_null(file);
    fclose(file);
    fill_end(&b, &f, 0, false);
    fill_end(&b, &f, 1, false);
    retain(&b, 0, 0, 0);
    wait_usage(&b, 2, 0);
    int left = (int)look(&b, "SELECT count(DISTINCT hash) FROM (SELECT hash FROM archive_events UNION SELECT hash FROM archive_context)");
    assert_true(left > 0); /* the very large ones stay files */
    left++;
    turn_until(&b, files_are_gone, &left);
    assert_int_equal(access(box_path(&b, "blobs/notes"), F_OK), 0);
    assert_int_not_equal(access(box_path(&b, orphan), F_OK), 0);
    assert_int_equal(box_check(&b), 0);
    box_free(&b);
}

static void a_task_goes_on_from_its_archive(void **state)
{
    (void)state;
    struct box b;
    struct fill f;
    CLEANUP(buf_free) struct buf before = {0};
    box_filled(&b, &f, 3, 600, 100);
    for (int n = 0; n < 3; n++)
        fill_end(&b, &f, n, false);
    retain(&b, 0, 0, 0);
    wait_usage(&b, 3, 0);
    fill_end(&b, &f, 1, true);
    f.seed = 99;
    fill_more(&b, &f, 500); /* all of them live again */
    read_all(b.store, &f, &before);
    check_same(b.store, &f, &before);
    box_close(&b);
    assert_int_equal(box_open(&b), 0);
    for (int n = 0; n < 3; n++)
        fill_end(&b, &f, n, false);
    buf_clear(&before);
    read_all(b.store, &f, &before); /* half of it from blocks, half from rows */
    retain(&b, 0, 0, 0);
    wait_usage(&b, 3, 0);
    check_same(b.store, &f, &before);
    assert_int_equal(look(&b, "SELECT count(*) FROM events"), 0);
    assert_int_equal(look(&b, "SELECT count(*) FROM context"), 0);
    box_free(&b);
}

static void nothing_is_archived_before_its_time(void **state)
{
    (void)state;
    struct box b;
    struct fill f;
    struct timespec now;
    box_filled(&b, &f, 2, 100, 0);
    clock_gettime(CLOCK_REALTIME, &now);
    fill_end(&b, &f, 0, false); /* in 1970 */
    f.ended_ms = (int64_t)now.tv_sec * 1000;
    fill_end(&b, &f, 1, false);
    retain(&b, 3600000, 0, 0);
    wait_usage(&b, 1, 0);
    assert_int_equal(look(&b, "SELECT count(DISTINCT task) FROM events"), 1);
    assert_int_equal(look(&b, "SELECT count(*) FROM archives"), 1);
    box_free(&b);
}

static bool blocks_are_gone(struct box *b, void *arg)
{
    (void)arg;
    return look(b, "SELECT count(*) FROM archives") == 0;
}

static bool both_are_told(struct box *b, void *arg)
{
    (void)b, (void)arg;
    return removed_told == 2;
}

static void old_tasks_are_removed(void **state)
{
    (void)state;
    struct box b;
    struct fill f;
    char id[32], found[32];
    box_filled(&b, &f, 3, 900, 100);
    struct store_batch *batch = store_batch_new();
    task_id(0, id);
    for (int i = 0; i < 1200; i++) {
        char key[32];
        snprintf(key, sizeof key, "key-%d", i);
        store_batch_key(batch, key, id, STR("digest"), STR("result"), 1);
    }
    box_commit_ok(&b, batch);
    fill_end(&b, &f, 0, false);
    fill_end(&b, &f, 1, false);
    int64_t last = f.pos;
    retain(&b, 0, 1000, 0);
    wait_usage(&b, 2, 2);
    turn_until(&b, both_are_told, NULL);
    for (int n = 0; n < 3; n++) {
        task_id(n, id);
        assert_int_equal(store_task_resolve(b.store, str_of(id), found), n < 2 ? STORE_E_NONE : 0);
        assert_int_equal(count_events(b.store, "none"), 0);
    }
    assert_int_equal(store_pos_last(b.store), last);
    turn_until(&b, blocks_are_gone, NULL);
    int left = (int)look(&b, "SELECT count(DISTINCT hash) FROM (SELECT hash FROM events UNION SELECT hash FROM context)");
    turn_until(&b, files_are_gone, &left);
    assert_int_equal(look(&b, "SELECT count(*) FROM archive_events"), 0);
    assert_int_equal(look(&b, "SELECT count(*) FROM archive_context"), 0);
    assert_int_equal(look(&b, "SELECT count(*) FROM keys"), 0);
    assert_int_equal(look(&b, "SELECT count(*) FROM tasks"), 1);
    assert_int_equal(box_check(&b), 0);
    box_close(&b);
    assert_int_equal(box_open(&b), 0);
    assert_int_equal(store_pos_last(b.store), last); /* no position is given out twice */
    box_free(&b);
}

static bool answered(struct box *b, void *arg)
{
    (void)b;
    return *(int *)arg >= 2;
}

static bool never(void *arg, const char *task)
{
    (void)task;
    ++*(int *)arg;
    return false;
}

static void is_kept(void *arg, const char *task, bool removed)
{
    (void)arg;
    assert_false(removed);
    assert_int_equal(strlen(task), 27); /* archived: that is not forbidden */
}

static void who_is_at_work_is_not_removed(void **state)
{
    (void)state;
    struct box b;
    struct fill f;
    int asked = 0;
    CLEANUP(buf_free) struct buf before = {0};
    box_filled(&b, &f, 1, 100, 0);
    fill_end(&b, &f, 0, false);
    read_all(b.store, &f, &before);
    static const struct store_keeper keeper = {.may_forget = never, .kept = is_kept};
    store_retain(b.store, &(struct store_retention){.keep_ms = 1}, &keeper, &asked);
    turn_until(&b, answered, &asked);
    check_same(b.store, &f, &before);
    box_free(&b);
}

static bool is_over(struct box *b, void *arg)
{
    struct store_usage usage;
    store_usage(b->store, &usage);
    return usage.over == *(bool *)arg;
}

static bool is_below(struct box *b, void *arg)
{
    struct store_usage usage;
    struct stat st;
    store_usage(b->store, &usage);
    return usage.bytes > 0 && usage.bytes <= *(int64_t *)arg && stat(box_path(b, "agentd.db"), &st) == 0 &&
           st.st_size <= *(int64_t *)arg;
}

/* The oldest go first, as far as needed; what lives stays, and is said to be too much. */
static void the_cap_holds(void **state)
{
    (void)state;
    struct box b;
    struct fill f;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    box_filled(&b, &f, 8, 6000, 0);
    f.ended_ms = (int64_t)now.tv_sec * 1000;
    for (int n = 0; n < 4; n++)
        fill_end(&b, &f, n, false);
    int64_t live = look(&b, "SELECT (SELECT sum(length(body)) FROM events) + (SELECT sum(length(body)) FROM context)") / 2;
    int64_t bytes_max = live + live / 4;
    bool over = true;
    retain(&b, 365 * 86400000LL, 0, bytes_max);
    turn_until(&b, is_below, &bytes_max);
    struct store_usage usage;
    store_usage(b.store, &usage);
    assert_int_equal(usage.archived, 4);
    assert_true(usage.removed < 4);
    assert_false(usage.over);
    struct fill rest = f;
    rest.seed = 5;
    struct store_batch *batch = store_batch_new();
    char id[32];
    task_id(7, id);
    for (int i = 0; i < 40; i++)
        store_batch_event(batch, ++rest.pos, id, ++rest.seq[7], 1, 1, bytes_of('z', 100000));
    struct store_task row = {.id = id, .name = id, .live = true, .seq = rest.seq[7], .snapshot = STR("s")};
    store_batch_task(batch, &row);
    box_commit_ok(&b, batch);
    turn_until(&b, is_over, &over);
    store_usage(b.store, &usage);
    assert_int_equal(usage.removed, 4);
    assert_int_equal(look(&b, "SELECT count(*) FROM tasks"), 4);
    over = false;
    for (int n = 4; n < 7; n++)
        fill_end(&b, &rest, n, false);
    turn_until(&b, is_over, &over);
    box_free(&b);
}

static int stop_at_error(void *arg, const struct store_event *event)
{
    (void)arg;
    (void)event;
    return 0;
}

static void a_damaged_block_is_noticed(void **state)
{
    (void)state;
    struct box b;
    struct fill f;
    char id[32];
    CLEANUP(buf_free) struct buf prompt = {0};
    box_filled(&b, &f, 2, 1500, 0);
    fill_end(&b, &f, 0, false);
    fill_end(&b, &f, 1, false);
    retain(&b, 0, 0, 0);
    wait_usage(&b, 2, 0);
    box_close(&b);
    change(&b, "UPDATE archive_events SET body = CAST(substr(body, 1, length(body) / 2) || x'00' ||"
               " substr(body, length(body) / 2 + 2) AS BLOB) WHERE task = 1 AND seq_first = 1");
    assert_int_equal(box_open(&b), 0);
    task_id(0, id);
    assert_int_equal(store_events_after(b.store, id, 0, 10, 1 << 20, stop_at_error, NULL), STORE_E_FOREIGN);
    assert_int_equal(store_journal_after(b.store, 0, 10, 1 << 20, stop_at_error, NULL), STORE_E_FOREIGN);
    assert_int_equal(box_check(&b), STORE_E_FOREIGN);
    assert_non_null(strstr(buf_cstr(&b.error), "the block of archived event "));
    task_id(1, id); /* the other one is whole */
    assert_int_equal(store_events_after(b.store, id, 0, 10, 1 << 20, stop_at_error, NULL), 0);
    assert_int_equal(store_context_read(b.store, id, 1, &prompt), 0);
    box_close(&b);
    change(&b, "UPDATE archive_context SET places = x'ff', codec = 7 WHERE task = 2");
    assert_int_equal(box_open(&b), 0);
    assert_int_equal(store_context_read(b.store, id, 1, &prompt), STORE_E_FOREIGN);
    box_free(&b);
}

struct backup_end {
    int calls, status;
};

static void backup_ended(void *arg, int status, const char *error)
{
    struct backup_end *end = arg;
    end->calls++;
    end->status = status;
    if (status)
        print_message("%s\n", error);
}

static void a_backup_holds_the_archive(void **state)
{
    (void)state;
    struct box b, copy;
    struct fill f;
    struct backup_end end = {0};
    CLEANUP(buf_free) struct buf before = {0};
    box_filled(&b, &f, 3, 500, 60);
    fill_end(&b, &f, 0, false);
    read_all(b.store, &f, &before);
    retain(&b, 0, 0, 0);
    wait_usage(&b, 1, 0);
    box_make(&copy);
    store_backup(b.store, box_path(&copy, "agentd.db"), backup_ended, &end);
    uv_run(&b.loop, UV_RUN_DEFAULT);
    assert_int_equal(end.calls, 1);
    assert_int_equal(end.status, 0);
    assert_int_equal(box_open(&copy), 0);
    check_same(copy.store, &f, &before);
    fill_end(&copy, &f, 1, false); /* what is large in its row now can be archived, too */
    buf_clear(&before);
    read_all(copy.store, &f, &before);
    retain(&copy, 0, 0, 0);
    wait_usage(&copy, 1, 0);
    check_same(copy.store, &f, &before);
    box_free(&copy);
    box_free(&b);
}

/* ---- crashes ---- */

#ifdef AGENTD_FAILPOINTS
/* What the process does that is to be killed: archives all, and with "remove" removes it. */
static int child(const char *dir, bool removes)
{
    struct box b = {0};
    snprintf(b.dir, sizeof b.dir, "%s", dir);
    if (uv_loop_init(&b.loop) || box_open(&b))
        return 1;
    retain(&b, 0, removes ? 1 : 0, 0);
    wait_usage(&b, INT64_MAX, 0);
    return 2;
}

static void kill_at(const struct box *b, const char *failpoint, bool removes)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setenv("AGENTD_FAILPOINT", failpoint, 1);
        execl("/proc/self/exe", "test_archive", b->dir, removes ? "remove" : "keep", (char *)NULL);
        _exit(3);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status))
        print_message("%s: the child ended with %d\n", failpoint, WEXITSTATUS(status));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static bool all_is_archived(struct box *b, void *arg)
{
    (void)arg;
    return look(b, "SELECT count(DISTINCT task) FROM (SELECT task FROM events UNION ALL SELECT task FROM context)") == 1;
}

static bool all_is_removed(struct box *b, void *arg)
{
    (void)arg;
    return look(b, "SELECT (SELECT count(*) FROM tasks) + (SELECT count(*) FROM archives)") == 1;
}

static void crash_archiving(const char *failpoint)
{
    struct box b;
    struct fill f;
    CLEANUP(buf_free) struct buf before = {0};
    box_filled(&b, &f, 3, 500, 60);
    fill_end(&b, &f, 0, false);
    fill_end(&b, &f, 1, false);
    read_all(b.store, &f, &before);
    box_close(&b);
    kill_at(&b, failpoint, false);
    assert_int_equal(box_open(&b), 0);
    check_same(b.store, &f, &before);
    assert_int_equal(box_check(&b), 0);
    retain(&b, 0, 0, 0);
    turn_until(&b, all_is_archived, NULL);
    check_same(b.store, &f, &before);
    int left = (int)look(&b, "SELECT count(DISTINCT hash) FROM (SELECT hash FROM events UNION SELECT hash FROM context UNION"
                             " SELECT hash FROM archive_events UNION SELECT hash FROM archive_context)");
    turn_until(&b, files_are_gone, &left);
    assert_int_equal(box_check(&b), 0);
    box_free(&b);
}

static int count_on(void *arg, const struct store_event *event)
{
    assert_int_equal(event->seq, ++*(int64_t *)arg);
    return 0;
}

static void crash_removing(const char *failpoint)
{
    struct box b;
    struct fill f;
    char id[32], found[32];
    box_filled(&b, &f, 3, 500, 60);
    fill_end(&b, &f, 0, false);
    fill_end(&b, &f, 1, false);
    box_close(&b);
    kill_at(&b, failpoint, true);
    assert_int_equal(box_open(&b), 0);
    assert_int_equal(box_check(&b), 0);
    for (int n = 0; n < 2; n++) { /* whole, or not there at all */
        int64_t seq = 0;
        task_id(n, id);
        bool gone = store_task_resolve(b.store, str_of(id), found) == STORE_E_NONE;
        assert_int_equal(store_events_after(b.store, id, 0, 10000, 1 << 30, count_on, &seq), 0);
        assert_int_equal(seq, gone ? 0 : f.seq[n]);
    }
    retain(&b, 0, 1, 0);
    turn_until(&b, all_is_removed, NULL);
    assert_int_equal(look(&b, "SELECT (SELECT count(*) FROM archive_events) + (SELECT count(*) FROM archive_context)"), 0);
    assert_int_equal(store_pos_last(b.store), f.pos);
    assert_int_equal(box_check(&b), 0);
    box_free(&b);
}
#endif

static void a_crash_loses_nothing(void **state)
{
    (void)state;
#ifdef AGENTD_FAILPOINTS
    static const char *const archiving[] = {"store.archive.before_commit", "store.archive.before_commit:2", "store.archive.after_commit",
                                            "store.archive.after_commit:3", "store.blob.before_unlink"};
    for (size_t i = 0; i < sizeof archiving / sizeof *archiving; i++)
        crash_archiving(archiving[i]);
    for (int n = 1; n <= 9; n++) {
        char failpoint[64];
        snprintf(failpoint, sizeof failpoint, "store.archive.%s_commit:%d", n % 2 ? "before" : "after", n);
        crash_removing(failpoint);
    }
#else
    skip(); /* set up the build with -Dfailpoints=true */
#endif
}

int main(int argc, char **argv)
{
#ifdef AGENTD_FAILPOINTS
    if (argc > 2)
        return child(argv[1], strcmp(argv[2], "remove") == 0);
#else
    (void)argc;
    (void)argv;
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(archived_tasks_read_as_before),
        cmocka_unit_test(files_that_nobody_names_are_removed),
        cmocka_unit_test(a_task_goes_on_from_its_archive),
        cmocka_unit_test(nothing_is_archived_before_its_time),
        cmocka_unit_test(old_tasks_are_removed),
        cmocka_unit_test(who_is_at_work_is_not_removed),
        cmocka_unit_test(the_cap_holds),
        cmocka_unit_test(a_damaged_block_is_noticed),
        cmocka_unit_test(a_backup_holds_the_archive),
        cmocka_unit_test(a_crash_loses_nothing),
    };
    return cmocka_run_group_tests_name("archive", tests, NULL, NULL);
}
