/* The server's listening socket in the loop. People and programs that clean up remove its file under a daemon that lives; then it is made
 * again, for a daemon that nobody finds is none. Whatever else stands there by then is left alone. */
#include "server.h"

#include "daemon/base/log.h"
#include "daemon/base/mem.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKLOG 128
#define AGAIN_MS_MIN 500
#define AGAIN_MS_MAX 60000

static void on_connection(uv_stream_t *pipe, int status)
{
    if (status < 0)
        log_warn("a client could not be accepted: %s", uv_strerror(status));
    else
        conn_accept(pipe->data);
}

static void on_pipe_closed(uv_handle_t *handle)
{
    struct rpc *r = handle->data;
    mem_free(handle);
    rpc_unref(r);
}

static void on_closed(uv_handle_t *handle)
{
    rpc_unref(handle->data);
}

/* Takes the descriptor; clients of the socket before stay. */
static int serve(struct rpc *r, int fd, struct buf *error)
{
    uv_pipe_t *pipe = MEM_NEW(uv_pipe_t);
    uv_pipe_init(r->d->loop, pipe, 0);
    pipe->data = r;
    r->handles_n++;
    int rc = uv_pipe_open(pipe, fd);
    if (rc < 0)
        close(fd);
    else
        rc = uv_listen((uv_stream_t *)pipe, BACKLOG, on_connection);
    uv_pipe_t *old = rc == 0 ? r->listener.pipe : pipe;
    if (rc == 0)
        r->listener.pipe = pipe;
    else
        buf_printf(error, "cannot listen on %s: %s", r->path, uv_strerror(rc));
    if (old)
        uv_close((uv_handle_t *)old, on_pipe_closed);
    return rc == 0 ? 0 : -1;
}

/* ---- the file ---- */

static void on_event(uv_fs_event_t *watch, const char *name, int events, int status);

static int watch_folder(struct rpc *r)
{
    CLEANUP(buf_free) struct buf folder = {0};
    const char *slash = strrchr(r->path, '/');
    buf_put(&folder, r->path, slash == r->path ? 1 : (size_t)(slash - r->path));
    uv_fs_event_stop(&r->listener.watch);
    return uv_fs_event_start(&r->listener.watch, on_event, buf_cstr(&folder), 0);
}

static void make_again(struct rpc *r, bool due)
{
    CLEANUP(buf_free) struct buf error = {0};
    struct listener *l = &r->listener;
    int fd, rc = listen_open(r->path, 0, &fd, &l->file, &error);
    if (rc == 0 && (rc = serve(r, fd, &error)) < 0) { /* a file with nobody behind it would pass for a healthy one */
        listen_unlink(r->path, &l->file);
        l->file = (struct listen_file){0};
    }
    if (rc == 0)
        log_info("the socket %s was removed by somebody and is made again", r->path);
    else if (!l->again_ms)
        log_warn("the socket %s was removed by somebody and cannot be made again yet: %s", r->path, buf_cstr(&error));
    (void)watch_folder(r); /* it may be another folder by now */
    bool stands = listen_stands(r->path, &l->file);
    l->again_ms = stands ? 0 : !l->again_ms ? AGAIN_MS_MIN : due ? l->again_ms * 2 : l->again_ms;
    l->again_ms = l->again_ms < AGAIN_MS_MAX ? l->again_ms : AGAIN_MS_MAX;
}

static bool is_missing(const char *path)
{
    struct stat st;
    return lstat(path, &st) < 0 && errno == ENOENT;
}

static void look(struct rpc *r, bool due);

static void on_time(uv_timer_t *timer)
{
    look(timer->data, true);
}

/* While all is well nothing wakes: a folder that goes away is an event, too. While it is not, an event is a reason to try before the
 * pause is over (`due`) only if the place is free, and not by our own removal of a file that we could not serve. */
static void look(struct rpc *r, bool due)
{
    struct listener *l = &r->listener;
    uv_handle_t *watch = (uv_handle_t *)&l->watch;
    if (!uv_is_active(watch)) /* first: what changes after the look is an event */
        (void)watch_folder(r);
    if (listen_stands(r->path, &l->file))
        l->again_ms = 0;
    else if (due || !l->again_ms || (l->file.made && is_missing(r->path)))
        make_again(r, due);
    else
        return; /* the timer runs */
    if (l->again_ms || !uv_is_active(watch))
        uv_timer_start(&l->again, on_time, l->again_ms ? (uint64_t)l->again_ms : AGAIN_MS_MAX, 0);
    else
        uv_timer_stop(&l->again);
}

static void on_event(uv_fs_event_t *watch, const char *name, int events, int status)
{
    (void)name;
    (void)events;
    (void)status;
    look(watch->data, false);
}

/* ---- life ---- */

int listener_open(struct rpc *r, int fd, const struct listen_file *file, struct buf *error)
{
    struct listener *l = &r->listener;
    uv_fs_event_init(r->d->loop, &l->watch);
    uv_timer_init(r->d->loop, &l->again);
    l->watch.data = l->again.data = r;
    r->handles_n += 2;
    l->file = *file;
    if (serve(r, fd, error) < 0)
        return -1;
    if (l->file.made)
        look(r, false);
    return 0;
}

void listener_close(struct rpc *r)
{
    struct listener *l = &r->listener;
    listen_unlink(r->path, &l->file);
    uv_close((uv_handle_t *)&l->watch, on_closed);
    uv_close((uv_handle_t *)&l->again, on_closed);
    if (l->pipe)
        uv_close((uv_handle_t *)l->pipe, on_pipe_closed);
}
