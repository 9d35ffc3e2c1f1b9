#pragma once
/* Text for people: what comes from a model or a tool made safe for a terminal, numbers with their units. Pure. */
#include "daemon/base/buf.h"

#include <stdbool.h>
#include <stdint.h>

/* Appends the text so that a terminal only ever shows it: complete escape sequences are dropped; every other control character
 * (C0 but for line feed and tab, DEL, C1) and every character that reorders text becomes U+FFFD, as do invalid bytes. */
void text_put_safe(struct buf *b, struct str s);
/* The same on one line of at most `columns` (0: no bound): white space becomes one space each, and "..." stands for the rest. */
void text_put_line(struct buf *b, struct str s, size_t columns);
/* How wide safe text without line feeds is: East Asian wide characters count two. */
size_t text_columns(struct str s);

/* Takes the next line off *in, without its line feed; what a carriage return overwrote is left out. False at the end. */
bool text_next_line(struct str *in, struct str *ret);

/* "412 ms", "1.4 s", "12 s", "3m 20s", "2h 5m", "3d 4h" */
void text_put_duration(struct buf *b, int64_t ms);
/* "45s", "3m", "2h", "5d": the largest unit alone. */
void text_put_age(struct buf *b, int64_t ms);
/* "184 B", "4.1 KB" (units of 1000) */
void text_put_bytes(struct buf *b, int64_t bytes);
/* "812", "98.1k", "1.2M" */
void text_put_count(struct buf *b, int64_t n);

/* "30s", "10m", "2h", "3d" -> milliseconds. 0, or -1. */
int text_parse_duration(const char *text, int64_t *ret_ms);
/* A number without sign, all of the text. 0, or -1. */
int text_parse_number(const char *text, int64_t *ret);

/* Of JSON text on one line: escapes DEL and C1, which JSON allows as they are and terminals obey. */
void text_put_json(struct buf *b, struct str json);
