/* What follows when a process ends, a call's time is up, or its input was refused; and what a start of the daemon finds. */
#include "daemon/core/internal.h"

#include <inttypes.h>

#define FILE_CHANGES_MAX 1000 /* of one patch; its output names them all */

/* Chat Completions wants all tool messages in one row, so an image, which comes as input of the user, must not come between them.
 * It is put into the next request instead, behind all of them. */
static void plan_image(struct plan *p, struct plan_op *result, const struct run_output *output)
{
    result->event.tool_result.has_image = true;
    result->event.tool_result.image = output->image;
    /* The path is a view of the run's payload, which run.ended drops before this event is written. */
    struct buf path = {0};
    buf_str(&path, output->image.path);
    result->event.tool_result.image.path = plan_take(p, &path);
}

static struct str before(struct plan *p, const char *sentence, struct str text)
{
    struct buf b = {0};
    buf_puts(&b, sentence);
    buf_str(&b, text);
    return plan_take(p, &b);
}

static void plan_run_result(struct plan *p, const struct call *call, const struct run *run,
                            const struct run_exit *exit, const struct run_output *output)
{
    struct str text = text_run_result(p, run, exit, output);
    if (call->input.n) /* it ended, or was lost, before its runner had said so */
        text = before(p, "It is not known whether the input was written. ", text);
    bool failed = exit && (exit->outcome != RUN_OUTCOME_DONE ||
                           (run->program != RUN_PROGRAM_SHELL && (exit->exit_code != 0 || exit->has_signal)));
    struct plan_op *result = plan_result(p, call, text, output->covered, failed);
    result->fact.seen_bytes = output->end;
    if (exit && output->has_image && !failed)
        plan_image(p, result, output);
}

static struct run_output no_output(const struct run *run)
{
    return (struct run_output){.end = run->seen_bytes};
}

/* What agentd-tool says it did to the files, a line each: `A path`, `M path`, `D path`, `R old -> new`. */
static void plan_changes(struct plan *p, const struct run *run, struct str output)
{
    static const char letters[] = "AMDR";
    static const enum file_change changes[] = {FILE_CHANGE_ADDED, FILE_CHANGE_MODIFIED, FILE_CHANGE_DELETED, FILE_CHANGE_MOVED};
    int planned = 0;
    while (output.n > 0 && planned < FILE_CHANGES_MAX) {
        const char *end = memchr(output.p, '\n', output.n);
        size_t n = end ? (size_t)(end - output.p) : output.n;
        const char *letter = n > 2 && output.p[1] == ' ' ? strchr(letters, output.p[0]) : NULL;
        if (letter && *letter) {
            struct event_file_changed *e = &plan_event(p, EVENT_FILE_CHANGED)->event.file_changed;
            *e = (struct event_file_changed){.path = str_n(output.p + 2, n - 2),
                                             .change = changes[letter - letters],
                                             .call = text_id(p, 'c', run->call)};
            planned++;
        }
        n += end ? 1 : 0;
        output = str_n(output.p + n, output.n - n);
    }
}

static void plan_run_ended(struct plan *p, const struct task *t, const struct run *run, const struct run_exit *exit,
                           const struct run_output *output)
{
    struct plan_op *op = plan_event(p, EVENT_RUN_ENDED);
    op->event.run_ended = (struct event_run_ended){.run = text_id(p, 'r', run->n),
                                                   .call = text_id(p, 'c', run->call),
                                                   .outcome = exit->outcome,
                                                   .exit_code = exit->exit_code,
                                                   .has_exit_code = exit->has_exit_code,
                                                   .signal = exit->signal,
                                                   .has_signal = exit->has_signal,
                                                   .output_bytes = exit->output_bytes,
                                                   .duration_ms = exit->duration_ms,
                                                   .detail = exit->detail};
    if (run->kill && exit->outcome == RUN_OUTCOME_DONE)
        op->event.run_ended.outcome = RUN_OUTCOME_KILLED;
    op->fact.number = run->n;
    if (run->program == RUN_PROGRAM_PATCH && exit->has_exit_code && exit->exit_code == 0)
        plan_changes(p, run, output->text);

    bool told = false;
    const struct call *call;
    LIST_EACH(call, (struct list *)&t->calls, struct call, node)
    {
        if (call->run != run->n)
            continue;
        const struct run_output none = no_output(run);
        plan_run_result(p, call, run, exit, told ? &none : output);
        told = true;
    }
    if (!told && !run->kill) {
        struct plan_op *note = plan_event(p, EVENT_NOTICE);
        note->event.notice.severity = exit->outcome == RUN_OUTCOME_IN_DOUBT ? SEVERITY_WARNING : SEVERITY_INFO;
        note->event.notice.text = text_run_note(p, run, exit);
        note->fact.noted = true;
    }
}

void decide_run_ended(const struct task *t, const struct input *in, struct plan *p)
{
    const struct run *run = task_run(t, in->run_ended.run);
    if (run && !run->ended)
        plan_run_ended(p, t, run, in->run_ended.exit, &in->run_ended.output);
}

