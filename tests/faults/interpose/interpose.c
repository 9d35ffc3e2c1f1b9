/* Stands between agentd's programs and their files (LD_PRELOAD), for tests. It does three things, each only if asked for:
 *
 *   records   every change to files and folders below a root, with its data, in the one order in which all processes made them; what
 *             left on sockets; which programs were started. tests/crash/powerloss rebuilds from it what a disk may hold after a loss of
 *             power.
 *   injects   an error, or a short write, at the n-th call of a kind on a file (tests/faults/io).
 *   pretends  another boot of the machine.
 *
 * Environment (it is handed on to programs named agentd-*, whatever environment they are given, and to nothing else):
 *
 *   AGENTD_IO_LOG=FILE      the log: a sparse file, as large as it may grow, made by the test; mapped, never open
 *   AGENTD_IO_ROOT=FOLDER   absolute, without links; what is not below it is passed through
 *   AGENTD_IO_CENSUS=1      reads and openings are recorded as well (without data)
 *   AGENTD_IO_FAIL=PROGRAM OP PATTERN NTH ERROR once|on|off
 *                           the NTH OP (names in fault.c) of PROGRAM (or *) on a file whose path below the root fits PATTERN
 *                           (fnmatch) fails with ERROR: a number, or `short`. once: only that one. on: and then everything that
 *                           changes files (ENOSPC: that makes them grow; short: that writes), of all programs.
 *   AGENTD_IO_SYNC_US=N     a sync does not reach the disk and takes so long (default: it reaches it, and takes as long as that takes)
 *   AGENTD_IO_BOOT_ID=ID    what /proc/sys/kernel/random/boot_id says
 *
 * A call and its record are one under the log's lock, which dies with its holder. So that no call is done and not recorded, a test does
 * not kill a program itself: it writes the pid into `die`, and the program kills itself before its next change.
 *
 * Bounds: mapped memory (SQLite's -shm only, which no recovery reads), O_TMPFILE, sendfile and their like are not seen; powerloss proves
 * that nothing is missed by comparing what the log rebuilds with what is on the disk. A full log ends the program with exit code 97. */
#include "interpose.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct asked asked = {.sync_us = -1, .program = "other"};

void give_up(const char *why)
{
    ssize_t ignored = syscall(SYS_write, 2, why, strlen(why));
    (void)ignored;
    _exit(97);
}

static void __attribute__((constructor)) begin(void)
{
    extern char **environ;
    char path[PATH_ROOM];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    path[n < 0 ? 0 : n] = 0;
    snprintf(asked.program, sizeof asked.program, "%s", strrchr(path, '/') ? strrchr(path, '/') + 1 : "other");
    if (program_letter() == '?')
        return;
    spawn_begin(environ);
    place_begin(getenv("AGENTD_IO_ROOT"));
    asked.boot_id = getenv("AGENTD_IO_BOOT_ID");
    asked.sync_us = getenv("AGENTD_IO_SYNC_US") ? atol(getenv("AGENTD_IO_SYNC_US")) : -1;
    asked.census = getenv("AGENTD_IO_CENSUS") != NULL;
    if (getenv("AGENTD_IO_LOG"))
        log_begin(getenv("AGENTD_IO_LOG"));
    if (getenv("AGENTD_IO_FAIL"))
        fault_begin(getenv("AGENTD_IO_FAIL"));
}
