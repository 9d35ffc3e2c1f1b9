#pragma once
/* ULID (github.com/ulid/spec): 48 bits of milliseconds, 80 random bits, as 26 Crockford base32 digits (lower case
 * here). Sorts by time. */
#include <stdint.h>

#define ULID_RANDOM_SIZE 10
#define ULID_TEXT_SIZE 27

void ulid_format(int64_t wall_ms, const uint8_t random[ULID_RANDOM_SIZE], char ret[ULID_TEXT_SIZE]);
