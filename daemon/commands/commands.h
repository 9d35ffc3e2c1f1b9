#pragma once
/* Commands: params -> one input of the core, or a view -> one reply. One file per noun. A change is answered
 * after its commit. A view waits for what is in memory to be durable and then shows what is committed; on a
 * full disk it does not wait. Calls: base, proto, core, pump, store, config, daemon.h. */
#include "daemon/core/types.h"

struct daemon;
struct rpc_call; /* rpc.c's: one request that waits for its answer */

/* Who asks. */
struct command_client {
    struct str name;
    enum role role;
};

/* Answers a request: exactly one of these, once, now or later; the call is freed. `result` is JSON text of
 * the result object. */
void rpc_reply(struct rpc_call *call, struct str result);
/* `detail` absent: the error's name serves as message; its hint goes along in any case. */
void rpc_fail(struct rpc_call *call, enum rpc_error error, struct str detail);
/* RPC_STATE_UNREADABLE, with what the store says of it. */
void rpc_fail_unreadable(struct rpc_call *call);
/* RPC_TASK_NOT_FOUND or _AMBIGUOUS, in a sentence with the name as it was given; or the above. */
void rpc_fail_no_task(struct rpc_call *call, enum rpc_error error, struct str ref);

/* Runs `method` with its decoded params (struct params_*, valid until the call is answered; `params_json` is
 * the same, as canonical JSON text for the digest of a key; empty if there is no key). initialize,
 * events/subscribe and events/unsubscribe belong to rpc itself. */
void commands_run(struct daemon *d, struct rpc_call *call, const struct command_client *client,
                  enum method method, const void *params, struct str params_json);
