#pragma once
/* A consistent copy of the database as one file, made in slices between commits on the connection that
 * writes, so that what is committed meanwhile is in the copy too. The copy is whole or not there: it gets its
 * name when it is synced. Content that is in files goes back into its rows, so that the one file holds
 * everything. */
#include "daemon/store/blob.h"
#include "daemon/store/db.h"

struct backup;

/* 0 or a STORE_E_*; a failed backup says nothing about the live database. */
int backup_begin(struct db *source, const char *path, struct backup **ret, struct buf *error);
/* One slice, of a few milliseconds; *ret_over once the copy stands under its name. `blobs` NULL: they stay in
 * files. */
int backup_slice(struct backup *b, const struct blobs *blobs, bool *ret_over, struct buf *error);
/* Drops what is not finished. */
void backup_free(struct backup *b);

/* All slices at once, without the content of files: for the copy before a migration. */
int backup_whole(struct db *source, const char *path, struct buf *error);
