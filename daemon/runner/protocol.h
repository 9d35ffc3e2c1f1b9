#pragma once
/* What agentd and agentd-runner agree on: the files of a run's folder and the wire of its control socket. Both are read by
 * daemons and runners of other versions (a runner outlives an update of the daemon), so they only ever grow: readers ignore
 * fields, message kinds and trailing bytes that they do not know. Deliberately not here: how either side works.
 *
 * The folder `<runs>/<task>/<run>/`:
 *
 *   spec    what to run, as fields of pack.h; written by the daemon before the runner is spawned, never changed. flock'ed by the
 *           daemon before it writes, and by the runner, which inherits the descriptor, for as long as that lives: the only proof
 *           of life
 *   ctl     the control socket. The daemon binds it and hands the listening descriptor to the runner, so that a connection is
 *           accepted from the very start; refused means that the runner is gone
 *   start   created with O_EXCL right before the process: the at-most-once gate
 *   out     the output kept: always a prefix of all that was written; absent while nothing was
 *   input   the ids of the inputs that were taken, one a line, written before the input is
 *   exit    the exit record, linked in place when it is whole; its last four bytes are a CRC-32 of the others. Until then `exit.tmp`
 *           keeps its room, made by the daemon
 *   command the command line, where it is too long for an argument
 *   patch   the manifest of agentd-tool apply-patch
 */
#include <stdint.h>

#define RUN_FILE_SPEC "spec"
#define RUN_FILE_CTL "ctl"
#define RUN_FILE_START "start"
#define RUN_FILE_OUT "out"
#define RUN_FILE_INPUT "input"
#define RUN_FILE_EXIT "exit"
#define RUN_FILE_EXIT_TMP "exit.tmp"
#define RUN_FILE_COMMAND "command"
#define RUN_FILE_PATCH "patch"

/* `agentd-runner FOLDER`, with these two descriptors: */
#define RUNNER_FD_SPEC 3 /* holds the lock */
#define RUNNER_FD_LISTEN 4
/* It found no room to pass the gate: no `start`, no record. It can be started again. */
#define RUNNER_EXIT_FULL 73

#define RUN_SPEC_BYTES_MAX (96 * 1024 * 1024)
#define RUN_RECORD_BYTES_MAX 65536
#define RUN_EXIT_RESERVE_BYTES 4096 /* more than an exit record has */

/* Every process of a run has AGENTD_RUN=<task>/<run> in its environment. */
#define RUN_MARKER "AGENTD_RUN="

#define CTL_VERSION 1
#define CTL_INPUT_ID_MAX 64
#define CTL_BODY_BYTES_MAX (17 * 1024 * 1024) /* the largest input_bytes_max, and room */

/* A frame is a ctl_head and `size` bytes of body: a struct below in the machine's own byte order, perhaps with bytes behind. */
struct ctl_head {
    uint32_t size;
    uint32_t kind;
};

enum ctl_kind {
    /* both ways, first */
    CTL_HELLO = 1,
    /* to the runner */
    CTL_INPUT = 2,
    CTL_RESIZE = 3,
    CTL_KILL = 4,
    /* from the runner */
    CTL_OUTPUT = 16,
    CTL_ENDED = 17,
    CTL_INPUT_DONE = 18,
};

struct ctl_hello {
    uint32_t version;
    int32_t pid;   /* from the runner: its own */
    int64_t total; /* from the runner: bytes of output so far */
    uint32_t ended; /* from the runner: the exit record is there */
    uint32_t reserved;
};

struct ctl_input { /* behind it: the id, the bytes */
    uint32_t id_n;
};

struct ctl_resize {
    uint16_t columns, rows;
};

struct ctl_kill { /* SIGTERM to the whole run now, SIGKILL after the grace */
    uint32_t grace_ms;
};

struct ctl_output {
    int64_t total;
};

struct ctl_ended { /* the exit record is there */
    int64_t total;
};

enum ctl_refusal {
    CTL_REFUSED_NOT = 0,
    CTL_REFUSED_ENDED = 1,  /* the process has ended, or has closed its input */
    CTL_REFUSED_FULL = 2,   /* too much input waits for it already */
    CTL_REFUSED_RECORD = 3, /* the id could not be recorded */
    CTL_REFUSED_BAD = 4,    /* no id, or one that is too long */
};

struct ctl_input_done { /* behind it: the id */
    uint32_t id_n;
    uint32_t refused; /* enum ctl_refusal */
};
