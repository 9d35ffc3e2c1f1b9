#pragma once
/* The socket: connections, frames (one JSON-RPC 2.0 message a line), replies, subscriptions, backpressure. A
 * client that does not read costs a cursor, not memory: what it has not read is fed from the journal when it
 * reads again. It checks requests against the schema and hands them to commands; it knows no task logic.
 * Calls: base, proto, commands.h, store (pages), runs (live output), libuv, jansson. */
#include "daemon/core/types.h"
#include "daemon/pump/pump.h"

#include <uv.h>

struct rpc;
struct daemon;

/* Binds `path` (a missing folder is made, 0700; one that others own or can write is refused; socket 0600;
 * paths beyond 108 bytes go through /proc/self/fd) and listens. A stale socket is replaced; any other kind of
 * file is left alone and is an error. If `fd` >= 0 it is a listening socket inherited from a service manager.
 * 0, or a sentence and -1, or the negative errno where the disk may be the reason. */
int rpc_new(struct daemon *d, const char *path, int fd, struct rpc **ret, struct buf *error);
/* Sends what the sockets take of what is due, closes all connections and removes the socket's file if it is
 * the one that was made. The memory goes in the last close callback: the loop has to run on for that. Calls
 * that are not answered yet may still be, or not. */
void rpc_free(struct rpc *r);
size_t rpc_clients(const struct rpc *r);

/* ---- from the pump's world ---- */

/* These events are committed; `json` is the event as clients see it. Called once per event, in order of pos.
 */
void rpc_event(struct rpc *r, const struct pump_event *event, struct str json);
/* The task is gone for good: who subscribed to it gets the end of that. */
void rpc_task_removed(struct rpc *r, const char *task);
/* Sends what was said, as far as the sockets take it: clients need not wait for the rest of the loop's turn. */
void rpc_flush(struct rpc *r);

/* Live text of a model's stream. The item's text so far is kept (bounded by response_bytes_max) so that a
 * later subscriber gets it from offset 0. `item` is the item's number ("i<n>"). */
void rpc_live_text(struct rpc *r, const char *task, int64_t step, int64_t attempt, int64_t item,
                   enum delta_kind kind, struct str text);
/* The attempt ended, or its response was accepted: its live text is void. Those who keep up get its last
 * piece first, so this comes before the rpc_event() that says how it ended. */
void rpc_live_end(struct rpc *r, const char *task);
/* A run has more output; live text is read from its file by those who want it. At its end they get what is
 * left. */
void rpc_live_run(struct rpc *r, const char *task, int64_t run, int64_t total);
void rpc_live_run_end(struct rpc *r, const char *task, int64_t run);
