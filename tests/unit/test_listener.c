/* The socket's file under a daemon that lives: it is removed, replaced, put back; the loop waits for none of it. */
#include "rpc_box.h"

#include "daemon/rpc/server.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* ---- between the listener and the system ---- */

static int naps;
static bool listen_fails, watch_fails;

int nanosleep(const struct timespec *span, struct timespec *ret_left)
{
    naps++;
    return clock_nanosleep(CLOCK_MONOTONIC, 0, span, ret_left) == 0 ? 0 : -1;
}

int uv_listen(uv_stream_t *stream, int backlog, uv_connection_cb cb)
{
    int (*real)(uv_stream_t *, int, uv_connection_cb);
    *(void **)&real = dlsym(RTLD_NEXT, "uv_listen");
    return listen_fails ? UV_ENOBUFS : real(stream, backlog, cb);
}

int uv_fs_event_start(uv_fs_event_t *watch, uv_fs_event_cb cb, const char *path, unsigned flags)
{
    int (*real)(uv_fs_event_t *, uv_fs_event_cb, const char *, unsigned);
    *(void **)&real = dlsym(RTLD_NEXT, "uv_fs_event_start");
    return watch_fails ? UV_ENOSPC : real(watch, cb, path, flags);
}

static void wait_for_socket(void)
{
    struct stat st;
    while (stat(w.path, &st) < 0 || !S_ISSOCK(st.st_mode))
        turn(-1, 0);
}

static void expect_reachable(void)
{
    struct client c = client_ready();
    expect_alive(&c);
    client_close(&c);
}

/* As if its time had come. */
static void pass_pause(void)
{
    uv_timer_t *again = &w.rpc->listener.again;
    assert_true(uv_is_active((uv_handle_t *)again));
    uv_timer_start(again, again->timer_cb, 0, 0);
    run_dry();
}

static void expect_rest(void)
{
    assert_int_equal(w.rpc->listener.again_ms, 0);
    assert_true(uv_is_active((uv_handle_t *)&w.rpc->listener.watch));
    assert_false(uv_is_active((uv_handle_t *)&w.rpc->listener.again));
}

static void path_beside(const char *name, char ret[300])
{
    snprintf(ret, 300, "%s/%s", w.dir, name);
}

static void make_file(const char *path)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
}

/* Bound over our path by renaming, with a queue that is full: whoever connects is told to come again. */
struct mute {
    int fd, clients[8];
};

static void mute_make(struct mute *m)
{
    char path[300];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    path_beside("mute", path);
    snprintf(address.sun_path, sizeof address.sun_path, "%.100s", path);
    m->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(m->fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(m->fd, 0), 0);
    bool full = false;
    for (size_t i = 0; i < 8; i++) {
        m->clients[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        full = connect(m->clients[i], (struct sockaddr *)&address, sizeof address) < 0 && errno == EAGAIN;
    }
    assert_true(full);
    assert_int_equal(rename(path, w.path), 0);
}

static void mute_close(struct mute *m)
{
    close(m->fd);
    for (size_t i = 0; i < 8; i++)
        close(m->clients[i]);
}

/* ---- tests ---- */

/* Somebody who cleans up takes it from a daemon that lives: clients of before stay, and others find it again. */
static void test_removed_socket_is_made_again(void **state)
{
    (void)state;
    start();
    struct client before = client_ready();
    unlink(w.path);
    wait_for_socket();
    expect_reachable();
    unlink(w.path);
    assert_int_equal(rmdir(w.dir), 0);
    wait_for_socket();
    expect_reachable();

    unlink(w.path); /* what stands there by then is left alone, and gives way to nobody but its owner */
    make_file(w.path);
    run_dry();
    struct stat st;
    assert_int_equal(stat(w.path, &st), 0);
    assert_true(S_ISREG(st.st_mode));
    unlink(w.path);
    wait_for_socket();
    expect_reachable();
    say(&before, "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"daemon/status\"}");
    expect(&before, "7", "result");
    client_close(&before);
    run_dry();
    expect_rest();
}

static void test_the_loop_waits_for_no_owner(void **state)
{
    (void)state;
    start();
    struct client before = client_ready();
    struct mute mute;
    mute_make(&mute);
    naps = 0;
    expect_alive(&before);
    run_dry();
    assert_int_equal(naps, 0);
    unlink(w.path);
    run_dry();
    expect_reachable();
    expect_rest();
    mute_close(&mute);
    client_close(&before);
}

/* What happens in the folder meanwhile is neither a reason to try nor one to wait longer. */
static void test_events_lengthen_no_pause(void **state)
{
    (void)state;
    start();
    unlink(w.path);
    make_file(w.path);
    run_dry();
    for (int i = 0; i < 20; i++) {
        char path[300];
        path_beside("other", path);
        make_file(path);
        unlink(path);
        run_dry();
    }
    assert_in_range(w.rpc->listener.again_ms, 1, 20000); /* half a minute's worth of pauses */
    unlink(w.path);
    run_dry();
    expect_reachable();
    expect_rest();
}

static void test_a_socket_that_is_put_back_is_taken(void **state)
{
    (void)state;
    char kept[300];
    start();
    path_beside("kept", kept);
    assert_int_equal(link(w.path, kept), 0); /* its inode is there all the time */
    unlink(w.path);
    make_file(w.path);
    run_dry();
    assert_true(w.rpc->listener.again_ms > 0);
    assert_int_equal(rename(kept, w.path), 0);
    run_dry();
    expect_rest();
    expect_reachable();
}

static void test_a_watch_that_failed_is_made_later(void **state)
{
    (void)state;
    watch_fails = true;
    start();
    pass_pause();
    assert_true(uv_is_active((uv_handle_t *)&w.rpc->listener.again));
    watch_fails = false;
    pass_pause();
    expect_rest();
    unlink(w.path);
    run_dry();
    expect_reachable();
}

/* A file with nobody behind it would be taken for healthy, by us and by clients. */
static void test_nobody_is_left_behind_a_file(void **state)
{
    (void)state;
    struct stat st;
    start();
    listen_fails = true;
    unlink(w.path);
    run_dry();
    assert_int_equal(lstat(w.path, &st), -1);
    assert_false(w.rpc->listener.file.made);
    pass_pause();
    assert_int_equal(lstat(w.path, &st), -1);
    listen_fails = false;
    pass_pause();
    expect_reachable();
    expect_rest();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_removed_socket_is_made_again),
        TEST(test_the_loop_waits_for_no_owner),
        TEST(test_events_lengthen_no_pause),
        TEST(test_a_socket_that_is_put_back_is_taken),
        TEST(test_a_watch_that_failed_is_made_later),
        TEST(test_nobody_is_left_behind_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
