#pragma once
/* For test_rpc: the daemon around the real rpc, made of lists in memory. Commands are a few that only echo;
 * the journal is an array; what is committed and what is published can be told apart, which is where the
 * races are. */
#include "daemon/daemon.h"

/* Appends an event to the journal: from now on the store's reader sees it. Returns its pos. `text_bytes` of
 * filler. */
int64_t fake_commit(const char *task, enum event_kind kind, size_t text_bytes);
/* Hands out to rpc_event() all that is committed and not published yet. */
void fake_publish(struct rpc *r);
int64_t fake_seq(const char *task);
/* Makes a task that world_task() knows. */
void fake_task(const char *id);
/* pump_after() waits until fake_settle(). */
void fake_unsettle(void);
void fake_settle(void);
/* Output of the one run that there is. */
extern struct buf fake_output;
/* The calls of METHOD_TASK_GET wait here for fake_answer(). */
size_t fake_waiting(void);
void fake_answer(void);
extern size_t fake_pages; /* reads of the store */
extern const char *fake_unreadable; /* why it fails to read; NULL: it does not */
void fake_reset(void);
