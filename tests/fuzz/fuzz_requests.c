/* A whole connection over a real socket, with the daemon of tests/unit/rpc_world.c behind it: whatever a
 * client sends, it gets lines of JSON, at most one answer a line of its own besides notifications, and the
 * server ends the connection and goes on. Input: a byte of flags (1: without `initialize` before), the bytes.
 */
#include <jansson.h>

#include "fuzz.h"

#include "daemon/base/mem.h"
#include "daemon/rpc/rpc.h"
#include "daemon/runner/record.h"
#include "tests/unit/rpc_world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define TASK "t01aaaaaaaaaaaaaaaaaaaaaaaa"
#define TURNS_MAX 5000
#define HELLO                                                                                                \
    "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{\"protocol\":1,\"client\":{"        \
    "\"name\":\"f\",\"version\":"                                                                            \
    "\"1\"}}}\n"

static uv_loop_t loop;
static struct config config;
static struct daemon d;
static char folder[64], path[96];

static void clean_up(void)
{
    rpc_free(d.rpc);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    rmdir(folder);
    fake_reset();
}

static void set_up(void)
{
    CLEANUP(buf_free) struct buf error = {0};
    if (folder[0])
        return;
    strcpy(folder, "/tmp/fuzz-XXXXXX");
    HOLDS(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/s", folder);
    uv_loop_init(&loop);
    config.limits = limits_default();
    d = (struct daemon){.loop = &loop, .config = &config, .state_dir = "/state"};
    HOLDS(rpc_new(&d, path, -1, &d.rpc, &error) == 0);
    fake_task(TASK);
    for (int i = 0; i < 3; i++)
        fake_commit(TASK, EVENT_TURN_STARTED, 10);
    fake_publish(d.rpc);
    atexit(clean_up);
}

static int open_client(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    HOLDS(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* Until the server closes the connection, which it does when all is answered. */
static void hear(int fd, struct buf *ret)
{
    for (int turns = 0;; turns++) {
        uv_run(&loop, UV_RUN_NOWAIT);
        fake_answer();
        ssize_t n = read(fd, buf_reserve(ret, 65536), 65536);
        if (n == 0)
            return;
        HOLDS(n > 0 || errno == EAGAIN);
        HOLDS(turns < TURNS_MAX);
        ret->n += n > 0 ? (size_t)n : 0;
    }
}

/* 1: an answer; 0: a notification. */
static size_t check_message(struct str line)
{
    json_t *json = json_loadb(line.p, line.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    HOLDS(json && json_is_string(json_object_get(json, "jsonrpc")));
    const json_t *error = json_object_get(json, "error");
    bool answer = !json_object_get(json, "method");
    HOLDS(!answer || json_object_get(json, "id"));
    HOLDS(!answer || (error != NULL) != (json_object_get(json, "result") != NULL));
    HOLDS(!error || (json_is_integer(json_object_get(error, "code")) &&
                     json_string_length(json_object_get(error, "message")) > 0));
    json_decref(json);
    return answer;
}

static void check_answers(struct str heard, size_t asked)
{
    size_t answers = 0;
    HOLDS(heard.n == 0 || heard.p[heard.n - 1] == '\n');
    while (heard.n)
        answers += check_message(fuzz_line(&heard));
    HOLDS(answers <= asked);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(buf_free) struct buf said = {0}, heard = {0};
    struct str in = fuzz_input(data, size);
    size_t lines = 1;
    set_up();
    if (!(fuzz_byte(&in) & 1))
        buf_puts(&said, HELLO);
    buf_str(&said, in);
    for (size_t i = 0; i < said.n; i++)
        lines += said.p[i] == '\n';
    int fd = open_client();
    HOLDS(record_write_all(fd, buf_view(&said)) == 0);
    shutdown(fd, SHUT_WR);
    hear(fd, &heard);
    close(fd);
    check_answers(buf_view(&heard), lines);
    return 0;
}
