#pragma once
/* What the tests of the store share: a state folder of their own with an open store, and rows to put into
 * it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/mem.h"
#include "daemon/store/store.h"

struct box {
    char dir[256];
    uv_loop_t loop;
    struct store *store;
    struct buf error; /* of the last call that failed */
};

void box_make(struct box *b);
/* Opens the store of the folder (again); the status. */
int box_open(struct box *b);
void box_close(struct box *b);
/* Closes what is open and removes the folder. */
void box_free(struct box *b);
/* "DIR/name"; lives until the next call. */
const char *box_path(const struct box *b, const char *name);

/* Commits on the journal thread and turns the loop until it is done. The batch is taken, or handed back in
 * *ret_batch. */
int box_commit(struct box *b, struct store_batch *batch, struct store_batch **ret_batch);
void box_commit_ok(struct box *b, struct store_batch *batch);

/* A live task named after its id. */
void put_task(struct store_batch *batch, const char *id, int64_t seq, int64_t created_ms);
/* An event {"seq":N,"task":"ID"}. */
void put_event(struct store_batch *batch, int64_t pos, const char *id, int64_t seq);
/* store_check(), waited for; its error in b->error. */
int box_check(struct box *b);
struct str bytes_of(char fill, size_t n); /* n equal bytes; lives until the next call */

/* How many events the task has, checked to be 1, 2, 3 ... without a gap, each with its own text. */
int64_t count_events(struct store *s, const char *id);

#define STORE_TESTS(X)                                                                                       \
    X(rows_come_back)                                                                                        \
    X(rows_survive_a_reopen)                                                                                 \
    X(a_task_is_replaced_but_for_its_spec)                                                                   \
    X(a_row_without_its_task_is_refused)                                                                     \
    X(the_first_answer_to_a_key_stays)                                                                       \
    X(pages_of_events_go_both_ways)                                                                          \
    X(a_page_is_bounded_by_bytes)                                                                            \
    X(a_callback_ends_a_walk)                                                                                \
    X(a_hundred_thousand_events)                                                                             \
    X(the_journal_runs_over_all_tasks)                                                                       \
    X(pages_of_tasks)                                                                                        \
    X(texts_resolve_to_tasks)                                                                                \
    X(a_prompt_is_put_together)                                                                              \
    X(reading_goes_on_while_batches_commit)                                                                  \
    X(commits_wait_for_each_other)                                                                           \
    X(the_log_stays_small)                                                                                   \
    X(large_content_is_in_files)                                                                             \
    X(a_damaged_file_is_noticed)                                                                             \
    X(a_backup_is_one_whole_file)                                                                            \
    X(a_backup_is_made_between_commits)                                                                      \
    X(a_backup_that_fails_leaves_nothing)                                                                    \
    X(a_backup_replaces_no_file)                                                                             \
    X(a_backup_without_room_leaves_nothing)                                                                  \
    X(checks_do_not_hold_the_loop_up)                                                                        \
    X(a_check_gives_way)                                                                                     \
    X(old_keys_without_a_task_are_forgotten)                                                                 \
    X(connections_are_set_up_as_designed)                                                                    \
    X(a_newer_database_is_refused)                                                                           \
    X(a_lost_database_is_not_made_anew)                                                                      \
    X(a_foreign_database_is_refused)                                                                         \
    X(a_file_that_is_no_database_is_refused)                                                                 \
    X(another_migration_text_is_refused)                                                                     \
    X(an_empty_file_is_taken)                                                                                \
    X(migrations_run_once_and_in_order)                                                                      \
    X(a_migration_that_fails_changes_nothing)                                                                \
    X(damage_is_found_by_the_check)                                                                          \
    X(a_full_disk_loses_nothing)                                                                             \
    X(an_index_that_cannot_grow_is_a_full_disk)                                                              \
    X(a_failing_disk_is_never_taken_for_success)                                                             \
    X(a_disk_that_cannot_be_read_is_not_taken_for_empty)                                                     \
    X(a_failed_journal_stays_failed)                                                                         \
    X(a_checkpoint_that_fails_loses_nothing)                                                                 \
    X(a_small_disk_fills_and_empties)                                                                        \
    X(a_killed_writer_loses_nothing_acknowledged)                                                            \
    X(a_writer_killed_at_each_boundary_loses_nothing)

#define X(name) void name(void **state);
STORE_TESTS(X)
#undef X

/* What this program does when it is started with arguments: the other side of the tests that kill. */
int store_child(int argc, char **argv);
