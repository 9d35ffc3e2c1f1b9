/* agentctl daemon start, stop, restart, status. */
#include "client/client.h"
#include "client/say.h"
#include "client/start.h"
#include "client/text.h"

#include "daemon/base/mem.h"
#include "daemon/base/places.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define END_MS_MAX 15000
#define BACK_MS_MAX 5000
#define MARK_MS 300 /* a daemon that was just starting serves by then */

static void put_disk(struct buf *b, const json_t *daemon)
{
    const json_t *read_only = json_object_get(daemon, "read_only"), *failure = json_object_get(daemon, "failure");
    if (json_is_object(read_only))
        buf_printf(b, "\n  read-only since %s: %s\n  shown is the copy in %s; it looks at %s whether it can write again",
                   client_string(read_only, "since"), client_string(read_only, "reason"), client_string(read_only, "copy"),
                   client_string(read_only, "next_try"));
    if (json_is_object(failure))
        buf_printf(b, "\n  an agentd ended at %s: %s", client_string(failure, "at"), client_string(failure, "reason"));
}

static void show_status(const json_t *result)
{
    CLEANUP(buf_free) struct buf b = {0}, line = {0};
    const json_t *d = json_object_get(result, "daemon");
    const char *admission = client_string(d, "admission"), *config = client_string(d, "config");
    buf_printf(&b, "agentd %s, pid %lld, up ", client_string(d, "version"), (long long)json_integer_value(json_object_get(d, "pid")));
    text_put_age(&b, json_integer_value(json_object_get(d, "uptime_s")) * 1000);
    long long live = json_integer_value(json_object_get(d, "tasks_live"));
    buf_printf(&b, ", %lld live task%s, ", live, live == 1 ? "" : "s");
    text_put_bytes(&b, json_integer_value(json_object_get(d, "rss_bytes")));
    if (*admission && strcmp(admission, "open") != 0)
        buf_printf(&b, "; takes no new work: %s", admission);
    text_put_line(&line, buf_view(&b), 0);
    put_disk(&line, d);
    buf_printf(&line, "\n  state %s\n  socket %s\n", client_string(d, "state_dir"), client_string(d, "socket"));
    if (*config)
        buf_printf(&line, "  configuration %s\n", config);
    if (strcmp(client_string(d, "version"), AGENTD_VERSION) != 0)
        buf_puts(&line, "  this agentctl is " AGENTD_VERSION "; agentctl daemon restart starts the agentd that belongs to it\n");
    CLEANUP(buf_free) struct buf safe = {0};
    text_put_safe(&safe, buf_view(&line));
    say_data(buf_view(&safe));
}

static int show_daemon(struct client *c)
{
    return client_call(c, METHOD_DAEMON_STATUS, &(struct params_daemon_status){0}, show_status);
}

int cmd_daemon_status(struct client *c)
{
    return show_daemon(c);
}

/* Becomes the daemon: for people who watch it, and for service managers. */
static int start_foreground(struct client *c)
{
    CLEANUP(buf_free) struct buf agentd = {0}, error = {0};
    const char *argv[START_ARGS_MAX];
    struct start_places places = {link_state_dir(c->link), link_socket(c->link), link_config(c->link)};
    if (start_find("agentd", &agentd, &error) < 0) {
        say_error(buf_cstr(&error), NULL);
        return EXIT_FAILED;
    }
    start_args(&places, buf_cstr(&agentd), argv);
    say_flush();
    start_reset_signals();
    execv(argv[0], (char *const *)(uintptr_t)argv);
    buf_printf(&error, "%s: %s", argv[0], strerror(errno));
    say_error(buf_cstr(&error), NULL);
    return EXIT_FAILED;
}

int cmd_daemon_start(struct client *c)
{
    if (args_has(&c->args, "--foreground"))
        return start_foreground(c);
    return show_daemon(c);
}

/* A descriptor that tells when the daemon's process has ended; -1 if it has already. */
static int watch_process(struct client *c, int *ret_fd)
{
    CLEANUP(link_reply_free) struct link_reply reply = {0};
    int rc = link_call(c->link, METHOD_DAEMON_STATUS, &(struct params_daemon_status){0}, &reply);
    if (rc != LINK_OK)
        return rc;
    json_int_t pid = json_integer_value(json_object_get(json_object_get(reply.json, "daemon"), "pid"));
    *ret_fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
    return LINK_OK;
}

