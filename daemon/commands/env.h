#pragma once
/* The part of a client's environment that a task's tools get: the names that base/envname.h allows. It is stored with the task.
 * Calls: base, jansson. */
#include "daemon/base/buf.h"

#define ENV_NAMES_MAX 256
#define ENV_BYTES_MAX 65536

/* Reads an object of strings (absent: an empty one), drops what is not allowed, adds PATH and HOME if they
 * are missing. 0 and a NULL-terminated array of NAME=value, or -1 and a sentence. */
int env_read(struct str json, char ***ret, struct buf *error);
void env_free(char **env);
