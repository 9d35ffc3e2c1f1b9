#include "store_numbered.h"

#include "fault_vfs.h"

#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

struct store_batch *numbered(int64_t n)
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

int64_t check_whole(struct box *b)
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

void box_numbered(struct box *b, int64_t n)
{
    fault_vfs_install();
    box_make(b);
    assert_int_equal(box_open(b), 0);
    for (int64_t i = 1; i <= n; i++)
        box_commit_ok(b, numbered(i));
}

/* ---- programs beside this one ---- */

pid_t child_start(const char *verb, const char *dir, const char *failpoint, int *ret_out)
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

int child_wait(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
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
