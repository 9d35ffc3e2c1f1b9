#pragma once
/* What a model server needs to know of a request, whatever its wire format. A wire fills it from the JSON of
 * a body; it borrows the texts from there or owns the joined ones. */
#include "daemon/base/buf.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct request {
    json_t *json;
    struct str body; /* the bytes as they came */
    struct str model;
    bool stream;
    bool include_usage;     /* openai-chat: stream_options */
    bool include_encrypted; /* openai-responses: include reasoning.encrypted_content */

    int64_t turns;       /* of the assistant: the number of the step that is due */
    struct str *outputs; /* of tools, in order */
    size_t outputs_n;
    struct str last_user; /* absent: none with text */
    uint64_t conversation;

    bool in_turn;          /* while reading: the item before was the assistant's */
    struct str first_user; /* for `conversation` */
};

void request_free(struct request *r);

/* While reading the items in order. */
void request_assistant(struct request *r);
void request_other(struct request *r);
/* Both count as "other"; the content is a string or a list of parts with `text` (an image counts as its URL's
 * first bytes). */
void request_user(struct request *r, json_t *content);
void request_output(struct request *r, json_t *content);
/* After the last item. `cache_key` may be NULL. */
void request_finish(struct request *r, json_t *cache_key);
