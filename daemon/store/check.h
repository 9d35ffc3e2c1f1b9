#pragma once
/* The check of a whole database file: PRAGMA quick_check, whether the files are there that rows name, and whether
 * archived blocks can be unpacked. On
 * a connection of its own, which never checkpoints, on the thread that calls it. It reads every page, which
 * takes seconds and more on a large database; another thread can end it. */
#include "daemon/store/blob.h"
#include "daemon/store/db.h"

#include <uv.h>

struct check {
    uv_mutex_t mutex; /* guards what follows */
    uv_cond_t ended;
    sqlite3 *h; /* the connection at work */
    bool stopped;
};

void check_init(struct check *c);
void check_destroy(struct check *c);

/* `blobs` NULL: no row names a file. 0, STORE_E_FOREIGN with the first finding, or STORE_E_STOPPED. */
int check_run(struct check *c, const char *path, const struct blobs *blobs, struct buf *error);

/* From any thread: the run under way, and the next ones, end soon. */
void check_stop(struct check *c);
/* The same, and waits until none is under way. */
void check_stop_wait(struct check *c);
bool check_stopped(struct check *c);
/* Runs are possible again. */
void check_reset(struct check *c);
