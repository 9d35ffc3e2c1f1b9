/* agentd-rehearsal: a model server that plays a script. For trying agentd without a model, for its tests and
 * benchmarks. Options only; everything else is in server.h (sockets), player.h (what is answered) and
 * script.h (the script's format). */
#include "daemon/base/mem.h"
#include "daemon/rehearsal/asked.h"
#include "daemon/rehearsal/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

/* clang-format off */
static const char help[] =
    "Usage: agentd-rehearsal --script FILE [--listen 127.0.0.1:PORT] [--wire all] [--log FILE] [--bodies DIR]\n"
    "                        [--check]\n"
    "\n"
    "Plays a script as a model server would: OpenAI Responses (POST /v1/responses) and Chat Completions\n"
    "(POST /v1/chat/completions), streamed or not, and GET /v1/models. No model is called.\n"
    "\n"
    "  --script FILE     the script, YAML or JSON\n"
    "  --listen ADDRESS  a loopback address and a port; 0 picks one (the default: 127.0.0.1:0).\n"
    "                    Prints `listening on http://ADDRESS` when it is ready\n"
    "  --wire WIRE       openai-responses, openai-chat or all (the default)\n"
    "  --log FILE        appends one JSON line per request, and one when a client leaves early\n"
    "  --bodies DIR      keeps the body of each request as DIR/000001.json ...\n"
    "  --check           only reads the script\n"
    "\n"
    "The script:\n"
    "\n"
    "  steps:                                # one per model request; the first is step 0\n"
    "    - say: \"I run the tests.\"           # streamed in pieces\n"
    "      call: {tool: exec_command, arguments: {cmd: \"make test\"}}   # or calls: [...], in parallel\n"
    "    - expect: {last_output_matches: \"FAIL\"}\n"
    "      reasoning: \"A test fails.\"        # a reasoning item\n"
    "      say: \"Step {k}.\"                  # {k}: the step's number\n"
    "      phase: commentary                 # or final_answer\n"
    "      delay_ms: 100                     # before the reply\n"
    "      pace_ms: 20                       # between its pieces\n"
    "      repeat: 3                         # three steps alike\n"
    "      usage: {input_tokens: 90, cached_input_tokens: 80, output_tokens: 7, reasoning_tokens: 2}\n"
    "    - fault: {status: 429, retry_after_s: 1, times: 2}   # meets the first requests for the next step\n"
    "    - say: \"Done.\"\n"
    "      finish: length                    # the reply ends at its token limit\n"
    "  usage: {input_tokens: 1200}           # where a step says none; else it is estimated\n"
    "  pace_ms: 0                            # where a step says none\n"
    "\n"
    "  call      {tool, arguments: {...}} or {tool, raw_arguments: TEXT}: TEXT is sent as it stands\n"
    "  expect    last_output_matches, any_output_matches (tool outputs; those of parallel calls come in\n"
    "            any order), last_user_matches, request_matches (the whole body); POSIX extended regular\n"
    "            expressions, by line as grep -E. If one fails the answer is 400 and says what differed\n"
    "  fault     {status, retry_after_s, code, message}, {cut_after_bytes: N}, {stall_ms: N} or {malformed: true}\n"
    "            (or a text to send), each with times: N (default 1); counted per step and conversation\n"
    "            (prompt_cache_key, else the first user message). Beside say or call it meets that step\n"
    "\n"
    "The step that is due is the number of assistant turns in the request; nothing else is remembered.\n"
    "Behind the last step every request is answered with 400.\n"
    "\n"
    "Example: agentd-rehearsal --script demo.yaml --listen 127.0.0.1:8080\n"
    "\n"
    "Exit: 0 ended by SIGINT or SIGTERM, 1 cannot listen, 2 wrong usage or script.\n";
/* clang-format on */

struct options {
    const char *script, *listen, *log, *bodies, *wire;
    bool check;
};

static _Noreturn void usage_error(const char *what, const char *value)
{
    fprintf(stderr, "agentd-rehearsal: %s%s%s; see agentd-rehearsal --help\n", what, value ? ": " : "",
            value ? value : "");
    exit(2);
}

static const char *wire_check(const char *name)
{
    const struct wire *wire;
    if (strcmp(name, "all") == 0)
        return NULL;
    for (size_t i = 0; (wire = wire_at(i)); i++)
        if (strcmp(name, wire->name) == 0)
            return wire->name;
    usage_error("--wire is openai-responses, openai-chat or all, not", name);
}

