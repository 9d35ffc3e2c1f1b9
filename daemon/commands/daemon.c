/* daemon/status, daemon/shutdown */
#include "command.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"
#include "daemon/failures.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

static int64_t rss_bytes(void)
{
    long long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    if (fscanf(f, "%lld %lld", &size, &resident) != 2)
        resident = 0;
    fclose(f);
    return (int64_t)resident * sysconf(_SC_PAGESIZE);
}

static int count_row(void *arg, const struct store_task *row)
{
    *(int64_t *)arg += row->state != TASK_STATE_COMPLETED && row->state != TASK_STATE_FAILED && row->state != TASK_STATE_CANCELLED;
    return 0;
}

static int64_t tasks_not_final(struct daemon *d)
{
    int64_t n = 0;
    struct task *task;
    if (d->read_only) { /* in memory are those that somebody looked at */
        store_tasks_live(d->store, count_row, &n);
        return n;
    }
    LIST_EACH(task, core_tasks(d->core), struct task, node)
    {
        n += task_final(task) ? 0 : 1;
    }
    return n;
}

static int64_t uptime_s(const struct daemon *d)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return ((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 - d->started_ms) / 1000;
}

/* Paths are bytes; what is not UTF-8 in them is shown as such. */
static struct str shown(struct buf *b, const char *path)
{
    if (!path)
        return STR_NONE;
    utf8_put_valid(b, str_of(path), false);
    return buf_view(b);
}

static void put_read_only(struct proto_daemon *shown, const struct daemon_read_only *r)
{
    shown->has_read_only = true;
    shown->read_only = (struct proto_read_only){
        .since = r->since_ms, .reason = str_of(r->reason), .copy = str_of(r->copy), .next_try = r->next_try_ms};
}

static void put_failure(struct proto_daemon *shown, const struct failures *f)
{
    shown->has_failure = true;
    shown->failure = (struct proto_failure){.at = f->told_ms, .reason = str_of(f->reason), .count = f->n};
}

static struct str admission(const struct daemon *d)
{
    struct store_usage usage;
    store_usage(d->store, &usage);
    return d->stopping           ? STR("stopping")
           : d->read_only        ? STR("read_only")
           : daemon_disk_full(d) ? STR("disk_full")
           : usage.over          ? STR("storage_full")
                                 : STR("open");
}

/* Waits for nothing: it must answer when the disk is full, too. */
void command_daemon_status(const struct command *c)
{
    struct daemon *d = c->d;
    CLEANUP(buf_free) struct buf socket = {0}, state_dir = {0}, config = {0};
    struct store_usage usage;
    store_usage(d->store, &usage);
    struct proto_storage storage = {
        .bytes = usage.bytes, .bytes_max = usage.bytes_max, .archived = usage.archived, .removed = usage.removed};
    struct result_daemon_status result = {
        .daemon =
            {
                .pid = getpid(),
                .version = STR(AGENTD_VERSION),
                .uptime_s = uptime_s(d),
                .socket = shown(&socket, d->socket_path),
                .state_dir = shown(&state_dir, d->state_dir),
                .rss_bytes = rss_bytes(),
                .tasks_live = tasks_not_final(d),
                .clients = d->rpc ? (int64_t)rpc_clients(d->rpc) : 0,
                .admission = admission(d),
                .storage = storage,
                .has_storage = true,
                .config = shown(&config, d->config->path),
            },
    };
    if (d->read_only)
        put_read_only(&result.daemon, d->read_only);
    if (d->failures && d->failures->told_ms)
        put_failure(&result.daemon, d->failures);
    command_reply(c, &result);
}

/* The answer is written before the end begins: rpc sends what it holds when it closes. */
void command_daemon_shutdown(const struct command *c, const struct params_daemon_shutdown *params)
{
    struct daemon *d = c->d;
    bool restart = params->restart; /* the params go with the answer */
    rpc_reply(c->call, STR("{}"));
    if (d->stopping)
        return;
    d->stop_asked = true;
    world_stop(d, restart);
}
