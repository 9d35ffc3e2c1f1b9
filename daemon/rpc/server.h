#pragma once
/* What the files of this folder share: the server and its connections. Not for anybody else: see rpc.h. */
#include "daemon/base/list.h"
#include "daemon/daemon.h"
#include "daemon/rpc/frame.h"
#include "daemon/rpc/listen.h"
#include "daemon/rpc/live.h"
#include "daemon/rpc/rpc.h"

#define READ_BYTES 65536

struct listener {
    uv_pipe_t *pipe;
    struct listen_file file;
    uv_fs_event_t watch; /* of the file's folder */
    uv_timer_t again;    /* runs while there is no file, or no watch */
    int64_t again_ms;    /* 0: the file is there */
};

struct rpc {
    struct daemon *d;
    struct listener listener;
    uv_idle_t service; /* runs once before the loop waits again, if a connection or the live text has
                          something to send */
    char *path;
    struct list conns; /* of struct conn */
    struct list dirty; /* those to be serviced */
    size_t conns_n;
    size_t handles_n; /* of libuv, not closed yet; the last one frees this */
    uint64_t reader_last;
    int64_t pos; /* of the last event that was published */
    struct live live;
    char read_buffer[READ_BYTES];
};

/* A connection.
 *
 * Everything that it is sent is appended to `out` and leaves when the loop is about to wait, in one write.
 * What the socket does not take stays, as `sending` while libuv has it. When more than client_queue_bytes_max
 * waits, no more requests are read and no events are added: subscriptions lag, and are fed from the store
 * once the queue is short again. */
struct conn {
    struct list node, dirty_node;
    struct rpc *rpc;
    uv_pipe_t pipe;
    uv_write_t write;
    struct frame_parser frames;
    struct buf out, sending;
    struct list calls; /* of struct rpc_call: not answered yet */
    size_t calls_n;
    size_t calls_bytes; /* of their requests, and what their answers may take */
    struct list subscriptions;
    size_t subscriptions_n;
    int64_t subscription_last;
    enum role role;
    char *client; /* its name; NULL until initialize */
    bool writing, reading, eof, closing;
    bool waiting; /* requests wait because the client does not read or has too many unanswered */
};

void rpc_unref(struct rpc *r);
/* What was asked for cannot be read, and why. */
void rpc_put_unreadable(const struct rpc *r, struct buf *b);
/* Asks for on_service() before the loop waits again. */
void rpc_wake(struct rpc *r);

/* Listens on `fd`, whose file (not made: inherited) is made again should it be removed. -1 and a sentence: listener_close() still. */
int listener_open(struct rpc *r, int fd, const struct listen_file *file, struct buf *error);
void listener_close(struct rpc *r);

/* Takes over an accepted connection. */
void conn_accept(struct rpc *r);
/* Something was appended to `out`, or a subscription has become hungry. */
void conn_touch(struct conn *c);
/* Sends, feeds, reads on; called for dirty connections. */
void conn_service(struct conn *c);
/* Bytes that wait for the client to read. */
size_t conn_queued(const struct conn *c);
/* Whether a bulk of events or live text may be added. */
bool conn_has_room(const struct conn *c);
void conn_close(struct conn *c);
/* Sends what the socket takes now. */
void conn_flush(struct conn *c);
