#pragma once
/* The part of a client's environment that a task's tools get: names from a list, never one that looks like a
 * secret. It is stored with the task. Calls: base, jansson. */
#include "daemon/base/buf.h"

#include <stdbool.h>

#define ENV_NAMES_MAX 256
#define ENV_BYTES_MAX 65536

bool env_allowed(struct str name);
/* Reads an object of strings (absent: an empty one), drops what is not allowed, adds PATH and HOME if they
 * are missing. 0 and a NULL-terminated array of NAME=value, or -1 and a sentence. */
int env_read(struct str json, char ***ret, struct buf *error);
void env_free(char **env);
