/* What a daemon that comes later finds of its runs: of a daemon or a runner that died, of another version, of a patch that was cut short. */
#include "runs_box.h"

#include "daemon/base/mem.h"
#include "daemon/base/pack.h"
#include "daemon/runner/patch.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a daemon that dies, a runner that dies ---- */

static void test_reattach(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "echo one; read x; echo \"got $x\"; read y; echo \"got $y\"; exit 4");
    WAIT(b, wrote(b, "r1", "one"));
    runs_input(b->runs, task_id, "r1", "c1", STR("first\n"));
    WAIT(b, wrote(b, "r1", "got first"));
    daemon_down(b);
    assert_int_equal(s->ended, 0);
    daemon_up(b);
    struct run_exit e;
    assert_int_equal(runs_probe(b->runs, task_id, "r1", true, false, &e), RUN_PROBE_ALIVE);
    runs_attach(b->runs, task_id, "r1", false);
    runs_input(b->runs, task_id, "r1", "c1", STR("first\n")); /* nobody told the first daemon's successor */
    WAIT(b, s->inputs_ok == 2 || (s->inputs_ok == 1 && s->total > 0));
    runs_input(b->runs, task_id, "r1", "c2", STR("second\n"));
    WAIT(b, s->gone);
    assert_int_equal(s->ended, 1);
    assert_int_equal(s->exit.exit_code, 4);
    assert_string_equal(output_of(b, "r1"), "one\ngot first\ngot second\n");
}

/* The process ends while no daemon lives. */
static void test_ended_alone(void **state)
{
    struct box *b = *state;
    char go[PATH_MAX + 8];
    snprintf(go, sizeof go, "%s/go", b->work);
    assert_int_equal(mkfifo(go, 0600), 0);
    struct seen *s = start(b, "r1", "read x < go; echo done; exit 9");
    daemon_down(b);
    int fd = open(go, O_WRONLY); /* returns when the command has it open */
    assert_int_equal(write(fd, "\n", 1), 1);
    close(fd);
    /* The runner lets go of its lock when it is gone. */
    int lock = open(path_of(b, "r1", RUN_FILE_SPEC), O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    close(lock);
    daemon_up(b);
    runs_attach(b->runs, task_id, "r1", false);
    WAIT(b, s->gone);
    assert_int_equal(s->ended, 1);
    assert_int_equal(s->exit.exit_code, 9);
    struct run_exit e;
    assert_int_equal(runs_probe(b->runs, task_id, "r1", false, false, &e), RUN_PROBE_ENDED);
    assert_int_equal(e.exit_code, 9);
    /* Known already: only the runner's end is told. */
    s->gone = 0;
    runs_attach(b->runs, task_id, "r1", true);
    WAIT(b, s->gone);
    assert_int_equal(s->ended, 1);
}

static void test_runner_killed(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "echo before; setsid sh -c 'trap \"\" TERM HUP; echo $$ > left; exec sleep 1000' & exec sleep 1000");
    WAIT(b, wrote(b, "r1", "before"));
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/left", b->work);
    struct stat st;
    WAIT(b, stat(path, &st) == 0 && st.st_size > 0);
    CLEANUP(buf_free) struct buf left = {0};
    read_file(path, &left);
    pid_t pid = (pid_t)atoi(left.p);
    assert_int_equal(kill(pid, 0), 0);
    assert_int_equal(kill(runner_pid(b, "r1"), SIGKILL), 0);
    WAIT(b, s->gone);
    assert_int_equal(s->ended, 1);
    assert_int_equal(s->exit.outcome, RUN_OUTCOME_IN_DOUBT);
    assert_int_equal(s->exit.output_bytes, 7);
    assert_non_null(strstr(s->detail, "had started at 2"));
    assert_non_null(strstr(s->detail, "7 bytes of output are kept, the last written at 2"));
    assert_non_null(strstr(s->detail, "been killed"));
    CLEANUP(buf_free) struct buf command = {0};
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    assert_true(record_read_file(AT_FDCWD, path, 65536, &command) < 0 || command.n == 0); /* gone, or a zombie of init's */
    struct run_exit e;
    assert_int_equal(runs_probe(b->runs, task_id, "r1", true, false, &e), RUN_PROBE_ENDED);
    assert_int_equal(e.outcome, RUN_OUTCOME_IN_DOUBT);
    assert_int_equal(runs_probe(b->runs, task_id, "r1", false, false, &e), RUN_PROBE_ENDED);
    assert_true(str_starts(e.detail, "the machine was restarted"));
}

