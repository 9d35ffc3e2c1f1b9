/* daemon/doctor: looks at everything that tasks need, and says what it found and what to do. It changes
 * nothing and never shows a key. */
#include "command.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"
#include "daemon/failures.h"
#include "daemon/model/provider.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define FREE_BYTES_LOW (256LL << 20)
#define MIB (1LL << 20)

struct findings {
    struct daemon *d;
    struct proto_check *checks;
    size_t n;
    struct proto_arena arena;
};

static struct str keep(struct findings *f, struct buf *text)
{
    CLEANUP(buf_free) struct buf valid = {0};
    utf8_put_valid(&valid, buf_view(text), false);
    char *p = proto_arena_alloc(&f->arena, valid.n + 1);
    memcpy(p, buf_cstr(&valid), valid.n);
    return str_n(p, valid.n);
}

static void found(struct findings *f, const char *name, bool ok, struct buf *detail)
{
    struct buf text = {0};
    buf_puts(&text, name);
    f->checks = mem_realloc(f->checks, (f->n + 1) * sizeof *f->checks);
    f->checks[f->n++] = (struct proto_check){.name = keep(f, &text), .ok = ok, .detail = keep(f, detail)};
    buf_free(&text);
}

static void look_at_state_folder(struct findings *f)
{
    CLEANUP(buf_free) struct buf detail = {0};
    const char *dir = f->d->state_dir;
    struct statvfs fs;
    if (access(dir, R_OK | W_OK | X_OK) < 0 || statvfs(dir, &fs) < 0) {
        buf_printf(&detail, "%s cannot be used: %s", dir, strerror(errno));
        found(f, "state folder", false, &detail);
        return;
    }
    int64_t free_bytes = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
    buf_printf(&detail, "%s, %" PRId64 " MiB free", dir, (int64_t)(free_bytes / MIB));
    if (daemon_disk_full(f->d))
        buf_puts(&detail, "; the disk is full: new work waits until there is room");
    else if (free_bytes < FREE_BYTES_LOW)
        buf_puts(&detail, "; free some space, tasks pause when the disk is full");
    found(f, "state folder", !daemon_disk_full(f->d) && free_bytes >= FREE_BYTES_LOW, &detail);
}

