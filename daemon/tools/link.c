/* One runner that is followed: connection, frames, its end. */
#include "daemon/tools/link.h"

#include "daemon/base/mem.h"
#include "daemon/runner/record.h"

#include <errno.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK_DELAY_MS_MAX 1000
#define READ_SIZE 4096
#define LOOK_AGAIN_MS 200 /* where we ourselves lack what it takes to look */

struct input_wait {
    struct list node;
    char *call;
    struct buf bytes;
};

static void link_gone(struct link *l);

struct link *link_new(struct runs *r, const char *task, const char *run)
{
    struct link *l = MEM_NEW(struct link);
    l->runs = r;
    l->task = mem_strdup(task);
    l->run = mem_strdup(run);
    l->ctl_fd = l->pid_fd = -1;
    list_init(&l->inputs);
    list_append(&r->links, &l->node);
    r->handles++;
    return l;
}

struct link *link_find(const struct runs *r, const char *task, const char *run)
{
    struct link *l;
    LIST_EACH(l, &r->links, struct link, node)
        if (strcmp(l->run, run) == 0 && strcmp(l->task, task) == 0)
            return l;
    return NULL;
}

/* ---- end of life ---- */

static void input_wait_free(struct input_wait *w)
{
    list_remove(&w->node);
    mem_free(w->call);
    buf_free(&w->bytes);
    mem_free(w);
}

static void link_free(struct link *l)
{
    struct input_wait *w;
    LIST_EACH(w, &l->inputs, struct input_wait, node)
        input_wait_free(w);
    struct runs *r = l->runs;
    mem_free(l->task);
    mem_free(l->run);
    mem_free(l->failed);
    buf_free(&l->in);
    buf_free(&l->out);
    mem_free(l);
    runs_released(r);
}

static void closed_cb(uv_handle_t *handle)
{
    struct link *l = handle->data;
    l->handles--;
    if (l->gone && l->handles == 0)
        link_free(l);
}

static void watch(struct link *l, uv_poll_t *poll, int fd, int events, uv_poll_cb cb)
{
    uv_poll_init(l->runs->loop, poll, fd);
    poll->data = l;
    l->handles++;
    uv_poll_start(poll, events, cb);
}

static void unwatch(uv_poll_t *poll, int *fd)
{
    if (*fd < 0)
        return;
    uv_close((uv_handle_t *)poll, closed_cb);
    close(*fd);
    *fd = -1;
}

void link_drop(struct link *l)
{
    list_remove(&l->node);
    l->gone = true;
    unwatch(&l->ctl, &l->ctl_fd);
    unwatch(&l->pid, &l->pid_fd);
    if (l->handles == 0)
        link_free(l);
}

/* ---- sending ---- */

static void ctl_cb(uv_poll_t *poll, int status, int events);

