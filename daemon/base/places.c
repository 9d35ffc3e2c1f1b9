#include "places.h"

#include "mem.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* An empty variable counts as unset. */
static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* Appends the path without empty and "." parts. ".." stays: what it means depends on symbolic links. */
static void put_parts(struct buf *b, const char *path)
{
    while (*path) {
        size_t n = strcspn(path, "/");
        if (n > 0 && !(n == 1 && *path == '.')) {
            buf_putc(b, '/');
            buf_put(b, path, n);
        }
        path += n;
        path += *path == '/';
    }
}

/* `what` names where the path came from. */
static int put_absolute(struct buf *ret, const char *path, const char *what, struct buf *error)
{
    CLEANUP(buf_free) struct buf b = {0};
    if (!*path) {
        buf_printf(error, "%s is empty: give a path", what);
        return -1;
    }
    if (*path != '/') {
        char *cwd = getcwd(NULL, 0);
        if (!cwd) {
            buf_printf(error, "%s is a relative path and the working folder is gone: give an absolute path", what);
            return -1;
        }
        put_parts(&b, cwd);
        free(cwd);
    }
    put_parts(&b, path);
    if (b.n == 0)
        buf_putc(&b, '/');
    buf_clear(ret);
    buf_str(ret, buf_view(&b));
    return 0;
}

/* $xdg/agentd, else $HOME/home_part/agentd. The XDG specification says that a relative path is to be ignored. */
static int put_xdg(struct buf *ret, const char *xdg, const char *home_part, const char *ours, struct buf *error)
{
    CLEANUP(buf_free) struct buf b = {0};
    const char *base = variable(xdg);
    if (base && *base == '/') {
        buf_puts(&b, base);
    } else {
        const char *home = variable("HOME");
        if (!home || *home != '/') {
            buf_printf(error, "HOME is not set: set it, or %s", ours);
            return -1;
        }
        buf_printf(&b, "%s/%s", home, home_part);
    }
    buf_puts(&b, "/agentd");
    return put_absolute(ret, buf_cstr(&b), xdg, error);
}

static void put_name(struct buf *dir, const char *name)
{
    if (dir->n > 1)
        buf_putc(dir, '/');
    buf_puts(dir, name);
}

int places_state_dir(const char *flag, struct buf *ret, struct buf *error)
{
    if (flag)
        return put_absolute(ret, flag, "--state-dir", error);
    const char *ours = variable("AGENTD_STATE_DIR");
    if (ours)
        return put_absolute(ret, ours, "AGENTD_STATE_DIR", error);
    return put_xdg(ret, "XDG_STATE_HOME", ".local/state", "AGENTD_STATE_DIR", error);
}

int places_socket(const char *flag, const char *state_dir_flag, struct buf *ret, struct buf *error)
{
    if (flag)
        return put_absolute(ret, flag, "--socket", error);
    const char *ours = variable("AGENTD_SOCKET");
    if (ours)
        return put_absolute(ret, ours, "AGENTD_SOCKET", error);
    const char *runtime = variable("XDG_RUNTIME_DIR");
    if (!state_dir_flag && !variable("AGENTD_STATE_DIR") && runtime && *runtime == '/') {
        if (put_absolute(ret, runtime, "XDG_RUNTIME_DIR", error) < 0)
            return -1;
        put_name(ret, "agentd/agentd.sock");
        return 0;
    }
    if (places_state_dir(state_dir_flag, ret, error) < 0)
        return -1;
    put_name(ret, "agentd.sock");
    return 0;
}

int places_config_unnamed(struct buf *ret, struct buf *error)
{
    if (put_xdg(ret, "XDG_CONFIG_HOME", ".config", "AGENTD_CONFIG", error) < 0)
        return -1;
    put_name(ret, "config.yaml");
    return 0;
}

int places_config(const char *flag, struct buf *ret, bool *ret_named, struct buf *error)
{
    const char *ours = variable("AGENTD_CONFIG");
    *ret_named = flag || ours;
    if (flag)
        return put_absolute(ret, flag, "--config", error);
    if (ours)
        return put_absolute(ret, ours, "AGENTD_CONFIG", error);
    return places_config_unnamed(ret, error);
}
