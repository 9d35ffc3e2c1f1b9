#pragma once
/* The part of this environment that a task's tools get: an allow-list, so that no key travels by accident. The daemon filters
 * once more. */
#include "daemon/base/buf.h"

/* Appends an object of strings. */
void environment_put(struct buf *b);
