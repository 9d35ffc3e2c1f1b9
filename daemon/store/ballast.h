#pragma once
/* A file of 4 MiB that stands for room: dropped when the disk is full, so that the state of what runs can
 * still be committed, and made again once there is clearly room. Used by the journal thread alone; only
 * `missing` is read by others. */
#include <stdatomic.h>
#include <stdbool.h>

#define BALLAST_NAME "agentd.ballast"
#define BALLAST_BYTES 4194304

struct ballast {
    int folder;
    atomic_bool missing;
};

/* Makes the file where there is room for it, else notes that it is missing. */
void ballast_open(struct ballast *b, int folder);
void ballast_drop(struct ballast *b);
/* Tries to make it again; it wants several times its size free, so that it does not fill the disk itself. */
void ballast_restore(struct ballast *b);
