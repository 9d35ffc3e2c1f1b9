#pragma once
/* A file system for SQLite that fails when it is told to. It becomes the default one, and passes everything
 * else on. */
#include <stdbool.h>

/* Of any file; the next two of the database itself only, which is written by checkpoints; the last: the index of the log grows beyond its
 * first region, and errno is ENOSPC. FAULT_READ: of any file. */
enum fault_call { FAULT_WRITE, FAULT_SYNC, FAULT_CHECKPOINT_WRITE, FAULT_CHECKPOINT_SYNC, FAULT_INDEX, FAULT_READ };

/* Once per process. */
void fault_vfs_install(void);
/* The nth call of that sort from now on returns `code`; with `forever` all later ones do too. */
void fault_vfs_arm(enum fault_call call, long nth, int code, bool forever);
/* Nothing fails any more; whether anything did. */
bool fault_vfs_disarm(void);
