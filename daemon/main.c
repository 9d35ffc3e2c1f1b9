/* agentd: reads its arguments, builds the parts, runs the loop, takes them apart again. No logic. */
#include "daemon/daemon.h"

#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/places.h"
#include "daemon/failures.h"
#include "daemon/lifecycle.h"
#include "daemon/read_only.h"
#include "daemon/world.h"

#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <malloc.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "usage: agentd [--foreground] [--state-dir DIR] [--socket PATH] [--config FILE] [--log-level LEVEL]\n"
    "       agentd --check-config [--config FILE]\n"
    "       agentd --version | --help\n"
    "\n"
    "Carries coding-agent tasks. Usually agentctl starts it; by hand:  agentd --foreground\n"
    "  --state-dir DIR    where tasks are kept (AGENTD_STATE_DIR)\n"
    "  --socket PATH      where clients connect (AGENTD_SOCKET)\n"
    "  --config FILE      configuration (AGENTD_CONFIG)\n"
    "  --log-level LEVEL  debug, info, warn or error\n"
    "  --check-config     reads the configuration, says what it holds or what is wrong, and exits\n";

struct options {
    const char *state_dir, *socket, *config;
    bool check_config;
};

static int parse_level(const char *name)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(name, names[i]) == 0)
            return i;
    }
    return -1;
}

