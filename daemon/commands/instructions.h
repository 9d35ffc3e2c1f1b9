#pragma once
/* What every model is told before anything else. Part of the prompt's head, so it is written once per task
 * and never again. */
#include "daemon/base/buf.h"

void instructions_put(struct buf *b, struct str workspace);
