#pragma once
/* The core under the pump, one move at a time, in a world that only writes down what it is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "daemon/core/plan.h"
#include "daemon/pump/pump.h"

#define TASK "t00000000000000000000000001"

struct box {
    struct limits limits;
    struct core *core;
    struct pump *pump;
    struct clock_now now;
    struct buf events;  /* one JSON text a line */
    struct buf context; /* one item a line */
    struct buf effects; /* "kind a b" a line; of those released */
    struct buf output;  /* of every run */
    int64_t tasks_written;
    bool committing;
    int64_t wake_ms;
};

extern struct box box;

extern const struct run_exit good_exit;

/* cmocka's, around each test */
int open_box(void **state);
int close_box(void **state);
void start(struct str snapshot);
void restart(struct str snapshot);
const struct task *task(void);
void commit(void);
void pass(int64_t ms);
enum rpc_error feed(struct input *in);
enum rpc_error change(enum input_kind kind);
enum rpc_error create_as(const char *id, const char *name, struct str prompt);
void create(void);
enum rpc_error steer(enum delivery delivery, struct str text);
void respond(const struct call_spec *calls, size_t n);
void fault(enum model_fault what, struct str message);
void end_run(int64_t run, const struct run_exit *exit);
struct call_spec shell(const char *command, int64_t yield_ms);
struct call_spec input_to(int64_t session, const char *text, int64_t yield_ms);
bool said(const struct buf *where, const char *what);
size_t times(const struct buf *where, const char *what);
void forget(void);
char *umlauts(size_t n);
void all_is_utf8(void);
