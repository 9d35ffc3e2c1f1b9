/* The sentences that agentd itself says to the model: results of calls and notes. They state facts that the model needs and cannot
 * see otherwise; they never guess. */
#include "daemon/core/internal.h"

#include "daemon/base/utf8.h"

#include <inttypes.h>

#define COMMAND_BYTES_MAX 4000      /* of a command whose end is in doubt */
#define NOTE_COMMAND_BYTES_MAX 200 /* of one that is only named */

struct str text_cut(struct str text, size_t n)
{
    text.n = utf8_floor(text, n);
    return text;
}

struct str text_id(struct plan *p, char letter, int64_t n)
{
    return plan_printf(p, "%c%" PRId64, letter, n);
}

static void put_seconds(struct buf *b, int64_t ms)
{
    buf_printf(b, "%" PRId64 ".%" PRId64 " s", ms / 1000, ms % 1000 / 100);
}

/* What is known of its end beyond how it ended: output that was lost, a patch that was settled later. */
static void put_known(struct buf *b, struct str detail)
{
    if (detail.n)
        buf_printf(b, "Known: %.*s\n", STR_ARG(detail));
}

static void put_doubt(struct buf *b, const struct run *r, struct str detail)
{
    char at[CLOCK_TEXT_SIZE];
    clock_format(r->started_wall_ms, at);
    buf_printf(b,
               "IN DOUBT: agentd lost this process and does not know whether, or how far, it ran. It was not started "
               "again. Check what it did before you repeat it.\nCommand: %.*s\nStarted: %s\n",
               STR_ARG(text_cut(str_of(r->command), COMMAND_BYTES_MAX)), at);
    put_known(b, detail);
}

static void put_end(struct buf *b, const struct run *r, const struct run_exit *e)
{
    switch (e->outcome) {
    case RUN_OUTCOME_NOT_STARTED:
        buf_printf(b, "The process could not be started: %.*s\n", STR_ARG(e->detail));
        return;
    case RUN_OUTCOME_IN_DOUBT:
        put_doubt(b, r, e->detail);
        return;
    case RUN_OUTCOME_DONE:
    case RUN_OUTCOME_KILLED:
        break;
    }
    if (e->has_signal)
        buf_printf(b, "Process was ended by signal %" PRId64, e->signal);
    else
        buf_printf(b, "Process exited with code %" PRId64, e->exit_code);
    buf_puts(b, " after ");
    put_seconds(b, e->duration_ms);
    buf_puts(b, ".\n");
    put_known(b, e->detail);
}

static void put_output(struct buf *b, const struct run_output *o)
{
    if (o->covered == 0 && o->text.n == 0) {
        buf_puts(b, "(no new output)");
        return;
    }
    buf_puts(b, "Output:\n");
    buf_str(b, o->text);
}

struct str text_run_result(struct plan *p, const struct run *r, const struct run_exit *exit,
                           const struct run_output *output)
{
    struct buf b = {0};
    if (r->program != RUN_PROGRAM_SHELL && exit && exit->outcome == RUN_OUTCOME_DONE) {
        if (output->has_image)
            buf_printf(&b, "The image %.*s (%.*s, %" PRId64 " bytes) follows.", STR_ARG(output->image.path),
                       STR_ARG(output->image.media_type), output->image.bytes);
        else
            buf_str(&b, output->text);
        if (b.n && b.p[b.n - 1] != '\n' && exit->detail.n)
            buf_putc(&b, '\n');
        put_known(&b, exit->detail);
        return plan_take(p, &b);
    }
    if (exit) {
        put_end(&b, r, exit);
    } else {
        buf_printf(&b, "Process is still running after ");
        int64_t ms = p->now->wall_ms - r->started_wall_ms;
        put_seconds(&b, ms > 0 ? ms : 0);
        buf_printf(&b, ", as session %" PRId64 ". Read on, or send it input, with write_stdin.\n", r->n);
    }
    put_output(&b, output);
    return plan_take(p, &b);
}

