#pragma once
/* Reading JSON that a provider wrote without ever writing it again: jansson says whether it is JSON,
 * json_find() says where the pieces are, and these functions say what a piece means. A value is a raw span,
 * as json_find() returns it. Pure. */
#include "daemon/base/json.h"

/* Whether the text is JSON, no deeper than depth_max. Wider than jansson alone: half surrogate pairs, U+0000
 * and integers of any length are fine, since only the bytes are kept. */
bool wire_json_valid(struct str text, size_t depth_max);
/* A non-negative number, cut to an integer; `otherwise` for anything else. */
int64_t wire_int(struct str value, int64_t otherwise);
/* The inside of a JSON string, still escaped; absent for anything else. */
struct str wire_inside(struct str value);
bool wire_is_null(struct str value); /* absent counts */
/* Whether the value is the JSON string `text` (plain ASCII). */
bool wire_is(struct str value, const char *text);
/* Appends what the inside of a JSON string means, as valid UTF-8; half surrogate pairs become U+FFFD. With
 * `more`, half a pair at the end is left out. Returns the number of bytes of `inside` that were used. */
size_t wire_put_text(struct buf *b, struct str inside, bool more);
/* The same for a value; nothing if it is no string. */
void wire_put_string(struct buf *b, struct str value);
/* Copies the value, on one line. */
void wire_put_raw(struct buf *b, struct str value);
/* Each element of an array in turn: starts with *state 0. */
bool wire_each(struct str array, size_t *state, struct str *ret);
