#pragma once
/* Reading the arguments of a call as models write them: numbers as text, other names for the same thing, members that nobody asked
 * for. What cannot be understood becomes an answer that says what to send. Inside of tools.h. Calls: base, jansson. */
#include "daemon/base/buf.h"
#include "daemon/core/types.h"
#include "proto/proto.h"

#include <jansson.h>

struct arguments {
    const json_t *root; /* an object */
    struct str raw;     /* as received, where a tool can read that too */
    struct str workspace;
    const struct limits *limits;
    struct proto_arena *arena;
    struct buf *error; /* why it cannot be understood */
    struct call_spec *spec;
};

struct str arena_copy(struct proto_arena *arena, struct str s);
/* The first of the comma-separated `names` that is there and not null, or NULL. */
const json_t *argument(const struct arguments *a, const char *names);
/* 1: *ret is set (a view that lives as long as root); 0: it is not there; -1: it is no text, error says so. */
int argument_text(const struct arguments *a, const char *names, struct str *ret);
/* The same for a whole number; text like "5000", "1.5s" or "200 ms" is taken too (the result is then in milliseconds). */
int argument_number(const struct arguments *a, const char *names, int64_t *ret);
int argument_flag(const struct arguments *a, const char *names, bool *ret);
/* `path` absolute, from the workspace if it is relative; in the arena. */
struct str argument_path(const struct arguments *a, struct str path);

/* yield_ms and output_bytes of the spec, in their bounds. */
int argument_waits(const struct arguments *a, int64_t yield_ms_default);

/* One line for people, at most so long. */
struct str argument_title(struct proto_arena *arena, struct str text);

typedef int tool_prepare_cb(struct arguments *a); /* 0, or -1 with a sentence in error */
extern const struct tool tool_exec, tool_stdin, tool_patch, tool_plan, tool_image, tool_wait;
tool_prepare_cb tool_exec_prepare, tool_stdin_prepare, tool_patch_prepare, tool_plan_prepare, tool_image_prepare, tool_wait_prepare;
/* The spec of a patch run, also for a shell command that is nothing but a patch. */
int tool_patch_spec(struct arguments *a, struct str patch);
