#pragma once
/* agentd-runner: the supervisor of one tool process. It keeps the process, its output and its exit while daemons come and go; it
 * knows no task, takes no decision and never ends before the last descendant has. One thread, one poll(). See protocol.h for what
 * it shares with the daemon. Calls: base, libc. */
#include "daemon/runner/protocol.h"
#include "daemon/runner/record.h"

#include <sys/types.h>

#define CONNECTIONS_MAX 8
#define TELL_MS_MIN 50 /* between two notices that output moved */

struct connection {
    int fd; /* -1: free */
    bool hello;
    struct buf in;
};

struct runner {
    struct buf spec_bytes; /* freed once the process runs */
    struct run_spec spec;
    char boot_id[40];
    int64_t started_wall_ms, started_boot_ms;

    pid_t child;
    bool ended;     /* the exit record is there */
    bool childless; /* no descendant lives */
    bool killed;    /* its end was asked for before it ended */
    int64_t kill_boot_ms; /* when SIGKILL is due; 0: not */
    int64_t kill_grace_ms, kill_again_ms;
    int64_t record_boot_ms; /* when the exit record is tried again; 0: not */
    int record_fd;          /* the file that becomes it, with its room; -1: not there yet */

    int source_fd; /* its output: a pipe's end or the PTY's master; -1: at its end */
    int slave_fd;  /* of the PTY, kept open so that the master never hangs up; -1: none */
    int out_fd;    /* the file; -1: nothing written yet */
    int64_t total, kept;
    int out_error; /* errno of a write that failed: nothing more is kept */
    int64_t told_total, told_boot_ms;

    int sink_fd; /* its input; -1: closed */
    struct buf pending;
    size_t pending_at;
    bool close_after; /* close the input when nothing is pending */
    struct buf input_ids;

    int listen_fd, signal_fd;
    struct connection connections[CONNECTIONS_MAX];
};

/* child.c: opens pipes or a PTY and starts the process. 0, or -1 with a sentence in `detail`. */
int child_start(struct runner *r, struct buf *detail);
/* Of a command line that is too long for an argument: before the gate, since it may find no room. -1 with errno. */
int child_write_command(const struct run_spec *spec);

/* output.c */
/* Takes what is there, at most a few buffers full. */
void output_read(struct runner *r);
/* Takes all that was written before now, and not much more, whoever goes on writing. */
void output_drain(struct runner *r);
int output_sync(struct runner *r);

/* input.c */
enum ctl_refusal input_take(struct runner *r, struct str id, struct str bytes);
void input_put(struct runner *r, struct str bytes);
void input_write(struct runner *r);
bool input_waits(const struct runner *r);
void input_close(struct runner *r);

/* control.c */
void control_accept(struct runner *r);
void control_read(struct runner *r, struct connection *c);
void control_tell_output(struct runner *r);
void control_tell_ended(struct runner *r);

/* ending.c */
/* Room for the exit record, before there is a process: -1 (and errno) if the disk is too full for it. */
int ending_reserve(struct runner *r);
/* The exit record of a process that never ran. */
void ending_not_started(struct runner *r, struct str detail);
/* Collects children that ended; writes the record when the main one did. */
void ending_reap(struct runner *r);
void ending_kill(struct runner *r, int64_t grace_ms);
/* SIGKILL, or the exit record, where it is due. */
void ending_tick(struct runner *r);
