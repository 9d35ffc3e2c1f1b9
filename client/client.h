#pragma once
/* What every command of agentctl is given and returns. One file per command; each is `int cmd_name(struct client *)`. */
#include "client/args.h"
#include "client/link.h"

enum client_exit {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NO_DAEMON = 3,
    EXIT_PERSON = 4, /* the task waits for a person */
    EXIT_CANCELLED = 5,
    EXIT_TIMEOUT = 6,
    EXIT_INTERRUPTED = 130,
};

struct client {
    struct args args;
    bool json;
    struct link *link;
};

int cmd_attach(struct client *c);
int cmd_backup(struct client *c);
int cmd_cancel(struct client *c);
int cmd_config_check(struct client *c);
int cmd_daemon_restart(struct client *c);
int cmd_daemon_start(struct client *c);
int cmd_daemon_status(struct client *c);
int cmd_daemon_stop(struct client *c);
int cmd_doctor(struct client *c);
int cmd_log(struct client *c);
int cmd_models(struct client *c);
int cmd_pause(struct client *c);
int cmd_resume(struct client *c);
int cmd_run(struct client *c);
int cmd_status(struct client *c);
int cmd_steer(struct client *c);
int cmd_wait(struct client *c);

/* ---- for commands ---- */

/* From here on Ctrl-C ends waits with LINK_E_INTERRUPTED instead of the process. */
void client_catch_interrupt(void);
/* Says what went wrong with the link; returns the exit code. */
int client_fail(struct client *c, int rc);
/* A mistake on the command line: says it, returns EXIT_USAGE. */
int client_usage(const struct client *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The text of an argument, or, if it is "-", standard input without its last line feed. Checked: valid UTF-8, not empty, at most
 * bytes_max. 0, or the exit code of what it has said. */
int client_text(const struct client *c, const char *arg, const char *what, size_t bytes_max, struct buf *ret);
/* --key, or a new one in `storage`. */
struct str client_key(const struct client *c, char storage[LINK_KEY_SIZE]);

/* Asks agentd, without starting it, whether it could be started with this configuration (NULL: the one that it finds by itself, whatever
 * AGENTD_CONFIG says here); `words`: what it says. */
bool client_check_config(const char *agentd, const char *config, struct buf *words);
/* One call whose result is printed as it is with --json, else shown by `show` (NULL: nothing). Returns the exit code. */
int client_call(struct client *c, enum method method, const void *params, void (*show)(const json_t *result));
/* task/get; the exit code. */
int client_get_task(struct client *c, const char *ref, struct link_reply *ret);

/* "" if it is no string. */
const char *client_string(const json_t *object, const char *name);
