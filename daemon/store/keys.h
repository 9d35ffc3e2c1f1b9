#pragma once
/* Keys that nobody asks for again: those without a task (of task/create) are forgotten after 7 days. A walk
 * over them in small steps, on the connection that writes. Keys of a task stay as long as it does. */
#include "daemon/store/db.h"

#define KEYS_DAYS 7
#define KEYS_STEP 256 /* keys that one step looks at */

struct keys_walk {
    struct buf at; /* the key that the last step ended with */
};

/* One step, one transaction; nothing is written if nothing is too old. *ret_over: it was the last one, and
 * the walk is at its beginning again. 0, STORE_E_FULL (nothing was deleted), or STORE_E_IO (in doubt). */
int keys_step(struct keys_walk *walk, struct db *db, bool *ret_over, struct buf *error);
void keys_walk_free(struct keys_walk *walk);
