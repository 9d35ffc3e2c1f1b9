#pragma once
/* Writes one batch in one transaction. Called on the journal thread with the writing connection. */
#include "daemon/store/batch.h"
#include "daemon/store/blob.h"
#include "daemon/store/db.h"

/* 0: durable. STORE_E_FULL: nothing was written, the batch can be written again. STORE_E_IO: in doubt. */
int commit_batch(struct db *db, struct blobs *blobs, struct store_batch *batch, struct buf *error);
