#pragma once
/* For the tests of a store whose disk fails or whose process dies: batches that say their number, in all that they write, so that what is
 * there afterwards tells how many are whole; and programs beside this one, that share its folder. */
#include "test_store.h"

#include <sys/types.h>

#define A "t01aaaaaaaaaaaaaaaaaaaaaaaaa"
#define EVENTS_PER_BATCH 3

/* Batch n: three events, an element of the prompt, the task, a meta value; every fifth one has large content.
 * All of it says n. */
struct store_batch *numbered(int64_t n);
/* How many whole batches are there; that nothing of another one is. */
int64_t check_whole(struct box *b);
/* A new folder with n batches, on a disk that can be made to fail (fault_vfs.h). */
void box_numbered(struct box *b, int64_t n);

/* A copy to DIR/copy, waited for: its status; its error in b->error. */
int box_backup(struct box *b);
void expect_no_copy(const struct box *b);

/* Starts this program with `verb` and the folder; *ret_out: what it prints. `failpoint`: where it dies, or NULL. */
pid_t child_start(const char *verb, const char *dir, const char *failpoint, int *ret_out);
/* Its status, as waitpid() gives it. */
int child_wait(pid_t pid);

/* The verbs: what the other side does, and its exit code. */
int child_write(const char *dir);
int child_full(const char *dir);
