#pragma once
/* For test_commands: the real core, pump and store in a folder of their own, under a world that starts
 * nothing and commits when it is told to; and calls that remember how they were answered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>

#include "daemon/commands/commands.h"
#include "daemon/daemon.h"

#include "daemon/base/mem.h"

#define SECRET_VALUE "sk-the-value-of-the-key"

struct command_box {
    uv_loop_t loop;
    struct config config;
    struct daemon d;
    char dir[64];
    char workspace[128];
    struct buf spec, head; /* of the task created last */
    bool stopped, restarted;
    int stops; /* calls of world_stop_through() */
};
extern struct command_box box;

int box_open(void **state);
int box_close(void **state);
/* Commits all that is pending, and so releases what waits for it. */
void box_commit(void);
/* Commits by itself after each ask(); on by default. */
extern bool box_commits;

struct answer {
    bool answered;
    enum rpc_error error;
    struct buf text; /* of the result, or of the error's sentence */
    json_t *result;
};

/* Decodes the params as rpc does, runs the command, checks the result against the schema. The answer is to be
 * freed with answer_free(), and may come later if the box does not commit. */
struct answer *ask(enum method method, const char *params);
void answer_free(struct answer *answer);
/* Asks, and expects that error and the words in its sentence. */
void ask_in_vain(enum method method, const char *params, enum rpc_error error, const char *words);
