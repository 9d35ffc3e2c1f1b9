#pragma once
/* Shows the events and the live text of one task to a person: short lines, no JSON, everything made safe for a terminal. It
 * remembers only what it needs in order not to show a thing twice. It reads events tolerantly: what it does not know it
 * passes over. */
#include <jansson.h>

#include "daemon/base/buf.h"

#include <stdbool.h>

struct view;

struct view_options {
    bool times;          /* a column with the time of day, for a log */
    bool hide_objective; /* the user has just typed it */
    bool hide_end;       /* the caller says it */
    const char *own_key; /* steers whose key begins so were typed here; NULL: none */
};

struct view *view_new(const struct view_options *options);
void view_free(struct view *v);

/* What there is to say about a wait beside what it is for; "" if nothing. */
const char *view_waiting_detail(const json_t *waiting);

void view_event(struct view *v, const json_t *event);
void view_delta(struct view *v, const json_t *delta);
/* Ends a line that was begun, so that something else can be said. */
void view_break(struct view *v);
