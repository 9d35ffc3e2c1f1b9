/* agentctl status: tasks, one line each, or one task in more detail. */
#include "client/client.h"
#include "client/follow.h"
#include "client/say.h"
#include "client/text.h"

#include "daemon/base/clock.h"
#include "daemon/base/json.h"
#include "daemon/base/mem.h"

#include <time.h>

#define NAME_COLUMNS_MAX 32
#define NAME_COLUMNS_MIN 12
#define ACTIVITY_COLUMNS_MIN 8 /* with less there is none */

static int64_t wall_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void put_age_of(struct buf *b, const json_t *task, const char *name)
{
    int64_t ms;
    if (clock_parse(client_string(task, name), &ms) == 0)
        text_put_age(b, wall_ms() - ms);
}

static void pad(struct buf *b, size_t start, size_t columns)
{
    size_t used = text_columns(str_n(b->p + start, b->n - start));
    while (used++ < columns)
        buf_putc(b, ' ');
}

static enum say_style style_of(const char *state)
{
    if (strcmp(state, "completed") == 0)
        return SAY_GOOD;
    if (strcmp(state, "failed") == 0 || strcmp(state, "cancelled") == 0)
        return SAY_BAD;
    return strcmp(state, "waiting") == 0 || strcmp(state, "paused") == 0 ? SAY_WARN : SAY_PLAIN;
}

static void put_cell(struct buf *b, const char *text, size_t columns)
{
    size_t start = b->n;
    text_put_line(b, str_of(text), columns);
    pad(b, start, columns + 2);
}

static void show_row(const json_t *task, size_t name_columns)
{
    CLEANUP(buf_free) struct buf b = {0};
    const char *state = client_string(task, "state");
    enum say_style style = style_of(state);
    put_cell(&b, client_string(task, "name"), name_columns);
    buf_puts(&b, style == SAY_PLAIN ? "" : say_style(style));
    put_cell(&b, state, 9);
    buf_puts(&b, style == SAY_PLAIN ? "" : say_style(SAY_PLAIN));
    size_t start = b.n;
    put_age_of(&b, task, "created_at");
    pad(&b, start, 6);
    size_t used = name_columns + 19, all = say_columns();
    if (all >= used + ACTIVITY_COLUMNS_MIN)
        text_put_line(&b, str_of(client_string(task, "activity")), all - used);
    while (b.n > 0 && b.p[b.n - 1] == ' ')
        b.n--;
    buf_putc(&b, '\n');
    say_data(buf_view(&b));
}

/* For all pages; where there are more than this one the widest, as nobody knows their names yet. */
static size_t name_columns(const json_t *tasks, bool more)
{
    size_t i, widest = 4, max = say_columns() / 2;
    json_t *task;
    json_array_foreach(tasks, i, task)
    {
        size_t n = text_columns(str_of(client_string(task, "name")));
        widest = n > widest ? n : widest;
    }
    max = max > NAME_COLUMNS_MAX ? NAME_COLUMNS_MAX : max < NAME_COLUMNS_MIN ? NAME_COLUMNS_MIN : max;
    return widest < max && !more ? widest : max;
}

/* *columns: of names; 0 on the first page. */
static void show_tasks(const json_t *tasks, bool more, size_t *columns)
{
    size_t i;
    json_t *task;
    if (*columns == 0) {
        *columns = name_columns(tasks, more);
        CLEANUP(buf_free) struct buf b = {0};
        buf_puts(&b, say_style(SAY_DIM));
        put_cell(&b, "NAME", *columns);
        buf_puts(&b, "STATE      AGE   ACTIVITY");
        buf_printf(&b, "%s\n", say_style(SAY_PLAIN));
        say_data(buf_view(&b));
    }
    json_array_foreach(tasks, i, task) show_row(task, *columns);
}

static void show_field(const char *name, struct str value)
{
    CLEANUP(buf_free) struct buf b = {0};
    buf_printf(&b, "%-10s", name);
    text_put_line(&b, value, 0);
    buf_putc(&b, '\n');
    if (value.n > 0)
        say_data(buf_view(&b));
}

static void put_waiting(struct buf *b, const json_t *task)
{
    const json_t *waiting = json_object_get(task, "waiting");
    const char *detail = view_waiting_detail(waiting), *until = client_string(waiting, "until");
    buf_puts(b, client_string(task, "state"));
    if (!json_is_object(waiting))
        return;
    buf_printf(b, " for %s%s%s", client_string(waiting, "for"), *detail ? ": " : "", detail);
    if (*until)
        buf_printf(b, " (until %s)", until);
}

static void put_pending(struct buf *b, const json_t *task)
{
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(task, "pending"), name, value)
    {
        if (json_integer_value(value) > 0)
            buf_printf(b, "%s%lld %s", b->n ? ", " : "", (long long)json_integer_value(value), name);
    }
}

static void show_detail(const json_t *task)
{
    CLEANUP(buf_free) struct buf state = {0}, age = {0}, usage = {0}, pending = {0};
    put_waiting(&state, task);
    put_age_of(&age, task, "created_at");
    buf_puts(&age, " ago; last event ");
    put_age_of(&age, task, "updated_at");
    buf_printf(&age, " ago (%lld in all)", (long long)json_integer_value(json_object_get(task, "seq")));
    follow_put_usage(&usage, task);
    put_pending(&pending, task);
    show_field("name", str_of(client_string(task, "name")));
    show_field("id", str_of(client_string(task, "id")));
    show_field("state", buf_view(&state));
    show_field("activity", str_of(client_string(task, "activity")));
    show_field("workspace", str_of(client_string(task, "workspace")));
    show_field("model", str_of(client_string(task, "model")));
    show_field("created", buf_view(&age));
    show_field("used", buf_view(&usage));
    show_field("pending", buf_view(&pending));
    show_field("parent", str_of(client_string(task, "parent")));
}

