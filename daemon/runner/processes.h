#pragma once
/* Finding and signalling the processes of a run. Pids lie (they are reused, and zombies answer), so every signal goes through a
 * pidfd that was opened first and whose process was looked at again after. Calls: libc, /proc. */
#include <stddef.h>
#include <sys/types.h>

/* Sends `signal` to each living descendant of `root`, not to root itself. Returns how many there were. */
size_t processes_signal_below(pid_t root, int signal);

/* Kills each process whose environment holds `marker` (NAME=value, whole), waits until they are gone (at most a second or so) and
 * returns how many there were. For runs whose runner is dead: its children have other parents by then. */
size_t processes_kill_marked(const char *marker);
