#pragma once
/* The file of the state folder that holds the number of the process that starts the daemon. The newest supervisor writes its own there;
 * one that finds the number of another living process leaves the daemon to that. agentctl holds the post for the moment in which it
 * replaces a supervisor by one of its own installation. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#define POST_NAME "supervisor"

/* By rename: whoever reads it while it changes hands finds one holder or the other, never nobody. 0, or -1 with errno. */
static inline int post_take(const char *state_dir)
{
    char path[PATH_MAX], own[PATH_MAX];
    int pid = (int)getpid();
    if (snprintf(path, sizeof path, "%s/" POST_NAME, state_dir) >= PATH_MAX ||
        snprintf(own, sizeof own, "%s/" POST_NAME ".%d", state_dir, pid) >= PATH_MAX)
        return -1;
    int fd = open(own, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    int rc = dprintf(fd, "%d\n", pid) > 0 ? rename(own, path) : -1;
    close(fd);
    if (rc < 0)
        unlink(own);
    return rc;
}
