#pragma once
/* What view.c and view_tools.c share. Nobody else includes it. */
#include "client/view.h"

#include "client/say.h"

#include <stdint.h>
#include <string.h>

#define ITEMS_MAX 16      /* items that are streamed at once */
#define RUNS_MAX 16       /* runs whose output is shown live at once */
#define CALLS_MAX 64      /* calls that wait for their result */
#define HEAD_LINES 6      /* of a command's output */
#define TAIL_LINES 4
#define LINE_BYTES_MAX 4096
#define NAME_SIZE 32

struct view_item {
    char id[NAME_SIZE];
    int64_t shown; /* bytes of its text */
    bool open;     /* the last line of it is not complete */
};

struct view_run {
    char id[NAME_SIZE];
    struct buf line; /* not complete yet */
    int64_t end;     /* offset behind what came */
    int64_t lines;   /* complete lines so far */
    char *tail[TAIL_LINES]; /* the last ones behind the head, a ring */
};

struct view_call {
    char id[NAME_SIZE];
    char tool[NAME_SIZE];
    char run[NAME_SIZE];
    struct buf ended; /* what to say of its run once its result is shown */
    bool known;       /* that is more than how it ended */
};

struct view {
    struct view_options options;
    struct view_item items[ITEMS_MAX];
    struct view_run runs[RUNS_MAX];
    struct view_call calls[CALLS_MAX];
    size_t items_n, runs_n, calls_n; /* given out so far; the oldest is taken again */
    bool open;                       /* the last line on the screen is not complete */
    char time[16];
};

struct view_run *view_run_of(struct view *v, struct str id, bool make);
struct view_call *view_call_of(struct view *v, struct str id, bool make);
void view_run_clear(struct view_run *r);
void view_call_clear(struct view_call *c);

/* One line: `text` is shown safely, in one style, cut to the width. */
void view_line(struct view *v, enum say_style style, const char *before, struct str text);
void view_linef(struct view *v, enum say_style style, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* view_tools.c: calls, their processes and what those write. */
void view_output_delta(struct view *v, const json_t *delta);
void view_tool_called(struct view *v, const json_t *e);
void view_tool_result(struct view *v, const json_t *e);
void view_run_started(struct view *v, const json_t *e);
void view_run_ended(struct view *v, const json_t *e);

/* Absent and of another type: empty, or 0. */
static inline struct str view_get(const json_t *o, const char *name)
{
    const json_t *s = json_object_get(o, name);
    return json_is_string(s) ? str_n(json_string_value(s), json_string_length(s)) : STR("");
}

static inline int64_t view_get_int(const json_t *o, const char *name)
{
    return json_integer_value(json_object_get(o, name));
}

static inline void view_copy_name(char ret[NAME_SIZE], struct str s)
{
    size_t n = s.n < NAME_SIZE - 1 ? s.n : NAME_SIZE - 1;
    memcpy(ret, s.p, n);
    ret[n] = 0;
}
