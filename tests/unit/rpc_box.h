#pragma once
/* For the tests of rpc: a server on a real Unix socket on a real loop, against the daemon of rpc_world.c, and
 * clients of it that drive the loop while they wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>

#include "rpc_world.h"

#include "daemon/base/mem.h"

#define TASK_A "t01aaaaaaaaaaaaaaaaaaaaaaaa"
#define TASK_B "t01bbbbbbbbbbbbbbbbbbbbbbbb"

struct box {
    uv_loop_t loop;
    struct config config;
    struct daemon d;
    char dir[64];
    char path[256];
    struct rpc *rpc;
};
extern struct box w;

struct client {
    int fd;
    struct buf in;
    bool end;
};

int set_up(void **state);
void start(void);
int tear_down(void **state);
/* Bytes that wait for clients to read them, those of all clients together. */
size_t queued(void);
struct client client_open(void);
void client_close(struct client *c);
void turn(int fd, short events);
void run_dry(void);
void send_bytes(struct client *c, struct str bytes);
void say(struct client *c, const char *text);
void receive(struct client *c);
json_t *hear(struct client *c);
void expect_end(struct client *c);
void expect(struct client *c, const char *id, const char *what);
struct client client_ready(void);
void expect_alive(struct client *c);
int64_t number(const json_t *json, const char *name);
const char *text(const json_t *json, const char *name);
bool is_method(const json_t *json, const char *method);
void subscribe(struct client *c, const char *params);
void expect_event(struct client *c, int64_t subscription, int64_t seq, int64_t pos);

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
