#pragma once
/* Raw output of a program as text: valid UTF-8 without U+0000, each line in the last state that its carriage returns left it in. Pure.
 * Calls: base. */
#include "daemon/base/buf.h"

/* Appends the text of `raw`. NUL and invalid bytes become U+FFFD; of text that a CR returns over, only the last is kept (CR LF is a
 * line's end). If `more` is set, an incomplete character at the end is left out. Returns how many bytes of `raw` were used. */
size_t clean_put(struct buf *b, struct str raw, bool more);
