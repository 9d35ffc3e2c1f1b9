/*~ What an event does to the state: the only place where a task changes. It decides nothing and cannot fail. Its meaning is frozen with
 * the events': an old journal must mean the same for ever. */
#include "daemon/core/internal.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#define LAST_TEXT_BYTES_MAX 65536 /* what turn.ended repeats of the last message */
#define ENDED_RUNS_KEPT 32        /* whose end can still be asked for by session number */
#define STEERED_YIELD_MS 500      /* how long a call waits for its process while a steer waits for the call */
#define OBJECTIVE_BYTES_MAX 4096  /* kept in the state, which each commit writes; task.created holds all of it */

struct change {
    struct core *core;
    struct task *task;
    const struct clock_now *now;
    const struct event *event;
    const struct fact *fact;
};

static void set_activity(struct task *t, const char *what, struct str detail)
{
    struct buf line = {0};
    buf_puts(&line, what);
    for (size_t i = 0; i < detail.n && line.n < sizeof t->activity; i++)
        buf_putc(&line, (unsigned char)detail.p[i] < 0x20 ? ' ' : detail.p[i]);
    size_t n = utf8_floor(buf_view(&line), sizeof t->activity - 1);
    snprintf(t->activity, sizeof t->activity, "%.*s", (int)n, buf_cstr(&line));
    buf_free(&line);
}

static struct task *apply_created(struct core *c, const struct clock_now *now, const struct event *event,
                                  const struct fact *fact)
{
    const struct event_task_created *e = &event->task_created;
    char id[TASK_ID_SIZE];
    snprintf(id, sizeof id, "%.*s", STR_ARG(event->task));
    struct task *t = task_new(id);
    task_set_text(&t->name, e->name);
    task_set_text(&t->objective, text_cut(e->objective, OBJECTIVE_BYTES_MAX));
    task_set_text(&t->workspace, e->workspace);
    task_set_text(&t->model, e->model);
    task_set_text(&t->policy, e->policy);
    t->keep_open = e->keep_open;
    t->state = TASK_STATE_QUEUED;
    t->created_ms = now->wall_ms;
    t->items_n = 1; /* the prompt */
    t->turn_wants_step = true;
    t->context_n = 1; /* the head */
    t->context_bytes = fact->created->create.head_bytes;
    t->tail_bytes = fact->created->create.tail_bytes;
    t->price_input = fact->created->create.price_input;
    t->price_output = fact->created->create.price_output;
    t->max_output_tokens = fact->created->create.max_output_tokens;
    set_activity(t, "queued", STR_NONE);
    list_append(&c->tasks, &t->node);
    map_put(&c->by_id, str_of(t->id), t);
    c->tasks_n++;
    return t;
}

static void apply_state(const struct change *ch)
{
    const struct event_task_state *e = &ch->event->task_state;
    struct task *t = ch->task;
    t->state = e->to;
    t->waiting_for = e->has_waiting ? e->waiting.for_ : WAITING_FOR_INPUT;
    t->waiting_until_ms = e->has_waiting ? e->waiting.until : 0;
    task_set_text(&t->waiting_detail, e->has_waiting ? e->waiting.detail : STR_NONE);
    t->idle_at = (struct clock_deadline){0};
    set_activity(t, proto_enum_name(&task_state_enum, (int)e->to), STR_NONE);
    if (e->to == TASK_STATE_WAITING || e->to == TASK_STATE_FAILED)
        set_activity(t, e->to == TASK_STATE_WAITING ? "waits: " : "failed: ", e->reason);
    if (e->to == TASK_STATE_RUNNING && t->phase == PHASE_BACKOFF)
        t->retry_at = (struct clock_deadline){0};
    if (!task_final(t))
        return;
    t->turn_wants_step = false;
    t->idle_at = clock_deadline_in(ch->now, ch->core->limits.run_idle_ms_max);
    if (e->to != TASK_STATE_CANCELLED)
        return;
    struct run *r;
    LIST_EACH(r, &t->runs, struct run, node)
        r->kill = true;
    /* Input that was accepted but never delivered is cancelled with the task; its event tells so. */
    struct steer *s;
    LIST_EACH(s, &t->steers, struct steer, node)
        steer_free(s);
    t->steers_pending = 0;
}

static void apply_turn_ended(struct task *t)
{
    t->phase = PHASE_IDLE;
    t->turn_wants_step = false;
    t->failures = 0;
    t->retry_at = (struct clock_deadline){0};
    mem_free(t->last_text);
    t->last_text = NULL;
}