/* A call whose input went nowhere, or nobody knows where: the model must hear of it. */
static void plan_input_lost(struct plan *p, const struct call *call, const struct run *run, const struct run_exit *exit,
                            const struct run_output *output)
{
    struct str text = before(p,
                             exit ? "The input was not written: the process had ended before. "
                                  : "It is not known whether the input was written: its runner has not said so yet. ",
                             text_run_result(p, run, exit, output));
    plan_result(p, call, text, output->covered, true)->fact.seen_bytes = output->end;
}

void decide_call_yield(const struct task *t, const struct input *in, struct plan *p)
{
    const struct call *call = task_call(t, in->call_yield.call);
    const struct run *run = call ? task_run(t, call->run) : NULL;
    if (!run)
        return;
    struct run_exit exit = {.outcome = run->outcome,
                            .has_exit_code = run->has_exit_code,
                            .has_signal = run->has_signal,
                            .exit_code = run->exit_code,
                            .signal = run->signal,
                            .duration_ms = run->duration_ms,
                            .output_bytes = run->output_bytes};
    if (call->input.n > 0)
        plan_input_lost(p, call, run, run->ended ? &exit : NULL, &in->call_yield.output);
    else
        plan_run_result(p, call, run, run->ended ? &exit : NULL, &in->call_yield.output);
}

void decide_input_done(const struct task *t, const struct input *in, struct plan *p)
{
    const struct call *call = task_call(t, in->input_done.call);
    if (!call || in->input_done.ok)
        return;
    const struct run *run = task_run(t, call->run);
    if (run && run->ended)
        return; /* the answer about its end is on its way */
    struct str error = text_cut(in->input_done.error, MESSAGE_BYTES_MAX);
    plan_result(p, call, plan_printf(p, "The input could not be written: %.*s", STR_ARG(error)), 0, true);
}

/* ---- a start of the daemon ---- */

#define IN_FLIGHT_MAX 4096

static const struct recover_probe *find_probe(const struct input *in, int64_t run)
{
    for (size_t i = 0; i < in->recover.probes_n; i++) {
        if (in->recover.probes[i].run == run)
            return &in->recover.probes[i];
    }
    return NULL;
}

static enum became became_of(const struct recover_probe *probe)
{
    switch (probe->probe) {
    case RUN_PROBE_NOT_STARTED:
        return BECAME_STARTED;
    case RUN_PROBE_ALIVE:
        return BECAME_REATTACHED;
    case RUN_PROBE_ENDED:
        break;
    }
    if (probe->exit.outcome == RUN_OUTCOME_IN_DOUBT)
        return BECAME_IN_DOUBT;
    return probe->exit.outcome == RUN_OUTCOME_NOT_STARTED ? BECAME_NOT_STARTED : BECAME_ENDED;
}

static struct str became_list(const struct task *t, const struct input *in, struct plan *p, size_t *ret_n)
{
    struct buf list = {0};
    size_t n = 0;
#define PUT(...)                                                                                             \
    do {                                                                                                     \
        struct proto_in_flight item = {__VA_ARGS__};                                                         \
        buf_put(&list, &item, sizeof item);                                                                  \
        n++;                                                                                                 \
    } while (0)
    if (t->phase == PHASE_REQUEST)
        PUT(.what = IN_FLIGHT_WHAT_MODEL, .id = plan_printf(p, "%" PRId64, t->steps), .became = BECAME_RESENT);
    const struct run *run;
    LIST_EACH(run, (struct list *)&t->runs, struct run, node)
    {
        const struct recover_probe *probe = run->ended ? NULL : find_probe(in, run->n);
        if (probe && n < IN_FLIGHT_MAX)
            PUT(.what = IN_FLIGHT_WHAT_RUN, .id = text_id(p, 'r', run->n), .became = became_of(probe));
    }
    const struct call *call;
    LIST_EACH(call, (struct list *)&t->calls, struct call, node)
    {
        if (call->input.n && n < IN_FLIGHT_MAX)
            PUT(.what = IN_FLIGHT_WHAT_INPUT, .id = text_id(p, 'c', call->n), .became = BECAME_RESENT);
    }
#undef PUT
    *ret_n = n;
    return plan_take(p, &list);
}

void decide_recover(const struct task *t, const struct input *in, struct plan *p)
{
    size_t n;
    struct str list = became_list(t, in, p, &n);
    if (n > 0) {
        struct event_recovered *e = &plan_event(p, EVENT_RECOVERED)->event.recovered;
        e->previous_end = in->recover.previous_end;
        e->in_flight = (const struct proto_in_flight *)(const void *)list.p;
        e->in_flight_n = n;
    }
    const struct run *run;
    LIST_EACH(run, (struct list *)&t->runs, struct run, node)
    {
        const struct recover_probe *probe = run->ended ? NULL : find_probe(in, run->n);
        if (probe && probe->probe == RUN_PROBE_ENDED)
            plan_run_ended(p, t, run, &probe->exit, &probe->output);
    }
    if (t->phase == PHASE_REQUEST) {
        struct plan_op *op = plan_event(p, EVENT_STEP_RETRY);
        op->fact.deadline = clock_deadline_in(p->now, 0);
        op->fact.spent = true;
        op->event.step_retry = (struct event_step_retry){.step = t->steps,
                                                         .attempt = t->attempt,
                                                         .reason = STR("the daemon ended in the middle of the request"),
                                                         .next_at = op->fact.deadline.wall_ms};
    }
}
