#pragma once
/* Inside of runs.h: one runner as the daemon sees it, a control connection and a pidfd that says when it is gone. SIGCHLD plays no
 * part: each runner that we started is waited for by its own pidfd, so libuv's children and ours never meet. Calls: libuv. */
#include "daemon/base/list.h"
#include "daemon/runner/protocol.h"
#include "daemon/tools/runs.h"

struct runs {
    uv_loop_t *loop;
    char *dir, *runner_path, *tool_path;
    const struct limits *limits;
    int64_t tool_files_max, tool_umask;
    struct runs_callbacks callbacks;
    void *arg;
    struct list links, refused;
    uv_timer_t soon; /* what must not happen from inside a call of our user */
    struct buf detail;
    size_t handles; /* that are not closed yet, and links that are not freed */
    bool closing;
};

struct link {
    struct list node;
    struct runs *runs;
    char *task, *run;
    uv_poll_t ctl, pid;
    int ctl_fd, pid_fd; /* -1: none */
    size_t handles;
    struct buf in, out;
    struct list inputs; /* not answered by the runner yet */
    int64_t total;
    char *failed;    /* it could not be started: why */
    int64_t check_ms; /* loop time of the next look at it; 0: none is due */
    int64_t check_delay_ms;
    bool leaving;    /* the lock is free; its end is to be seen in a moment */
    bool roomless;   /* its runner found no room to start it */
    bool ended_due; /* its end was said, but the record could not be read yet */
    bool hello, ended_told, kill_wanted, gone;
};

struct link *link_new(struct runs *r, const char *task, const char *run);
struct link *link_find(const struct runs *r, const char *task, const char *run);
/* Connects and says what the runner has to know. -1: refused, or no socket. */
int link_connect(struct link *l, int dirfd);
void link_watch_pid(struct link *l, int pidfd);
/* Looks at it again from the loop after `delay_ms`. */
void link_check_in(struct link *l, int64_t delay_ms);
void link_check(struct link *l);
void link_input(struct link *l, const char *call, struct str bytes);
void link_kill(struct link *l);
/* Closes its handles and frees it once they are. */
void link_drop(struct link *l);
/* One more handle or link is closed; frees what nobody needs any more. */
void runs_released(struct runs *r);

/* runs_probe.c */
enum { RUNS_EXIT_NONE = -1, RUNS_EXIT_LATER = -2 };
/* Whether this is no news of the run but of us: no descriptor is left, say. Nothing follows from it; one looks again. */
bool runs_error_passes(int error);
/* -1 with errno. */
int runs_open_dir(const struct runs *r, const char *task, const char *run);
/* Of what runs_open_dir() returned, with errno as it left it. A lock that cannot be looked at now counts as held. */
bool runs_lock_held(int dirfd);
/* 0: there is a valid record; RUNS_EXIT_*. errno as for runs_lock_held(). */
int runs_read_exit(struct runs *r, int dirfd, struct run_exit *ret);
/* Whether the runner wrote down that it took this input. */
bool runs_input_taken(int dirfd, const char *call);
/* The same, once, for the one who tells of the end: a patch that was killed half-way is settled first. */
int runs_take_exit(struct runs *r, const char *task, const char *run, int dirfd, struct run_exit *ret);
/* What is left of the run's processes, as far as they carry its marker. How many were killed. */
size_t runs_kill_left(const char *task, const char *run);
/* Of a run without a record, if it is a patch: finishes or undoes it. False: it is none (`patch`: it is known to be one), or nobody can
 * say how its files are. */
bool runs_recover_patch(struct runs *r, const char *task, const char *run, int dirfd, bool patch, struct run_exit *ret);
/* The same where there is a record, in `ret`, which then says how the files are. Nothing, if it is no patch that was cut short. */
void runs_settle_patch(struct runs *r, const char *task, const char *run, int dirfd, struct run_exit *ret);
/* Of a runner that is dead without a record: kills what is left of it. `patch`: see runs_probe(). */
void runs_in_doubt(struct runs *r, const char *task, const char *run, int dirfd, bool this_boot, bool patch, struct run_exit *ret);
