#pragma once
/* UTF-8 (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF). */
#include "buf.h"

#include <stdbool.h>

bool utf8_valid(struct str s);
/* Appends the bytes with each maximal invalid part replaced by U+FFFD (Unicode 15, section 3.9, "substitution of
 * maximal subparts"). If `more` is set, an incomplete character at the end is left out; the return value is the
 * number of input bytes that were used. */
size_t utf8_put_valid(struct buf *b, struct str s, bool more);
/* The largest n' <= n such that the first n' bytes do not end inside a character. The text must be valid. */
size_t utf8_floor(struct str s, size_t n);
