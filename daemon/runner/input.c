/* Input: from the daemon into the process. Never blocks: what the process does not take waits in memory, bounded. */
#include "daemon/runner/runner.h"

#include "daemon/base/failpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

static bool id_known(const struct runner *r, struct str id)
{
    struct str rest = buf_view(&r->input_ids);
    while (rest.n > 0) {
        const char *end = memchr(rest.p, '\n', rest.n);
        size_t n = end ? (size_t)(end - rest.p) : rest.n;
        if (str_eq(str_n(rest.p, n), id))
            return true;
        n = end ? n + 1 : n;
        rest = str_n(rest.p + n, rest.n - n);
    }
    return false;
}

/* In the page cache before the process gets a byte: enough against every death but the machine's, after which the process does not
 * live either. */
static int id_record(struct runner *r, struct str id)
{
    struct buf line = {0};
    buf_str(&line, id);
    buf_putc(&line, '\n');
    int fd = open(RUN_FILE_INPUT, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int result = fd < 0 ? -1 : record_write_all(fd, buf_view(&line));
    if (fd >= 0 && result < 0 && ftruncate(fd, (off_t)r->input_ids.n) < 0) /* half a line would spoil the next */
        r->close_after = true;
    if (fd >= 0)
        close(fd);
    if (result == 0)
        buf_str(&r->input_ids, buf_view(&line));
    buf_free(&line);
    return result;
}

/* Without a terminal there is nobody who would turn the keys into what they mean. */
static bool key_pressed(struct runner *r, struct str bytes)
{
    if (r->slave_fd >= 0 || bytes.n != 1)
        return false;
    if (bytes.p[0] == 3) {
        kill(-r->child, SIGINT);
        return true;
    }
    if (bytes.p[0] == 4) {
        input_close(r);
        return true;
    }
    return false;
}

enum ctl_refusal input_take(struct runner *r, struct str id, struct str bytes)
{
    if (id.n == 0 || id.n > CTL_INPUT_ID_MAX || memchr(id.p, '\n', id.n))
        return CTL_REFUSED_BAD;
    if (id_known(r, id))
        return CTL_REFUSED_NOT;
    if (r->ended || r->sink_fd < 0 || r->close_after)
        return CTL_REFUSED_ENDED;
    if ((int64_t)(r->pending.n - r->pending_at) + (int64_t)bytes.n > r->spec.input_bytes_max)
        return CTL_REFUSED_FULL;
    if (id_record(r, id) < 0)
        return CTL_REFUSED_RECORD;
    FAILPOINT("runner.input_recorded");
    if (!key_pressed(r, bytes))
        input_put(r, bytes);
    return CTL_REFUSED_NOT;
}

void input_put(struct runner *r, struct str bytes)
{
    buf_str(&r->pending, bytes);
    input_write(r);
}

bool input_waits(const struct runner *r)
{
    return r->sink_fd >= 0 && r->pending.n > r->pending_at;
}

static void sink_close(struct runner *r)
{
    close(r->sink_fd);
    r->sink_fd = -1;
    buf_free(&r->pending);
    r->pending_at = 0;
}

void input_write(struct runner *r)
{
    while (input_waits(r)) {
        ssize_t n = write(r->sink_fd, r->pending.p + r->pending_at, r->pending.n - r->pending_at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) {
            sink_close(r);
            return;
        }
        r->pending_at += (size_t)n;
    }
    buf_free(&r->pending);
    r->pending_at = 0;
    if (r->close_after && r->sink_fd >= 0)
        sink_close(r);
}

void input_close(struct runner *r)
{
    r->close_after = true;
    input_write(r);
}
