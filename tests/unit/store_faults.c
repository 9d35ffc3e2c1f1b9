/* The store when the disk fails, is full, or the process dies: what was said to be committed is there, a
 * batch is there whole or not at all, and no failure is taken for success. */
#include "test_store.h"

#include "fault_vfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define A "t01aaaaaaaaaaaaaaaaaaaaaaaaa"
#define EVENTS_PER_BATCH 3
#define CHILD_SKIPS 77

extern char **environ;

/* Batch n: three events, an element of the prompt, the task, a meta value; every fifth one has large content.
 * All of it says n. */
static struct store_batch *numbered(int64_t n)
{
    struct store_batch *batch = store_batch_new();
    char text[64];
    for (int64_t seq = EVENTS_PER_BATCH * (n - 1) + 1; seq <= EVENTS_PER_BATCH * n; seq++)
        put_event(batch, seq, A, seq);
    snprintf(text, sizeof text, "%" PRId64, n);
    if (n % 5 == 0) {
        CLEANUP(buf_free) struct buf large = {0};
        memset(buf_reserve(&large, 200000), 'x', 200000);
        large.n = 200000;
        buf_puts(&large, text);
        store_batch_context(batch, A, 1, n - 1, buf_view(&large));
    } else {
        store_batch_context(batch, A, 1, n - 1, str_of(text));
    }
    put_task(batch, A, EVENTS_PER_BATCH * n, 1);
    store_batch_meta(batch, "last", str_of(text));
    return batch;
}

static int seq_of(void *arg, const struct store_task *row)
{
    *(int64_t *)arg = row->seq;
    return 0;
}

/* How many whole batches are there; that nothing of another one is. */
static int64_t check_whole(struct box *b)
{
    struct store *s = b->store;
    CLEANUP(buf_free) struct buf last = {0};
    CLEANUP(buf_free) struct buf prompt = {0};
    int64_t events = count_events(s, A), seq = 0;
    assert_int_equal(events % EVENTS_PER_BATCH, 0);
    int64_t n = events / EVENTS_PER_BATCH;
    assert_int_equal(store_task_load(s, A, seq_of, &seq), n ? 0 : STORE_E_NONE);
    assert_int_equal(seq, events);
    assert_int_equal(store_meta(s, "last", &last), n ? 0 : STORE_E_NONE);
    assert_int_equal(n ? strtoll(buf_cstr(&last), NULL, 10) : 0, n);
    assert_int_equal(store_context_read(s, A, 1, &prompt), n ? 0 : STORE_E_NONE);
    size_t commas = 0, large = 0;
    for (size_t i = 0; i < prompt.n; i++) {
        commas += prompt.p[i] == ',';
        large += prompt.p[i] == 'x';
    }
    assert_int_equal(commas, n > 1 ? n - 2 : 0);
    assert_int_equal(large, n / 5 * 200000);
    assert_int_equal(box_check(b), 0);
    return n;
}

static void box_numbered(struct box *b, int64_t n)
{
    fault_vfs_install();
    box_make(b);
    assert_int_equal(box_open(b), 0);
    for (int64_t i = 1; i <= n; i++)
        box_commit_ok(b, numbered(i));
}

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

/* The same process never tries again: a page that could not be synced may count as clean by then. */
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
            assert_int_equal(read_in_a_way(b.store, way), 0); /* it can be read again */
        }
    }
    box_free(&b);
}

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

/* ---- children ---- */

static pid_t start_child(const char *verb, const char *dir, const char *failpoint, int *ret_out)
{
    int out[2];
    pid_t pid;
    posix_spawn_file_actions_t actions;
    char *argv[] = {"test_store", (char *)verb, (char *)dir, NULL};
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    if (failpoint)
        setenv("AGENTD_FAILPOINT", failpoint, 1);
    assert_int_equal(posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, environ), 0);
    unsetenv("AGENTD_FAILPOINT");
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    *ret_out = out[0];
    return pid;
}

/* Reads lines of numbers; the last one, or 0 at the end before `until`. */
static int64_t read_until(FILE *f, int64_t until)
{
    int64_t last = 0, n;
    while (last < until && fscanf(f, "%" SCNd64, &n) == 1)
        last = n;
    return last;
}