/* The one who sent the input died before it heard what became of it, and the run has ended since. */
static void test_input_of_ended_run(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "read x; exit 8");
    runs_input(b->runs, task_id, "r1", "c1", STR("it\n"));
    WAIT(b, s->gone && s->inputs_ok == 1);
    runs_input(b->runs, task_id, "r1", "c1", STR("it\n"));
    runs_input(b->runs, task_id, "r1", "c2", STR("more\n"));
    WAIT(b, s->inputs_ok + s->inputs_bad == 3);
    assert_int_equal(s->inputs_ok, 2);
}

static void test_probe_nothing(void **state)
{
    struct box *b = *state;
    struct run_exit e;
    assert_int_equal(runs_probe(b->runs, task_id, "r9", true, false, &e), RUN_PROBE_NOT_STARTED);
    assert_int_equal(runs_probe(b->runs, task_id, "r9", false, false, &e), RUN_PROBE_ENDED);
    assert_int_equal(e.outcome, RUN_OUTCOME_IN_DOUBT);
}

/* ---- no descriptors ---- */

/* No descriptor is left: that says nothing about a run. It is neither taken for dead, and killed, nor for lost. */
static rlim_t use_up_descriptors(void)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    rlim_t before = limit.rlim_cur;
    int next = dup(2);
    close(next);
    limit.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    return before;
}

static void give_descriptors(rlim_t before)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = before;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void turn_for(struct box *b, uint64_t ms)
{
    uint64_t until = uv_now(&b->loop) + ms;
    while (uv_now(&b->loop) < until)
        uv_run(&b->loop, UV_RUN_ONCE);
}

static void test_no_descriptors(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "echo one; read x; echo \"got $x\"; exit 6");
    WAIT(b, wrote(b, "r1", "one"));
    daemon_down(b);
    daemon_up(b);
    rlim_t before = use_up_descriptors();
    struct run_exit e;
    enum run_probe found = runs_probe(b->runs, task_id, "r1", true, false, &e);
    runs_attach(b->runs, task_id, "r1", false);
    turn_for(b, 50);
    give_descriptors(before);
    assert_int_equal(found, RUN_PROBE_ALIVE);
    assert_int_equal(s->ended, 0);
    runs_input(b->runs, task_id, "r1", "c1", STR("it\n"));
    WAIT(b, s->gone);
    assert_int_equal(s->exit.exit_code, 6);
    assert_string_equal(output_of(b, "r1"), "one\ngot it\n");
}

/* The end comes when its record cannot be read: it is told when it can. */
static void test_ended_without_descriptors(void **state)
{
    struct box *b = *state;
    struct seen *s = start(b, "r1", "echo one; read x; exit 7");
    WAIT(b, wrote(b, "r1", "one"));
    rlim_t before = use_up_descriptors();
    runs_input(b->runs, task_id, "r1", "c1", STR("it\n"));
    turn_for(b, 300);
    give_descriptors(before);
    assert_int_equal(s->ended, 0);
    WAIT(b, s->gone);
    assert_int_equal(s->ended, 1);
    assert_int_equal(s->exit.outcome, RUN_OUTCOME_DONE);
    assert_int_equal(s->exit.exit_code, 7);
}

/* ---- other versions ---- */

/* A runner as a later version may be: it holds the lock, and its messages are longer and of more kinds than ours. */
struct later {
    int spec_fd, listen_fd, fd;
};

