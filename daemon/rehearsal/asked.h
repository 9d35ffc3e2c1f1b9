#pragma once
/* How often each step of each conversation was asked for: the only thing that the rehearsal remembers.
 * Bounded: the oldest entry is forgotten when there are too many. */
#include <stddef.h>
#include <stdint.h>

#define ASKED_ENTRIES_MAX 65536

struct asked;

struct asked *asked_new(void);
void asked_free(struct asked *a);
/* How often it was asked for before; counts this one. */
int64_t asked_count(struct asked *a, uint64_t conversation, int64_t step);
