#pragma once
/* The parts of a response while it streams: what both translators collect, in order of appearance, and how it
 * becomes a model_response. Pieces of JSON strings are kept escaped, as received, and decoded on the side. */
#include "daemon/base/buf.h"
#include "daemon/model/model.h"

#define PARTS_MAX 4096

struct part {
    bool shown; /* it is a part of the response and has a number; else it is only carried (an item of unknown
                   type) */
    enum part_kind kind;
    size_t number;
    int64_t index;               /* the provider's number for it, or -1 */
    struct buf item_id;          /* the provider's name for it */
    struct buf id, name;         /* of a call: its id and its tool, decoded */
    struct buf id_raw, name_raw; /* the same as received, the insides of JSON strings */
    struct buf extra;            /* a further member of a call that must return, raw */
    struct buf raw;              /* message, reasoning or arguments: the inside of a JSON string */
    size_t decoded;              /* how much of raw is in text */
    struct buf text;
    enum phase phase;
    bool has_phase;
    struct buf item; /* what goes into the context, if the part is an item of its own */
    bool done;
    int64_t section; /* which summary of the reasoning is streaming */
};

struct parts {
    struct part **all;
    size_t n, shown_n;
    struct part *last; /* the one that was touched last */
    const struct model_callbacks *callbacks;
    void *arg;
    struct buf partial;

    struct model_part *out; /* made by parts_respond() */
    struct str *out_raw;
    struct model_response response;
};

void parts_init(struct parts *p, const struct model_callbacks *callbacks, void *arg);
void parts_free(struct parts *p);
/* NULL: there are too many. */
struct part *parts_add(struct parts *p, bool shown, enum part_kind kind, int64_t index);
/* The part with the provider's number, or else with that item id; NULL: none. */
struct part *parts_find(struct parts *p, int64_t index, struct str item_id);
/* Both forms of a call's id and name from JSON strings; an absent or empty one changes nothing, nor does a
 * second one. */
void part_set_id(struct part *part, struct str value);
void part_set_name(struct part *part, struct str value);
/* A piece of the part's text, the inside of a JSON string: stored, decoded, told. */
void parts_put(struct parts *p, struct part *part, struct str inside);
/* Replaces the text by what the finished item says; tells the rest if what was told is its beginning. */
void parts_finish_text(struct parts *p, struct part *part, struct buf *text);
/* The text of all messages so far; valid until the next call. */
struct str parts_partial(struct parts *p);
/* Fills p->response with the parts and the raw values. `raw` (for the whole response) or, if absent, the
 * items of the parts. */
void parts_respond(struct parts *p, struct str raw, enum finish finish, const struct proto_usage *usage);
