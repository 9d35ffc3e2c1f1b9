#pragma once
// clang-format off
/* A rehearsal script in memory: what the model will say, step by step. Read by script_read.c; it knows nothing
 * of HTTP or of any wire format.
 *
 * The entries of `steps:` in the file (YAML or JSON):
 *
 *     say: TEXT              the message, streamed in pieces
 *     reasoning: TEXT        a reasoning item before it
 *     phase: commentary | final_answer
 *     call: {tool: NAME, arguments: {...}}      or  calls: [...]  for several in parallel
 *           raw_arguments: TEXT                 instead of arguments: sent as it stands, valid or not
 *     expect: {last_output_matches: RE}         the text of the last tool output in the request; the outputs of
 *                                               parallel calls come in any order
 *             {any_output_matches: RE}          the text of at least one tool output
 *             {last_user_matches: RE}           the text of the last user message
 *             {request_matches: RE}             the whole body of the request, as bytes
 *     delay_ms: N            before anything is sent
 *     pace_ms: N             between the pieces of a stream; beside `steps:` it is the default for all
 *     repeat: N              the entry stands for N steps
 *     finish: length         the response ends because its token limit was reached
 *     usage: {input_tokens, cached_input_tokens, output_tokens, reasoning_tokens}; beside `steps:`, for all
 *     fault: {status, retry_after_s, code, message | cut_after_bytes | stall_ms | malformed, times}
 *
 * RE is a POSIX extended regular expression, matched as grep -E does: `.` stays within a line, `^` and `$`
 * match at lines.
 *
 * Steps count from 0: the step that is due is the number of assistant turns in the request, and `{k}` in a
 * text, an argument or an expectation is that number.
 *
 * A fault is what happens to the first `times` (default 1) requests for a step of one conversation. An entry
 * that is only a fault is no step: it belongs to the step after it. Several in a row happen one after the
 * other. Behind the last step it happens to the step that does not exist. Conversations are told apart by
 * prompt_cache_key, else by their first user message. */
// clang-format on
#include "daemon/base/buf.h"

#include <regex.h>
#include <stdbool.h>
#include <stdint.h>

#define SCRIPT_BYTES_MAX (64 << 20)
#define SCRIPT_ENTRIES_MAX 100000
#define SCRIPT_CALLS_MAX 1024
#define SCRIPT_REPEAT_MAX 1000000
#define SCRIPT_DEPTH_MAX 64
#define SCRIPT_MS_MAX 86400000

enum expect_what { EXPECT_LAST_OUTPUT, EXPECT_ANY_OUTPUT, EXPECT_LAST_USER, EXPECT_REQUEST };
#define EXPECT_COUNT 4

struct expect {
    struct str pattern; /* absent: nothing is expected */
    size_t line;
};

struct call {
    struct str tool;
    struct str arguments; /* JSON text, or whatever the script wants to send instead */
};

struct fault {
    int64_t status;        /* 0: none */
    int64_t retry_after_s; /* -1: no header */
    struct str code, message;
    int64_t cut_after_bytes; /* -1: none */
    int64_t stall_ms;        /* 0: none */
    struct str malformed;    /* absent: none */
    int64_t times;
};

struct usage {
    bool given;
    int64_t input_tokens, cached_input_tokens, output_tokens, reasoning_tokens;
};

struct step {
    size_t line;   /* in the file */
    int64_t first; /* number of its first repetition */
    int64_t repeat;
    bool missing; /* stands behind the end of the script, to carry faults */

    struct str say, reasoning, phase; /* may be absent */
    struct call *calls;
    size_t calls_n;
    bool finish_length;
    struct usage usage;

    struct expect expect[EXPECT_COUNT];
    int64_t delay_ms, pace_ms;
    struct fault *faults;
    size_t faults_n;
};

struct script {
    char *path;
    struct step *steps; /* the last one is `missing` */
    size_t steps_n;
    int64_t count; /* steps with their repetitions */
};

/* 0, or -1 with "FILE:LINE: what is wrong". */
int script_read(const char *path, struct script **ret, struct buf *error);
void script_free(struct script *s);

/* Never NULL: behind the end it is the missing step. */
const struct step *script_step(const struct script *s, int64_t number);
/* The fault that meets the asked-th request (from 0) for the step `number`, or NULL. */
const struct fault *script_fault(const struct step *step, int64_t asked);
/* Appends the text with each {k} replaced. */
void script_fill(struct buf *b, struct str text, int64_t number);
/* The name of an expectation in the script. */
const char *expect_name(enum expect_what what);
