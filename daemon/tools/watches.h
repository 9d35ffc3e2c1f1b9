#pragma once
/* Follows paths: says when what is found at one is no longer what it was. What counts is stat(2): the kernel's notifications only
 * make it quick, and where there are none (no descriptor or watch left, a network file system) a look every ten seconds does.
 * Calls: base, libuv. */
#include "daemon/core/types.h"

#include <uv.h>

struct watches;

/* At most once a watch, from the loop, never from inside of a call; the watch stays until it is removed. */
typedef void watches_changed_cb(void *arg, const char *task, int64_t wait, int64_t condition);

struct watches *watches_new(uv_loop_t *loop, watches_changed_cb *changed, void *arg);
/* Its handles are closed in the loop's next turns, which free it. */
void watches_free(struct watches *w);

/* What is there now. A path that cannot be looked at counts as one where nothing is. */
void watches_stamp(const char *path, struct file_stamp *ret);
/* Reports once it differs from the stamp, which may be at once. */
void watches_add(struct watches *w, const char *task, int64_t wait, int64_t condition, struct str path,
                 const struct file_stamp *stamp);
void watches_remove(struct watches *w, const char *task, int64_t wait, int64_t condition);