/* A run needs no memory once it is over, its runner is gone and its end was told; the last ones stay to be asked about. Between
 * steps, because a response that is being carried out may speak of any of them. */
static void forget_runs(struct task *t)
{
    int64_t ended = 0;
    struct run *r;
    LIST_EACH(r, &t->runs, struct run, node)
        ended += r->ended && r->gone;
    LIST_EACH(r, &t->runs, struct run, node)
    {
        if (ended <= ENDED_RUNS_KEPT)
            return;
        if (!r->ended || !r->gone)
            continue;
        run_free(r);
        ended--;
    }
}

static void apply_step_started(const struct change *ch)
{
    struct task *t = ch->task;
    t->steps = ch->event->step_started.step;
    t->attempt = ch->event->step_started.attempt;
    t->phase = PHASE_REQUEST;
    t->turn_wants_step = false;
    t->turn_fresh = false;
    t->retry_at = (struct clock_deadline){0};
    t->prefix_bytes = t->context_bytes;
    struct note *n;
    LIST_EACH(n, &t->notes, struct note, node)
        note_free(n);
    forget_runs(t);
    char text[64];
    snprintf(text, sizeof text, "step %" PRId64 ": asks the model", t->steps);
    set_activity(t, text, STR_NONE);
}

/* A provider may say any number. */
static void add_up(int64_t *to, int64_t n)
{
    if (__builtin_add_overflow(*to, n, to))
        *to = INT64_MAX;
}

static void apply_retry(const struct change *ch)
{
    struct task *t = ch->task;
    t->phase = PHASE_BACKOFF;
    t->failures += ch->fact->failed ? 1 : 0;
    t->retry_at = ch->fact->deadline;
    if (t->state == TASK_STATE_WAITING) {
        t->waiting_until_ms = ch->event->step_retry.next_at;
        task_set_text(&t->waiting_detail, ch->event->step_retry.reason);
    }
    if (ch->fact->spent)
        add_up(&t->usage.uncertain_usd, task_attempt_cost_max(t));
    set_activity(t, "asks the model again: ", ch->event->step_retry.reason);
}

static void add_usage(struct proto_usage *to, const struct proto_usage *u)
{
    add_up(&to->input_tokens, u->input_tokens);
    add_up(&to->cached_input_tokens, u->cached_input_tokens);
    add_up(&to->output_tokens, u->output_tokens);
    add_up(&to->reasoning_tokens, u->reasoning_tokens);
    add_up(&to->cost_usd, u->cost_usd);
    add_up(&to->uncertain_usd, u->uncertain_usd);
}

static void apply_step_ended(const struct change *ch)
{
    struct task *t = ch->task;
    t->phase = PHASE_NEXT;
    t->failures = 0;
    add_usage(&t->usage, &ch->event->step_ended.usage);
}

static void apply_message(struct task *t, const struct event_message *e, int64_t item)
{
    t->items_n = item;
    task_set_text(&t->last_text, text_cut(e->text, LAST_TEXT_BYTES_MAX));
}

/* A steer that came before the call keeps it as short as one that comes later. */
static int64_t yield_ms(const struct task *t, const struct call_spec *spec, const struct run *run)
{
    bool shell = spec->sort == CALL_SORT_RUN ? spec->program == RUN_PROGRAM_SHELL : run && run->program == RUN_PROGRAM_SHELL;
    return shell && task_steers_due(t) > 0 && spec->yield_ms > STEERED_YIELD_MS ? STEERED_YIELD_MS : spec->yield_ms;
}

static void apply_called(const struct change *ch)
{
    struct task *t = ch->task;
    const struct call_spec *spec = ch->fact->spec;
    struct call *c = MEM_NEW(struct call);
    c->n = t->calls_n = ch->fact->number;
    t->items_n++;
    c->step = ch->event->tool_called.step;
    c->sort = spec->sort;
    task_set_text(&c->wire_id, spec->wire_id.p ? spec->wire_id : STR(""));
    task_set_text(&c->tool, spec->tool);
    c->run = ch->fact->run;
    buf_str(&c->input, spec->sort == CALL_SORT_INPUT ? spec->input : STR_NONE);
    c->yield_ms = spec->yield_ms;
    c->output_bytes = spec->output_bytes;
    const struct run *run = task_run(t, c->run);
    if (c->run)
        c->yield_at = clock_deadline_in(ch->now, yield_ms(t, spec, run));
    list_append(&t->calls, &c->node);
    t->calls_open++;
    t->phase = PHASE_TOOLS;
    if (run && run->ended) /* nothing to wait for */
        c->yield_at = clock_deadline_in(ch->now, 0);
    set_activity(t, "runs ", spec->command.p ? spec->command : spec->tool);
}

