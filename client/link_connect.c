/* Connections: the first one, with the start of a daemon where none runs, and those that replace a lost one. */
#include "client/link_state.h"

#include "client/start.h"

#include "daemon/base/mem.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define QUIET_MS 300         /* a lost connection that is back this soon is not worth a word */
#define SUPERVISOR_MS 3000   /* how long the supervisor is given before a daemon is started from here */
#define PATIENCE_MS 10000     /* after a start: another daemon may be just ending or beginning */
#define OWNER_LOOK_MS 100     /* so often it is looked whether there still is one */
#define OWNER_GAP_MS 500      /* and so long a supervisor is given that brings it back */
#define LIFE_MS 10000         /* a connection that lasts as long is no part of a row of losses */
#define LOSSES_FREE 3         /* in a row, before there is a pause */
#define LOSSES_MAX 10         /* in a row, none by an orderly restart: then it is not a matter of waiting */
#define LOSSES_PAUSE_MS_MAX 5000

/* ---- connecting ---- */

static bool same_folder(const char *a, const char *b)
{
    struct stat sa, sb;
    if (strcmp(a, b) == 0)
        return true;
    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

/* Its process is there and does nothing: stopped by somebody, or by a disk that does not answer. */
static int fail_silent(struct link *l)
{
    long pid = start_owner(link_state_dir(l));
    link_fail(l, LINK_E_NO_DAEMON, "the daemon at %s does not answer", link_socket(l));
    if (pid > 0)
        buf_printf(&l->hint,
                   "It is process %ld. If it stays so, kill -9 %ld loses nothing: its tasks go on from where they are when it is "
                   "started again.",
                   pid, pid);
    return LINK_E_NO_DAEMON;
}

static void take_start(struct link *l, const json_t *hello)
{
    const char *start = json_string_value(json_object_get(hello, "start"));
    const char *end = json_string_value(json_object_get(hello, "previous_end"));
    l->orderly = start && l->start.n > 0 && strcmp(start, buf_cstr(&l->start)) != 0 && end && strcmp(end, "stop") == 0;
    buf_clear(&l->start);
    buf_puts(&l->start, start ? start : "");
}

static int initialize(struct link *l)
{
    struct params_initialize params = {.protocol = PROTOCOL_VERSION,
                                       .client = {.name = str_of(l->options.client), .version = STR(AGENTD_VERSION)}};
    CLEANUP(link_reply_free) struct link_reply reply = {0};
    int rc = link_exchange(l, METHOD_INITIALIZE, &params, link_now_ms() + LINK_INITIALIZE_MS, &reply);
    if (rc == LINK_TIMEOUT)
        return fail_silent(l);
    if (rc != LINK_OK)
        return rc;
    const char *version = json_string_value(json_object_get(json_object_get(reply.json, "server"), "version"));
    buf_clear(&l->version);
    buf_puts(&l->version, version ? version : AGENTD_VERSION);
    take_start(l, reply.json);
    const char *read_only = json_string_value(json_object_get(reply.json, "read_only"));
    buf_clear(&l->read_only);
    buf_puts(&l->read_only, read_only ? read_only : "");
    const char *theirs = json_string_value(json_object_get(reply.json, "state_dir"));
    if (theirs && same_folder(theirs, link_state_dir(l)))
        return LINK_OK;
    link_fail(l, 0, "the daemon at %s works on the state folder %s, not on %s", link_socket(l), theirs ? theirs : "?", link_state_dir(l));
    buf_puts(&l->hint, "Name the state folder or the socket that you mean: --state-dir, --socket.");
    return LINK_E_NO_DAEMON;
}

int link_subscribe_once(struct link *l, struct link_subscription *s, struct link_reply *ret)
{
    struct params_events_subscribe params = {.task = str_of(s->task), .deltas = s->deltas};
    params.after_seq = s->task ? s->after_seq : -1;
    params.after_pos = s->task ? -1 : s->after_pos;
    int rc = link_exchange(l, METHOD_EVENTS_SUBSCRIBE, &params, -1, ret);
    if (rc == LINK_OK)
        s->id = json_integer_value(json_object_get(ret->json, "subscription"));
    return rc;
}

static int subscribe_again(struct link *l)
{
    for (int i = 0; i < l->subscriptions_n; i++) {
        CLEANUP(link_reply_free) struct link_reply reply = {0};
        if (l->subscriptions[i].ended)
            continue;
        int rc = link_subscribe_once(l, &l->subscriptions[i], &reply);
        if (rc == LINK_E_REMOTE && l->error_code == RPC_TASK_NOT_FOUND)
            rc = link_end_absent(l, &l->subscriptions[i]);
        if (rc != LINK_OK)
            return rc;
    }
    return LINK_OK;
}

/* One attempt. LINK_E_LOST: nobody listens, or who did is just ending. */
static int connect_once(struct link *l)
{
    link_close(l);
    int e = wire_connect(&l->wire, link_socket(l));
    if (e == -ENOENT || e == -ECONNREFUSED || e == -ENOTDIR)
        return link_fail(l, LINK_E_LOST, "no daemon listens at %s", link_socket(l));
    if (e < 0)
        return link_fail(l, LINK_E_NO_DAEMON, "no connection to %s: %s", link_socket(l), strerror(-e));
    int rc = initialize(l);
    if (rc == LINK_OK)
        rc = subscribe_again(l);
    if (rc == LINK_E_REMOTE && l->error_code == RPC_STOPPING)
        rc = LINK_E_LOST;
    if (rc != LINK_OK)
        wire_close(&l->wire);
    else
        l->connected_ms = link_now_ms();
    l->lost_ms = rc == LINK_OK ? 0 : l->lost_ms;
    return rc;
}

static bool may_start(const struct link *l)
{
    if (l->options.no_start || l->options.start == CLI_START_NEVER)
        return false;
    if (l->options.start == CLI_START_WORK)
        return true;
    return start_has_database(link_state_dir(l)) && !start_stopped(link_state_dir(l));
}

/* Somebody owns the folder and is not to be heard: it begins, or it listens elsewhere, or its socket was removed a moment ago. */
static int fail_unheard(struct link *l, long pid)
{
    link_fail(l, LINK_E_NO_DAEMON, "a daemon (process %ld) works on %s, but nobody listens at %s", pid, link_state_dir(l), link_socket(l));
    buf_printf(&l->hint,
               "If it listens at another socket, name that: --socket. If the socket's file was removed, it is made again by itself as a "
               "rule. kill %ld ends it in order; its tasks go on when it is started again.",
               pid);
    return LINK_E_NO_DAEMON;
}

static int fail_no_daemon(struct link *l)
{
    long pid = start_owner(link_state_dir(l));
    if (pid > 0)
        return fail_unheard(l, pid);
    if (start_stopped(link_state_dir(l))) {
        link_fail(l, 0, "the daemon was stopped");
        buf_puts(&l->hint, "agentctl daemon start starts it; its tasks go on from where they are.");
    } else {
        link_fail(l, 0, "no daemon runs on %s (nobody listens at %s)", link_state_dir(l), link_socket(l));
        buf_puts(&l->hint, "agentctl daemon start starts one; agentctl run does so by itself.");
    }
    l->absent = true;
    return LINK_E_NO_DAEMON;
}

/* Attempts until `deadline_ms`, ever slower. */
static int connect_until(struct link *l, int64_t deadline_ms)
{
    for (int64_t pause_ms = 2;; pause_ms = pause_ms < 100 ? pause_ms * 2 : 100) {
        int rc = connect_once(l);
        if (rc != LINK_E_LOST || link_now_ms() + pause_ms > deadline_ms)
            return rc;
        struct wire_wait wait = link_wait(l, link_now_ms() + pause_ms, -1);
        if (wire_sleep(&wait) == WIRE_INTERRUPTED)
            return link_fail(l, LINK_E_INTERRUPTED, "interrupted");
    }
}

/* Nobody listens; but who owns the folder may be about to. LINK_E_LOST: nobody owns it any more, or it is `until_ms`. */
static int await_owner(struct link *l, int64_t until_ms)
{
    int rc = LINK_E_LOST;
    while (rc == LINK_E_LOST && link_now_ms() < until_ms && start_owner(link_state_dir(l)) > 0)
        rc = connect_until(l, link_now_ms() + OWNER_LOOK_MS);
    if (rc == LINK_E_LOST && link_now_ms() < until_ms && !start_stopped(link_state_dir(l)))
        rc = connect_until(l, link_now_ms() + OWNER_GAP_MS);
    return rc;
}

static int find_owner(struct link *l)
{
    int rc = start_owner(link_state_dir(l)) > 0 ? await_owner(l, link_now_ms() + PATIENCE_MS) : LINK_E_LOST;
    return rc == LINK_E_LOST ? fail_no_daemon(l) : rc;
}

/* A daemon that is locked out means that another one is just coming up, or listens elsewhere: the socket will tell. */
static int start_locked(struct link *l)
{
    CLEANUP(buf_free) struct buf error = {0};
    struct start_places places = {link_state_dir(l), link_socket(l), link_config(l)};
    int rc = start_daemon(&places, &error);
    if (rc == 0 || rc == START_EXIT_LOCKED)
        return LINK_OK;
    return link_fail(l, LINK_E_NO_DAEMON, "%s", buf_cstr(&error));
}

/* Starts a daemon, unless another client is just doing so: then waits for that one's, or its turn. */
static int start(struct link *l)
{
    int64_t until_ms = link_now_ms() + PATIENCE_MS;
    int lock = start_lock(link_state_dir(l));
    while (lock < 0 && errno == EWOULDBLOCK && link_now_ms() < until_ms) {
        int rc = connect_until(l, link_now_ms() + 20);
        if (rc != LINK_E_LOST)
            return rc;
        lock = start_lock(link_state_dir(l));
    }
    /* It may have come up just before the lock was had. */
    int rc = lock >= 0 ? connect_once(l) : LINK_E_LOST;
    if (rc == LINK_E_LOST)
        rc = start_locked(l);
    if (lock >= 0)
        close(lock);
    return rc;
}

int link_find(struct link *l, int64_t ms)
{
    int rc = l->wire.fd >= 0 ? LINK_OK : connect_until(l, link_now_ms() + ms);
    return rc == LINK_E_LOST ? find_owner(l) : rc;
}

int link_open(struct link *l)
{
    if (l->wire.fd >= 0)
        return LINK_OK;
    int rc = connect_once(l);
    if (rc != LINK_E_LOST)
        return rc;
    if (!may_start(l))
        return find_owner(l);
    rc = start(l);
    if (rc != LINK_OK || l->wire.fd >= 0)
        return rc;
    int64_t until_ms = link_now_ms() + PATIENCE_MS;
    rc = await_owner(l, until_ms);
    if (rc == LINK_E_LOST && link_now_ms() < until_ms) { /* who locked it out is gone */
        rc = start(l);
        if (rc != LINK_OK || l->wire.fd >= 0)
            return rc;
        rc = connect_until(l, until_ms);
    }
    long pid = rc == LINK_E_LOST ? start_owner(link_state_dir(l)) : 0;
    if (pid > 0)
        return fail_unheard(l, pid);
    if (rc == LINK_E_LOST) {
        link_fail(l, 0, "a daemon was started on %s, but it does not serve at %s", link_state_dir(l), link_socket(l));
        buf_printf(&l->hint, "See %s/daemon.log.", link_state_dir(l));
        return LINK_E_NO_DAEMON;
    }
    return rc;
}

/* ---- reconnecting ---- */

static void talk(const struct link *l, const char *sentence)
{
    if (l->options.talk)
        l->options.talk(sentence);
}

/* A daemon that fails each time that it comes back may do so for ever. */
static int fail_losses(struct link *l)
{
    link_fail(l, 0, "the daemon has gone away %d times in a row, each time within %d s", l->losses, LIFE_MS / 1000);
    buf_printf(&l->hint, "%s/daemon.log says why. Tasks go on from where they are once it stays.", link_state_dir(l));
    return LINK_E_NO_DAEMON;
}

static int fail_gone(struct link *l)
{
    bool stopped = start_stopped(link_state_dir(l));
    int rc = fail_no_daemon(l);
    if (!stopped)
        buf_printf(&l->hint, " %s/daemon.log says why the last one ended.", link_state_dir(l));
    return rc;
}

static void begin_loss(struct link *l)
{
    int64_t now_ms = link_now_ms();
    link_close(l);
    l->losses = now_ms - l->connected_ms < LIFE_MS ? l->losses + 1 : 1;
    l->lost_ms = now_ms;
    l->told = l->losses > LOSSES_FREE; /* a row of them is not told one by one */
    l->started = false;
    if (l->losses == LOSSES_FREE + 1)
        talk(l, "the daemon keeps going away; waiting for it to stay");
}

/* Before the first attempt. */
static int64_t first_pause_ms(const struct link *l)
{
    int64_t ms = l->losses <= LOSSES_FREE ? 0 : 100LL << (l->losses - LOSSES_FREE - 1);
    return ms < LOSSES_PAUSE_MS_MAX ? ms : LOSSES_PAUSE_MS_MAX;
}

void link_tell_read_only(const struct link *l)
{
    CLEANUP(buf_free) struct buf b = {0};
    if (!l->read_only.n)
        return;
    buf_printf(&b, "agentd is read-only, nothing goes on until it can write again: %s. See agentctl doctor", buf_cstr(&l->read_only));
    talk(l, buf_cstr(&b));
}

/* One attempt at a new connection. LINK_E_LOST: it has to go on. */
static int try_reconnect(struct link *l)
{
    int rc = connect_once(l);
    if (rc == LINK_OK && l->orderly) /* a restart that somebody asked for: however many, they are no row of failures */
        l->losses = 0;
    if (rc == LINK_OK)
        link_tell_read_only(l);
    int64_t passed_ms = link_now_ms() - l->lost_ms;
    if (rc == LINK_OK && l->told && l->losses <= LOSSES_FREE)
        talk(l, "connected again");
    if (rc != LINK_E_LOST)
        return rc;
    if (start_stopped(link_state_dir(l)) || passed_ms > LINK_RECONNECT_MS)
        return fail_gone(l);
    if (passed_ms > QUIET_MS && !l->told) {
        talk(l, "the connection to the daemon was lost; waiting for it to come back");
        l->told = true;
    }
    if (passed_ms > SUPERVISOR_MS && !l->started && may_start(l)) {
        l->started = true;
        rc = start(l);
    }
    return rc == LINK_OK && l->wire.fd < 0 ? LINK_E_LOST : rc;
}

int link_reconnect(struct link *l, int64_t deadline_ms)
{
    if (l->lost_ms == 0)
        begin_loss(l);
    if (l->losses >= LOSSES_MAX)
        return fail_losses(l);
    for (int64_t pause_ms = first_pause_ms(l);; pause_ms = pause_ms * 2 < 250 ? pause_ms * 2 + 5 : 250) {
        int64_t until_ms = link_now_ms() + pause_ms;
        struct wire_wait wait = link_wait(l, deadline_ms >= 0 && deadline_ms < until_ms ? deadline_ms : until_ms, -1);
        if (wire_sleep(&wait) == WIRE_INTERRUPTED)
            return link_fail(l, LINK_E_INTERRUPTED, "interrupted");
        int rc = try_reconnect(l);
        if (rc != LINK_E_LOST)
            return rc;
        if (deadline_ms >= 0 && link_now_ms() >= deadline_ms)
            return LINK_TIMEOUT;
    }
}

int link_wait_closed(struct link *l, int64_t timeout_ms)
{
    int64_t deadline_ms = link_now_ms() + timeout_ms;
    struct wire_wait wait = link_wait(l, deadline_ms, -1);
    char *line;
    size_t n;
    while (l->wire.fd >= 0) {
        enum wire_rc rc = wire_receive(&l->wire, LINK_FRAME_BYTES_MAX, &wait, &line, &n);
        if (rc == WIRE_OK)
            mem_free(line);
        else if (rc == WIRE_LOST)
            link_close(l);
        else
            return rc == WIRE_TIMEOUT ? LINK_TIMEOUT : LINK_E_INTERRUPTED;
    }
    return LINK_OK;
}
