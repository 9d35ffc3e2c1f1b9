#pragma once
/* The few file operations that must survive a power loss, for the parts of the store that are not in SQLite.
 * Each returns 0 or a negative errno. */
#include "daemon/base/str.h"

#include <stdbool.h>

/* Opens a folder to be named in the *at() calls, made (0700) if it is missing; ret is its descriptor. */
int files_open_folder(int parent, const char *name, int *ret);
/* After this the names in the folder last. */
int files_sync_folder(int folder);
/* The same for the folder that holds `path`. */
int files_sync_folder_of(const char *path);
int files_write_all(int fd, struct str bytes);
/* Reads exactly n bytes; -EIO if the file is shorter. */
int files_read_all(int fd, char *p, size_t n);
/* Reads all of it: 0, or why it cannot be read (negative errno). One that is not there has nothing unreadable. */
int files_readable(int folder, const char *name);
/* The disk, or the user's share of it, is full. */
bool files_full(int negative_errno);