static int wait_child(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

/* Commits numbered batches for ever, and prints the number of each once it is done. */
struct writer {
    struct store *store;
    int64_t n;
};

static void writer_next(struct writer *w);

static void writer_done(void *arg, int status, struct store_batch *batch, const char *error)
{
    struct writer *w = arg;
    if (status) {
        fprintf(stderr, "%s\n", error);
        store_batch_free(batch);
        _exit(1);
    }
    printf("%" PRId64 "\n", w->n);
    if (fflush(stdout))
        _exit(1);
    writer_next(w);
}

static void writer_next(struct writer *w)
{
    store_commit(w->store, numbered(++w->n), writer_done, w);
}

static int child_write(const char *dir)
{
    uv_loop_t loop;
    struct writer w = {0};
    CLEANUP(buf_free) struct buf error = {0};
    uv_loop_init(&loop);
    if (store_open(dir, &loop, &w.store, &error)) {
        fprintf(stderr, "%s\n", buf_cstr(&error));
        return 1;
    }
    w.n = store_pos_last(w.store) / EVENTS_PER_BATCH;
    writer_next(&w);
    return uv_run(&loop, UV_RUN_DEFAULT);
}

/* Kills the writer after some commits were acknowledged, again and again on the same folder. */
void a_killed_writer_loses_nothing_acknowledged(void **state)
{
    (void)state;
    struct box b;
    int64_t whole = 0;
    box_make(&b);
    for (int round = 0; round < 12; round++) {
        int out;
        pid_t pid = start_child("write", b.dir, NULL, &out);
        FILE *f = fdopen(out, "r");
        int64_t seen = read_until(f, whole + 1 + 7 * round);
        assert_true(seen > whole);
        assert_int_equal(kill(pid, SIGKILL), 0);
        int64_t rest = read_until(f, INT64_MAX); /* acknowledged before it died */
        seen = rest ? rest : seen;
        fclose(f);
        assert_true(WIFSIGNALED(wait_child(pid)));
        assert_int_equal(box_open(&b), 0);
        whole = check_whole(&b);
        assert_true(whole == seen || whole == seen + 1);
        box_close(&b);
    }
    box_free(&b);
}

#ifdef AGENTD_FAILPOINTS
/* Dies at the nth time that it comes to a named point; what is there then is a whole number of batches. */
static void check_failpoint(const char *failpoint, int64_t acknowledged, int64_t whole)
{
    struct box b;
    int out;
    box_make(&b);
    pid_t pid = start_child("write", b.dir, failpoint, &out);
    FILE *f = fdopen(out, "r");
    int64_t last = read_until(f, INT64_MAX);
    fclose(f);
    if (acknowledged >= 0)
        assert_int_equal(last, acknowledged);
    else
        whole = last; /* wherever it came to it */
    int status = wait_child(pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(box_open(&b), 0);
    assert_int_equal(check_whole(&b), whole);
    assert_int_equal(access(box_path(&b, "blobs/partial"), F_OK), -1);
    for (int64_t n = whole + 1; n <= 6; n++) /* goes on over what the dead one left */
        box_commit_ok(&b, numbered(n));
    assert_int_equal(check_whole(&b), whole > 6 ? whole : 6);
    box_free(&b);
}
#endif

void a_writer_killed_at_each_boundary_loses_nothing(void **state)
{
    (void)state;
#ifdef AGENTD_FAILPOINTS
    check_failpoint("store.before_commit:3", 2, 2);
    check_failpoint("store.after_commit:3", 2, 3); /* committed, and nobody was told */
    check_failpoint("store.blob.written", 4, 4);
    check_failpoint("store.blob.synced", 4, 4);
    check_failpoint("store.blob.renamed", 4, 4);
    check_failpoint("store.blob.folder_synced", 4, 4);
    check_failpoint("store.after_checkpoint", -1, -1);
#else
    skip(); /* set up the build with -Dfailpoints=true */
#endif
}

/* ---- a disk of 32 MB ---- */

static int64_t room_of(const char *path)
{
    struct stat st;
    return stat(path, &st) < 0 ? 0 : st.st_blocks * 512;
}

/* ---- backups ---- */

struct backup_end {
    struct buf *error;
    int status;
};

static void backup_ended(void *arg, int status, const char *error)
{
    struct backup_end *end = arg;
    end->status = status;
    buf_clear(end->error);
    buf_puts(end->error, error);
}

static int box_backup(struct box *b)
{
    struct backup_end end = {.error = &b->error, .status = -1};
    store_backup(b->store, box_path(b, "copy"), backup_ended, &end);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    return end.status;
}

static void expect_no_copy(const struct box *b)
{
    struct dirent *entry;
    DIR *dir = opendir(b->dir);
    assert_non_null(dir);
    while ((entry = readdir(dir)))
        assert_int_not_equal(strncmp(entry->d_name, "copy", 4), 0);
    closedir(dir);
}

/* At each of its writes in turn. */
void a_backup_without_room_leaves_nothing(void **state)
{
    (void)state;
    struct box b;
    bool fired = true;
    box_numbered(&b, 6); /* with content that goes back into its row */
    for (long nth = 1; fired; nth += nth < 30 ? 1 : 7) {
        fault_vfs_arm(FAULT_WRITE, nth, SQLITE_FULL, true);
        int status = box_backup(&b);
        fired = fault_vfs_disarm();
        assert_int_equal(status, fired ? STORE_E_FULL : 0);
        if (fired)
            expect_no_copy(&b);
        if (fired)
            assert_non_null(strstr(buf_cstr(&b.error), "full"));
    }
    box_commit_ok(&b, numbered(7)); /* what happened to them is no matter of the journal */
    assert_int_equal(check_whole(&b), 7);
    box_free(&b);
}

/* ---- a small disk ---- */

static bool mount_small(const char *dir)
{
    if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return false;
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", dir, "tmpfs", 0, "size=32m") == 0;
}

static void fill_disk(const char *path)
{
    static char zeros[4096];
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    while (write(fd, zeros, sizeof zeros) > 0)
        ;
    close(fd);
}

static int commit_stop(struct box *b, struct store_batch *batch, struct store_batch **ret)
{
    store_batch_stops(batch);
    return box_commit(b, batch, ret);
}

/* What stops something finds room in the log, with whatever goes before it, large content included; other batches do not. Batch n waits;
 * returns the last that was committed. */
static int64_t stop_on_full_disk(struct box *b, struct store_batch *batch, int64_t n)
{
    fill_disk(box_path(b, "filler"));
    int status = 0;
    for (int i = 0; i < 6; i++) { /* one of them with what is a file otherwise */
        assert_int_equal(commit_stop(b, batch, NULL), 0);
        assert_false(store_disk_used_up(b->store));
        batch = numbered(++n);
    }
    assert_int_equal(check_whole(b), n - 1);
    while ((status = box_commit(b, batch, &batch)) == 0 || n % 5 == 0) { /* up to the reserve; files do not fit at all */
        assert_true(status == 0 || commit_stop(b, batch, NULL) == 0);
        batch = numbered(++n);
    }
    assert_int_equal(status, STORE_E_FULL);
    assert_non_null(strstr(buf_cstr(&b->error), "kept for stops"));
    assert_int_equal(check_whole(b), n - 1);
    while ((status = commit_stop(b, batch, &batch)) == 0)
        batch = numbered(++n);
    assert_int_equal(status, STORE_E_FULL);
    assert_true(store_disk_used_up(b->store));
    assert_int_equal(check_whole(b), n - 1);
    store_batch_free(batch);
    return n - 1;
}

/* Commits until the disk is full, then goes on in the reserve, then frees the disk. */
static void small_disk(struct box *b)
{
    struct store_batch *batch = NULL;
    int64_t n = 0;
    int status;
    assert_int_equal(box_open(b), 0);
    assert_true(room_of(box_path(b, "agentd.ballast")) >= 4 << 20);
    while (n < 3)
        box_commit_ok(b, numbered(++n));
    fill_disk(box_path(b, "filler"));
    do
        status = box_commit(b, numbered(++n), &batch);
    while (!status);
    assert_int_equal(status, STORE_E_FULL);
    assert_true(store_disk_low(b->store));
    assert_int_equal(room_of(box_path(b, "agentd.ballast")), 0);
    assert_int_equal(check_whole(b), n - 1);
    n = stop_on_full_disk(b, batch, n);
    assert_true(store_disk_low(b->store));
    assert_int_equal(box_backup(b), STORE_E_FULL);
    assert_non_null(strstr(buf_cstr(&b->error), "are free there")); /* not begun */
    expect_no_copy(b);

    assert_int_equal(unlink(box_path(b, "filler")), 0);
    while (store_disk_low(b->store)) /* the journal looks every two seconds, whether or not there is work */
        usleep(10000);
    assert_true(room_of(box_path(b, "agentd.ballast")) >= 4 << 20);
    box_commit_ok(b, numbered(++n));
    assert_false(store_disk_used_up(b->store));
    box_close(b);
    assert_int_equal(box_open(b), 0);
    assert_int_equal(check_whole(b), n);
    box_close(b);
}

static void small_disk_test(void **state)
{
    small_disk(*state);
}

static int child_full(const char *dir)
{
    struct box b = {0};
    if (!mount_small(dir))
        return CHILD_SKIPS;
    snprintf(b.dir, sizeof b.dir, "%s", dir);
    uv_loop_init(&b.loop);
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(small_disk_test, &b)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    buf_free(&b.error);
    uv_loop_close(&b.loop);
    return failed;
}

void a_small_disk_fills_and_empties(void **state)
{
    (void)state;
    struct box b;
    int out;
    char text[4096];
    box_make(&b);
    pid_t pid = start_child("full", b.dir, NULL, &out);
    FILE *f = fdopen(out, "r");
    size_t n = fread(text, 1, sizeof text - 1, f);
    text[n] = 0;
    fclose(f);
    int status = wait_child(pid);
    box_free(&b);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == CHILD_SKIPS)
        skip(); /* no right to mount a small disk here */
    if (WEXITSTATUS(status))
        print_message("%s\n", text);
    assert_int_equal(WEXITSTATUS(status), 0);
}

int store_child(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "write") == 0)
        return child_write(argv[2]);
    if (argc == 3 && strcmp(argv[1], "full") == 0)
        return child_full(argv[2]);
    fprintf(stderr, "usage: test_store [write|full FOLDER]\n");
    return 2;
}
