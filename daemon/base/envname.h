#pragma once
/* Which variables of a client's environment may reach a task's tools: names from a list, never one that looks like a secret. Clients send
 * no others, the daemon takes no others. */
#include "daemon/base/str.h"

#include <stdbool.h>

bool envname_allowed(struct str name);
