#pragma once
/* Makes the folders of a path. Calls: libc only. */

/* Makes `path` and the folders above it that are missing, for their owner alone (0700), as the XDG base
 * directory specification asks. Those that exist stay as they are; the names of new ones last. 0, or -1 and
 * errno. */
int folders_make(const char *path);

/* Makes the name of a file or folder last in the folder that holds it. One that may not be read, or cannot be
 * synced at all, is none of ours: that is no error. */
int folders_sync_above(const char *path);
