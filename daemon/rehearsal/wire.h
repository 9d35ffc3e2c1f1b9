#pragma once
/* A wire is one provider's format: it reads a request and writes the answer that the real provider would
 * send. Pure; one file each. anthropic-messages comes as a third file and a third line in wire.c. */
#include "daemon/rehearsal/reply.h"
#include "daemon/rehearsal/request.h"
#include "daemon/rehearsal/script.h"

/* What is answered: the texts of a step with {k} filled in. */
struct answer {
    struct str say, reasoning, phase; /* may be absent */
    const struct call *calls;
    size_t calls_n;
    bool finish_length;
    struct usage usage;
    int64_t step;
    int64_t created; /* seconds since 1970 */
};

struct wire {
    const char *name;
    const char *path;
    /* Fills `r` from r->json. 0, or -1 with the complaint that the provider would send. */
    int (*read)(struct request *r, struct buf *error);
    /* A whole answer, as a stream or as one document. Sets content_type and body. */
    void (*put_answer)(struct reply *reply, const struct request *r, const struct answer *a);
};

/* NULL behind the last. */
const struct wire *wire_at(size_t i);

/* An error in OpenAI's shape, which both OpenAI wires use and which the paths of no wire use too. `code` may
 * be NULL. */
void wire_put_error(struct reply *reply, int status, const char *code, struct str message);

/* For the wires. */
extern const struct wire wire_responses, wire_chat;
/* Ids are made of the conversation, the step and a position: the same request gets the same answer. */
void wire_put_id(struct buf *b, const char *prefix, const struct request *r, const struct answer *a,
                 size_t i);
