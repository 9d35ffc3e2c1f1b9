#pragma once
/* Large content in files: STATE/blobs/<BLAKE2b-256 in hex>, written once, never changed, shared by equal
 * contents. A file is whole and its name lasts before the commit that names it; it knows nothing of the rows
 * that do. */
#include "daemon/base/buf.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BLOB_HASH_SIZE 32
#define BLOB_BYTES_MIN 131072 /* content above this goes to a file: SQLite's own crossover is near 100 KB */
#define BLOB_BYTES_MAX 536870912

struct blobs {
    int folder;
    int64_t bytes;      /* of all files, as far as they were counted; of the one thread that writes them */
    atomic_int holders; /* who may still come to read a file whose row is gone from the newest state */
};

/* Opens the folder, and removes what a write that was cut left behind. 0 or a negative errno, as all here. */
int blobs_open(struct blobs *b, int state_folder);
/* Only to be read; a folder that is not there holds nothing. */
void blobs_open_read(struct blobs *b, const char *state_dir);
void blobs_close(struct blobs *b);

/* Puts the content in place unless it is there already. The name lasts only after blobs_sync(). */
int blobs_put(struct blobs *b, struct str bytes, uint8_t ret_hash[BLOB_HASH_SIZE]);
int blobs_sync(const struct blobs *b);
/* Appends the content; -EBADMSG if it is not what the hash says, and nothing is appended. */
int blobs_read(const struct blobs *b, const uint8_t hash[BLOB_HASH_SIZE], int64_t bytes, struct buf *ret);
/* Whether a file of that length is there: cheap, its content is not read. */
bool blobs_present(const struct blobs *b, const uint8_t hash[BLOB_HASH_SIZE], int64_t bytes);

/* Around each reading of rows and then of the files that they name, from before the rows' moment is chosen. From any thread. */
void blobs_hold(struct blobs *b);
void blobs_release(struct blobs *b);
/* Whether a file that no committed row names can be removed now: who begins to hold later sees a state without that row. */
bool blobs_removable(const struct blobs *b);
/* A file that is not there is no error. */
int blobs_remove(struct blobs *b, const uint8_t hash[BLOB_HASH_SIZE]);
