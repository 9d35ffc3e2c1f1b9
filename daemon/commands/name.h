#pragma once
/* Names of tasks: their form, and one made from a prompt. Pure. Calls: base. */
#include "daemon/base/buf.h"

#include <stdbool.h>

/* 1 to 64 letters, digits, `-`, `_`, `.`; not starting with `-` or `.`. */
bool name_valid(struct str name);
/* The first words of the prompt, in lower case, with `-` between them, about 32 characters; never empty. */
void name_from_prompt(struct str prompt, struct buf *ret);
