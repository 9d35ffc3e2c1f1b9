/* daemon/backup: a checked copy of the database as one new file. The store makes it; here is only what a path
 * from a client must be. */
#include "command.h"

#include "daemon/base/log.h"
#include "daemon/base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <sys/stat.h>

struct copying {
    struct command command;
    char *path;
};

static void refuse(const struct command *c, enum rpc_error error, struct buf *detail)
{
    rpc_fail(c->call, error, buf_view(detail));
}

/* In the state folder it would be lost together with what it is a copy of, and could take the name of a file
 * that the database needs. */
static bool in_state_folder(const struct command *c, const char *path, struct buf *detail)
{
    struct stat folder, state;
    char *copy = mem_strdup(path); /* dirname() writes into it */
    const char *name = dirname(copy);
    bool known = stat(name, &folder) == 0;
    if (!known)
        buf_printf(detail, "the folder %s cannot be used: %s", name, strerror(errno));
    bool inside = known && stat(c->d->state_dir, &state) == 0 && folder.st_dev == state.st_dev &&
                  folder.st_ino == state.st_ino;
    if (inside)
        buf_printf(detail, "%s is in the state folder, and would be lost with it", path);
    mem_free(copy);
    return !known || inside;
}

static bool check_path(const struct command *c, struct str given, const char *path)
{
    CLEANUP(buf_free) struct buf detail = {0};
    struct stat st;
    if (*path != '/' || memchr(given.p, 0, given.n)) {
        buf_printf(&detail, "the path must be absolute, not \"%s\"", path);
        refuse(c, RPC_INVALID_PARAMS, &detail);
        return false;
    }
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        buf_printf(&detail, "%s is a folder: name a new file in it", path);
    else if (!in_state_folder(c, path, &detail))
        return true;
    refuse(c, RPC_BACKUP_FAILED, &detail);
    return false;
}

static void answer(const struct copying *copying)
{
    struct stat st;
    if (stat(copying->path, &st) < 0) {
        CLEANUP(buf_free) struct buf detail = {0};
        buf_printf(&detail, "the backup was made, and %s is gone again: %s", copying->path, strerror(errno));
        refuse(&copying->command, RPC_BACKUP_FAILED, &detail);
        return;
    }
    log_info("backup of %" PRId64 " bytes to %s", (int64_t)st.st_size, copying->path);
    struct result_daemon_backup result = {.path = str_of(copying->path), .bytes = st.st_size};
    command_reply(&copying->command, &result);
}

static void on_copied(void *arg, int status, const char *error)
{
    struct copying *copying = arg;
    if (status == 0)
        answer(copying);
    else if (status == STORE_E_STOPPED)
        rpc_fail(copying->command.call, RPC_STOPPING, STR_NONE);
    else
        rpc_fail(copying->command.call, RPC_BACKUP_FAILED, str_of(error));
    mem_free(copying->path);
    mem_free(copying);
}

void command_daemon_backup(const struct command *c, const struct params_daemon_backup *params)
{
    CLEANUP(buf_free) struct buf path = {0};
    buf_str(&path, params->path);
    if (c->d->stopping) {
        rpc_fail(c->call, RPC_STOPPING, STR_NONE);
        return;
    }
    if (!check_path(c, params->path, buf_cstr(&path)))
        return;
    struct copying *copying = MEM_NEW(struct copying);
    copying->command =
        (struct command){.d = c->d, .call = c->call, .method = c->method}; /* the client may go */
    copying->path = buf_take(&path, NULL);
    store_backup(c->d->store, copying->path, on_copied, copying);
}
