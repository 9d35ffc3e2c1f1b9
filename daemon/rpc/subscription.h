#pragma once
/* Subscriptions: a cursor in the journal each. One that is caught up gets events as they are published; one
 * that is not is fed page by page from the store.
 *
 *                   no more rows after the cursor
 *      LAGGING ----------------------------------------> LIVE
 *         ^                                               |
 *         +-----------------------------------------------+
 *               the client's queue is full, or a gap
 *
 * Nothing is lost or doubled at the switch: rows are visible to the store's reader before rpc_event() is
 * called for them, both happen on the loop's thread, and in either state only what lies behind the cursor is
 * written, in order. So an event that was committed before the last page was read was in that page (and
 * rpc_event() finds it behind the cursor), and one that was committed later arrives through rpc_event(), when
 * the subscription is LIVE already. */
#include "daemon/rpc/request.h"

struct subscription {
    struct list node;
    struct conn *conn;
    int64_t id;              /* on this connection */
    uint64_t reader;         /* of live text */
    char task[TASK_ID_SIZE]; /* empty: all */
    int64_t cursor;          /* seq (with task) or pos of the last event that was written */
    int64_t pos;     /* of that event; beyond the published ones if it was read from the store before it was
                        published */
    int64_t pos_min; /* events up to here are not wanted */
    bool deltas, lagging;
    bool scan; /* there may be live text that it has not got, besides the news */
};

/* events/subscribe and events/unsubscribe; both answer the call. */
void subscription_begin(struct rpc_call *call, const struct params_events_subscribe *params);
void subscription_stop(struct rpc_call *call, const struct params_events_unsubscribe *params);
/* The connection ends. */
void subscriptions_end(struct conn *c);

/* One published event, for all subscriptions of a connection. */
void subscriptions_event(struct conn *c, const struct pump_event *event, struct str json);
/* The task is gone, and with it what a subscription to it had not sent yet: `end`. Those to all tasks go on. */
void subscriptions_task_removed(struct conn *c, const char *task);
/* News of a task's live text. */
void subscriptions_live(struct conn *c, struct live_task *t);
void subscriptions_run_end(struct conn *c, struct live_task *t, struct live_run *run);
/* Gives those that are behind one more page each, as far as there is room. */
void subscriptions_feed(struct conn *c);
/* Whether somebody could be fed right now. */
bool subscriptions_hungry(const struct conn *c);
/* Appends the beginning of a notification up to its own members. */
void subscription_open(const struct subscription *s, const char *method);
void subscription_close(const struct subscription *s);
