#pragma once
/* Requests: from a message to a call, from its answer to a message. Checks everything that the schema says
 * before a command sees it: form, depth, method, role, params. See commands.h for how a call is answered. */
#include "daemon/commands/commands.h"
#include "daemon/rpc/server.h"

/* Answers every message that is no notification: now with an error, or through its call. */
void request_take(struct conn *c, struct str message);
void request_too_large(struct conn *c);
/* The client's end came inside a message. It may be whole or not, so it is not run. */
void request_cut(struct conn *c);
/* Tells a client why it is not served at all. */
void request_refuse_client(struct conn *c, enum rpc_error error);
/* The connection ends: its calls go on, their answers go nowhere. */
void requests_abandon(struct conn *c);

/* For methods of rpc itself: the connection, or NULL if it is gone; and the decoded params. */
struct conn *request_conn(const struct rpc_call *call);
const void *request_params(const struct rpc_call *call);