/* `{"daemon": ..., "tasks": [` */
static int begin_document(struct client *c)
{
    CLEANUP(link_reply_free) struct link_reply daemon = {0};
    CLEANUP(buf_free) struct buf b = {0};
    int rc = link_call(c->link, METHOD_DAEMON_STATUS, &(struct params_daemon_status){0}, &daemon);
    if (rc != LINK_OK)
        return client_fail(c, rc);
    buf_puts(&b, "{\"daemon\":");
    text_put_json(&b, json_find(daemon.text, "daemon"));
    buf_puts(&b, ",\"tasks\":[");
    say_data(buf_view(&b));
    return EXIT_DONE;
}

/* A daemon that takes no work looks like an idle one. */
static int say_admission(struct client *c)
{
    CLEANUP(link_reply_free) struct link_reply reply = {0};
    int rc = link_call(c->link, METHOD_DAEMON_STATUS, &(struct params_daemon_status){0}, &reply);
    if (rc != LINK_OK)
        return client_fail(c, rc);
    const json_t *daemon = json_object_get(reply.json, "daemon"), *read_only = json_object_get(daemon, "read_only");
    if (json_is_object(read_only))
        say_talkf("agentd is read-only since %s: %s. Look after the disk (agentctl doctor), then run: agentctl daemon restart",
                  client_string(read_only, "since"), client_string(read_only, "reason"));
    else if (strcmp(client_string(daemon, "admission"), "disk_full") == 0)
        say_talk("the disk is full: agentd takes no new work until there is space, and goes on by itself; cancel and pause are taken");
    return EXIT_DONE;
}

static void end_document(struct str next)
{
    CLEANUP(buf_free) struct buf b = {0};
    buf_puts(&b, "],\"next\":");
    buf_str(&b, next.p ? next : STR("null"));
    buf_puts(&b, "}\n");
    say_data(buf_view(&b));
}

/* Array text without its brackets. */
static void say_elements(struct str array, bool first)
{
    CLEANUP(buf_free) struct buf b = {0};
    if (array.n < 3)
        return;
    if (!first)
        buf_putc(&b, ',');
    text_put_json(&b, str_n(array.p + 1, array.n - 2));
    say_data(buf_view(&b));
}

static int status_one(struct client *c)
{
    CLEANUP(link_reply_free) struct link_reply reply = {0};
    int code = client_get_task(c, c->args.args[0], &reply);
    if (code != EXIT_DONE)
        return code;
    if (!c->json) {
        show_detail(json_object_get(reply.json, "task"));
        return EXIT_DONE;
    }
    code = begin_document(c);
    if (code != EXIT_DONE)
        return code;
    struct str task = json_find(reply.text, "task");
    CLEANUP(buf_free) struct buf b = {0};
    text_put_json(&b, task);
    say_data(buf_view(&b));
    end_document(STR_NONE);
    return EXIT_DONE;
}

struct pages {
    struct buf after; /* where the next begins; empty at the end */
    int64_t shown;    /* tasks so far */
    size_t columns;   /* of names */
};

static int status_page(struct client *c, bool all, struct pages *pages)
{
    CLEANUP(link_reply_free) struct link_reply reply = {0};
    struct params_task_list params = {.all = all, .after = pages->after.n ? buf_view(&pages->after) : STR_NONE, .limit = 200};
    int rc = link_call(c->link, METHOD_TASK_LIST, &params, &reply);
    if (rc != LINK_OK)
        return client_fail(c, rc);
    const json_t *tasks = json_object_get(reply.json, "tasks");
    const char *next = client_string(reply.json, "next");
    if (c->json)
        say_elements(json_find(reply.text, "tasks"), pages->shown == 0);
    else if (json_array_size(tasks) > 0)
        show_tasks(tasks, all && *next, &pages->columns);
    pages->shown += (int64_t)json_array_size(tasks);
    buf_clear(&pages->after);
    buf_puts(&pages->after, next);
    return EXIT_DONE;
}

static void say_status_end(struct client *c, bool all, const struct pages *pages)
{
    CLEANUP(buf_free) struct buf next = {0};
    if (pages->after.n > 0)
        json_put_string(&next, buf_view(&pages->after));
    if (c->json)
        end_document(pages->after.n > 0 ? buf_view(&next) : STR_NONE);
    else if (pages->shown == 0)
        say_talk(all ? "no tasks" : "no live tasks; agentctl status --all shows older ones");
    else if (pages->after.n > 0)
        say_talk("there are more: agentctl status --all");
}

int cmd_status(struct client *c)
{
    struct pages pages = {0};
    bool all = args_has(&c->args, "--all");
    if (c->args.args_n > 0)
        return status_one(c);
    int code = c->json ? begin_document(c) : say_admission(c);
    while (code == EXIT_DONE) {
        code = status_page(c, all, &pages);
        if (!all || pages.after.n == 0)
            break;
    }
    if (code == EXIT_DONE)
        say_status_end(c, all, &pages);
    buf_free(&pages.after);
    return code;
}
