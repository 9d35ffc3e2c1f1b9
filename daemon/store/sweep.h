#pragma once
/* A walk over the folder of large contents in small steps: counts their bytes, and removes the files that no row names, which a
 * crash has left or a block has taken in. On the thread that writes, with its connection: a file that is about to be named is
 * put there by the same thread. */
#include "daemon/store/blob.h"
#include "daemon/store/db.h"

#include <dirent.h>

#define SWEEP_FILES 64 /* that one step looks at */

struct sweep {
    DIR *dir; /* NULL: no walk is under way */
    int64_t bytes;
    bool again; /* something could not be removed yet */
};

/* *ret_over: it was the last step; blobs->bytes is right then, unless the folder cannot be read now. 0; STORE_E_* of the database with a
 * sentence. */
int sweep_step(struct sweep *w, struct db *db, struct blobs *blobs, bool *ret_over, struct buf *error);
/* Removes those of `hashes` that no row names; what somebody may still read stays for the next walk. */
int sweep_files(struct sweep *w, struct db *db, struct blobs *blobs, struct str hashes, struct buf *error);
void sweep_free(struct sweep *w);
