#pragma once
/* JSON without a library: writing into a buffer, and finding raw spans in text that was already checked by a real
 * parser. What must return to a provider returns as the bytes received, so somebody has to know where they are. */
#include "buf.h"

#include <stdbool.h>
#include <stdint.h>

/* Writes a JSON string with its quotes (RFC 8259, section 7). The bytes must be valid UTF-8 (see utf8.h); U+0000
 * is written as \u0000. */
void json_put_string(struct buf *b, struct str s);
/* Only the inside, without the quotes. */
void json_put_escaped(struct buf *b, struct str s);

/* Finds member `name` of the JSON object that starts at text.p (leading white space allowed) and returns the span
 * of its value, or absent. The text must be valid JSON. `name` must be plain ASCII without escapes. */
struct str json_find(struct str text, const char *name);
/* Takes the next element off an array, which is used up by that. False at its end. */
bool json_next(struct str *array, struct str *ret);
/* Copies valid JSON without white space between tokens, so that it fits on one line. */
void json_put_compact(struct buf *b, struct str json);

/* The depth of nesting of any bytes read as JSON, counting brackets outside strings; stops at `max` + 1. It is run
 * before the parser, whose recursion it bounds. */
size_t json_depth(struct str text, size_t max);
