#pragma once
/* A box with a daemon's part of the runners in it: a real loop, real folders, real runners; what the callbacks told is noted, and a
 * guard ends every wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "daemon/base/mem.h"
#include "daemon/runner/protocol.h"
#include "daemon/runner/record.h"
#include "daemon/tools/runs.h"

#include <limits.h>
#include <sys/types.h>

/* Unique among all that run at this time: what is left of a dead run is found by this name. */
extern char task_id[32];
extern const char *const plain_env[];

struct seen {
    char run[16];
    int ended, gone, inputs_ok, inputs_bad, roomless;
    struct run_exit exit;
    char detail[512];
    char error[256];
    int64_t total;
};

struct box {
    uv_loop_t loop;
    uv_timer_t guard;
    struct runs *runs;
    struct limits limits;
    char dir[PATH_MAX], work[PATH_MAX];
    struct seen seen[32];
    uint64_t until_ms;
    bool late;
};

/* Turns the loop until it is true. */
#define WAIT(b, condition)                                                                                   \
    do {                                                                                                     \
        while (!(condition)) {                                                                               \
            if ((b)->late)                                                                                   \
                fail_msg("waited too long for: %s", #condition);                                             \
            uv_run(&(b)->loop, UV_RUN_ONCE);                                                                 \
        }                                                                                                    \
    } while (0)

/* The first thing in main(): an argument says which tests run; a guard for calls that never return. */
void runs_begin(int argc, char **argv);
#define CASE(name) cmocka_unit_test_setup_teardown(name, runs_setup, runs_teardown)

struct seen *seen_of(struct box *b, const char *run);
void daemon_up(struct box *b);
void daemon_up_with(struct box *b, const char *runner);
void daemon_up_with_tool(struct box *b, const char *tool);
void daemon_down(struct box *b);
int runs_setup(void **state);
int runs_setup_long(void **state);
int runs_teardown(void **state);
struct seen *start_program(struct box *b, const char *run, enum run_program program, struct str payload, bool tty);
struct seen *start(struct box *b, const char *run, const char *command);
void read_file(const char *path, struct buf *ret);
char *path_of(const struct box *b, const char *run, const char *file);
const char *output_of(struct box *b, const char *run);
bool wrote(struct box *b, const char *run, const char *text);
void write_file(const char *path, struct str bytes);
pid_t runner_pid(const struct box *b, const char *run);