/* -1: go on; else the status to exit with. */
static int parse_options(int argc, char **argv, struct options *o)
{
    enum { FOREGROUND = 256, STATE_DIR, SOCKET, CONFIG, LOG_LEVEL, CHECK_CONFIG, VERSION, HELP };
    static const struct option options[] = {
        {"foreground", no_argument, NULL, FOREGROUND},     {"state-dir", required_argument, NULL, STATE_DIR},
        {"socket", required_argument, NULL, SOCKET},       {"config", required_argument, NULL, CONFIG},
        {"log-level", required_argument, NULL, LOG_LEVEL}, {"check-config", no_argument, NULL, CHECK_CONFIG},
        {"version", no_argument, NULL, VERSION},           {"help", no_argument, NULL, HELP},
        {NULL, 0, NULL, 0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
        switch (c) {
        case FOREGROUND: /* it always is: detaching is the supervisor's */
            break;
        case STATE_DIR:
            o->state_dir = optarg;
            break;
        case SOCKET:
            o->socket = optarg;
            break;
        case CONFIG:
            o->config = optarg;
            break;
        case LOG_LEVEL:
            if (parse_level(optarg) < 0) {
                fprintf(stderr, "agentd: --log-level takes debug, info, warn or error\n");
                return LIFECYCLE_EXIT_USAGE;
            }
            log_set_level((enum log_level)parse_level(optarg));
            break;
        case CHECK_CONFIG:
            o->check_config = true;
            break;
        case VERSION:
            printf("agentd %s\n", AGENTD_VERSION);
            return LIFECYCLE_EXIT_OK;
        case HELP:
            fputs(usage, stdout);
            return LIFECYCLE_EXIT_OK;
        default:
            fputs(usage, stderr);
            return LIFECYCLE_EXIT_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "agentd: unexpected argument \"%s\"\n%s", argv[optind], usage);
        return LIFECYCLE_EXIT_USAGE;
    }
    return -1;
}

static int fail(int status, const char *what, const struct buf *error)
{
    log_error("%s%s", what, buf_cstr(error));
    return status;
}

static int check_config(const struct options *o)
{
    struct config *config;
    CLEANUP(buf_free) struct buf error = {0};
    if (config_load(o->config, &config, &error) < 0) {
        fprintf(stderr, "%s\n", buf_cstr(&error));
        return LIFECYCLE_EXIT_CONFIG;
    }
    printf("%s: good; %zu model(s), default %s\n", config->path ? config->path : "no file, the environment",
           config->models_n, config->model ? config->model : "none");
    config_free(config);
    return LIFECYCLE_EXIT_OK;
}

/* agentd-runner and agentd-tool: beside this program, as they are installed, or as a build folder has them. */
static void find_program(const char *name, struct buf *ret)
{
    static const char *const places[] = {"", "runner/"};
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = 0;
    const char *slash = strrchr(exe, '/');
    for (size_t i = 0; slash && i < sizeof places / sizeof places[0]; i++) {
        buf_clear(ret);
        buf_printf(ret, "%.*s/%s%s", (int)(slash - exe), exe, places[i], name);
        if (access(buf_cstr(ret), X_OK) == 0)
            return;
    }
    buf_clear(ret);
    buf_printf(ret, "%s/%s", AGENTD_LIBEXECDIR, name);
}

static int inherited_socket(void)
{
    const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
    return pid && fds && atol(pid) == (long)getpid() && atoi(fds) == 1 ? 3 : -1;
}

struct parts {
    struct lifecycle lifecycle;
    struct failures failures;
    struct buf state_dir, socket, runs_dir, runner, tool, error;
    uv_loop_t loop;
    uv_signal_t term, interrupt;
};

static void signal_cb(uv_signal_t *handle, int number)
{
    struct daemon *d = handle->data;
    log_info("signal %d: stopping", number);
    world_stop(d, false);
}

static void watch_signals(struct daemon *d, struct parts *p)
{
    uv_signal_init(d->loop, &p->term);
    uv_signal_init(d->loop, &p->interrupt);
    p->term.data = p->interrupt.data = d;
    uv_signal_start(&p->term, signal_cb, SIGTERM);
    uv_signal_start(&p->interrupt, signal_cb, SIGINT);
    uv_unref((uv_handle_t *)&p->term);
    uv_unref((uv_handle_t *)&p->interrupt);
}

/* The disk failed, and the next start reads again. */
static int fail_io(struct daemon *d, struct buf *error)
{
    failures_note_end(d->failures, buf_cstr(error));
    return fail(LIFECYCLE_EXIT_IO, "", error);
}

static int open_journal(struct daemon *d, struct parts *p)
{
    if (p->lifecycle.disk_error) {
        buf_printf(&p->error, "the folder that holds the state folder cannot be synced: %s", strerror(p->lifecycle.disk_error));
        return fail_io(d, &p->error);
    }
    int r = store_open(d->state_dir, d->loop, &d->store, &p->error);
    if (r == STORE_E_FULL && store_give_room(d->state_dir))
        r = store_open(d->state_dir, d->loop, &d->store, &p->error);
    if (r == 0)
        return 0;
    if (r == STORE_E_IO)
        return fail_io(d, &p->error);
    return fail(r == STORE_E_FULL ? LIFECYCLE_EXIT_ROOM : LIFECYCLE_EXIT_NEWER, "", &p->error);
}

static int open_store(struct daemon *d, struct parts *p)
{
    bool often = failures_read_only(d->failures);
    read_only_clean(d->state_dir);
    if (!often && !p->lifecycle.read_only)
        return open_journal(d, p);
    CLEANUP(buf_free) struct buf reason = {0};
    if (p->lifecycle.read_only)
        buf_puts(&reason, "the file system of the state folder is mounted read-only");
    else
        buf_printf(&reason, "the journal failed again and again, the last time: %s",
                   *d->failures->reason ? d->failures->reason : "for a reason that could not be noted");
    int r = read_only_begin(d, buf_cstr(&reason), &p->error);
    if (r == 0)
        return 0;
    failures_note_try(d->failures); /* it cannot get worse */
    return fail(r, "", &p->error);
}

/* Its name is to last: what says what became of a patch is below it. */
static int make_runs_dir(struct daemon *d, struct parts *p)
{
    if (mkdir(buf_cstr(&p->runs_dir), 0700) < 0 && access(buf_cstr(&p->runs_dir), W_OK) < 0) {
        buf_printf(&p->error, "%s cannot be made or written", buf_cstr(&p->runs_dir));
        return fail(LIFECYCLE_EXIT_STATE, "", &p->error);
    }
    if (fsync(p->lifecycle.state_fd) == 0)
        return 0;
    buf_printf(&p->error, "the state folder cannot be synced: %s", strerror(errno));
    return fail_io(d, &p->error);
}

/* A disk that is full, or fails once, is no reason to stay down. */
static int fail_socket(struct daemon *d, int negative_errno, struct buf *error)
{
    if (negative_errno == -EIO)
        return fail_io(d, error);
    return fail(negative_errno == -ENOSPC || negative_errno == -EDQUOT ? LIFECYCLE_EXIT_ROOM : LIFECYCLE_EXIT_STATE, "", error);
}

/* What is written next is numbered from here. */
static int find_end(struct daemon *d, struct parts *p)
{
    if (store_pos_last(d->store) >= 0)
        return 0;
    buf_puts(&p->error, "the end of the journal cannot be read");
    return d->read_only ? fail(LIFECYCLE_EXIT_ROOM, "", &p->error) : fail_io(d, &p->error);
}

static int build(struct daemon *d, struct parts *p)
{
    int r = open_store(d, p);
    if (r == 0)
        r = find_end(d, p);
    buf_printf(&p->runs_dir, "%s/runs", d->state_dir);
    if (r == 0 && !d->read_only)
        r = make_runs_dir(d, p);
    if (r != 0)
        return r;
    find_program("agentd-runner", &p->runner);
    find_program("agentd-tool", &p->tool);
    d->runner_path = buf_cstr(&p->runner);
    d->tool_path = buf_cstr(&p->tool);
    world_new(d);
    d->runs = runs_new(&(struct runs_config){.loop = d->loop,
                                             .dir = buf_cstr(&p->runs_dir),
                                             .runner_path = buf_cstr(&p->runner),
                                             .tool_path = buf_cstr(&p->tool),
                                             .tool_files_max = p->lifecycle.tool_files_max,
                                             .tool_umask = p->lifecycle.tool_umask,
                                             .limits = &d->config->limits,
                                             .callbacks = world_runs_callbacks(),
                                             .arg = d});
    d->watches = watches_new(d->loop, world_file_changed, d);
    r = rpc_new(d, d->socket_path, inherited_socket(), &d->rpc, &p->error);
    if (r < 0)
        return fail_socket(d, r, &p->error);
    if (!d->read_only && world_recover(d, &p->error) < 0)
        return fail_io(d, &p->error);
    if (!d->read_only)
        world_retain(d);
    return 0;
}

/* Lets what was accepted become durable; a disk that is full, the room for this included, ends the wait. */
static void drain(struct daemon *d)
{
    world_stop_through(d);
    pump_flush(d->pump);
    while (!pump_settled(d->pump) && !world_stuck(d)) {
        uv_run(d->loop, UV_RUN_ONCE);
        pump_flush(d->pump);
    }
}

static void note_orderly_end(struct daemon *d)
{
    CLEANUP(buf_free) struct buf error = {0};
    struct store_batch *last = store_batch_new();
    store_batch_meta(last, "stopped", STR("yes"));
    store_batch_stops(last);
    int r = world_stuck(d) ? STORE_E_FULL : store_commit_wait(d->store, last, &error);
    if (r == STORE_E_FULL)
        store_batch_free(last);
    if (r != 0)
        log_warn("the orderly end could not be noted: %s", error.n ? buf_cstr(&error) : "the disk is full");
}

static void take_apart(struct daemon *d, bool orderly)
{
    if (d->read_only)
        read_only_end(d);
    if (d->world && orderly && !d->read_only) {
        drain(d);
        note_orderly_end(d);
    }
    if (d->world)
        world_end(d);
    if (d->rpc)
        rpc_free(d->rpc);
    if (d->world)
        pump_abandon(d->pump); /* a full disk may have kept answers back */
    if (d->runs)
        runs_free(d->runs);
    if (d->watches)
        watches_free(d->watches);
    if (d->world)
        world_free(d);
    if (d->model)
        model_free(d->model);
    if (d->store)
        store_close(d->store);
}

static int serve(struct daemon *d, struct parts *p)
{
    int r = build(d, p);
    if (r == 0) {
        watch_signals(d, p);
        lifecycle_ready();
        if (d->read_only)
            read_only_watch(d);
        log_info("agentd %s serves %s, state in %s, %zu live task(s)", AGENTD_VERSION, d->socket_path, d->state_dir,
                 core_tasks_n(d->core));
        uv_run(d->loop, UV_RUN_DEFAULT);
        if (lifecycle_ending(&p->lifecycle, d->stopping && !d->stop_restart && d->stop_asked, &p->error) < 0)
            log_warn("%s", buf_cstr(&p->error));
        uv_close((uv_handle_t *)&p->term, NULL);
        uv_close((uv_handle_t *)&p->interrupt, NULL);
    }
    take_apart(d, r == 0);
    while (uv_loop_close(d->loop) == UV_EBUSY)
        uv_run(d->loop, UV_RUN_ONCE);
    if (d->read_only && r == 0)
        failures_note_try(d->failures);
    if (d->read_only)
        read_only_free(d);
    if (r == 0)
        log_info("agentd has ended");
    return r != 0 ? r : d->stop_restart ? LIFECYCLE_EXIT_RESTART : LIFECYCLE_EXIT_OK;
}

static int run(const struct options *o, struct daemon *d, struct parts *p)
{
    if (places_state_dir(o->state_dir, &p->state_dir, &p->error) < 0 ||
        places_socket(o->socket, o->state_dir, &p->socket, &p->error) < 0)
        return fail(LIFECYCLE_EXIT_USAGE, "", &p->error);
    d->state_dir = buf_cstr(&p->state_dir);
    d->socket_path = buf_cstr(&p->socket);
    if (config_load(o->config, &d->config, &p->error) < 0)
        return fail(LIFECYCLE_EXIT_CONFIG, "", &p->error);
    int r = lifecycle_begin(d->state_dir, &p->lifecycle, &p->error);
    if (r == LIFECYCLE_EXIT_LOCKED) { /* who started this one meets the other; nothing is wrong with either */
        log_warn("%s", buf_cstr(&p->error));
        return r;
    }
    failures_open(&p->failures, d->socket_path, d->state_dir, p->lifecycle.boot_id);
    d->failures = &p->failures;
    if (r != 0)
        return r == LIFECYCLE_EXIT_IO ? fail_io(d, &p->error) : fail(r, "", &p->error);
    memcpy(d->now_cached.boot_id, p->lifecycle.boot_id, sizeof d->now_cached.boot_id);
    uv_loop_init(&p->loop);
    d->loop = &p->loop;
    r = serve(d, p);
    lifecycle_end(&p->lifecycle);
    return r;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    int r = parse_options(argc, argv, &options);
    if (r >= 0)
        return r;
    mallopt(M_ARENA_MAX, 1); /* two threads that allocate little need no second heap */
    json_set_alloc_funcs(mem_malloc_raw, mem_free);
    uv_replace_allocator(mem_malloc_raw, mem_realloc, mem_calloc_raw, mem_free);
    if (sodium_init() < 0) {
        log_error("libsodium could not be started");
        return LIFECYCLE_EXIT_IO;
    }
    if (options.check_config)
        return check_config(&options);

    struct daemon d = {0};
    struct parts parts = {0};
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    d.started_ms = (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
    r = run(&options, &d, &parts);
    if (d.config)
        config_free(d.config);
    failures_close(&parts.failures);
    buf_free(&parts.state_dir);
    buf_free(&parts.socket);
    buf_free(&parts.runs_dir);
    buf_free(&parts.runner);
    buf_free(&parts.tool);
    buf_free(&parts.error);
    return r;
}
