#pragma once
/* The daemon as its edges see it: the parts, built by main.c and wired by world.c. No logic. */
#include "daemon/config/config.h"
#include "daemon/core/core.h"
#include "daemon/model/model.h"
#include "daemon/pump/pump.h"
#include "daemon/rpc/rpc.h"
#include "daemon/store/store.h"
#include "daemon/tools/runs.h"
#include "daemon/tools/watches.h"

#include <uv.h>

struct world_state; /* world.c: transfers under way, the filling batch ... */

/* A daemon that shows and changes nothing: see read_only.h. */
struct daemon_read_only {
    const char *reason;
    const char *copy; /* the folder that it serves from */
    int64_t since_ms, next_try_ms;
};

struct failures; /* failures.h */

struct daemon {
    uv_loop_t *loop;
    struct config *config;
    const char *state_dir;   /* absolute */
    const char *socket_path; /* absolute */
    const char *runner_path, *tool_path; /* agentd-runner, agentd-tool */
    int64_t started_ms;      /* CLOCK_BOOTTIME */
    struct clock_now now_cached;

    struct core *core;
    struct pump *pump;
    struct store *store;
    struct runs *runs;
    struct watches *watches;
    struct model *model; /* NULL until the first request: libcurl costs memory that an idle daemon need not have */
    struct rpc *rpc;
    struct world_state *world;

    struct daemon_read_only *read_only; /* NULL: it works */
    struct failures *failures;          /* how daemons before it ended */
    bool recovered;                     /* the tasks are loaded, and so is previous_end */
    enum previous_end previous_end;
    bool disk_full; /* a commit waits for space; see daemon_disk_full() */
    bool stopping;
    bool stop_asked;   /* by daemon/shutdown, as against a signal */
    bool stop_restart; /* exit so that the supervisor starts it again */
};

/* No new work is admitted: a commit waits for space, or the reserve for such times is gone. */
static inline bool daemon_disk_full(const struct daemon *d)
{
    return d->disk_full || store_disk_low(d->store);
}

/* world.c, for commands: */

/* Everything about a new task that the core does not hold: its resolved model, instructions, tools, environment, as one JSON
 * object (stored as `spec`), and the head of its prompt. Called in the same turn of the loop as pump_input(INPUT_TASK_CREATE) and
 * before it. */
void world_task_spec(struct daemon *d, const char *task, struct str spec, struct str head);
/* Adds the answer of a keyed change to the filling batch (call it right after pump_input in the same turn). */
void world_key_put(struct daemon *d, const char *key, const char *task, struct str digest, struct str result);
/* Looks in batches that are not committed yet, then in the store. STORE_E_NONE if the key is new. */
int world_key_find(struct daemon *d, const char *key, struct buf *ret_digest, struct buf *ret_result);
/* What was just put in stops something: on a full disk it, and what goes before it, may use the room that is kept for that. */
void world_stop_through(struct daemon *d);
/* The task in memory, loading it from the store if it is not there (it is then evicted again some time after it is final). NULL:
 * no such task. `ref` as INTERFACE says: id, name, prefix, @last; names of tasks that are not committed yet are known too. */
const struct task *world_task(struct daemon *d, struct str ref, enum rpc_error *ret_error);
/* Begins an orderly end of the daemon: waits for the commit under way, closes, leaves the loop. */
void world_stop(struct daemon *d, bool restart); /* sets `stopping`; daemon/shutdown sets `stop_asked` itself */
