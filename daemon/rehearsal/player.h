#pragma once
/* From a request to a reply: finds the wire and the step, checks the expectations, applies the faults. Does
 * no I/O. */
#include "daemon/rehearsal/reply.h"
#include "daemon/rehearsal/script.h"
#include "daemon/rehearsal/wire.h"

#define PLAYER_DEPTH_MAX 512 /* nesting of a request */

struct player {
    const struct script *script;
    const char *wire; /* the only one that is spoken, or NULL */
    struct asked *asked;
};

/* Fills an initialised reply. `now_s` is the time that answers bear. */
void player_reply(struct player *p, struct str method, struct str path, struct str body, int64_t now_s,
                  struct reply *reply);