/* Asks it to end and waits until its process is gone. Returns the exit code. */
static int end(struct client *c, bool restart)
{
    CLEANUP(link_reply_free) struct link_reply reply = {0};
    struct params_daemon_shutdown params = {.restart = restart};
    int fd = -1, rc = watch_process(c, &fd);
    if (rc == LINK_OK)
        rc = link_call(c->link, METHOD_DAEMON_SHUTDOWN, &params, &reply);
    /* It may have closed the connection before its answer was out. */
    bool gone = rc == LINK_OK || rc == LINK_E_LOST;
    if (gone && link_wait_closed(c->link, END_MS_MAX) != LINK_OK)
        gone = false;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (gone && fd >= 0 && poll(&p, 1, END_MS_MAX) == 0)
        gone = false;
    if (fd >= 0)
        close(fd);
    if (rc != LINK_OK && rc != LINK_E_LOST)
        return client_fail(c, rc);
    if (!gone)
        say_error("the daemon was told to end, but has not ended yet", "See daemon.log in the state folder.");
    return gone ? EXIT_DONE : EXIT_FAILED;
}

/* A daemon that has just crashed comes back in a moment; it must not come back after this. */
static int find_daemon(struct client *c)
{
    int64_t until = link_now_ms() + 1000;
    for (;;) {
        int rc = link_open(c->link);
        bool crashed = start_has_database(link_state_dir(c->link)) && !start_stopped(link_state_dir(c->link));
        if (rc != LINK_E_NO_DAEMON || !crashed || link_now_ms() > until)
            return rc;
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
}

/* The mark of a stop, where there was no daemon to leave it. False: it is there, or there is no need. */
static bool leave_mark(struct client *c)
{
    CLEANUP(buf_free) struct buf path = {0};
    if (!start_has_database(link_state_dir(c->link)) || start_stopped(link_state_dir(c->link)))
        return false;
    buf_printf(&path, "%s/stopped", link_state_dir(c->link));
    int fd = open(buf_cstr(&path), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
    return true;
}

int cmd_daemon_stop(struct client *c)
{
    int rc = find_daemon(c);
    bool absent = rc == LINK_E_NO_DAEMON && link_error_is_absence(c->link);
    if (absent && leave_mark(c)) {
        /* Its supervisor may have started it just before it could see the mark. */
        rc = link_find(c->link, MARK_MS);
        absent = rc == LINK_E_NO_DAEMON && link_error_is_absence(c->link);
    }
    if (absent) {
        say_talk("no daemon was running");
    } else if (rc != LINK_OK) {
        return client_fail(c, rc);
    } else {
        int code = end(c, false);
        if (code != EXIT_DONE)
            return code;
        say_talk("stopped; running processes of tools go on, tasks rest until agentctl daemon start");
    }
    if (c->json)
        say_json(STR("{}"));
    return EXIT_DONE;
}

/* The file that has to be good, NULL: whatever is there without a name. The daemon reports the one that it found by itself, too, which need
 * not be there any more; and ours it sees only if the start is ours. */
static const char *config_of_restart(struct client *c, const json_t *status)
{
    CLEANUP(buf_free) struct buf unnamed = {0}, error = {0};
    const char *theirs = json_string_value(json_object_get(json_object_get(status, "daemon"), "config"));
    if (!theirs || !*theirs)
        return start_is_ours(link_state_dir(c->link)) ? link_config(c->link) : NULL;
    return places_config_unnamed(&unnamed, &error) == 0 && strcmp(theirs, buf_cstr(&unnamed)) == 0 ? NULL : theirs;
}

/* A daemon that works is not ended for a configuration with which none would start: the one that it has read, it reads again. */
static bool config_is_good(struct client *c)
{
    CLEANUP(link_reply_free) struct link_reply reply = {0};
    CLEANUP(buf_free) struct buf agentd = {0}, words = {0};
    if (start_find("agentd", &agentd, &words) < 0 ||
        link_call(c->link, METHOD_DAEMON_STATUS, &(struct params_daemon_status){0}, &reply) != LINK_OK)
        return true; /* what is wrong then is no matter of the configuration */
    if (client_check_config(buf_cstr(&agentd), config_of_restart(c, reply.json), &words))
        return true;
    if (!words.n)
        buf_printf(&words, "%s says nothing of the configuration and fails: is it agentd?", buf_cstr(&agentd));
    say_error(buf_cstr(&words), "The daemon goes on as it was. agentctl config check tells when the configuration is good.");
    return false;
}

int cmd_daemon_restart(struct client *c)
{
    int rc = link_find(c->link, 0);
    if (rc == LINK_OK && !config_is_good(c))
        return EXIT_FAILED;
    if (rc == LINK_OK) {
        bool replaced = start_take_post(link_state_dir(c->link));
        int code = end(c, true);
        if (code != EXIT_DONE)
            return code;
        /* Its supervisor brings it back; where it had none, or one of another installation, the call below starts one. */
        rc = link_find(c->link, replaced ? 0 : BACK_MS_MAX);
    }
    if (rc != LINK_OK && !link_error_is_absence(c->link))
        return client_fail(c, rc);
    return show_daemon(c);
}