struct str text_run_note(struct plan *p, const struct run *r, const struct run_exit *exit)
{
    struct buf b = {0};
    struct str command = text_cut(str_of(r->command), NOTE_COMMAND_BYTES_MAX);
    buf_printf(&b, "Session %" PRId64 " (%.*s) has ended. ", r->n, STR_ARG(command));
    put_end(&b, r, exit);
    int64_t unread = exit->output_bytes - r->seen_bytes;
    if (unread > 0)
        buf_printf(&b, "It has %" PRId64 " bytes of output that you have not read: write_stdin with session_id %" PRId64
                       " and no chars returns them.",
                   unread, r->n);
    return plan_take(p, &b);
}

/* ---- waits ---- */

#define CONDITION_BYTES_MAX 400 /* of one, for people */

static void put_clock(struct buf *b, int64_t wall_ms)
{
    char at[CLOCK_TEXT_SIZE];
    clock_format(wall_ms, at);
    buf_puts(b, at);
}

struct str text_condition(struct plan *p, const struct condition *c)
{
    struct buf b = {0};
    switch (c->kind) {
    case CONDITION_TIME:
    case CONDITION_QUOTA:
        buf_puts(&b, c->kind == CONDITION_TIME ? "time " : "quota ");
        put_seconds(&b, c->delay_ms);
        break;
    case CONDITION_CLOCK:
        buf_puts(&b, "clock ");
        put_clock(&b, c->wall_ms);
        break;
    case CONDITION_RUN:
        buf_printf(&b, "run r%" PRId64, c->run);
        break;
    case CONDITION_FILE:
        buf_puts(&b, "file ");
        buf_str(&b, c->path);
        break;
    case CONDITION_ANSWER:
        buf_puts(&b, "answer");
        break;
    }
    return plan_take(p, &b);
}

static void put_condition(struct buf *b, const struct condition *c)
{
    switch (c->kind) {
    case CONDITION_TIME:
        put_seconds(b, c->delay_ms);
        return;
    case CONDITION_QUOTA:
        buf_puts(b, "the provider's quota");
        return;
    case CONDITION_CLOCK:
        put_clock(b, c->wall_ms);
        return;
    case CONDITION_RUN:
        buf_printf(b, "the end of session %" PRId64, c->run);
        return;
    case CONDITION_FILE:
        buf_puts(b, "a change of ");
        buf_str(b, text_cut(c->path, CONDITION_BYTES_MAX));
        return;
    case CONDITION_ANSWER:
        buf_puts(b, "an answer");
        return;
    }
}

struct str text_conditions(struct plan *p, const struct wait *w)
{
    struct buf b = {0};
    for (size_t i = 0; i < w->conditions_n; i++) {
        buf_puts(&b, i ? " or " : "");
        put_condition(&b, &w->conditions[i]);
    }
    return plan_take(p, &b);
}

struct str text_wait_over(struct plan *p, const struct condition *c)
{
    struct buf b = {0};
    buf_puts(&b, "The wait is over: ");
    switch (c->kind) {
    case CONDITION_TIME:
        put_seconds(&b, c->delay_ms);
        buf_puts(&b, " have passed.");
        break;
    case CONDITION_QUOTA:
        buf_puts(&b, "the provider's quota is there again.");
        break;
    case CONDITION_CLOCK:
        buf_puts(&b, "it is ");
        put_clock(&b, p->now->wall_ms);
        buf_putc(&b, '.');
        break;
    case CONDITION_RUN:
        buf_printf(&b, "session %" PRId64 " has ended.", c->run);
        break;
    case CONDITION_FILE:
        buf_str(&b, c->path);
        buf_puts(&b, " has changed.");
        break;
    case CONDITION_ANSWER:
        buf_puts(&b, "there is an answer.");
        break;
    }
    return plan_take(p, &b);
}
