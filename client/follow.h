#pragma once
/* Follows one task: shows its events as they come until it ends or needs a person. */
#include "client/client.h"
#include "client/view.h"

struct follow {
    const char *task; /* its id */
    int64_t after_seq;
    /* The task as task/get showed it: what happened before that has been overtaken, and ends nothing. */
    const json_t *known;
    struct view *view; /* NULL: nothing is shown */
    bool json;         /* each event on a line */
    int64_t deadline_ms; /* CLOCK_BOOTTIME; -1: none */
};

/* The exit code that a task's state means, or -1: it goes on by itself. `waiting` may be NULL. */
int follow_verdict(const char *state, const json_t *waiting);
/* Follows; returns the exit code. What went wrong has been said, but not the task's end. */
int follow_run(struct client *c, const struct follow *f);
/* Says on stderr how the task ended and what it used, or what a person has to do. */
void follow_say_end(struct client *c, const char *task, int code);
/* "12 steps in 45 s; 98.1k tokens in (90.2k cached), 3.2k out, $0.12" */
void follow_put_usage(struct buf *b, const json_t *task);
