#pragma once
/* The tools that a model may call: their definitions, and the step from a call's raw arguments to a call_spec. Pure:
 * nothing here starts a process or touches a file; a bad call becomes a CALL_SORT_ANSWER with is_error and a sentence
 * that tells the model what to do instead. Each tool is a small file with its schema. Calls: base, jansson. */
#include "daemon/core/types.h"

struct tool {
    const char *name;
    const char *description;
    const char *parameters; /* JSON Schema of the arguments, one line */
};

/* All tools, in the order in which the model is told of them. */
const struct tool *tools_all(size_t *ret_n);

/* Reads the call of tool `name` with the raw `arguments` into *ret (wire_id is left alone). `workspace` is absolute; a
 * relative workdir is taken from there. Whatever ret points to is allocated in `arena` or is a view of the arguments
 * given. Never fails: see above. */
void tools_prepare(struct str name, struct str arguments, struct str workspace, const struct limits *limits,
                   struct proto_arena *arena, struct call_spec *ret);
