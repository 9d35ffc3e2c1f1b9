#pragma once
/* What a task keeps from the moment of its creation (law 6): its resolved model, instructions, environment.
 * Stored as one JSON object; a reader ignores members that it does not know. Credentials are never in it.
 * Calls: base, jansson. */
#include "daemon/model/model.h"

struct task_spec {
    struct model_spec model;
    char *provider; /* its name in the configuration, where the key is */
    char *workspace;
    char *instructions;
    char **env;               /* NULL-terminated NAME=value */
    struct proto_arena arena; /* all of the above, if it was decoded */
};

/* Appends the JSON text. */
void spec_encode(const struct task_spec *spec, struct buf *b);
/* 0, or -1 if the text is not one of ours; *ret is then untouched. To be freed with spec_free(). */
int spec_decode(struct str json, struct task_spec *ret);
/* Frees what spec_decode() made. */
void spec_free(struct task_spec *spec);
