#pragma once
/*~ The daemon whose journal failed too often (see failures.h), or whose state folder's file system cannot be written: it shows what there
 * is and changes nothing.
 *
 * SQLite cannot read a WAL database in a folder that it may not write, and a disk that fails is not to be written at all. So the database
 * and its log (never its index) are copied into a private folder, agentd-read-only-*, in $XDG_RUNTIME_DIR, else in $TMPDIR or /tmp, the
 * first that has room, and the store is opened there; the folder is removed at the end, and what a killed daemon has left by the next one
 * of the same state folder, in whatever mode. Content in files is read from where it is. If the copy cannot be made (no room, or the
 * database itself cannot be read) the daemon says why and ends with LIFECYCLE_EXIT_ROOM; the next one opens the journal again.
 *
 * What it does: initialize, views, events and subscriptions to history, doctor, backup (of the copy: a way off the disk), the end. What is
 * a change gets RPC_READ_ONLY. No task is brought back, so no work starts; processes of tools are left alone, their runners keep
 * output and exit for the daemon that writes again.
 *
 * How it ends: `daemon stop`, `daemon restart`, a signal; or by itself every limits.read_only_retry_ms, when a file in the state folder can
 * be written and synced: then it exits to be restarted (LIFECYCLE_EXIT_RESTART). Whichever it is, the next daemon opens the journal. */
#include "daemon/daemon.h"

/* Removes the copy that a killed daemon of this state folder has left: it holds all that its tasks do. Whoever has the lock. */
void read_only_clean(const char *state_dir);
/* In place of store_open(): d->store and d->read_only, or a lifecycle_exit and a sentence. `reason` is copied. */
int read_only_begin(struct daemon *d, const char *reason, struct buf *error);
/* Once the loop is to run. */
void read_only_watch(struct daemon *d);
/* Before the store is closed, and behind. */
void read_only_end(struct daemon *d);
void read_only_free(struct daemon *d);
