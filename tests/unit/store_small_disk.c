/* The store on a real disk of 32 MB that fills and empties: in a program of its own, which mounts it where nobody else sees it. */
#include "store_numbered.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_SKIPS 77

static int64_t room_of(const char *path)
{
    struct stat st;
    return stat(path, &st) < 0 ? 0 : st.st_blocks * 512;
}

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

int child_full(const char *dir)
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
    pid_t pid = child_start("full", b.dir, NULL, &out);
    FILE *f = fdopen(out, "r");
    size_t n = fread(text, 1, sizeof text - 1, f);
    text[n] = 0;
    fclose(f);
    int status = child_wait(pid);
    box_free(&b);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == CHILD_SKIPS)
        skip(); /* no right to mount a small disk here */
    if (WEXITSTATUS(status))
        print_message("%s\n", text);
    assert_int_equal(WEXITSTATUS(status), 0);
}
