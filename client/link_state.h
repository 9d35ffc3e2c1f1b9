#pragma once
/* What the files of the link share: link.c (life, calls), link_exchange.c (one exchange on a connection), link_connect.c (making
 * connections, again and again), link_news.c (notifications). */
#include "client/link.h"
#include "client/wire.h"

#include "daemon/base/list.h"

/* A notification that came while a reply was awaited. */
struct link_queued {
    struct list node;
    char *line;
    size_t n;
};

struct link_subscription {
    char *task; /* as asked for; then the id. NULL: all tasks */
    bool deltas;
    int64_t after_seq; /* the last that was handed out */
    int64_t after_pos;
    int64_t id; /* on this connection */
    bool ended; /* for good: its task is gone */
};

struct link {
    struct link_options options;
    struct buf state_dir, socket, config;
    bool config_named;
    struct wire wire;
    int64_t next_id;
    struct list queue;
    size_t queue_bytes;
    struct link_subscription subscriptions[LINK_SUBSCRIPTIONS_MAX];
    int subscriptions_n;
    struct buf error, hint;
    struct buf version; /* of the daemon that we last shook hands with */
    struct buf start;   /* names the start of that daemon; empty: it does not say */
    bool orderly;       /* it is another one than before, which had ended as it should */
    struct buf read_only; /* why the daemon of this connection changes nothing; empty: it works */
    int error_code;
    bool absent; /* the error is that nobody listens */
    int64_t connected_ms;
    int64_t lost_ms; /* since when a lost connection is being replaced; 0: it is not */
    int losses;      /* in a row, each soon after a connection was made */
    bool told;       /* of this loss */
    bool started;    /* a daemon, because of this loss */
};

/* ---- link_exchange.c ---- */

/* Keeps the sentence, forgets what stood there, and returns rc. */
int link_fail(struct link *l, int rc, const char *format, ...) __attribute__((format(printf, 3, 4)));
int link_from_wire(struct link *l, enum wire_rc rc);
/* Until a deadline (-1: none), for the socket or `fd` (-1: none). */
struct wire_wait link_wait(const struct link *l, int64_t deadline_ms, int fd);
json_t *link_parse(const char *line, size_t n);
/* Sends one request and waits for its reply; notifications that come before it go to the queue. */
int link_exchange(struct link *l, enum method method, const void *params, int64_t deadline_ms, struct link_reply *ret);
/* The oldest of the queue; the line is the caller's. */
bool link_dequeue(struct link *l, char **ret, size_t *ret_n);
void link_drop_queue(struct link *l);

/* ---- link_news.c ---- */

/* The daemon that was found again knows nothing of the subscription's task: that ends it. LINK_E_REMOTE. */
int link_end_absent(struct link *l, struct link_subscription *s);

/* ---- link_connect.c ---- */

int link_subscribe_once(struct link *l, struct link_subscription *s, struct link_reply *ret);
/* Whoever waits for events is to know when none come. */
void link_tell_read_only(const struct link *l);
/* The connection is lost: gives the supervisor its time, then starts a daemon from here. Later calls go on where a deadline (-1:
 * none) ended this one with LINK_TIMEOUT. */
int link_reconnect(struct link *l, int64_t deadline_ms);