static void apply_result(const struct change *ch)
{
    struct task *t = ch->task;
    struct call *c = task_call_mut(t, ch->fact->number);
    if (!c)
        return;
    struct run *r = task_run_mut(t, c->run);
    if (r && ch->fact->seen_bytes > r->seen_bytes)
        r->seen_bytes = ch->fact->seen_bytes;
    if (ch->event->tool_result.has_image) {
        struct note *n = MEM_NEW(struct note);
        n->image_run = c->run;
        task_set_text(&n->media_type, ch->event->tool_result.image.media_type);
        list_append(&t->notes, &n->node);
    }
    call_free(c);
    t->calls_open--;
    if (t->calls_open == 0 && t->phase == PHASE_TOOLS) {
        t->phase = PHASE_NEXT;
        t->turn_wants_step = true;
    }
}

static void apply_run_started(const struct change *ch)
{
    struct task *t = ch->task;
    const struct call_spec *spec = ch->fact->spec;
    struct run *r = MEM_NEW(struct run);
    r->n = t->runs_n = ch->fact->number;
    r->call = ch->fact->run;
    r->program = spec->program;
    task_set_text(&r->command, spec->command);
    task_set_text(&r->workdir, spec->workdir);
    buf_str(&r->payload, spec->payload);
    r->tty = spec->tty;
    memcpy(r->boot_id, ch->now->boot_id, sizeof r->boot_id);
    r->started_wall_ms = ch->now->wall_ms;
    list_append(&t->runs, &r->node);
    t->runs_open++;
}

static void apply_run_ended(const struct change *ch)
{
    struct task *t = ch->task;
    const struct event_run_ended *e = &ch->event->run_ended;
    struct run *r = task_run_mut(t, ch->fact->number);
    if (!r)
        return;
    r->ended = true;
    r->outcome = e->outcome;
    r->has_exit_code = e->has_exit_code;
    r->exit_code = e->exit_code;
    r->has_signal = e->has_signal;
    r->signal = e->signal;
    r->duration_ms = e->duration_ms;
    r->output_bytes = e->output_bytes;
    buf_free(&r->payload);
}

static void apply_steer_accepted(const struct change *ch)
{
    struct task *t = ch->task;
    struct steer *s = MEM_NEW(struct steer);
    s->n = t->steers_n = ch->fact->number;
    s->delivery = ch->event->steer_accepted.delivery;
    task_set_text(&s->text, ch->event->steer_accepted.text);
    list_append(&t->steers, &s->node);
    t->steers_pending++;
    if (s->delivery == DELIVERY_QUEUE)
        return;
    /* A call that waits for a process is answered now; its process goes on. */
    struct call *c;
    LIST_EACH(c, &t->calls, struct call, node)
    {
        const struct run *r = task_run(t, c->run);
        if (r && r->program == RUN_PROGRAM_SHELL)
            c->yield_at = clock_deadline_in(ch->now, 0);
    }
}

static struct steer *find_steer(struct task *t, int64_t n)
{
    struct steer *s;
    LIST_EACH(s, &t->steers, struct steer, node)
    {
        if (s->n == n)
            return s;
    }
    return NULL;
}

static void apply_steer_delivered(const struct change *ch)
{
    struct task *t = ch->task;
    struct steer *s = find_steer(t, ch->fact->number);
    assert(s && s->delivered_step == 0);
    s->delivered_step = ch->event->steer_delivered.step;
    mem_free(s->text);
    s->text = mem_strdup("");
    t->steers_pending--;
    t->items_n++;
}

static void apply_notice(const struct change *ch)
{
    struct task *t = ch->task;
    if (ch->fact->noted) {
        struct note *n = MEM_NEW(struct note);
        task_set_text(&n->text, ch->event->notice.text);
        list_append(&t->notes, &n->node);
    }
    if (ch->fact->end_runs) {
        t->idle_at = (struct clock_deadline){0};
        struct run *r;
        LIST_EACH(r, &t->runs, struct run, node)
            r->kill = true;
    }
}

