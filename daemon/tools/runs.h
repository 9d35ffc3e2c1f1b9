#pragma once
/* The daemon's end of the runners: starts agentd-runner, finds living ones again, tails their output, hands them input,
 * ingests their exit records. The only place of the daemon that starts a process. It knows runs, not tasks' logic: what
 * happens is told through callbacks on the loop thread, each of which its user turns into one input of the core.
 *
 * A run lives in `DIR/<task>/<run>/`: spec (and lock), start, out (append-only, capped), exit (record with a CRC), ctl (socket),
 * input (journal of accepted input ids), payload. See daemon/runner/protocol.h for the layout and the wire.
 * Calls: base, libuv. */
#include "daemon/core/types.h"

#include <uv.h>

struct runs;

struct runs_callbacks {
    /* The main process ended (exit record read), or the run could not be started, or is in doubt. Called once a run. The
     * runner may live on because of descendants. */
    void (*ended)(void *arg, const char *task, const char *run, const struct run_exit *exit);
    /* The runner is gone: no descendant lives. After `ended`. */
    void (*gone)(void *arg, const char *task, const char *run);
    /* There is more output; `total` raw bytes so far. Coalesced: at most every 50 ms or so. */
    void (*output)(void *arg, const char *task, const char *run, int64_t total);
    /* What became of runs_input(): ok, or why not. */
    void (*input_done)(void *arg, const char *task, const char *run, const char *call, bool ok, const char *error);
    /* As if runs_start() had said RUNS_E_FULL: its runner found no room to start it, and is gone. What was put in for it is forgotten. */
    void (*roomless)(void *arg, const char *task, const char *run);
};

struct runs_config {
    uv_loop_t *loop;
    const char *dir;         /* absolute, exists */
    const char *runner_path; /* agentd-runner */
    const char *tool_path;   /* agentd-tool */
    const struct limits *limits;
    int64_t tool_files_max; /* RLIMIT_NOFILE (soft) of tools, where the daemon raised its own; 0: as the daemon's */
    int64_t tool_umask;     /* of tools; 0: 022 */
    struct runs_callbacks callbacks;
    void *arg;
};

struct runs *runs_new(const struct runs_config *config);
/* Lets go of every runner; none is ended. */
void runs_free(struct runs *r);

struct run_start {
    const char *task, *run;
    enum run_program program;
    struct str payload;
    struct str workdir;
    bool tty;
    const char *const *env; /* NULL-terminated NAME=value: all that the tool sees, besides AGENTD_TASK and AGENTD_RUN */
};

/* Starts a run. Failure to start is reported through `ended` (not_started), never at once from inside the call. Must only
 * be called after the run's row is committed. RUNS_E_FULL: there is no room for its files, and it can be started again. */
enum { RUNS_E_FULL = 1 };
int runs_start(struct runs *r, const struct run_start *start);

/* What a start of the daemon finds of a run whose row is open. `this_boot`: the row was written in this boot. For
 * RUN_PROBE_ENDED *ret is filled (detail lives until the next call). Kills what is left of a dead runner's processes
 * before it says in_doubt. `patch`: it is a run of RUN_PROGRAM_PATCH whose folder would be here, so that a missing one means that nothing
 * was changed. Synchronous, a millisecond or so. */
enum run_probe runs_probe(struct runs *r, const char *task, const char *run, bool this_boot, bool patch, struct run_exit *ret);
/* Follows a living run again (after RUN_PROBE_ALIVE), or one whose main process has ended but whose runner may live (`ended`
 * is then not called again if `ended_known`). If the runner is gone already, `ended` (unless known) and `gone` follow. */
void runs_attach(struct runs *r, const char *task, const char *run, bool ended_known);

/* SIGTERM to the whole run, SIGKILL after the grace. The end arrives through `ended` with outcome killed. Nothing happens if the
 * run was neither started nor attached, or is gone. */
void runs_kill(struct runs *r, const char *task, const char *run);
/* Writes bytes to the process's stdin, or PTY. The runner records `call` before it writes, so a repeat with the same call is
 * harmless. Completion through input_done. */
void runs_input(struct runs *r, const char *task, const char *run, const char *call, struct str bytes);

/* Reads output from raw offset `from` to what is there now, made fit for the model in at most `bytes_max` bytes: head and
 * tail, and between them a line that counts what was left out. Fills *ret; its text lives in `scratch`. With
 * `image`, output is that of RUN_PROGRAM_IMAGE. */
void runs_collect(struct runs *r, const char *task, const char *run, int64_t from, int64_t bytes_max, bool image,
                  struct buf *scratch, struct run_output *ret);
/* Raw bytes [from, from+n) of the output kept; returns how many. For live text. */
size_t runs_read(struct runs *r, const char *task, const char *run, int64_t from, char *to, size_t n);

/* Deletes folders of a task's runs but those of `held` (their numbers), at most `max`; and the task's own once it is empty. One
 * whose runner lives stays. Returns how many were deleted; *ret_more: there are others. */
size_t runs_delete(struct runs *r, const char *task, const int64_t *held, size_t held_n, size_t max, bool *ret_more);
