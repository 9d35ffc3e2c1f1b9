#include "wire.h"

#include "daemon/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES 65536

int64_t wire_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Fills the address; *ret_dir must stay open while it is used (-1: not needed). */
static int make_address(const char *path, struct sockaddr_un *ret, int *ret_dir)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    *ret_dir = -1;
    if (strlen(path) < sizeof a.sun_path) {
        memcpy(a.sun_path, path, strlen(path) + 1);
        *ret = a;
        return 0;
    }
    CLEANUP(buf_free) struct buf dir = {0};
    const char *slash = strrchr(path, '/');
    buf_put(&dir, path, (size_t)(slash - path));
    int fd = open(buf_cstr(&dir), O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int n = snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d%s", fd, slash);
    if (n < 0 || (size_t)n >= sizeof a.sun_path) {
        close(fd);
        return -ENAMETOOLONG;
    }
    *ret = a;
    *ret_dir = fd;
    return 0;
}

int wire_connect(struct wire *w, const char *path)
{
    struct sockaddr_un address;
    int dir, rc = make_address(path, &address, &dir);
    if (rc < 0)
        return rc;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        rc = -errno;
    if (dir >= 0)
        close(dir);
    if (rc < 0) {
        if (fd >= 0)
            close(fd);
        return rc;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    w->fd = fd;
    return 0;
}

void wire_close(struct wire *w)
{
    if (w->fd >= 0)
        close(w->fd);
    w->fd = -1;
    buf_free(&w->in);
    w->start = w->scanned = 0;
}

static bool interrupted(const struct wire_wait *wait)
{
    return wait->interrupted && *wait->interrupted;
}

/* Waits for `events` on `fd` (-1: none) or what the wait names. *ret_events: what happened on fd. */
static enum wire_rc wait_for(int fd, short events, const struct wire_wait *wait, short *ret_events)
{
    for (;;) {
        struct pollfd p[2] = {{.fd = fd, .events = events}, {.fd = wait->fd, .events = POLLIN}};
        struct timespec ts = {0};
        int64_t left = wait->deadline_ms - wire_now_ms();
        if (wait->deadline_ms >= 0 && left > 0)
            ts = (struct timespec){.tv_sec = left / 1000, .tv_nsec = left % 1000 * 1000000};
        if (interrupted(wait))
            return WIRE_INTERRUPTED;
        int n = ppoll(p, 2, wait->deadline_ms >= 0 ? &ts : NULL, wait->mask);
        if (n < 0 && errno != EINTR)
            return WIRE_LOST;
        if (n < 0)
            continue;
        *ret_events = p[0].revents;
        if (p[0].revents)
            return WIRE_OK;
        if (p[1].revents)
            return WIRE_INPUT;
        if (n == 0)
            return WIRE_TIMEOUT;
    }
}

enum wire_rc wire_sleep(const struct wire_wait *wait)
{
    short events;
    return wait_for(-1, 0, wait, &events);
}

/* Reads what is there. */
static enum wire_rc fill(struct wire *w)
{
    if (w->start > 0) {
        buf_consume(&w->in, w->start);
        w->scanned -= w->start;
        w->start = 0;
    }
    ssize_t n = read(w->fd, buf_reserve(&w->in, READ_BYTES), READ_BYTES);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return WIRE_OK;
    if (n <= 0)
        return WIRE_LOST;
    w->in.n += (size_t)n;
    return WIRE_OK;
}

enum wire_rc wire_send(struct wire *w, struct str bytes, const struct wire_wait *wait)
{
    struct wire_wait only = {.fd = -1, .deadline_ms = wait->deadline_ms, .interrupted = wait->interrupted, .mask = wait->mask};
    while (bytes.n > 0) {
        ssize_t n = send(w->fd, bytes.p, bytes.n, MSG_NOSIGNAL);
        if (n > 0) {
            bytes = str_n(bytes.p + n, bytes.n - (size_t)n);
            continue;
        }
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return WIRE_LOST;
        short events;
        enum wire_rc rc = wait_for(w->fd, POLLIN | POLLOUT, &only, &events);
        if (rc != WIRE_OK)
            return rc;
        /* The daemon may wait for us to read before it reads on. */
        if ((events & POLLIN) && fill(w) != WIRE_OK)
            return WIRE_LOST;
        if ((events & (POLLERR | POLLHUP)) && !(events & POLLIN))
            return WIRE_LOST;
    }
    return WIRE_OK;
}

static bool take_line(struct wire *w, char **ret, size_t *ret_n)
{
    if (w->scanned == w->in.n)
        return false;
    const char *end = memchr(w->in.p + w->scanned, '\n', w->in.n - w->scanned);
    if (!end) {
        w->scanned = w->in.n;
        return false;
    }
    size_t n = (size_t)(end - w->in.p) - w->start;
    *ret = mem_dup(w->in.p + w->start, n);
    *ret_n = n;
    w->start = w->scanned = w->start + n + 1;
    return true;
}

enum wire_rc wire_receive(struct wire *w, size_t bytes_max, const struct wire_wait *wait, char **ret, size_t *ret_n)
{
    for (;;) {
        if (take_line(w, ret, ret_n))
            return WIRE_OK;
        if (w->in.n - w->start > bytes_max)
            return WIRE_TOO_LONG;
        short events;
        enum wire_rc rc = wait_for(w->fd, POLLIN, wait, &events);
        if (rc == WIRE_OK)
            rc = fill(w);
        if (rc != WIRE_OK)
            return rc;
    }
}
