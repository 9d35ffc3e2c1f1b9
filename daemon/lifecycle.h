#pragma once
/* What a daemon does to its surroundings before and after it works: the state folder, the lock on it, the
 * mark of an orderly stop, the limits of the process, the word to whoever started it. It knows no task, no
 * database and no loop. Calls: base. */
#include "daemon/base/buf.h"
#include "daemon/base/clock.h"

#include <stdbool.h>

/* How agentd ends, and what its supervisor (agentd-supervise, or systemd) makes of it. The numbers are those
 * of sysexits.h where one fits. Any other number, or a signal, is an abnormal end: restarted with back-off.
 */
enum lifecycle_exit {
    LIFECYCLE_EXIT_OK = 0,       /* orderly: stays down */
    LIFECYCLE_EXIT_USAGE = 64,   /* wrong arguments: stays down */
    LIFECYCLE_EXIT_NEWER = 65,   /* the database is of a newer agentd, or is none of ours: stays down */
    LIFECYCLE_EXIT_LOCKED = 69,  /* another daemon owns the state folder: stays down */
    LIFECYCLE_EXIT_ROOM = 73,    /* there is no room to begin: restarted with back-off */
    LIFECYCLE_EXIT_IO = 74,      /* a write failed and is in doubt: restarted with back-off, reads again (see failures.h) */
    LIFECYCLE_EXIT_RESTART = 75, /* asked for: restarted at once, from the newest file at its path */
    LIFECYCLE_EXIT_STATE = 77,   /* the state folder cannot be used: stays down */
    LIFECYCLE_EXIT_CONFIG = 78,  /* the configuration has an error: stays down, unless it ran before: then with back-off */
};

/* Whether a daemon that exited with this status is to stay down. */
static inline bool lifecycle_exit_final(int status)
{
    return status == LIFECYCLE_EXIT_OK || status == LIFECYCLE_EXIT_USAGE || status == LIFECYCLE_EXIT_NEWER ||
           status == LIFECYCLE_EXIT_LOCKED || status == LIFECYCLE_EXIT_STATE ||
           status == LIFECYCLE_EXIT_CONFIG;
}

/* A file descriptor's number, in the environment of a daemon: it writes one byte there once it serves. */
#define LIFECYCLE_READY_ENV "AGENTD_READY_FD"

/* In the environment of a daemon: how many before it ended with LIFECYCLE_EXIT_IO in the last ten minutes, and none in another way. */
#define LIFECYCLE_IO_EXITS_ENV "AGENTD_IO_EXITS"

struct lifecycle {
    int state_fd; /* the state folder */
    int lock_fd;
    bool was_stopped; /* the last daemon was stopped by `daemon stop` */
    bool read_only;   /* the file system of the state folder cannot be written; it has a lock all the same */
    int disk_error;   /* an errno: the folder's name may not last, so nothing may rest on it. 0: it does */
    char boot_id[CLOCK_BOOT_ID_SIZE];
    /* What the daemon changed for itself and tools get back (see runs_config). */
    int64_t tool_files_max; /* RLIMIT_NOFILE (soft) as it was before */
    int64_t tool_umask;
};

/* Does it all, in this order: umask 077, SIGPIPE ignored, boot id read, state folder made (0700) and checked,
 * its lock taken, the mark of the last stop removed, the limit on descriptors raised. 0 and the struct, or a
 * lifecycle_exit (STATE, LOCKED, or IO) and a sentence. What a disk refuses that one can do without is only
 * told: `disk_error`. A lock whose owner is only just ending or beginning is waited for, at most LIFECYCLE_LOCK_WAIT_MS. */
#define LIFECYCLE_LOCK_WAIT_MS 5000
int lifecycle_begin(const char *state_dir, struct lifecycle *ret, struct buf *error);

/* The daemon serves: tells its supervisor, once. */
void lifecycle_ready(void);

/* The daemon begins to end. From now on a daemon that wants the lock waits for it. With `stopped`, the end
 * was asked for by a user (`daemon stop`): durably leaves the mark that keeps views from starting it again.
 * 0, or -1 and a sentence. */
int lifecycle_ending(struct lifecycle *l, bool stopped, struct buf *error);
/* Lets the lock go. Nothing in the state folder may be touched after that. */
void lifecycle_end(struct lifecycle *l);

/* For clients: whether the mark of an orderly stop is in the state folder. */
bool lifecycle_stopped(const char *state_dir);
