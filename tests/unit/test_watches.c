/* Paths that are followed, in a folder of their own: each test waits for what it is told, or for the look that comes without. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "daemon/base/buf.h"
#include "daemon/tools/watches.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define TASK "t00000000000000000000000001"
#define TEST_MS_MAX 60000

static struct {
    uv_loop_t loop;
    uv_timer_t limit;
    struct watches *watches;
    char dir[64];
    struct buf told; /* "wait condition" a line */
    int64_t remove;  /* the wait to be removed when one is told of; 0: none */
} box;

static void told_cb(void *arg, const char *task, int64_t wait, int64_t condition)
{
    assert_ptr_equal(arg, &box);
    assert_string_equal(task, TASK);
    buf_printf(&box.told, "%d %d\n", (int)wait, (int)condition);
    watches_remove(box.watches, TASK, wait, condition);
    if (box.remove)
        watches_remove(box.watches, TASK, box.remove, 0);
    uv_stop(&box.loop);
}

static void limit_cb(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("nothing was told");
}

static int open_box(void **state)
{
    (void)state;
    memset(&box, 0, sizeof box);
    snprintf(box.dir, sizeof box.dir, "/tmp/agentd-watches-XXXXXX");
    assert_non_null(mkdtemp(box.dir));
    uv_loop_init(&box.loop);
    uv_timer_init(&box.loop, &box.limit);
    uv_timer_start(&box.limit, limit_cb, TEST_MS_MAX, 0);
    box.watches = watches_new(&box.loop, told_cb, &box);
    return 0;
}

static int close_box(void **state)
{
    (void)state;
    char command[128];
    watches_free(box.watches);
    uv_close((uv_handle_t *)&box.limit, NULL);
    uv_run(&box.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&box.loop), 0);
    buf_free(&box.told);
    snprintf(command, sizeof command, "rm -r %s", box.dir);
    return system(command);
}

static const char *path(const char *name)
{
    static char paths[4][128];
    static int i;
    char *p = paths[i++ % 4];
    snprintf(p, sizeof paths[0], "%s/%s", box.dir, name);
    return p;
}

static void put(const char *name, const char *text)
{
    int fd = open(path(name), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void add(int64_t wait, const char *name)
{
    struct file_stamp stamp;
    watches_stamp(path(name), &stamp);
    watches_add(box.watches, TASK, wait, 0, str_of(path(name)), &stamp);
}

/* Lets the first look pass, so that what follows must be noticed. */
static void settle(void)
{
    for (int i = 0; i < 5; i++)
        uv_run(&box.loop, UV_RUN_NOWAIT);
}

static void expect(const char *told)
{
    uv_run(&box.loop, UV_RUN_DEFAULT);
    assert_string_equal(buf_cstr(&box.told), told);
    buf_clear(&box.told);
}

static void test_stamps(void **state)
{
    (void)state;
    struct file_stamp a, b;
    watches_stamp(path("none"), &a);
    assert_false(a.exists);
    put("f", "abc");
    watches_stamp(path("f"), &a);
    assert_true(a.exists && a.size == 3 && a.mtime_ns > 0 && a.inode > 0);
    put("f", "d");
    watches_stamp(path("f"), &b);
    assert_int_equal(b.size, 4);
    assert_int_equal(b.inode, a.inode);
}

static void test_written(void **state)
{
    (void)state;
    put("f", "abc");
    add(1, "f");
    settle();
    put("other", "x");
    put("f", "d");
    expect("1 0\n");
}

static void test_changed_before_anybody_looked(void **state)
{
    (void)state;
    struct file_stamp stamp;
    put("f", "abc");
    watches_stamp(path("f"), &stamp);
    put("f", "d");
    watches_add(box.watches, TASK, 3, 2, str_of(path("f")), &stamp);
    assert_int_equal(box.told.n, 0);
    expect("3 2\n");
}

static void test_appears_in_a_folder_that_appears(void **state)
{
    (void)state;
    add(1, "deep/er/f");
    settle();
    assert_int_equal(mkdir(path("deep"), 0700), 0);
    assert_int_equal(mkdir(path("deep/er"), 0700), 0);
    put("deep/er/f", "x");
    expect("1 0\n");
}

static void test_goes_away(void **state)
{
    (void)state;
    put("f", "abc");
    add(1, "f");
    settle();
    unlink(path("f"));
    expect("1 0\n");
}

static void test_replaced(void **state)
{
    (void)state;
    put("f", "abc");
    add(1, "f");
    settle();
    put("g", "abc");
    assert_int_equal(rename(path("g"), path("f")), 0);
    expect("1 0\n");
}

static void test_entry_of_a_folder(void **state)
{
    (void)state;
    assert_int_equal(mkdir(path("d"), 0700), 0);
    add(1, "d");
    settle();
    put("d/new", "x");
    expect("1 0\n");
}

/* The root alone is there for sure; nothing notifies of a path that no folder leads to. */
static void test_path_without_a_folder(void **state)
{
    (void)state;
    struct file_stamp stamp = {0};
    watches_add(box.watches, TASK, 1, 0, STR("relative"), &stamp);
    watches_add(box.watches, TASK, 2, 0, STR("/no-such-file-here"), &stamp);
    settle();
    assert_int_equal(box.told.n, 0);
    add(3, "f");
    settle();
    put("f", "x");
    expect("3 0\n");
}

static void test_told_once_and_removed(void **state)
{
    (void)state;
    put("f", "abc");
    add(1, "f");
    add(1, "f"); /* the same again is one */
    add(2, "f");
    add(3, "f");
    box.remove = 2;
    settle();
    watches_remove(box.watches, TASK, 9, 0);
    put("f", "d");
    expect("1 0\n3 0\n");
    add(4, "f");
    settle();
    put("f", "e");
    expect("4 0\n");
}

static void count_followed_cb(uv_handle_t *handle, void *n)
{
    *(int *)n += handle->type == UV_FS_EVENT && uv_is_active(handle);
}

static int followed(void)
{
    int n = 0;
    uv_walk(&box.loop, count_followed_cb, &n);
    return n;
}

static void until_followed(int n)
{
    while (followed() != n)
        uv_run(&box.loop, UV_RUN_ONCE);
}

/* Each write there would wake the daemon. */
static void test_a_busy_folder_is_followed_from_look_to_look(void **state)
{
    (void)state;
    add(1, "f");
    add(2, "f");
    until_followed(2);
    for (int i = 0; i < 3; i++) {
        put("other", "x");
        until_followed(0);
        until_followed(2);
    }
    assert_int_equal(box.told.n, 0);
    put("f", "x");
    expect("1 0\n2 0\n");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, open_box, close_box)
    const struct CMUnitTest tests[] = {
        T(test_stamps),
        T(test_written),
        T(test_changed_before_anybody_looked),
        T(test_appears_in_a_folder_that_appears),
        T(test_goes_away),
        T(test_replaced),
        T(test_entry_of_a_folder),
        T(test_path_without_a_folder),
        T(test_told_once_and_removed),
        T(test_a_busy_folder_is_followed_from_look_to_look),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
