#pragma once
/*~ What the disk did to the daemons before this one, and when this one serves read-only because of it.
 *
 * A journal that cannot be written or read leaves a daemon nothing but to end (LIFECYCLE_EXIT_IO): what its last commit became is in doubt,
 * and the next start reads it again. Each such end is noted here with its reason, so that the next daemon can tell it. After FAILURES_MAX
 * of them within FAILURES_WINDOW_MS the next daemon does not open the journal any more: it serves what can be read, from a copy (see
 * read_only.h), until it tries again.
 *
 * Where it is noted: the state folder may be on the very disk that fails, so first beside the socket (SOCKET.failures), which is memory
 * where there is an $XDG_RUNTIME_DIR, and only where that cannot be written in the state folder (agentd.failures). Should neither be
 * possible, agentd-supervise has counted too, and says so in LIFECYCLE_IO_EXITS_ENV; it forgets when a daemon ends in another way. With
 * systemd the file is all there is. Nothing is synced: another boot begins anew.
 *
 * A file is lines: "end" or "try", boot id, CLOCK_BOOTTIME and wall time in ms, and for an end the reason. "try" is the last word of a
 * daemon that was read-only: whoever starts next opens the journal, however often that has failed; if it fails again there is one more
 * "end", and the mode is back at once.
 *
 * Deliberately not here: a full disk (that is waited out), and what a daemon does in the mode. Calls: base. */
#include "daemon/base/buf.h"
#include "daemon/base/clock.h"

#include <stdbool.h>

#define FAILURES_MAX 3
#define FAILURES_WINDOW_MS 600000
#define FAILURES_TOLD_MS 86400000 /* an end is told so long, in this boot */
#define FAILURES_REASON_MAX 512

struct failures {
    struct buf paths[2]; /* in the order in which they are written */
    char boot_id[CLOCK_BOOT_ID_SIZE];

    /* As found, of this boot: */
    int n;           /* ends within the window */
    bool tried;      /* the last word is "try" */
    bool again;      /* the last word is "end", soon after a "try", and not long ago */
    int64_t told_ms; /* wall time of the last end; 0: none that is worth telling */
    char reason[FAILURES_REASON_MAX];
};

/* Reads what is there. */
void failures_open(struct failures *f, const char *socket_path, const char *state_dir, const char *boot_id);
void failures_close(struct failures *f);
/* Whether the daemon that starts now is to be read-only. */
bool failures_read_only(const struct failures *f);
/* This daemon ends now because of that. */
void failures_note_end(const struct failures *f, const char *reason);
/* The next daemon is to try again. */
void failures_note_try(const struct failures *f);