/* Another open of the file conflicts with our own lock, which is how one sees that it is held. */
static void look_at_lock(struct findings *f)
{
    CLEANUP(buf_free) struct buf path = {0}, detail = {0};
    buf_printf(&path, "%s/lock", f->d->state_dir);
    int fd = open(path.p, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool held = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
    if (held)
        buf_puts(&detail, "held: no other daemon can use the state folder");
    else
        buf_printf(&detail, "%s is not locked; was the file replaced? Restart the daemon", path.p);
    if (fd >= 0)
        close(fd);
    found(f, "lock", held, &detail);
}

static void tell_of_database(struct findings *f, int status, const char *error)
{
    CLEANUP(buf_free) struct buf detail = {0};
    if (status == 0)
        buf_printf(&detail, "whole; last position %" PRId64, store_pos_last(f->d->store));
    else if (status == STORE_E_STOPPED)
        buf_printf(&detail, "in use, not checked to its end (%s): ask again when less is being written",
                   error);
    else
        buf_puts(&detail, error);
    found(f, "database", status == 0 || status == STORE_E_STOPPED, &detail);
}

static void put_unread(struct buf *b, const char *unread, int64_t at_ms, bool passed)
{
    char at[CLOCK_TEXT_SIZE];
    clock_format(at_ms, at);
    buf_printf(b, "a read failed at %s: %s. %s", at, unread,
               passed ? "All could be read since: if it comes again, look after the disk"
                      : "Look after the disk; if it is sound, the database is not: put a backup in its place");
}

/* Whether the disk lets daemons work. */
static void look_at_journal(struct findings *f)
{
    CLEANUP(buf_free) struct buf detail = {0};
    const struct failures *failed = f->d->failures;
    const struct daemon_read_only *r = f->d->read_only;
    char at[CLOCK_TEXT_SIZE];
    bool told = failed && failed->told_ms;
    if (told)
        clock_format(failed->told_ms, at);
    int64_t unread_ms;
    const char *unread = store_unread(f->d->store, &unread_ms);
    bool passed = store_unread_passed(f->d->store);
    if (!r && unread && (!passed || !told))
        put_unread(&detail, unread, unread_ms, passed);
    else if (r)
        buf_printf(&detail, "read-only: %s. Shown is the copy in %s. Look after the disk, then run: agentctl daemon restart", r->reason,
                   r->copy);
    else if (told)
        buf_printf(&detail, "nothing has failed since this agentd started, but one before it ended at %s: %s. Look after the disk", at,
                   failed->reason);
    else
        buf_puts(&detail, "no read and no write has failed since this agentd started");
    found(f, "journal", !r && !told && (!unread || passed), &detail);
}

static void look_at_config(struct findings *f)
{
    CLEANUP(buf_free) struct buf detail = {0};
    const struct config *config = f->d->config;
    if (config->path)
        buf_puts(&detail, config->path);
    else
        buf_puts(&detail, "no file: made from the environment");
    found(f, "configuration", true, &detail);

    CLEANUP(buf_free) struct buf model = {0};
    if (config->model)
        buf_printf(&model, "%s is the default of %zu", config->model, config->models_n);
    else
        buf_puts(&model,
                 config->advice
                     ? config->advice
                     : "no default model is configured: set OPENAI_API_KEY, or write a configuration file");
    found(f, "model", config->model != NULL, &model);
}

static void look_at_provider(struct findings *f, const struct config_provider *p)
{
    CLEANUP(buf_free) struct buf name = {0}, detail = {0}, key = {0};
    buf_printf(&name, "provider %s", p->name);
    bool wire = provider_find(str_of(p->wire)) != NULL;
    bool ok = wire && config_key(p, &key, &detail) == 0;
    if (!wire)
        buf_printf(&detail, "the wire %s is not known", p->wire);
    else if (ok && p->key)
        buf_printf(&detail, "%s at %s; the key %s is there", p->wire, p->base_url, p->key);
    else if (ok)
        buf_printf(&detail, "%s at %s; no key is sent", p->wire, p->base_url);
    if (key.p)
        sodium_memzero(key.p, key.cap);
    found(f, name.p, ok, &detail);
}

static void look_at_program(struct findings *f, const char *name, const char *path)
{
    CLEANUP(buf_free) struct buf detail = {0};
    bool ok = path && access(path, X_OK) == 0;
    if (ok)
        buf_puts(&detail, path);
    else
        buf_printf(&detail, "%s cannot be executed; install agentd again", path ? path : name);
    found(f, name, ok, &detail);
}

/* Fine, and to be known. */
static void look_at_policy(struct findings *f)
{
    struct buf detail = {0};
    buf_puts(&detail, "open: tools have all the rights of the user who runs agentd. Use a container or an "
                      "account of its own for work that you do not trust");
    found(f, "policy", true, &detail);
    buf_free(&detail);
}

static void answer_doctor(const struct command *c, int status, const char *error)
{
    struct findings f = {.d = c->d};
    look_at_state_folder(&f);
    look_at_lock(&f);
    look_at_journal(&f);
    tell_of_database(&f, status, error);
    look_at_config(&f);
    for (size_t i = 0; i < c->d->config->providers_n; i++)
        look_at_provider(&f, &c->d->config->providers[i]);
    look_at_program(&f, "agentd-runner", c->d->runner_path);
    look_at_program(&f, "agentd-tool", c->d->tool_path);
    look_at_policy(&f);
    struct result_daemon_doctor result = {.checks = f.checks, .checks_n = f.n};
    command_reply(c, &result);
    mem_free(f.checks);
    proto_arena_free(&f.arena);
}

static void on_checked(void *arg, int status, const char *error)
{
    struct command *c = arg;
    if (status == STORE_E_STOPPED && c->d->stopping)
        rpc_fail(c->call, RPC_STOPPING, STR_NONE);
    else
        answer_doctor(c, status, error);
    mem_free(c);
}

/* The database is read from its first page to its last; that goes on elsewhere, and the daemon with its work.
 */
void command_daemon_doctor(const struct command *c)
{
    struct command *later = MEM_NEW(struct command);
    *later = (struct command){.d = c->d, .call = c->call, .method = c->method}; /* the client may go first */
    store_check(c->d->store, on_checked, later);
}
