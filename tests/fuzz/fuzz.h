#pragma once
/* What the targets share. A target is one file with LLVMFuzzerTestOneInput(): it feeds the bytes to a part of
 * agentd and checks with HOLDS() what must be true whatever came in. It writes no file outside a temporary
 * folder and does not use the network. */
#include "daemon/base/buf.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Unlike assert() it cannot be compiled out, and it says what the input was about. */
#define HOLDS(condition) ((condition) ? (void)0 : fuzz_broken(#condition, __FILE__, __LINE__))
_Noreturn void fuzz_broken(const char *condition, const char *file, int line);

static inline struct str fuzz_input(const uint8_t *data, size_t size)
{
    return str_n(size ? (const char *)data : "", size);
}

/* Takes one byte off the front; 0 at the end. */
unsigned fuzz_byte(struct str *in);
/* Takes eight bytes, fewer at the end, as an integer. */
int64_t fuzz_i64(struct str *in);
/* Takes what stands before the next line feed, or all. */
struct str fuzz_line(struct str *in);
/* Takes what stands before the next record separator (0x1e, which texts hardly hold), or all. */
struct str fuzz_field(struct str *in);
/* The text with all that is not UTF-8 replaced; lives until the next call with the same buffer. */
struct str fuzz_utf8(struct buf *b, struct str s);
/* Valid UTF-8 on one line, without C0 controls and DEL. */
bool fuzz_one_line(struct str s);
/* In UTF-8, without control characters other than line feeds (if `lines`) and tabs. */
bool fuzz_shows(struct str s, bool lines);
/* Strict JSON (RFC 8259) as jansson reads it, no member twice. */
bool fuzz_json(struct str s);
