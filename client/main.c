/* agentctl: finds the command and runs it. What a command does is in its own file; how it talks to the daemon is in link. */
#include "client/client.h"
#include "client/say.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;
static sigset_t waiting_mask;

static const struct {
    const char *name;
    int (*run)(struct client *c);
} commands[] = {
    {"run", cmd_run},
    {"status", cmd_status},
    {"log", cmd_log},
    {"attach", cmd_attach},
    {"steer", cmd_steer},
    {"wait", cmd_wait},
    {"cancel", cmd_cancel},
    {"pause", cmd_pause},
    {"resume", cmd_resume},
    {"daemon start", cmd_daemon_start},
    {"daemon stop", cmd_daemon_stop},
    {"daemon restart", cmd_daemon_restart},
    {"daemon status", cmd_daemon_status},
    {"config check", cmd_config_check},
    {"models", cmd_models},
    {"doctor", cmd_doctor},
    {"backup", cmd_backup},
};

static void interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

void client_catch_interrupt(void)
{
    struct sigaction action = {.sa_handler = interrupt};
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGINT);
    /* Blocked but in waits, so that it cannot fall between a look at the flag and the wait. */
    sigprocmask(SIG_BLOCK, &mask, NULL);
    sigaction(SIGINT, &action, NULL);
}

int client_fail(struct client *c, int rc)
{
    switch (rc) {
    case LINK_OK:
        return EXIT_DONE;
    case LINK_TIMEOUT:
        return EXIT_TIMEOUT;
    case LINK_E_INTERRUPTED:
        return EXIT_INTERRUPTED;
    case LINK_E_NO_DAEMON:
        say_error(link_error(c->link), link_error_hint(c->link));
        return EXIT_NO_DAEMON;
    case LINK_E_REMOTE:
        if (link_error_code(c->link) == RPC_INVALID_PARAMS)
            return client_usage(c, "%s", link_error(c->link));
        say_error(link_error(c->link), link_error_hint(c->link));
        return EXIT_FAILED;
    default:
        say_error(link_error(c->link), link_error_hint(c->link));
        return EXIT_FAILED;
    }
}

int client_usage(const struct client *c, const char *format, ...)
{
    CLEANUP(buf_free) struct buf b = {0};
    CLEANUP(buf_free) struct buf text = {0};
    va_list args;
    va_start(args, format);
    buf_vprintf(&text, format, args);
    va_end(args);
    buf_printf(&b, "agentctl %s --help says more.", c->args.command->name);
    say_error(buf_cstr(&text), buf_cstr(&b));
    return EXIT_USAGE;
}

static int read_stdin(const char *what, size_t bytes_max, struct buf *ret)
{
    for (;;) {
        ssize_t n = read(STDIN_FILENO, buf_reserve(ret, 65536), 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            CLEANUP(buf_free) struct buf b = {0};
            buf_printf(&b, "standard input cannot be read for %s: %s", what, strerror(errno));
            say_error(buf_cstr(&b), NULL);
            return EXIT_FAILED;
        }
        if (n == 0)
            break;
        ret->n += (size_t)n;
        if (ret->n > bytes_max + 1)
            break;
    }
    if (ret->n > 0 && ret->p[ret->n - 1] == '\n')
        ret->n--;
    return EXIT_DONE;
}

static bool is_blank(struct str s)
{
    size_t i = 0;
    while (i < s.n && strchr(" \t\r\n", s.p[i]) && s.p[i])
        i++;
    return i == s.n;
}

int client_text(const struct client *c, const char *arg, const char *what, size_t bytes_max, struct buf *ret)
{
    if (strcmp(arg, "-") == 0) {
        int code = read_stdin(what, bytes_max, ret);
        if (code != EXIT_DONE)
            return code;
    } else {
        buf_puts(ret, arg);
    }
    if (is_blank(buf_view(ret)))
        return client_usage(c, "%s is empty", what);
    if (ret->n > bytes_max)
        return client_usage(c, "%s has more than %zu bytes; write it to a file in the workspace and name that", what, bytes_max);
    if (!utf8_valid(buf_view(ret)))
        return client_usage(c, "%s is not valid UTF-8", what);
    if (memchr(ret->p, 0, ret->n))
        return client_usage(c, "%s holds a NUL character; is it text?", what);
    return EXIT_DONE;
}

struct str client_key(const struct client *c, char storage[LINK_KEY_SIZE])
{
    const char *given = args_option(&c->args, "--key");
    if (given)
        return str_of(given);
    link_make_key(storage);
    return str_of(storage);
}

const char *client_string(const json_t *object, const char *name)
{
    const char *s = json_string_value(json_object_get(object, name));
    return s ? s : "";
}

int client_call(struct client *c, enum method method, const void *params, void (*show)(const json_t *result))
{
    CLEANUP(link_reply_free) struct link_reply reply = {0};
    int rc = link_call(c->link, method, params, &reply);
    if (rc != LINK_OK)
        return client_fail(c, rc);
    if (c->json)
        say_json(reply.text);
    else if (show)
        show(reply.json);
    return EXIT_DONE;
}

int client_get_task(struct client *c, const char *ref, struct link_reply *ret)
{
    struct params_task_get params = {.task = str_of(ref)};
    int rc = link_call(c->link, METHOD_TASK_GET, &params, ret);
    return rc == LINK_OK ? EXIT_DONE : client_fail(c, rc);
}

static int run_command(struct client *c)
{
    struct link_options options = {
        .client = "agentctl",
        .config = args_option(&c->args, "--config"),
        .state_dir = args_option(&c->args, "--state-dir"),
        .socket = args_option(&c->args, "--socket"),
        .no_start = args_has(&c->args, "--no-start"),
        .start = c->args.command->start,
        .interrupted = &interrupted,
        .mask = &waiting_mask,
        .talk = say_talk,
    };
    c->json = args_has(&c->args, "--json");
    if (link_new(&options, &c->link) != LINK_OK)
        return client_fail(c, LINK_E_BROKEN);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(commands[i].name, c->args.command->name) == 0)
            return commands[i].run(c);
    }
    abort(); /* the tables of the schema and this one are of one build */
}

/* Every argument must be text: it is shown, or becomes JSON. */
static int check_arguments(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (!utf8_valid(str_of(argv[i]))) {
            say_error("an argument is not valid UTF-8", argv[i]);
            return EXIT_USAGE;
        }
    }
    return EXIT_DONE;
}

int main(int argc, char **argv)
{
    CLEANUP(buf_free) struct buf error = {0};
    struct client c = {0};
    sigprocmask(SIG_SETMASK, NULL, &waiting_mask);
    sigdelset(&waiting_mask, SIGINT);
    say_init();
    int code = check_arguments(argc, argv);
    if (code == EXIT_DONE && args_parse(argc, argv, &c.args, &error) < 0) {
        say_error(buf_cstr(&error), "agentctl --help shows how it is used.");
        code = EXIT_USAGE;
    } else if (code == EXIT_DONE && c.args.help) {
        say_data(str_of(c.args.help));
    } else if (code == EXIT_DONE && c.args.version) {
        say_data(STR("agentctl " AGENTD_VERSION "\n"));
    } else if (code == EXIT_DONE) {
        code = run_command(&c);
    }
    say_flush();
    link_free(c.link);
    return code;
}