static void later_begin(const struct box *b, struct later *l)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char dir[PATH_MAX + 64];
    snprintf(dir, sizeof dir, "%s/%s", b->dir, task_id);
    assert_int_equal(mkdir(dir, 0700), 0);
    snprintf(dir, sizeof dir, "%s/%s/r1", b->dir, task_id);
    assert_int_equal(mkdir(dir, 0700), 0);
    l->spec_fd = open(path_of(b, "r1", RUN_FILE_SPEC), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(flock(l->spec_fd, LOCK_EX | LOCK_NB), 0);
    write_file(path_of(b, "r1", RUN_FILE_START), STR("of a form that nobody knows yet"));
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path_of(b, "r1", RUN_FILE_CTL));
    l->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(l->listen_fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(l->listen_fd, 4), 0);
    l->fd = -1;
}

static bool later_accepts(struct later *l)
{
    struct pollfd p = {.fd = l->listen_fd, .events = POLLIN};
    if (poll(&p, 1, 0) > 0)
        l->fd = accept4(l->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    return l->fd >= 0;
}

/* The body, and eight bytes that only a later version understands. */
static void later_says(const struct later *l, uint32_t kind, const void *body, size_t n, struct str behind)
{
    struct buf frame = {0};
    struct ctl_head head = {.size = (uint32_t)(n + behind.n + 8), .kind = kind};
    buf_put(&frame, &head, sizeof head);
    buf_put(&frame, body, n);
    buf_str(&frame, behind);
    buf_puts(&frame, "tomorrow");
    assert_int_equal(send(l->fd, frame.p, frame.n, MSG_NOSIGNAL), frame.n);
    buf_free(&frame);
}

static void later_speaks(const struct later *l)
{
    struct ctl_hello hello = {.version = 99, .pid = getpid(), .total = 5};
    later_says(l, CTL_HELLO, &hello, sizeof hello, STR_NONE);
    later_says(l, 77, "what is this", 12, STR_NONE);
    later_says(l, CTL_OUTPUT, &(struct ctl_output){.total = 7}, sizeof(struct ctl_output), STR_NONE);
}

static void test_later_runner(void **state)
{
    struct box *b = *state;
    struct later l;
    struct seen *s = seen_of(b, "r1");
    struct run_exit e;
    later_begin(b, &l);
    assert_int_equal(runs_probe(b->runs, task_id, "r1", true, false, &e), RUN_PROBE_ALIVE);
    runs_attach(b->runs, task_id, "r1", false);
    WAIT(b, later_accepts(&l));
    later_speaks(&l);
    WAIT(b, s->total == 7);
    /* An answer that it gives for a reason of its own is a refusal, and said as one. */
    runs_input(b->runs, task_id, "r1", "c1", STR("words\n"));
    struct ctl_input_done done = {.id_n = 2, .refused = 99};
    later_says(&l, CTL_INPUT_DONE, &done, sizeof done, STR("c1"));
    WAIT(b, s->inputs_bad == 1);
    assert_string_equal(s->error, "the runner refused the input");
    close(l.fd);
    close(l.listen_fd);
    close(l.spec_fd);
    WAIT(b, s->gone);
    assert_int_equal(s->exit.outcome, RUN_OUTCOME_IN_DOUBT);
    assert_non_null(strstr(s->detail, "without a record"));
}

/* A daemon that believes it has to start what such a runner keeps follows it instead. */
static void test_later_runner_is_not_doubled(void **state)
{
    struct box *b = *state;
    struct later l;
    later_begin(b, &l);
    assert_int_equal(unlink(path_of(b, "r1", RUN_FILE_START)), 0);
    struct seen *s = start(b, "r1", "echo a second one > doubled");
    WAIT(b, later_accepts(&l));
    later_speaks(&l);
    WAIT(b, s->total == 7);
    assert_int_equal(access(path_of(b, "r1", RUN_FILE_START), F_OK), -1);
    close(l.fd);
    close(l.listen_fd);
    close(l.spec_fd);
    WAIT(b, s->gone);
    assert_int_equal(s->exit.outcome, RUN_OUTCOME_NOT_STARTED);
    assert_int_equal(access(path_of(b, "r1", RUN_FILE_OUT), F_OK), -1);
}

/* One that is older than the daemon says what it cannot do. */
static void test_program_of_a_later_daemon(void **state)
{
    struct box *b = *state;
    struct seen *s = start_program(b, "r1", (enum run_program)99, STR("something new"), false);
    WAIT(b, s->gone);
    assert_int_equal(s->exit.outcome, RUN_OUTCOME_NOT_STARTED);
    assert_non_null(strstr(s->detail, "install both of one version"));
}

/* ---- patches that were cut short ---- */

/* What a runner and its agentd-tool leave that were killed in the middle of a patch. */
static void cut_patch(struct box *b, const char *run, bool manifest)
{
    char path[PATH_MAX + 64], temp[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", b->dir, task_id);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/%s/%s", b->dir, task_id, run);
    assert_int_equal(mkdir(path, 0700), 0);
    CLEANUP(buf_free) struct buf bytes = {0};
    run_spec_put(&bytes, &(struct run_spec){.program = RUN_SPEC_PATCH, .payload = STR("")});
    write_file(path_of(b, run, RUN_FILE_SPEC), buf_view(&bytes));
    write_file(path_of(b, run, RUN_FILE_START), STR(""));
    if (!manifest)
        return;
    snprintf(path, sizeof path, "%s/file", b->work);
    snprintf(temp, sizeof temp, "%s/.file.new", b->work);
    write_file(path, STR("old"));
    write_file(temp, STR("new"));
    char hash[PATCH_HASH_SIZE];
    buf_clear(&bytes);
    size_t mark = pack_open(&bytes, "change");
    pack_str(&bytes, "path", str_of(path));
    pack_str(&bytes, "temp", str_of(temp));
    pack_str(&bytes, "line", STR("M file\n"));
    patch_hash(STR("old"), hash);
    pack_str(&bytes, "pre", str_n(hash, sizeof hash));
    patch_hash(STR("new"), hash);
    pack_str(&bytes, "post", str_n(hash, sizeof hash));
    pack_close(&bytes, mark);
    pack_i64(&bytes, "ready", 1);
    write_file(path_of(b, run, RUN_FILE_PATCH), buf_view(&bytes));
}

static void test_patch_cut_short(void **state)
{
    struct box *b = *state;
    struct run_exit e;
    cut_patch(b, "r1", false);
    assert_int_equal(runs_probe(b->runs, task_id, "r1", true, false, &e), RUN_PROBE_ENDED);
    assert_int_equal(e.outcome, RUN_OUTCOME_DONE);
    assert_int_equal(e.exit_code, 1);
    assert_true(str_starts(e.detail, "the patch was cut short before it had changed anything"));
    cut_patch(b, "r2", true);
    assert_int_equal(runs_probe(b->runs, task_id, "r2", true, false, &e), RUN_PROBE_ENDED);
    assert_int_equal(e.outcome, RUN_OUTCOME_DONE);
    assert_true(e.has_exit_code);
    assert_int_equal(e.exit_code, 0);
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/file", b->work);
    CLEANUP(buf_free) struct buf now = {0};
    read_file(path, &now);
    assert_string_equal(now.p, "new");
    buf_clear(&now);
    read_file(path_of(b, "r2", RUN_FILE_OUT), &now); /* as if it had come to its end */
    assert_string_equal(now.p, "M file\n");
    assert_int_equal(e.output_bytes, (int64_t)now.n);
}

/* agentd-tool ends so wherever it was when there was no memory: in the middle of the patch, too. */
static void test_patch_without_memory(void **state)
{
    struct box *b = *state;
    struct run_exit e;
    cut_patch(b, "r1", true);
    CLEANUP(buf_free) struct buf record = {0};
    run_record_put(&record, &(struct run_record){.end = RUN_END_EXITED, .code = MEM_EXIT_STATUS});
    write_file(path_of(b, "r1", RUN_FILE_EXIT), buf_view(&record));
    assert_int_equal(runs_probe(b->runs, task_id, "r1", true, false, &e), RUN_PROBE_ENDED);
    assert_int_equal(e.outcome, RUN_OUTCOME_DONE);
    assert_int_equal(e.exit_code, 0);
    assert_true(str_starts(e.detail, "the patch was cut short; its contents were compared and it is now applied"));
    char path[PATH_MAX + 8];
    snprintf(path, sizeof path, "%s/file", b->work);
    CLEANUP(buf_free) struct buf now = {0};
    read_file(path, &now);
    assert_string_equal(now.p, "new");
}

/* Whoever settles it may be killed, too; and one that an earlier daemon began must not be at work beside it. */
static void test_patch_settled_again(void **state)
{
    struct box *b = *state;
    struct run_exit e;
    char tool[PATH_MAX + 8], script[3 * PATH_MAX], once[PATH_MAX + 8];
    snprintf(tool, sizeof tool, "%s/tool", b->work);
    snprintf(once, sizeof once, "%s/once", b->work);
    snprintf(script, sizeof script, "#!/bin/sh\nPATH=/usr/bin:/bin\n[ -e %s ] || { touch %s; echo half; kill -9 $$; }\nexec %s \"$@\"\n", once, once,
             TOOL);
    write_file(tool, str_of(script));
    assert_int_equal(chmod(tool, 0700), 0);
    daemon_down(b);
    daemon_up_with_tool(b, tool);
    cut_patch(b, "r1", true);
    char marker[200], run[100], *env[] = {marker, NULL}, *argv[] = {(char[]){"sleep"}, (char[]){"1000"}, NULL};
    snprintf(run, sizeof run, "%s/r1", task_id);
    snprintf(marker, sizeof marker, RUN_MARKER "%s", run);
    pid_t earlier;
    assert_int_equal(posix_spawn(&earlier, "/bin/sleep", NULL, NULL, argv, env), 0);
    kill(earlier, SIGSTOP);
    assert_int_equal(runs_probe(b->runs, task_id, "r1", true, false, &e), RUN_PROBE_ENDED);
    assert_int_equal(e.outcome, RUN_OUTCOME_DONE);
    assert_int_equal(e.exit_code, 0);
    CLEANUP(buf_free) struct buf now = {0};
    read_file(path_of(b, "r1", RUN_FILE_OUT), &now);
    assert_string_equal(now.p, "M file\n");
    int status;
    assert_int_equal(waitpid(earlier, &status, 0), earlier);
    assert_true(WIFSIGNALED(status));
}

/* The power went before the run's folder lasted; its manifest would have. */
static void test_patch_without_folder(void **state)
{
    struct box *b = *state;
    struct run_exit e;
    assert_int_equal(runs_probe(b->runs, task_id, "r1", false, true, &e), RUN_PROBE_ENDED);
    assert_int_equal(e.outcome, RUN_OUTCOME_DONE);
    assert_int_equal(e.exit_code, 1);
    assert_true(str_starts(e.detail, "the patch was cut short before it had changed anything"));
    assert_int_equal(runs_probe(b->runs, task_id, "r1", false, false, &e), RUN_PROBE_ENDED);
    assert_int_equal(e.outcome, RUN_OUTCOME_IN_DOUBT);
    assert_int_equal(runs_probe(b->runs, task_id, "r1", true, true, &e), RUN_PROBE_NOT_STARTED);
}

int main(int argc, char **argv)
{
    runs_begin(argc, argv);
    const struct CMUnitTest tests[] = {
        CASE(test_reattach),
        CASE(test_later_runner),
        CASE(test_later_runner_is_not_doubled),
        CASE(test_program_of_a_later_daemon),
        CASE(test_ended_alone),
        CASE(test_runner_killed),
        CASE(test_no_descriptors),
        CASE(test_ended_without_descriptors),
        CASE(test_input_of_ended_run),
        CASE(test_probe_nothing),
        CASE(test_patch_cut_short),
        CASE(test_patch_without_memory), CASE(test_patch_settled_again),
        CASE(test_patch_without_folder),
    };
    return cmocka_run_group_tests_name("runs-recovery", tests, NULL, NULL);
}
