/* agentctl doctor: what tasks need and whether it is there. What only the daemon knows it is asked; without one, what can be
 * seen from here is told. */
#include "client/client.h"
#include "client/say.h"
#include "client/start.h"
#include "client/text.h"

#include "daemon/base/json.h"
#include "daemon/base/mem.h"
#include "daemon/base/places.h"
#include "daemon/base/utf8.h"

#include <errno.h>
#include <unistd.h>

static void show_check(const json_t *check, bool *ret_all_ok)
{
    CLEANUP(buf_free) struct buf b = {0};
    bool ok = json_is_true(json_object_get(check, "ok"));
    *ret_all_ok = *ret_all_ok && ok;
    buf_printf(&b, "%s%s%s ", say_style(ok ? SAY_GOOD : SAY_BAD), ok ? "ok  " : "FAIL", say_style(SAY_PLAIN));
    text_put_line(&b, str_of(client_string(check, "name")), 0);
    buf_puts(&b, ": ");
    text_put_line(&b, str_of(client_string(check, "detail")), 0);
    buf_putc(&b, '\n');
    say_data(buf_view(&b));
}

static bool show_checks(const json_t *result)
{
    bool ok = true;
    size_t i;
    json_t *check;
    json_array_foreach(json_object_get(result, "checks"), i, check) show_check(check, &ok);
    return ok;
}

/* ---- without a daemon ---- */

struct findings {
    struct proto_check checks[8];
    struct buf texts[8];
    size_t n;
};

static void find(struct findings *f, const char *name, bool ok, struct str detail)
{
    buf_str(&f->texts[f->n], detail);
    f->checks[f->n] = (struct proto_check){str_of(name), ok, buf_view(&f->texts[f->n])};
    f->n++;
}

static void find_program(struct findings *f, const char *name)
{
    CLEANUP(buf_free) struct buf path = {0}, error = {0};
    bool ok = start_find(name, &path, &error) == 0;
    find(f, name, ok, ok ? buf_view(&path) : buf_view(&error));
}

static void find_state_dir(struct findings *f, const char *path)
{
    CLEANUP(buf_free) struct buf b = {0};
    bool there = access(path, F_OK) == 0, ok = !there || access(path, R_OK | W_OK | X_OK) == 0;
    buf_puts(&b, path);
    if (!ok)
        buf_printf(&b, ": %s", strerror(errno));
    else if (!there)
        buf_puts(&b, " (is made by the first start)");
    find(f, "state folder", ok, buf_view(&b));
}

static void find_config(struct findings *f, const struct client *c)
{
    CLEANUP(buf_free) struct buf agentd = {0}, path = {0}, words = {0}, valid = {0};
    bool named, ok = places_config(args_option(&c->args, "--config"), &path, &named, &words) == 0 &&
                     start_find("agentd", &agentd, &words) == 0 &&
                     client_check_config(buf_cstr(&agentd), named ? buf_cstr(&path) : NULL, &words);
    utf8_put_valid(&valid, buf_view(&words), false);
    find(f, "configuration", ok, buf_view(&valid));
}

static int doctor_alone(struct client *c)
{
    struct findings f = {0};
    CLEANUP(buf_free) struct buf daemon = {0}, text = {0};
    buf_printf(&daemon, "%s. %s", link_error(c->link), link_error_hint(c->link));
    find(&f, "daemon", false, buf_view(&daemon));
    find_program(&f, "agentd");
    find_program(&f, "agentd-supervise");
    find_state_dir(&f, link_state_dir(c->link));
    find_config(&f, c);
    struct result_daemon_doctor result = {.checks = f.checks, .checks_n = f.n};
    proto_encode(&text, &result_daemon_doctor_type, &result);
    json_t *json = json_loadb(text.p, text.n, 0, NULL);
    if (c->json)
        say_json(buf_view(&text));
    else
        show_checks(json);
    json_decref(json);
    for (size_t i = 0; i < f.n; i++)
        buf_free(&f.texts[i]);
    return EXIT_NO_DAEMON;
}

int cmd_doctor(struct client *c)
{
    CLEANUP(link_reply_free) struct link_reply reply = {0};
    int rc = link_call(c->link, METHOD_DAEMON_DOCTOR, &(struct params_daemon_doctor){0}, &reply);
    if (rc == LINK_E_NO_DAEMON)
        return doctor_alone(c);
    if (rc != LINK_OK)
        return client_fail(c, rc);
    if (c->json)
        say_json(reply.text);
    size_t i;
    json_t *check;
    bool ok = true;
    if (!c->json)
        ok = show_checks(reply.json);
    json_array_foreach(json_object_get(reply.json, "checks"), i, check) ok = ok && json_is_true(json_object_get(check, "ok"));
    return ok ? EXIT_DONE : EXIT_FAILED;
}
