#include "link.h"

#include "client/start.h"
#include "client/wire.h"

#include "daemon/base/json.h"
#include "daemon/base/list.h"
#include "daemon/base/mem.h"
#include "daemon/base/places.h"
#include "daemon/base/ulid.h"

#include <assert.h>
#include <errno.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define QUIET_MS 300         /* a lost connection that is back this soon is not worth a word */
#define SUPERVISOR_MS 3000   /* how long the supervisor is given before a daemon is started from here */
#define PATIENCE_MS 10000     /* after a start: another daemon may be just ending or beginning */
#define LIFE_MS 10000         /* a connection that lasts as long is no part of a row of losses */
#define LOSSES_FREE 3         /* in a row, before there is a pause */
#define LOSSES_MAX 10         /* in a row: then it is not a matter of waiting */
#define LOSSES_PAUSE_MS_MAX 5000

/* A notification that came while a reply was awaited. */
struct queued {
    struct list node;
    char *line;
    size_t n;
};

struct subscription {
    char *task; /* as asked for; then the id. NULL: all tasks */
    bool deltas;
    int64_t after_seq; /* the last that was handed out */
    int64_t after_pos;
    int64_t id; /* on this connection */
};

struct link {
    struct link_options options;
    struct buf state_dir, socket, config;
    bool config_named;
    struct wire wire;
    int64_t next_id;
    struct list queue;
    size_t queue_bytes;
    struct subscription subscriptions[LINK_SUBSCRIPTIONS_MAX];
    int subscriptions_n;
    struct buf error, hint;
    int error_code;
    bool absent; /* the error is that nobody listens */
    int64_t connected_ms;
    int64_t lost_ms; /* since when a lost connection is being replaced; 0: it is not */
    int losses;      /* in a row, each soon after a connection was made */
    bool told;       /* of this loss */
    bool started;    /* a daemon, because of this loss */
};

int64_t link_now_ms(void)
{
    return wire_now_ms();
}

