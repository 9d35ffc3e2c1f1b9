#pragma once
/* Which images a model can be shown, told by their first bytes. Calls: base. */
#include "daemon/base/str.h"

/* "image/png", "image/jpeg", "image/gif", "image/webp", or NULL. */
const char *image_type(struct str data);