/* An error here shows again, and is handled, where the connection is read. */
static void flush(struct link *l)
{
    if (l->ctl_fd < 0)
        return;
    while (l->out.n > 0) {
        ssize_t n = send(l->ctl_fd, l->out.p, l->out.n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break;
        buf_consume(&l->out, (size_t)n);
    }
    if (l->out.n == 0)
        buf_free(&l->out);
    uv_poll_start(&l->ctl, UV_READABLE | (l->out.n ? UV_WRITABLE : 0), ctl_cb);
}

static void put_frame(struct link *l, enum ctl_kind kind, const void *body, size_t n, size_t behind_n)
{
    struct ctl_head head = {.size = (uint32_t)(n + behind_n), .kind = kind};
    buf_put(&l->out, &head, sizeof head);
    buf_put(&l->out, body, n);
}

static void send_input(struct link *l, const struct input_wait *w)
{
    struct str call = str_of(w->call);
    struct ctl_input head = {.id_n = (uint32_t)call.n};
    put_frame(l, CTL_INPUT, &head, sizeof head, call.n + w->bytes.n);
    buf_str(&l->out, call);
    buf_str(&l->out, buf_view(&w->bytes));
}

static void send_kill(struct link *l)
{
    struct ctl_kill order = {.grace_ms = (uint32_t)l->runs->limits->kill_grace_ms};
    put_frame(l, CTL_KILL, &order, sizeof order, 0);
}

int link_connect(struct link *l, int dirfd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", dirfd, RUN_FILE_CTL);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 || l->ctl_fd >= 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    l->ctl_fd = fd;
    l->hello = false;
    watch(l, &l->ctl, fd, UV_READABLE, ctl_cb);
    buf_clear(&l->in);
    buf_clear(&l->out);
    struct ctl_hello hello = {.version = CTL_VERSION};
    put_frame(l, CTL_HELLO, &hello, sizeof hello, 0);
    const struct input_wait *w;
    LIST_EACH(w, &l->inputs, struct input_wait, node)
        send_input(l, w);
    if (l->kill_wanted)
        send_kill(l);
    flush(l);
    return 0;
}

void link_input(struct link *l, const char *call, struct str bytes)
{
    struct input_wait *w;
    LIST_EACH(w, &l->inputs, struct input_wait, node)
        if (strcmp(w->call, call) == 0)
            return;
    w = MEM_NEW(struct input_wait);
    w->call = mem_strdup(call);
    buf_str(&w->bytes, bytes);
    list_append(&l->inputs, &w->node);
    if (l->ctl_fd >= 0) {
        send_input(l, w);
        flush(l);
    }
}

void link_kill(struct link *l)
{
    l->kill_wanted = true;
    if (l->ctl_fd >= 0) {
        send_kill(l);
        flush(l);
    }
}

/* ---- receiving ---- */

static void tell_ended(struct link *l)
{
    if (l->ended_told)
        return;
    struct run_exit ended = {0};
    int dirfd = runs_open_dir(l->runs, l->task, l->run);
    int found = runs_take_exit(l->runs, l->task, l->run, dirfd, &ended);
    l->ended_due = found == RUNS_EXIT_LATER;
    if (l->ended_due) {
        if (dirfd >= 0)
            close(dirfd);
        link_check_in(l, LOOK_AGAIN_MS);
        return;
    }
    if (found < 0 && !runs_recover_patch(l->runs, l->task, l->run, dirfd, false, &ended))
        ended = (struct run_exit){.outcome = RUN_OUTCOME_IN_DOUBT,
                                  .output_bytes = l->total,
                                  .detail = STR("it ended, but the record of how could not be written or read")};
    if (dirfd >= 0)
        close(dirfd);
    l->ended_told = true;
    l->runs->callbacks.ended(l->runs->arg, l->task, l->run, &ended);
}

static void put_total(struct link *l, int64_t total)
{
    if (total <= l->total)
        return;
    l->total = total;
    l->runs->callbacks.output(l->runs->arg, l->task, l->run, total);
}

static void on_hello(struct link *l, struct str body)
{
    struct ctl_hello hello;
    if (body.n < sizeof hello)
        return;
    memcpy(&hello, body.p, sizeof hello);
    l->hello = true;
    l->check_delay_ms = 0;
    if (l->pid_fd < 0)
        link_watch_pid(l, pidfd_open(hello.pid, 0));
    put_total(l, hello.total);
    if (hello.ended)
        tell_ended(l);
}

static void on_output(struct link *l, struct str body)
{
    struct ctl_output output;
    if (body.n < sizeof output)
        return;
    memcpy(&output, body.p, sizeof output);
    put_total(l, output.total);
}

static void on_ended(struct link *l, struct str body)
{
    struct ctl_ended ended;
    if (body.n < sizeof ended)
        return;
    memcpy(&ended, body.p, sizeof ended);
    put_total(l, ended.total);
    tell_ended(l);
}

static const char *refusal_text(uint32_t refusal)
{
    switch ((enum ctl_refusal)refusal) {
    case CTL_REFUSED_NOT:
        return NULL;
    case CTL_REFUSED_ENDED:
        return "the process has ended or has closed its input";
    case CTL_REFUSED_FULL:
        return "the process does not read its input: too much waits for it already";
    case CTL_REFUSED_RECORD:
        return "the input could not be recorded (is the disk full?), so it was not written";
    case CTL_REFUSED_BAD:
        return "the input was not understood by the runner";
    }
    return "the runner refused the input";
}

static void input_done(struct link *l, struct input_wait *w, const char *error)
{
    list_remove(&w->node);
    l->runs->callbacks.input_done(l->runs->arg, l->task, l->run, w->call, !error, error);
    input_wait_free(w);
}

static void on_input_done(struct link *l, struct str body)
{
    struct ctl_input_done done;
    if (body.n < sizeof done)
        return;
    memcpy(&done, body.p, sizeof done);
    body = str_n(body.p + sizeof done, body.n - sizeof done);
    struct str id = str_n(body.p, done.id_n < body.n ? done.id_n : body.n);
    struct input_wait *w;
    LIST_EACH(w, &l->inputs, struct input_wait, node)
        if (str_eqz(id, w->call)) {
            input_done(l, w, refusal_text(done.refused));
            return;
        }
}

static void on_frame(struct link *l, uint32_t kind, struct str body)
{
    if (kind == CTL_HELLO)
        on_hello(l, body);
    else if (kind == CTL_OUTPUT)
        on_output(l, body);
    else if (kind == CTL_ENDED)
        on_ended(l, body);
    else if (kind == CTL_INPUT_DONE)
        on_input_done(l, body);
}

/* False: the connection is over. */
static bool receive(struct link *l)
{
    for (;;) {
        ssize_t n = recv(l->ctl_fd, buf_reserve(&l->in, READ_SIZE), READ_SIZE, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        if (n == 0)
            return false;
        l->in.n += (size_t)n;
        struct ctl_head head;
        while (l->in.n >= sizeof head) {
            memcpy(&head, l->in.p, sizeof head);
            if (head.size > CTL_BODY_BYTES_MAX)
                return false;
            if (l->in.n < sizeof head + head.size)
                break;
            on_frame(l, head.kind, str_n(l->in.p + sizeof head, head.size));
            if (l->gone)
                return true;
            buf_consume(&l->in, sizeof head + head.size);
        }
    }
}

static void ctl_cb(uv_poll_t *poll, int status, int events)
{
    struct link *l = poll->data;
    if (status == 0 && events & UV_WRITABLE)
        flush(l);
    if (receive(l))
        return;
    unwatch(&l->ctl, &l->ctl_fd);
    link_check_in(l, l->check_delay_ms);
}

/* ---- its end ---- */

static void pid_cb(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    link_gone(poll->data);
}

void link_watch_pid(struct link *l, int pidfd)
{
    if (pidfd < 0) {
        link_check_in(l, 0);
        return;
    }
    l->pid_fd = pidfd;
    watch(l, &l->pid, pidfd, UV_READABLE, pid_cb);
}

/* The runner has written down what it took: what is not there never reached the process. */
static void settle_inputs(struct link *l, int dirfd)
{
    struct input_wait *w;
    LIST_EACH(w, &l->inputs, struct input_wait, node)
        input_done(l, w, runs_input_taken(dirfd, w->call) ? NULL : "the process has ended");
}

/* Only what has no `start` may start again. */
static bool starts_again(const struct link *l, int dirfd)
{
    return l->roomless && !l->ended_told && dirfd >= 0 && faccessat(dirfd, RUN_FILE_START, F_OK, 0) < 0 && errno == ENOENT;
}

static void link_roomless(struct link *l)
{
    struct runs *r = l->runs;
    list_remove(&l->node);
    if (!r->closing)
        r->callbacks.roomless(r->arg, l->task, l->run);
    link_drop(l);
}

static void link_gone(struct link *l)
{
    siginfo_t info = {0};
    struct runs *r = l->runs;
    if (l->pid_fd >= 0)
        waitid(P_PIDFD, (id_t)l->pid_fd, &info, WEXITED | WNOHANG); /* ECHILD: a daemon before us started it */
    l->roomless = l->roomless || (info.si_code == CLD_EXITED && info.si_status == RUNNER_EXIT_FULL);
    if (l->ctl_fd >= 0)
        receive(l);
    l->check_ms = 0;
    int dirfd = runs_open_dir(r, l->task, l->run);
    struct run_exit ended = {0};
    int found = dirfd < 0 && runs_error_passes(errno) ? RUNS_EXIT_LATER
                : l->ended_told                       ? 0
                                                      : runs_take_exit(r, l->task, l->run, dirfd, &ended);
    if (found == RUNS_EXIT_LATER) {
        if (dirfd >= 0)
            close(dirfd);
        unwatch(&l->ctl, &l->ctl_fd);
        unwatch(&l->pid, &l->pid_fd);
        link_check_in(l, LOOK_AGAIN_MS);
        return;
    }
    if (found < 0 && starts_again(l, dirfd)) {
        close(dirfd);
        link_roomless(l);
        return;
    }
    settle_inputs(l, dirfd);
    if (!l->ended_told) {
        if (found < 0)
            runs_in_doubt(r, l->task, l->run, dirfd, true, false, &ended);
        if (ended.output_bytes < l->total)
            ended.output_bytes = l->total;
        l->ended_told = true;
        r->callbacks.ended(r->arg, l->task, l->run, &ended);
    }
    if (dirfd >= 0)
        close(dirfd);
    list_remove(&l->node);
    if (!r->closing)
        r->callbacks.gone(r->arg, l->task, l->run);
    link_drop(l);
}

static void not_started(struct link *l)
{
    struct run_exit ended = {.outcome = RUN_OUTCOME_NOT_STARTED, .detail = str_of(l->failed)};
    l->ended_told = true;
    l->runs->callbacks.ended(l->runs->arg, l->task, l->run, &ended);
    list_remove(&l->node);
    l->runs->callbacks.gone(l->runs->arg, l->task, l->run);
    link_drop(l);
}

/* Something is open: it never started, it is to be attached, or the connection was lost. Refused connections with the lock still
 * held are a runner on its last instructions. */
void link_check(struct link *l)
{
    if (l->failed) {
        not_started(l);
        return;
    }
    if (l->ended_due)
        tell_ended(l);
    int dirfd = runs_open_dir(l->runs, l->task, l->run);
    bool held = dirfd < 0 && runs_error_passes(errno);
    bool connected = l->ctl_fd >= 0 || (dirfd >= 0 && link_connect(l, dirfd) == 0);
    if (!connected && dirfd >= 0)
        held = runs_lock_held(dirfd);
    held = held || connected;
    if (dirfd >= 0)
        close(dirfd);
    if (!held && l->pid_fd >= 0 && !l->leaving) { /* who ends lets go of the lock a moment before he can be waited for */
        l->leaving = true;
        link_check_in(l, LOOK_AGAIN_MS);
        return;
    }
    if (!held) {
        link_gone(l);
        return;
    }
    l->check_delay_ms = l->check_delay_ms ? l->check_delay_ms * 2 : 5;
    if (l->check_delay_ms > CHECK_DELAY_MS_MAX)
        l->check_delay_ms = CHECK_DELAY_MS_MAX;
    if (!connected)
        link_check_in(l, l->check_delay_ms);
}