void link_make_key(char ret[LINK_KEY_SIZE])
{
    uint8_t random[ULID_RANDOM_SIZE];
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        abort();
    ulid_format((int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000, random, ret);
}

/* ---- errors ---- */

static int __attribute__((format(printf, 3, 4))) fail(struct link *l, int rc, const char *format, ...)
{
    va_list args;
    char text[2048];
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    buf_clear(&l->error);
    buf_clear(&l->hint);
    buf_puts(&l->error, text);
    l->error_code = 0;
    l->absent = false;
    return rc;
}

const char *link_error(const struct link *l)
{
    return buf_cstr(&l->error);
}

const char *link_error_hint(const struct link *l)
{
    return buf_cstr(&l->hint);
}

bool link_error_is_absence(const struct link *l)
{
    return l->absent;
}

int link_error_code(const struct link *l)
{
    return l->error_code;
}

static int fail_remote(struct link *l, const json_t *error)
{
    const json_t *data = json_object_get(error, "data");
    const char *message = json_string_value(json_object_get(error, "message"));
    const char *hint = json_string_value(json_object_get(data, "hint"));
    fail(l, 0, "%s", message ? message : "the daemon answered with an error without a message");
    if (hint && strcmp(hint, link_error(l)) != 0)
        buf_puts(&l->hint, hint);
    l->error_code = (int)json_integer_value(json_object_get(error, "code"));
    return LINK_E_REMOTE;
}

static int from_wire(struct link *l, enum wire_rc rc)
{
    switch (rc) {
    case WIRE_OK:
        return LINK_OK;
    case WIRE_TIMEOUT:
        return LINK_TIMEOUT;
    case WIRE_INPUT:
        return LINK_INPUT;
    case WIRE_LOST:
        return fail(l, LINK_E_LOST, "the connection to the daemon was lost");
    case WIRE_INTERRUPTED:
        return fail(l, LINK_E_INTERRUPTED, "interrupted");
    case WIRE_TOO_LONG:
        return fail(l, LINK_E_BROKEN, "the daemon sent a message of more than %d bytes", LINK_FRAME_BYTES_MAX);
    }
    return LINK_E_BROKEN;
}

/* ---- making and closing ---- */

int link_new(const struct link_options *options, struct link **ret)
{
    struct link *l = MEM_NEW(struct link);
    CLEANUP(buf_free) struct buf error = {0};
    json_set_alloc_funcs(mem_malloc_raw, mem_free);
    l->options = *options;
    l->wire.fd = -1;
    list_init(&l->queue);
    *ret = l;
    if (places_state_dir(options->state_dir, &l->state_dir, &error) < 0 ||
        places_socket(options->socket, options->state_dir, &l->socket, &error) < 0)
        return fail(l, LINK_E_BROKEN, "%s", buf_cstr(&error));
    /* Where it is when nobody named it is the daemon's own affair. */
    if (places_config(options->config, &l->config, &l->config_named, &error) < 0 && l->config_named)
        return fail(l, LINK_E_BROKEN, "%s", buf_cstr(&error));
    return LINK_OK;
}

static void drop_queue(struct link *l)
{
    struct queued *q;
    LIST_EACH(q, &l->queue, struct queued, node)
    {
        list_remove(&q->node);
        mem_free(q->line);
        mem_free(q);
    }
    l->queue_bytes = 0;
}

void link_close(struct link *l)
{
    wire_close(&l->wire);
    drop_queue(l);
}

void link_free(struct link *l)
{
    if (!l)
        return;
    link_close(l);
    for (int i = 0; i < l->subscriptions_n; i++)
        mem_free(l->subscriptions[i].task);
    buf_free(&l->state_dir);
    buf_free(&l->socket);
    buf_free(&l->config);
    buf_free(&l->error);
    buf_free(&l->hint);
    mem_free(l);
}

const char *link_state_dir(const struct link *l)
{
    return buf_cstr(&l->state_dir);
}

const char *link_socket(const struct link *l)
{
    return buf_cstr(&l->socket);
}

const char *link_config(const struct link *l)
{
    return l->config_named ? buf_cstr(&l->config) : NULL;
}

static struct wire_wait wait_until(const struct link *l, int64_t deadline_ms, int fd)
{
    return (struct wire_wait){
        .fd = fd, .deadline_ms = deadline_ms, .interrupted = l->options.interrupted, .mask = l->options.mask};
}

/* ---- one exchange on this connection ---- */

static json_t *parse(const char *line, size_t n)
{
    return json_loadb(line, n, JSON_ALLOW_NUL, NULL);
}

static void enqueue(struct link *l, char *line, size_t n)
{
    struct queued *q = MEM_NEW(struct queued);
    q->line = line;
    q->n = n;
    l->queue_bytes += n;
    list_append(&l->queue, &q->node);
}

static bool is_notification(const char *line, size_t n)
{
    return json_find(str_n(line, n), "method").p != NULL;
}

/* The next line that is a reply; notifications go to the queue. */
static int receive_reply(struct link *l, int64_t deadline_ms, char **ret, size_t *ret_n)
{
    struct wire_wait wait = wait_until(l, deadline_ms, -1);
    for (;;) {
        int rc = from_wire(l, wire_receive(&l->wire, LINK_FRAME_BYTES_MAX, &wait, ret, ret_n));
        if (rc != LINK_OK)
            return rc;
        if (!is_notification(*ret, *ret_n))
            return LINK_OK;
        enqueue(l, *ret, *ret_n);
        /* It is all in the journal: a new connection will bring it again, at our pace. */
        if (l->queue_bytes > LINK_QUEUE_BYTES_MAX)
            return fail(l, LINK_E_LOST, "more notifications came than could be kept");
    }
}

static int take_reply(struct link *l, int64_t id, char *line, size_t n, struct link_reply *ret)
{
    CLEANUP(link_reply_free) struct link_reply reply = {.line = line};
    json_t *whole = parse(line, n);
    const json_t *reply_id = json_object_get(whole, "id");
    const json_t *error = json_object_get(whole, "error");
    reply.json = json_incref(json_object_get(whole, "result"));
    reply.text = json_find(str_n(line, n), "result");
    int rc = LINK_OK;
    if (error && (!reply_id || json_is_null(reply_id) || json_integer_value(reply_id) == id))
        rc = fail_remote(l, error);
    else if (json_integer_value(reply_id) != id || !reply.json)
        rc = fail(l, LINK_E_BROKEN, "what answers at %s does not speak agentd's protocol", link_socket(l));
    json_decref(whole);
    if (rc == LINK_OK) {
        *ret = reply;
        reply = (struct link_reply){0};
    }
    return rc;
}

/* Sends one request and waits for its reply. */
static int exchange(struct link *l, enum method method, const void *params, int64_t deadline_ms, struct link_reply *ret)
{
    CLEANUP(buf_free) struct buf b = {0};
    const struct method_descriptor *m = &method_descriptors[method];
    int64_t id = ++l->next_id;
    buf_printf(&b, "{\"jsonrpc\":\"2.0\",\"id\":%lld,\"method\":\"%s\",\"params\":", (long long)id, m->name);
    proto_encode(&b, m->params, params);
    buf_puts(&b, "}\n");
    struct wire_wait wait = wait_until(l, deadline_ms, -1);
    int rc = from_wire(l, wire_send(&l->wire, buf_view(&b), &wait));
    char *line = NULL;
    size_t n = 0;
    if (rc == LINK_OK)
        rc = receive_reply(l, deadline_ms, &line, &n);
    if (rc != LINK_OK)
        return rc;
    return take_reply(l, id, line, n, ret);
}

void link_reply_free(struct link_reply *r)
{
    json_decref(r->json);
    mem_free(r->line);
    *r = (struct link_reply){0};
}

/* ---- connecting ---- */

static bool same_folder(const char *a, const char *b)
{
    struct stat sa, sb;
    if (strcmp(a, b) == 0)
        return true;
    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

static int initialize(struct link *l)
{
    struct params_initialize params = {.protocol = PROTOCOL_VERSION,
                                       .client = {.name = str_of(l->options.client), .version = STR(AGENTD_VERSION)}};
    CLEANUP(link_reply_free) struct link_reply reply = {0};
    int rc = exchange(l, METHOD_INITIALIZE, &params, link_now_ms() + LINK_INITIALIZE_MS, &reply);
    if (rc == LINK_TIMEOUT)
        return fail(l, LINK_E_NO_DAEMON, "the daemon at %s does not answer", link_socket(l));
    if (rc != LINK_OK)
        return rc;
    const char *theirs = json_string_value(json_object_get(reply.json, "state_dir"));
    if (theirs && same_folder(theirs, link_state_dir(l)))
        return LINK_OK;
    fail(l, 0, "the daemon at %s works on the state folder %s, not on %s", link_socket(l), theirs ? theirs : "?", link_state_dir(l));
    buf_puts(&l->hint, "Name the state folder or the socket that you mean: --state-dir, --socket.");
    return LINK_E_NO_DAEMON;
}

static int subscribe(struct link *l, struct subscription *s, struct link_reply *ret)
{
    struct params_events_subscribe params = {.task = str_of(s->task), .deltas = s->deltas};
    params.after_seq = s->task ? s->after_seq : -1;
    params.after_pos = s->task ? -1 : s->after_pos;
    int rc = exchange(l, METHOD_EVENTS_SUBSCRIBE, &params, -1, ret);
    if (rc == LINK_OK)
        s->id = json_integer_value(json_object_get(ret->json, "subscription"));
    return rc;
}

static int subscribe_again(struct link *l)
{
    for (int i = 0; i < l->subscriptions_n; i++) {
        CLEANUP(link_reply_free) struct link_reply reply = {0};
        int rc = subscribe(l, &l->subscriptions[i], &reply);
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
        return fail(l, LINK_E_LOST, "no daemon listens at %s", link_socket(l));
    if (e < 0)
        return fail(l, LINK_E_NO_DAEMON, "no connection to %s: %s", link_socket(l), strerror(-e));
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

static int fail_no_daemon(struct link *l)
{
    if (start_stopped(link_state_dir(l))) {
        fail(l, 0, "the daemon was stopped");
        buf_puts(&l->hint, "agentctl daemon start starts it; its tasks go on from where they are.");
    } else {
        fail(l, 0, "no daemon runs on %s (nobody listens at %s)", link_state_dir(l), link_socket(l));
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
        struct wire_wait wait = wait_until(l, link_now_ms() + pause_ms, -1);
        if (wire_sleep(&wait) == WIRE_INTERRUPTED)
            return fail(l, LINK_E_INTERRUPTED, "interrupted");
    }
}

/* A daemon that is locked out means that another one is just coming up, or listens elsewhere: the socket will tell. */
static int start_locked(struct link *l)
{
    CLEANUP(buf_free) struct buf error = {0};
    struct start_places places = {link_state_dir(l), link_socket(l), link_config(l)};
    int rc = start_daemon(&places, &error);
    if (rc == 0 || rc == START_EXIT_LOCKED)
        return LINK_OK;
    return fail(l, LINK_E_NO_DAEMON, "%s", buf_cstr(&error));
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
    return rc == LINK_E_LOST ? fail_no_daemon(l) : rc;
}

int link_open(struct link *l)
{
    if (l->wire.fd >= 0)
        return LINK_OK;
    int rc = connect_once(l);
    if (rc != LINK_E_LOST)
        return rc;
    if (!may_start(l))
        return fail_no_daemon(l);
    rc = start(l);
    if (rc != LINK_OK || l->wire.fd >= 0)
        return rc;
    rc = connect_until(l, link_now_ms() + PATIENCE_MS);
    if (rc == LINK_E_LOST) {
        fail(l, 0, "a daemon was started on %s, but it does not serve at %s", link_state_dir(l), link_socket(l));
        buf_printf(&l->hint, "See %s/daemon.log; perhaps another daemon owns the folder and listens at another socket.",
                   link_state_dir(l));
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

/* A daemon that comes back only to go away again may do so for ever. */
static int fail_losses(struct link *l)
{
    fail(l, 0, "the daemon has gone away %d times in a row, each time within %d s", l->losses, LIFE_MS / 1000);
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

/* One attempt at a new connection. LINK_E_LOST: it has to go on. */
static int try_reconnect(struct link *l)
{
    int rc = connect_once(l);
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

/* The connection is lost: gives the supervisor its time, then starts a daemon from here. Later calls go on where a deadline (-1:
 * none) ended this one with LINK_TIMEOUT. */
static int reconnect(struct link *l, int64_t deadline_ms)
{
    if (l->lost_ms == 0)
        begin_loss(l);
    if (l->losses >= LOSSES_MAX)
        return fail_losses(l);
    for (int64_t pause_ms = first_pause_ms(l);; pause_ms = pause_ms * 2 < 250 ? pause_ms * 2 + 5 : 250) {
        int64_t until_ms = link_now_ms() + pause_ms;
        struct wire_wait wait = wait_until(l, deadline_ms >= 0 && deadline_ms < until_ms ? deadline_ms : until_ms, -1);
        if (wire_sleep(&wait) == WIRE_INTERRUPTED)
            return fail(l, LINK_E_INTERRUPTED, "interrupted");
        int rc = try_reconnect(l);
        if (rc != LINK_E_LOST)
            return rc;
        if (deadline_ms >= 0 && link_now_ms() >= deadline_ms)
            return LINK_TIMEOUT;
    }
}

/* Views may be sent again, and changes that carry a key. */
static bool may_repeat(const struct method_descriptor *m, const void *params)
{
    if (!m->changes)
        return true;
    for (size_t i = 0; i < m->params->n; i++) {
        const struct proto_field *f = &m->params->fields[i];
        if (strcmp(f->name, "key") == 0)
            return ((const struct str *)(const void *)((const char *)params + f->offset))->p != NULL;
    }
    return false;
}

int link_call(struct link *l, enum method method, const void *params, struct link_reply *ret)
{
    int rc = link_open(l);
    while (rc == LINK_OK) {
        rc = exchange(l, method, params, -1, ret);
        bool stopping = rc == LINK_E_REMOTE && l->error_code == RPC_STOPPING;
        if (rc == LINK_E_BROKEN)
            link_close(l);
        if (rc != LINK_E_LOST && !stopping)
            return rc;
        if (!may_repeat(&method_descriptors[method], params)) {
            link_close(l);
            return rc;
        }
        rc = reconnect(l, -1);
    }
    return rc;
}

int link_subscribe(struct link *l, const char *task, int64_t after_seq, bool deltas, int *ret)
{
    assert(l->subscriptions_n < LINK_SUBSCRIPTIONS_MAX);
    struct subscription s = {.task = mem_strdup(task), .deltas = deltas, .after_seq = after_seq, .after_pos = -1};
    struct link_reply reply = {0};
    int rc = link_open(l);
    while (rc == LINK_OK) {
        rc = subscribe(l, &s, &reply);
        if (rc != LINK_E_LOST)
            break;
        rc = reconnect(l, -1);
    }
    if (rc != LINK_OK) {
        mem_free(s.task);
        return rc;
    }
    const char *id = json_string_value(json_object_get(reply.json, "task"));
    if (s.task && id) {
        mem_free(s.task);
        s.task = mem_strdup(id);
    }
    link_reply_free(&reply);
    *ret = l->subscriptions_n;
    l->subscriptions[l->subscriptions_n++] = s;
    return LINK_OK;
}

/* ---- notifications ---- */

static int find_subscription(const struct link *l, const json_t *params)
{
    const json_t *id = json_object_get(params, "subscription");
    for (int i = 0; i < l->subscriptions_n; i++) {
        if (json_is_integer(id) && l->subscriptions[i].id == json_integer_value(id))
            return i;
    }
    return -1;
}

/* False: it is of no subscription of ours, was handed out before, or is a kind of notification that we do not know. */
static bool take_message(struct link *l, char *line, size_t n, struct link_message *ret)
{
    CLEANUP(link_message_free) struct link_message m = {.line = line};
    json_t *whole = parse(line, n);
    struct str method = str_of(json_string_value(json_object_get(whole, "method")));
    m.delta = str_eqz(method, "delta");
    bool known = m.delta || str_eqz(method, "event");
    m.json = json_incref(json_object_get(whole, "params"));
    json_decref(whole);
    m.text = json_find(str_n(line, n), "params");
    m.subscription = find_subscription(l, m.json);
    if (!known || m.subscription < 0)
        return false;
    if (!m.delta) {
        struct subscription *s = &l->subscriptions[m.subscription];
        int64_t seq = json_integer_value(json_object_get(m.json, "seq"));
        int64_t pos = json_integer_value(json_object_get(m.json, "pos"));
        if (s->task ? seq <= s->after_seq : pos <= s->after_pos)
            return false;
        s->after_seq = seq;
        s->after_pos = pos;
    }
    *ret = m;
    m = (struct link_message){0};
    return true;
}

static bool dequeue(struct link *l, char **ret, size_t *ret_n)
{
    if (list_empty(&l->queue))
        return false;
    struct queued *q = LIST_ENTRY(l->queue.next, struct queued, node);
    *ret = q->line;
    *ret_n = q->n;
    l->queue_bytes -= q->n;
    list_remove(&q->node);
    mem_free(q);
    return true;
}

int link_next(struct link *l, int fd, int64_t timeout_ms, struct link_message *ret)
{
    struct wire_wait wait = wait_until(l, timeout_ms < 0 ? -1 : link_now_ms() + timeout_ms, fd);
    int rc = l->wire.fd >= 0 ? LINK_OK : reconnect(l, wait.deadline_ms);
    while (rc == LINK_OK || rc == LINK_E_LOST) {
        char *line;
        size_t n;
        if (rc == LINK_E_LOST)
            rc = reconnect(l, wait.deadline_ms);
        else if (dequeue(l, &line, &n) ||
                 (rc = from_wire(l, wire_receive(&l->wire, LINK_FRAME_BYTES_MAX, &wait, &line, &n))) == LINK_OK) {
            if (take_message(l, line, n, ret))
                return LINK_OK;
        }
    }
    return rc;
}

/* Where the member begins whose value is at `value`. */
static size_t member_start(struct str text, size_t value, size_t name_n)
{
    while (value > 0 && text.p[value - 1] != '"')
        value--;
    return value - name_n - 2;
}

void link_message_text(const struct link_message *m, struct buf *b)
{
    static const char name[] = "subscription";
    struct str value = json_find(m->text, name);
    if (!value.p) {
        buf_str(b, m->text);
        return;
    }
    size_t from = member_start(m->text, (size_t)(value.p - m->text.p), sizeof name - 1);
    size_t to = (size_t)(value.p - m->text.p) + value.n;
    while (to < m->text.n && strchr(" \t\r", m->text.p[to]))
        to++;
    if (to < m->text.n && m->text.p[to] == ',') {
        to++;
    } else {
        while (from > 0 && strchr(" \t\r", m->text.p[from - 1]))
            from--;
        from -= from > 0 && m->text.p[from - 1] == ',';
    }
    buf_put(b, m->text.p, from);
    buf_put(b, m->text.p + to, m->text.n - to);
}

void link_message_free(struct link_message *m)
{
    json_decref(m->json);
    mem_free(m->line);
    *m = (struct link_message){0};
}

int link_wait_closed(struct link *l, int64_t timeout_ms)
{
    int64_t deadline_ms = link_now_ms() + timeout_ms;
    struct wire_wait wait = wait_until(l, deadline_ms, -1);
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
