/* See runs_box.h. */
#include "runs_box.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define GUARD_MS 30000
#define TURN_MS 5

/* Unique among all that run at this time: what is left of a dead run is found by this name. */
char task_id[32];

void runs_begin(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    snprintf(task_id, sizeof task_id, "t%d", (int)getpid());
    alarm(100); /* a call that never returns has no guard of its own */
}

/* ---- the daemon's part ---- */

struct seen *seen_of(struct box *b, const char *run)
{
    for (size_t i = 0; i < 32; i++) {
        if (!b->seen[i].run[0])
            snprintf(b->seen[i].run, sizeof b->seen[i].run, "%s", run);
        if (strcmp(b->seen[i].run, run) == 0)
            return &b->seen[i];
    }
    fail();
    return NULL;
}

static void ended_cb(void *arg, const char *task, const char *run, const struct run_exit *e)
{
    struct seen *s = seen_of(arg, run);
    assert_string_equal(task, task_id);
    s->ended++;
    s->exit = *e;
    snprintf(s->detail, sizeof s->detail, "%.*s", STR_ARG(e->detail));
}

static void gone_cb(void *arg, const char *task, const char *run)
{
    (void)task;
    struct seen *s = seen_of(arg, run);
    assert_int_equal(s->gone++, 0);
}

static void output_cb(void *arg, const char *task, const char *run, int64_t total)
{
    (void)task;
    struct seen *s = seen_of(arg, run);
    assert_true(total >= s->total);
    s->total = total;
}

static void input_done_cb(void *arg, const char *task, const char *run, const char *call, bool ok, const char *error)
{
    (void)task;
    (void)call;
    struct seen *s = seen_of(arg, run);
    if (ok)
        s->inputs_ok++;
    else
        s->inputs_bad++;
    snprintf(s->error, sizeof s->error, "%s", error ? error : "");
}

static void roomless_cb(void *arg, const char *task, const char *run)
{
    assert_string_equal(task, task_id);
    seen_of(arg, run)->roomless++;
}

/* It also ends a turn of the loop whose own timers have made the condition true before it went to wait. */
static void guard_cb(uv_timer_t *timer)
{
    struct box *b = timer->data;
    b->late = uv_now(&b->loop) > b->until_ms;
}

static void up(struct box *b, const char *runner, const char *tool)
{
    b->runs = runs_new(&(struct runs_config){
        .loop = &b->loop,
        .dir = b->dir,
        .runner_path = runner,
        .tool_path = tool,
        .limits = &b->limits,
        .callbacks = {ended_cb, gone_cb, output_cb, input_done_cb, roomless_cb},
        .arg = b,
    });
}

void daemon_up_with(struct box *b, const char *runner)
{
    up(b, runner, TOOL);
}

void daemon_up_with_tool(struct box *b, const char *tool)
{
    up(b, RUNNER, tool);
}

void daemon_up(struct box *b)
{
    daemon_up_with(b, RUNNER);
}

void daemon_down(struct box *b)
{
    runs_free(b->runs);
    b->runs = NULL;
    uv_unref((uv_handle_t *)&b->guard);
    uv_run(&b->loop, UV_RUN_DEFAULT); /* returns when every handle of theirs is closed */
    uv_ref((uv_handle_t *)&b->guard);
}

static void box_open(struct box *b, const char *below)
{
    memset(b, 0, sizeof *b);
    b->limits = limits_default();
    b->limits.kill_grace_ms = 100;
    char top[] = "/tmp/agentd-runs-XXXXXX";
    assert_non_null(mkdtemp(top));
    snprintf(b->work, sizeof b->work, "%s/work", top);
    assert_int_equal(mkdir(b->work, 0700), 0);
    snprintf(b->dir, sizeof b->dir, "%s/runs%s", top, below);
    for (char *slash = b->dir + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(b->dir, 0700);
        *slash = '/';
    }
    assert_int_equal(mkdir(b->dir, 0700), 0);
    uv_loop_init(&b->loop);
    uv_timer_init(&b->loop, &b->guard);
    b->guard.data = b;
    b->until_ms = uv_now(&b->loop) + GUARD_MS;
    uv_timer_start(&b->guard, guard_cb, TURN_MS, TURN_MS);
    daemon_up(b);
}

int runs_setup(void **state)
{
    struct box *b = calloc(1, sizeof *b);
    box_open(b, "");
    *state = b;
    return 0;
}

/* The kernel moves a path length limit of sockets (108 bytes) in the way of everybody; not of ours. */
int runs_setup_long(void **state)
{
    struct box *b = calloc(1, sizeof *b);
    char below[301] = "";
    for (size_t i = 0; i < 300; i += 50)
        snprintf(below + i, sizeof below - i, "/%049d", 7);
    box_open(b, below);
    *state = b;
    return 0;
}

static int remove_cb(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

int runs_teardown(void **state)
{
    struct box *b = *state;
    for (size_t i = 0; i < 32 && b->seen[i].run[0]; i++)
        runs_kill(b->runs, task_id, b->seen[i].run);
    for (size_t i = 0; i < 32 && b->seen[i].run[0]; i++)
        while (!b->seen[i].gone && !b->late)
            uv_run(&b->loop, UV_RUN_ONCE);
    assert_false(b->late);
    daemon_down(b);
    uv_close((uv_handle_t *)&b->guard, NULL);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&b->loop), 0); /* no handle is left behind */
    *strrchr(b->work, '/') = 0;
    nftw(b->work, remove_cb, 16, FTW_DEPTH | FTW_PHYS);
    free(b);
    return 0;
}

/* ---- helpers ---- */

const char *const plain_env[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", NULL};

struct seen *start_program(struct box *b, const char *run, enum run_program program, struct str payload, bool tty)
{
    struct run_start s = {.task = task_id, .run = run, .program = program, .payload = payload,
                          .workdir = str_of(b->work), .tty = tty, .env = plain_env};
    struct seen *seen = seen_of(b, run);
    runs_start(b->runs, &s);
    assert_int_equal(seen->ended, 0); /* never from inside of the call */
    return seen;
}

struct seen *start(struct box *b, const char *run, const char *command)
{
    return start_program(b, run, RUN_PROGRAM_SHELL, str_of(command), false);
}

void read_file(const char *path, struct buf *ret)
{
    assert_int_equal(record_read_file(AT_FDCWD, path, 1 << 28, ret), 0);
}

char *path_of(const struct box *b, const char *run, const char *file)
{
    static char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s/%s/%s", b->dir, task_id, run, file);
    return path;
}

/* The output from the start; lives until the next call. */
const char *output_of(struct box *b, const char *run)
{
    static struct buf scratch;
    struct run_output o;
    runs_collect(b->runs, task_id, run, 0, 100000, false, &scratch, &o);
    return buf_cstr(&scratch);
}

bool wrote(struct box *b, const char *run, const char *text)
{
    return strstr(output_of(b, run), text) != NULL;
}

void write_file(const char *path, struct str bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(record_write_all(fd, bytes), 0);
    close(fd);
}

pid_t runner_pid(const struct box *b, const char *run)
{
    CLEANUP(buf_free) struct buf bytes = {0};
    struct run_mark mark;
    read_file(path_of(b, run, RUN_FILE_START), &bytes);
    assert_int_equal(run_mark_get(buf_view(&bytes), &mark), 0);
    return (pid_t)mark.pid;
}
