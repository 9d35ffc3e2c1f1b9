#pragma once
/* Starts a daemon in the background: finds the executables, runs agentd-supervise, and waits until it says how that went. What
 * a daemon is and whether one should run is not decided here. */
#include "daemon/base/buf.h"

#include <stdbool.h>
#include <sys/types.h>

struct start_places {
    const char *state_dir; /* absolute, as the others */
    const char *socket;
    const char *config; /* NULL: not named */
};

#define START_MS_MAX 10000
#define START_EXIT_LOCKED 69 /* another daemon owns the state folder; see daemon/lifecycle.h */

/* Whether an orderly stop left its mark. */
bool start_stopped(const char *state_dir);
/* Whether a daemon has worked in this folder. */
bool start_has_database(const char *state_dir);
/* The pid of the daemon that owns this folder, whether it answers or not; 0: none does, or it has not said who it is. */
long start_owner(const char *state_dir);

/* The path of `agentd` or `agentd-supervise`: $AGENTD_BIN and its neighbours, those of agentctl itself, else where they were
 * installed. 0, or -1 and a sentence. */
int start_find(const char *program, struct buf *ret, struct buf *error);
/* The arguments that every agentd gets, NULL at the end; at most START_ARGS_MAX with the program at [0]. They point into `places`. */
#define START_ARGS_MAX 8
void start_args(const struct start_places *places, const char *program, const char *ret[START_ARGS_MAX]);
/* Undoes what agentctl changed for itself; between fork and exec. */
void start_reset_signals(void);

/* Of several clients that find no daemon at once, one starts it: a lock on daemon.log, which the start makes anyhow (the folder
 * too, 0700). A descriptor to close, or -1: somebody else has it (errno is EWOULDBLOCK), or there can be none. */
int start_lock(const char *state_dir);
/* Whether it is this process that starts the daemon again after a restart, and with its own places: nobody else would, or another agentd
 * than start_find() names. */
bool start_is_ours(const char *state_dir);
/* Before a restart. Where a supervisor would start another agentd than start_find() names (one of another installation), this process
 * takes its post, so that it leaves the start to us; it takes it again should we die. False: there was no need. */
bool start_take_post(const char *state_dir);
/* Runs the supervisor and waits until the daemon serves, at most START_MS_MAX. 0: it serves (or takes its time: see the socket). Else
 * the exit status of the daemon or its supervisor, or -1, and what it had to say in `error`. */
int start_daemon(const struct start_places *places, struct buf *error);
