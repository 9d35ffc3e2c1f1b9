#pragma once
/* What the tests of the archive share: tasks with events and prompts from a seed, and all that can be read of them as one text. */
#include "test_store.h"

#define TASKS_MAX 16

struct fill {
    int tasks;
    int64_t pos, seq[TASKS_MAX], elements[TASKS_MAX];
    uint32_t seed;
    int64_t ended_ms;
    int large; /* one content of so many is large enough for a file of its own */
};

void task_id(int n, char ret[32]);
/* Commits `events` more events, of the tasks by turns and at random, and elements of their prompts; the tasks are live. */
void fill_more(struct box *b, struct fill *f, int events);
/* Ends task n (or takes it up again). */
void fill_end(struct box *b, struct fill *f, int n, bool live);
/* All that can be read of the tasks, in pages of several sizes; the texts of equal stores are equal. */
void read_all(struct store *s, const struct fill *f, struct buf *ret);
/* From now on everything that has ended is archived at once. Counts from 0 which were told to be removed. */
extern int removed_told;
void retain(struct box *b, int64_t after_ms, int64_t keep_ms, int64_t bytes_max);
/* Turns the loop until so many tasks were archived and removed. */
void wait_usage(struct box *b, int64_t archived, int64_t removed);
void turn_until(struct box *b, bool (*done)(struct box *b, void *arg), void *arg);
/* The first number that the statement gives, on a connection of its own. */
int64_t look(const struct box *b, const char *sql);
void change(const struct box *b, const char *sql);
int count_files(const struct box *b, const char *folder);