static void options_read(int argc, char **argv, struct options *o)
{
    static const struct option table[] = {{"script", required_argument, NULL, 's'},
                                          {"listen", required_argument, NULL, 'l'},
                                          {"wire", required_argument, NULL, 'w'},
                                          {"log", required_argument, NULL, 'o'},
                                          {"bodies", required_argument, NULL, 'b'},
                                          {"check", no_argument, NULL, 'c'},
                                          {"help", no_argument, NULL, 'h'},
                                          {"version", no_argument, NULL, 'v'},
                                          {NULL, 0, NULL, 0}};
    int c;
    while ((c = getopt_long(argc, argv, "h", table, NULL)) != -1) {
        switch (c) {
        case 's':
            o->script = optarg;
            break;
        case 'l':
            o->listen = optarg;
            break;
        case 'w':
            o->wire = wire_check(optarg);
            break;
        case 'o':
            o->log = optarg;
            break;
        case 'b':
            o->bodies = optarg;
            break;
        case 'c':
            o->check = true;
            break;
        case 'h':
            fputs(help, stdout);
            exit(0);
        case 'v':
            puts("agentd-rehearsal " AGENTD_VERSION);
            exit(0);
        default:
            usage_error("wrong option", NULL);
        }
    }
    if (optind < argc)
        usage_error("too many arguments", argv[optind]);
    if (!o->script)
        usage_error("--script FILE is missing", NULL);
}

/* Splits ADDRESS:PORT and refuses whatever is not this machine's loopback: the rehearsal asks no one who they
 * are. */
static int address_read(const char *text, struct sockaddr_storage *ret)
{
    const char *colon = strrchr(text, ':');
    char host[64], *end;
    size_t n = colon ? (size_t)(colon - text) : 0;
    long port = colon ? strtol(colon + 1, &end, 10) : -1;
    if (n == 0 || n >= sizeof host || port < 0 || port > 65535 || end == colon + 1 || *end)
        return -1;
    memcpy(host, text, n);
    host[n] = 0;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (uv_ip4_addr(strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, (int)port, &v4) == 0) {
        memcpy(ret, &v4, sizeof v4);
        return ntohl(v4.sin_addr.s_addr) >> 24 == 127 ? 0 : 1;
    }
    if (host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = 0;
        if (uv_ip6_addr(host + 1, (int)port, &v6) == 0) {
            memcpy(ret, &v6, sizeof v6);
            return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr) ? 0 : 1;
        }
    }
    return -1;
}

static void descriptors_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max < 65536 ? limit.rlim_max : 65536;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

struct program {
    struct server *server;
    uv_signal_t signals[2];
};

static void signal_cb(uv_signal_t *handle, int number)
{
    (void)number;
    struct program *p = handle->data;
    server_close(p->server);
    for (int i = 0; i < 2; i++)
        if (!uv_is_closing((uv_handle_t *)&p->signals[i]))
            uv_close((uv_handle_t *)&p->signals[i], NULL);
}

static int serve(struct server_options *options, const char *listen)
{
    uv_loop_t *loop = uv_default_loop();
    struct program program;
    int port, rc = server_new(loop, options, &program.server, &port);
    for (int i = 0; i < 2; i++) {
        uv_signal_init(loop, &program.signals[i]);
        program.signals[i].data = &program;
        uv_signal_start(&program.signals[i], signal_cb, i ? SIGTERM : SIGINT);
    }
    if (rc == 0) {
        printf("listening on http://%.*s:%d\n", (int)(strrchr(listen, ':') - listen), listen, port);
        fflush(stdout);
    } else {
        fprintf(stderr, "agentd-rehearsal: cannot listen on %s: %s\n", listen, uv_strerror(rc));
        signal_cb(&program.signals[0], 0);
    }
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
    server_free(program.server);
    return rc == 0 ? 0 : 1;
}

static FILE *log_open(const char *path)
{
    FILE *f = path ? fopen(path, "ae") : NULL;
    if (path && !f) {
        fprintf(stderr, "agentd-rehearsal: cannot write %s: %s\n", path, strerror(errno));
        exit(2);
    }
    return f;
}

int main(int argc, char **argv)
{
    struct options o = {.listen = "127.0.0.1:0"};
    options_read(argc, argv, &o);
    struct server_options server = {.bodies = o.bodies, .player = {.wire = o.wire}};
    switch (address_read(o.listen, &server.address)) {
    case 0:
        break;
    case 1:
        usage_error("--listen takes a loopback address only (127.0.0.1 or [::1]), not", o.listen);
    default:
        usage_error("--listen is ADDRESS:PORT, as 127.0.0.1:8080, not", o.listen);
    }
    CLEANUP(buf_free) struct buf error = {0};
    struct script *script;
    json_set_alloc_funcs(mem_malloc_raw, mem_free);
    json_object_seed(0);
    if (script_read(o.script, &script, &error) < 0) {
        fprintf(stderr, "agentd-rehearsal: %s\n", buf_cstr(&error));
        return 2;
    }
    int rc = 0;
    if (!o.check) {
        server.log = log_open(o.log);
        server.player.script = script;
        server.player.asked = asked_new();
        signal(SIGPIPE, SIG_IGN);
        descriptors_raise();
        rc = serve(&server, o.listen);
        asked_free(server.player.asked);
        if (server.log)
            fclose(server.log);
    }
    script_free(script);
    return rc;
}
