/* Waits and the files that some of them are for. What a wait may do is told from its own events and from what the world knows, never
 * from the core's state: not before its time, not without its reason, not twice, and not for ever. */
#include "sim.h"

#include "daemon/base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define LOOK_MS 61000 /* within which a daemon that is up must have seen that the wall clock was set, or a file changed */

/* ---- files: they change whether or not a daemon is there ---- */

static struct file_stamp stamp_of(const struct sim *s, int64_t file)
{
    int64_t version = s->files[file].version;
    if (version % 4 == 3)
        return (struct file_stamp){0}; /* it is gone for a while */
    return (struct file_stamp){.exists = true, .size = version, .mtime_ns = version * 1000, .inode = 7};
}

static int64_t file_in(struct str path)
{
    return path.n > 4 ? strtoll(path.p + 4, NULL, 10) : 0; /* "/w/f3" */
}

static void file_seen(struct sim *s, const struct sim_watch *w)
{
    char task[TASK_ID_SIZE];
    memcpy(task, w->task, sizeof task);
    struct input in = {.kind = INPUT_FILE_CHANGED, .task = task};
    in.file_changed.wait = w->wait;
    in.file_changed.condition = w->condition;
    sim_input(s, &in, NULL);
}

void waits_file_change(struct sim *s)
{
    int64_t file = sim_range(s, 0, SIM_FILES - 1);
    s->files[file].version++;
    s->files[file].changed_ms = s->now_ms;
    s->file_changes++;
    for (size_t i = 0; i < s->watches_n; i++) {
        if (s->watches[i].life == s->life && s->watches[i].file == file)
            sim_schedule(s, sim_range(s, 0, 100), ACTION_FILE_SEEN, s->life, s->watches[i].task, s->watches[i].wait,
                         s->watches[i].condition);
    }
    sim_schedule(s, sim_range(s, 0, s->shape.days ? HOUR_MS : MINUTE_MS), ACTION_FILE, 0, "", 0, 0);
}

/* A notification may come late, twice, or for a wait that is over. */
void waits_file_seen(struct sim *s, const struct action *a)
{
    struct sim_watch w = {.wait = a->a, .condition = a->b};
    memcpy(w.task, a->task, sizeof w.task);
    file_seen(s, &w);
    if (!s->calm && sim_chance(s, 10))
        file_seen(s, &w);
}

void waits_watch(struct sim *s, const char *task, const struct effect *e)
{
    const struct wait *w = core_task(s->core, task) ? task_wait(core_task(s->core, task), e->a) : NULL;
    if (!w)
        return;
    if (journal_fact(s, task, NUMBER_WAIT, e->a)->begun != 1)
        sim_fail(s, "%s: a file was watched before its wait was durable", task);
    GROW(s->watches, s->watches_n, s->watches_cap);
    struct sim_watch *watch = &s->watches[s->watches_n++];
    *watch = (struct sim_watch){
        .life = s->life, .wait = e->a, .condition = e->b, .file = file_in(w->conditions[e->b].path)};
    snprintf(watch->task, sizeof watch->task, "%s", task);
    const struct file_stamp now = stamp_of(s, watch->file), *then = &w->conditions[e->b].stamp;
    if (now.exists != then->exists || now.size != then->size)
        sim_schedule(s, 0, ACTION_FILE_SEEN, s->life, task, e->a, e->b);
}

void waits_unwatch(struct sim *s, const char *task, const struct effect *e)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->watches_n; i++) {
        const struct sim_watch *w = &s->watches[i];
        bool over = w->life != s->life || (w->wait == e->a && w->condition == e->b && strcmp(w->task, task) == 0);
        if (!over)
            s->watches[kept++] = *w;
    }
    s->watches_n = kept;
}

/* ---- what a model asks for ---- */

static int64_t a_delay(struct sim *s)
{
    int64_t longest = s->calm ? 600 : s->shape.days && sim_chance(s, 20) ? 3 * 864000 : 36000;
    return sim_range(s, 0, longest) * 100;
}

