#pragma once
/* Makes the folders of a path. Calls: libc only. */

/* Makes `path` and the folders above it that are missing, for their owner alone (0700), as the XDG base
 * directory specification asks. Those that exist stay as they are. 0, or -1 and errno. */
int folders_make(const char *path);
