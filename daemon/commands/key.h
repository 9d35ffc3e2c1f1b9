#pragma once
/* Changes: whether one is admitted at all, and the keys that make it happen once. The first answer to a key
 * is committed together with the change itself, so that a client that lost its connection can ask again and
 * learns what became of it. */
#include "command.h"

struct change {
    const struct command *command;
    struct str key; /* absent: none */
    struct buf digest;
};

/* False: the call is answered already (refused, or the first answer once more). */
bool change_begin(struct change *change, const struct command *c, struct str key);
/* The same for a change that only stops something: taken on a full disk too, as long as the room kept for it lasts. */
bool change_begin_stop(struct change *change, const struct command *c, struct str key);
/* The input was taken: answers once it is durable. `task` is where the key is remembered; NULL: for some
 * days only. */
void change_end(struct change *change, const char *task, const void *result);
void change_fail(struct change *change, enum rpc_error error, struct str detail);
/* `ref` names no task, or more than one. */
void change_fail_no_task(struct change *change, enum rpc_error error, struct str ref);
