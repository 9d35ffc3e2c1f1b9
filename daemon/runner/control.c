/* The control socket, the runner's end. Connections come and go; one that is gone, talks nonsense or does not read is closed, and
 * the process never notices. */
#include "daemon/runner/runner.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

static void drop(struct connection *c)
{
    close(c->fd);
    buf_free(&c->in);
    *c = (struct connection){.fd = -1};
}

/* Our messages are few and small: a peer whose socket buffer is full of them has not read for a very long time. */
static void tell(struct connection *c, enum ctl_kind kind, const void *body, size_t n, struct str behind)
{
    if (c->fd < 0)
        return;
    struct ctl_head head = {.size = (uint32_t)(n + behind.n), .kind = kind};
    char frame[sizeof head + sizeof(struct ctl_hello) + CTL_INPUT_ID_MAX];
    memcpy(frame, &head, sizeof head);
    memcpy(frame + sizeof head, body, n);
    if (behind.n)
        memcpy(frame + sizeof head + n, behind.p, behind.n);
    size_t size = sizeof head + head.size;
    if (send(c->fd, frame, size, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)size)
        drop(c);
}

void control_accept(struct runner *r)
{
    int fd = accept4(r->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct connection *to = &r->connections[0];
    for (size_t i = 0; i < CONNECTIONS_MAX && to->fd >= 0; i++)
        to = &r->connections[i];
    if (to->fd >= 0)
        drop(to); /* all taken: the newest is the one that lives */
    to->fd = fd;
}

static void on_hello(struct runner *r, struct connection *c)
{
    struct ctl_hello hello = {.version = CTL_VERSION, .pid = getpid(), .total = r->total, .ended = r->ended};
    c->hello = true;
    tell(c, CTL_HELLO, &hello, sizeof hello, STR_NONE);
}

static void on_input(struct runner *r, struct connection *c, struct str body)
{
    struct ctl_input head;
    if (body.n < sizeof head)
        return;
    memcpy(&head, body.p, sizeof head);
    body = str_n(body.p + sizeof head, body.n - sizeof head);
    bool bad = head.id_n > body.n || head.id_n > CTL_INPUT_ID_MAX;
    struct str id = str_n(body.p, bad ? 0 : head.id_n);
    struct ctl_input_done done = {.id_n = (uint32_t)id.n, .refused = CTL_REFUSED_BAD};
    if (!bad)
        done.refused = input_take(r, id, str_n(body.p + id.n, body.n - id.n));
    tell(c, CTL_INPUT_DONE, &done, sizeof done, id);
}

static void on_resize(const struct runner *r, struct str body)
{
    struct ctl_resize resize;
    if (body.n < sizeof resize || r->slave_fd < 0 || r->sink_fd < 0)
        return;
    memcpy(&resize, body.p, sizeof resize);
    struct winsize size = {.ws_col = resize.columns, .ws_row = resize.rows};
    ioctl(r->sink_fd, TIOCSWINSZ, &size);
}

static void on_kill(struct runner *r, struct str body)
{
    struct ctl_kill order;
    if (body.n < sizeof order)
        return;
    memcpy(&order, body.p, sizeof order);
    ending_kill(r, order.grace_ms);
}

static void on_frame(struct runner *r, struct connection *c, uint32_t kind, struct str body)
{
    if (kind == CTL_HELLO)
        on_hello(r, c);
    else if (kind == CTL_INPUT)
        on_input(r, c, body);
    else if (kind == CTL_RESIZE)
        on_resize(r, body);
    else if (kind == CTL_KILL)
        on_kill(r, body);
}

static bool take_frame(struct runner *r, struct connection *c)
{
    struct ctl_head head;
    if (c->fd < 0 || c->in.n < sizeof head)
        return false;
    memcpy(&head, c->in.p, sizeof head);
    if (head.size > CTL_BODY_BYTES_MAX) {
        drop(c);
        return false;
    }
    if (c->in.n < sizeof head + head.size)
        return false;
    on_frame(r, c, head.kind, str_n(c->in.p + sizeof head, head.size));
    if (c->fd >= 0)
        buf_consume(&c->in, sizeof head + head.size);
    return c->fd >= 0;
}

void control_read(struct runner *r, struct connection *c)
{
    ssize_t n = recv(c->fd, buf_reserve(&c->in, 4096), 4096, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        drop(c);
        return;
    }
    c->in.n += (size_t)n;
    while (take_frame(r, c))
        continue;
    if (c->fd >= 0 && c->in.n == 0)
        buf_free(&c->in);
}

static void tell_all(struct runner *r, enum ctl_kind kind, const void *body, size_t n)
{
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        if (r->connections[i].hello)
            tell(&r->connections[i], kind, body, n, STR_NONE);
}

void control_tell_output(struct runner *r)
{
    struct ctl_output output = {.total = r->total};
    r->told_total = r->total;
    r->told_boot_ms = record_boot_ms();
    tell_all(r, CTL_OUTPUT, &output, sizeof output);
}

void control_tell_ended(struct runner *r)
{
    struct ctl_ended ended = {.total = r->total};
    r->told_total = r->total;
    tell_all(r, CTL_ENDED, &ended, sizeof ended);
}