static void apply_wait_ended(const struct change *ch)
{
    struct wait *w = task_wait_mut(ch->task, ch->fact->number);
    if (w)
        wait_free(w);
}

static void apply_event(const struct change *ch)
{
    struct task *t = ch->task;
    const struct event *e = ch->event;
    struct steer *s;
    switch (e->kind) {
    case EVENT_TASK_CREATED:
        return;
    case EVENT_TASK_STATE:
        apply_state(ch);
        return;
    case EVENT_TASK_UPDATED:
        if (e->task_updated.name.p)
            task_set_text(&t->name, e->task_updated.name);
        return;
    case EVENT_TURN_STARTED:
        t->turns = e->turn_started.turn;
        t->phase = PHASE_NEXT;
        t->turn_wants_step = true;
        t->turn_fresh = true;
        return;
    case EVENT_TURN_ENDED:
        apply_turn_ended(t);
        return;
    case EVENT_STEP_STARTED:
        apply_step_started(ch);
        return;
    case EVENT_STEP_RETRY:
        apply_retry(ch);
        return;
    case EVENT_STEP_ENDED:
        apply_step_ended(ch);
        return;
    case EVENT_CONTEXT_EPOCH:
        t->epoch = e->context_epoch.epoch;
        return;
    case EVENT_MESSAGE:
        apply_message(t, &e->message, ch->fact->number);
        return;
    case EVENT_REASONING:
        t->items_n = ch->fact->number;
        return;
    case EVENT_TOOL_CALLED:
        apply_called(ch);
        return;
    case EVENT_TOOL_RESULT:
        apply_result(ch);
        return;
    case EVENT_RUN_STARTED:
        apply_run_started(ch);
        return;
    case EVENT_RUN_ENDED:
        apply_run_ended(ch);
        return;
    case EVENT_STEER_ACCEPTED:
        apply_steer_accepted(ch);
        return;
    case EVENT_STEER_DELIVERED:
        apply_steer_delivered(ch);
        return;
    case EVENT_STEER_SEEN:
        s = find_steer(t, ch->fact->number);
        if (s)
            steer_free(s);
        return;
    case EVENT_NOTICE:
        apply_notice(ch);
        return;
    case EVENT_WAIT_STARTED:
        wait_begin(t, ch->fact->number, ch->now, ch->fact->run, ch->fact->spec);
        return;
    case EVENT_WAIT_ENDED:
        apply_wait_ended(ch);
        return;
    /* Facts for readers; the state does not depend on them (yet). */
    case EVENT_PLAN:
    case EVENT_RECOVERED:
    case EVENT_FILE_CHANGED:
    case EVENT_ASK_ASKED:
    case EVENT_ASK_ANSWERED:
    case EVENT_APPROVAL_REQUESTED:
    case EVENT_APPROVAL_ANSWERED:
    case EVENT_QUESTION_ASKED:
    case EVENT_QUESTION_ANSWERED:
    case EVENT_COMPACTION_STARTED:
    case EVENT_COMPACTION_ENDED:
        return;
    }
}

void core_stamp(const struct core *c, const struct clock_now *now, struct event *event)
{
    const struct task *t = map_get(&c->by_id, event->task);
    event->seq = t ? t->seq + 1 : 1;
    event->at = now->wall_ms;
    if (event->kind == EVENT_STEP_STARTED) {
        event->step_started.request_bytes = t->context_bytes + t->tail_bytes;
        event->step_started.prefix_bytes = t->prefix_bytes;
    }
}

void core_apply(struct core *c, const struct clock_now *now, const struct event *event, const struct fact *fact)
{
    struct task *t;
    if (event->kind == EVENT_TASK_CREATED) {
        t = apply_created(c, now, event, fact);
    } else {
        t = map_get(&c->by_id, event->task);
        core_unindex_name(c, t);
        core_count(c, t, -1);
    }
    t->seq = event->seq;
    t->updated_ms = now->wall_ms;
    struct change change = {.core = c, .task = t, .now = now, .event = event, .fact = fact};
    apply_event(&change);
    core_index_name(c, t);
    core_count(c, t, +1);
}

void core_apply_context(struct core *c, const char *task, int64_t bytes)
{
    struct task *t = map_get(&c->by_id, str_of(task));
    t->context_bytes += bytes + (t->context_n > 1 ? 1 : 0); /* a comma between items */
    t->context_n++;
}