static struct condition a_condition(struct sim *s, const struct task *t)
{
    static char paths[SIM_FILES][8];
    struct condition c = {.kind = (enum condition_kind)sim_range(s, CONDITION_TIME, CONDITION_QUOTA)};
    if (s->calm && c.kind != CONDITION_RUN) /* nobody is there any more to do something */
        c.kind = CONDITION_TIME;
    int64_t file = sim_range(s, 0, SIM_FILES - 1);
    switch (c.kind) {
    case CONDITION_TIME:
    case CONDITION_QUOTA:
        c.delay_ms = a_delay(s);
        break;
    case CONDITION_CLOCK:
        c.wall_ms = sim_now(s).wall_ms + a_delay(s);
        break;
    case CONDITION_RUN:
        c.run = sim_range(s, t->runs_n > 4 ? t->runs_n - 4 : 0, t->runs_n);
        break;
    case CONDITION_FILE:
        snprintf(paths[file], sizeof paths[file], "/w/f%d", (int)file);
        c.path = str_of(paths[file]);
        c.stamp = stamp_of(s, file);
        break;
    case CONDITION_ANSWER:
        break;
    }
    return c;
}

void waits_call(struct sim *s, const struct task *t, struct call_spec *c, struct condition room[SIM_CONDITIONS])
{
    c->tool = STR("wait");
    c->sort = CALL_SORT_WAIT;
    c->conditions = room;
    c->conditions_n = (size_t)sim_range(s, 1, SIM_CONDITIONS);
    for (size_t i = 0; i < c->conditions_n; i++)
        room[i] = a_condition(s, t);
}

/* ---- what its events say ---- */

struct sim_condition {
    char kind[8];
    int64_t value;   /* milliseconds, the wall clock, a number */
    int64_t version; /* of the file when it began */
    int64_t due_ms, due_wall_ms; /* of a duration */
    int64_t stored_wall_ms;      /* due_wall_ms, as it is durable */
};

struct sim_wait {
    int64_t stored_boot; /* in which its durations count, as far as is durable */
    size_t conditions_n;
    struct sim_condition conditions[SIM_CONDITIONS];
};

static void read_condition(struct sim_condition *c, struct str text)
{
    char rest[64] = "";
    int64_t whole = 0, tenth = 0;
    if (sscanf(text.p, "%7s %63s", c->kind, rest) < 1)
        return;
    if (strcmp(c->kind, "clock") == 0)
        clock_parse(rest, &c->value);
    else if (strcmp(c->kind, "run") == 0)
        c->value = strtoll(rest + 1, NULL, 10);
    else if (strcmp(c->kind, "file") == 0)
        c->value = file_in(str_of(rest));
    else if (sscanf(rest, "%" SCNd64 ".%" SCNd64, &whole, &tenth) == 2)
        c->value = whole * 1000 + tenth * 100;
}

/* Kept when it is planned: by the time that it is durable the files may have changed again. */
void waits_note(struct sim *s, struct sim_event *e, const struct event *event)
{
    if (event->kind == EVENT_STEP_RETRY)
        e->delay_ms = event->step_retry.next_at ? event->step_retry.next_at - event->at : 0;
    if (event->kind != EVENT_WAIT_STARTED)
        return;
    struct sim_wait *w = MEM_NEW(struct sim_wait);
    w->stored_boot = -1;
    w->conditions_n = event->wait_started.conditions_n;
    for (size_t i = 0; i < w->conditions_n; i++) {
        struct sim_condition *c = &w->conditions[i];
        read_condition(c, event->wait_started.conditions[i]);
        c->due_ms = s->now_ms + c->value;
        c->due_wall_ms = e->wall_ms + c->value;
        if (strcmp(c->kind, "file") == 0)
            c->version = s->files[c->value].version;
    }
    e->wait = w;
}

