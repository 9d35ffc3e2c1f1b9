#pragma once
/* A consistent copy of the database as one file. Its pages are copied in slices between commits on the
 * connection that writes, so that what is committed meanwhile is in the copy too; the rest is done apart from
 * that connection, on any thread. The copy is whole or not there: it gets its name when it is synced, and, if
 * somebody asked for it, checked. Content that is in files goes back into its rows, so that the one file
 * holds everything. */
#include "daemon/store/blob.h"
#include "daemon/store/check.h"
#include "daemon/store/db.h"

struct backup;

/* 0 or a STORE_E_*; a failed backup says nothing about the live database. `folder`: the state folder, where it is noted what the copy is
 * called until it has its name; -1: a file of that name may be replaced, and what a copy that was cut off has left; else an existing
 * file is refused. */
int backup_begin(struct db *source, const char *path, int folder, struct backup **ret, struct buf *error);
/* Removes what a backup has left whose daemon was killed, by that note. */
void backup_clean(int folder);
/* One slice of a few milliseconds; *ret_over once all pages are copied. */
int backup_slice(struct backup *b, bool *ret_over, struct buf *error);
/* Once they are: all the rest. `blobs` NULL: content stays in files, and the copy is not marked as one.
 * `check` NULL: the copy is not checked; else it also serves to stop this. */
int backup_finish(struct backup *b, const struct blobs *blobs, struct check *check, struct buf *error);
/* Drops what is not finished. */
void backup_free(struct backup *b);

/* All at once, without the content of files: for the copy before a migration. */
int backup_whole(struct db *source, const char *path, struct buf *error);