/* A start in another boot: of a duration so much is left as the wall clock says, at most all of it. */
static void wait_adopt(const struct sim *s, struct sim_wait *w, int64_t wall_ms)
{
    if (w->stored_boot == s->boot)
        return;
    for (size_t i = 0; i < w->conditions_n; i++) {
        struct sim_condition *c = &w->conditions[i];
        int64_t left = c->stored_wall_ms - wall_ms;
        left = left < 0 ? 0 : left > c->value ? c->value : left;
        c->due_ms = s->now_ms + left;
        c->due_wall_ms = wall_ms + left;
    }
}

/* The state of a task is durable: what this boot made of its durations is, too. */
void waits_stored(const struct sim *s, struct sim_task *row)
{
    for (size_t n = 0; n < row->waits_n; n++) {
        struct sim_wait *w = row->waits[n];
        if (!w || w->stored_boot == s->boot)
            continue;
        w->stored_boot = s->boot;
        for (size_t i = 0; i < w->conditions_n; i++)
            w->conditions[i].stored_wall_ms = w->conditions[i].due_wall_ms;
    }
}

void waits_boot(struct sim *s)
{
    int64_t wall_ms = sim_now(s).wall_ms;
    for (size_t i = 0; i < s->tasks_n; i++) {
        for (size_t n = 0; n < s->tasks[i]->waits_n; n++) {
            if (s->tasks[i]->waits[n])
                wait_adopt(s, s->tasks[i]->waits[n], wall_ms);
        }
    }
}

static struct sim_wait *wait_of(const struct sim_task *row, int64_t n)
{
    return n >= 0 && (size_t)n < row->waits_n ? row->waits[n] : NULL;
}

static bool steer_pending(const struct sim_task *row, bool queued_too)
{
    const struct sim_facts *f = &row->facts[NUMBER_STEER];
    for (size_t i = 0; i < f->n; i++) {
        if (f->of[i].begun && !f->of[i].ended && !f->of[i].waived && (queued_too || !f->of[i].queued))
            return true;
    }
    return false;
}

static bool is(const struct sim_condition *c, const char *kind)
{
    return strcmp(c->kind, kind) == 0;
}

/* Whether the condition may end the wait at a moment. */
static bool condition_holds(struct sim *s, struct sim_task *row, const struct sim_condition *c, const struct sim_event *e)
{
    if (is(c, "time") || is(c, "quota"))
        return e->now_ms >= c->due_ms;
    if (is(c, "clock"))
        return e->wall_ms >= c->value;
    if (is(c, "run"))
        return journal_fact(s, row->id, NUMBER_RUN, c->value)->ended == 1;
    if (is(c, "file"))
        return s->files[c->value].version > c->version;
    return is(c, "answer") && steer_pending(row, true);
}

static bool end_has_reason(struct sim *s, struct sim_task *row, const struct sim_wait *w, const struct sim_event *e)
{
    const char *fired = strstr(e->json, "\"fired\":\"") + 9;
    if (strncmp(fired, "cancelled\"", 10) == 0 || strncmp(fired, "resumed\"", 8) == 0)
        return true;
    if (strncmp(fired, "input\"", 6) == 0)
        return steer_pending(row, false);
    struct sim_condition said = {0};
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)strcspn(fired, "\""), fired);
    read_condition(&said, str_of(text));
    for (size_t i = 0; i < w->conditions_n; i++) {
        const struct sim_condition *c = &w->conditions[i];
        if (strcmp(c->kind, said.kind) == 0 && c->value == said.value && condition_holds(s, row, c, e)) {
            s->timers += is(c, "time") || is(c, "clock") || is(c, "quota");
            return true;
        }
    }
    return false;
}

void waits_started(struct sim *s, struct sim_task *row, struct sim_event *e, int64_t n)
{
    if ((size_t)n >= row->waits_n) {
        size_t waits_n = (size_t)n * 2 + 8;
        row->waits = mem_realloc(row->waits, waits_n * sizeof *row->waits);
        memset(row->waits + row->waits_n, 0, (waits_n - row->waits_n) * sizeof *row->waits);
        row->waits_n = waits_n;
    }
    row->waits[n] = e->wait;
    e->wait = NULL;
    s->waits++;
}

void waits_ended(struct sim *s, struct sim_task *row, const struct sim_event *e, int64_t n)
{
    struct sim_wait *w = wait_of(row, n);
    if (!w) {
        s->doubles++;
        sim_fail(s, "%s: a wait ended that was over, or never began: %s", row->id, e->json);
    }
    if (!end_has_reason(s, row, w, e)) {
        s->early++;
        sim_fail(s, "%s: a wait ended before its time, or without its reason: %s", row->id, e->json);
    }
    mem_free(w);
    row->waits[n] = NULL;
}

/* A back-off is not hurried, unless somebody lets the task go on, or ends it. */
void waits_retry(struct sim *s, struct sim_task *row, const struct sim_event *e)
{
    if (e->kind == EVENT_STEP_RETRY) {
        row->retry_ms = e->now_ms + e->delay_ms;
        row->retry_boot = e->boot;
    } else if (e->kind == EVENT_TURN_ENDED || (e->kind == EVENT_TASK_STATE && strstr(e->json, "\"resumed\""))) {
        row->retry_ms = 0;
    } else if (e->kind == EVENT_STEP_STARTED) {
        if (row->retry_ms > e->now_ms && row->retry_boot == e->boot) {
            s->early++;
            sim_fail(s, "%s: an attempt came before its time: %s", row->id, e->json);
        }
        s->timers += row->retry_ms != 0;
        row->retry_ms = 0;
    }
}

/* ---- nothing waits for ever ---- */

static int64_t true_since(const struct sim *s, const struct sim_condition *c)
{
    if (is(c, "time") || is(c, "quota"))
        return c->due_ms;
    int64_t wall_ms = sim_now((void *)(uintptr_t)s).wall_ms;
    if (is(c, "clock") && wall_ms >= c->value) {
        int64_t since = s->now_ms - (wall_ms - c->value);
        return since > s->jumped_ms ? since : s->jumped_ms;
    }
    /* What changed and changed back to nothing is as it was. */
    const struct sim_file *f = is(c, "file") ? &s->files[c->value] : NULL;
    if (f && f->version > c->version && !(f->version % 4 == 3 && c->version % 4 == 3))
        return f->changed_ms;
    return INT64_MAX;
}

/* Else the next start in this boot would ask the wall clock again. */
static void check_stored(struct sim *s, const struct task *t, const struct sim_wait *w)
{
    for (size_t i = 0; i < w->conditions_n; i++) {
        bool duration = is(&w->conditions[i], "time") || is(&w->conditions[i], "quota");
        if (duration && w->stored_boot != s->boot && pump_settled(s->pump))
            sim_fail(s, "%s: what this boot made of a duration was not stored", t->id);
    }
}

void waits_check(struct sim *s, const struct task *t, const struct sim_task *row)
{
    const struct wait *open;
    LIST_EACH(open, (struct list *)&t->waits, struct wait, node)
    {
        const struct sim_wait *w = wait_of(row, open->n);
        if (w)
            check_stored(s, t, w);
        for (size_t i = 0; w && i < w->conditions_n; i++) {
            int64_t since = true_since(s, &w->conditions[i]);
            if (since < s->up_ms)
                since = s->up_ms;
            if (since == INT64_MAX || s->now_ms - since <= LOOK_MS)
                continue;
            s->lost++;
            sim_fail(s, "%s: wait w%" PRId64 " still waits for %s %" PRId64 ", which came true %" PRId64 " ms ago", t->id, open->n,
                     w->conditions[i].kind, w->conditions[i].value, s->now_ms - since);
        }
    }
}

void waits_free(struct sim_task *row)
{
    for (size_t i = 0; i < row->waits_n; i++)
        mem_free(row->waits[i]);
    mem_free(row->waits);
}
