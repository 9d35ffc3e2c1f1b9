#include "core_box.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- the world ---- */

struct box box;

static struct clock_now now_cb(void *ctx)
{
    (void)ctx;
    return box.now;
}

static uint64_t random_cb(void *ctx)
{
    (void)ctx;
    return 1;
}

static void event_cb(void *ctx, const struct event *event)
{
    (void)ctx;
    event_encode(&box.events, event);
    buf_putc(&box.events, '\n');
}

static int64_t context_cb(void *ctx, const struct task *t, int64_t index, const struct context_item *item)
{
    (void)ctx;
    (void)t;
    (void)index;
    buf_str(&box.context, item->text);
    buf_putc(&box.context, '\n');
    return (int64_t)item->text.n;
}

static void task_cb(void *ctx, const struct task *t)
{
    (void)ctx;
    (void)t;
    box.tasks_written++;
}

static void commit_cb(void *ctx)
{
    (void)ctx;
    assert_false(box.committing);
    box.committing = true;
}

static void published_cb(void *ctx, const struct pump_event *events, size_t n)
{
    (void)ctx;
    (void)events;
    assert_true(n > 0);
}

static void effect_cb(void *ctx, const char *task, const struct effect *e)
{
    (void)ctx;
    (void)task;
    static const char *const names[] = {"model", "run", "kill", "input", "watch"};
    buf_printf(&box.effects, "%s %" PRId64 " %" PRId64 "\n", names[e->kind], e->a, e->b);
}

static void cancel_cb(void *ctx, const char *task, const struct effect *e)
{
    (void)ctx;
    (void)task;
    if (e->kind == EFFECT_WATCH)
        buf_printf(&box.effects, "unwatch %" PRId64 " %" PRId64 "\n", e->a, e->b);
}

static void wake_cb(void *ctx, int64_t delay_ms)
{
    (void)ctx;
    box.wake_ms = delay_ms;
}

static void collect_cb(void *ctx, const struct task *t, const struct run *run, int64_t bytes_max, struct run_output *ret)
{
    (void)ctx;
    (void)t;
    (void)bytes_max;
    int64_t n = (int64_t)box.output.n;
    *ret = (struct run_output){.text = buf_view(&box.output), .end = run->seen_bytes + n, .covered = n};
}

static struct str partial_cb(void *ctx, const char *task)
{
    (void)ctx;
    (void)task;
    return STR("I was abo");
}

void start(struct str snapshot)
{
    const struct world world = {.now = now_cb,
                                .random = random_cb,
                                .journal_event = event_cb,
                                .journal_context = context_cb,
                                .journal_task = task_cb,
                                .commit = commit_cb,
                                .published = published_cb,
                                .effect_start = effect_cb,
                                .effect_cancel = cancel_cb,
                                .wake_in = wake_cb,
                                .collect = collect_cb,
                                .partial = partial_cb};
    box.core = core_new(&box.limits);
    box.pump = pump_new(box.core, &world, &box.limits, 0);
    if (snapshot.n)
        assert_non_null(core_restore(box.core, snapshot));
}

void restart(struct str snapshot)
{
    pump_free(box.pump);
    core_free(box.core);
    box.committing = false;
    start(snapshot);
}

int open_box(void **state)
{
    (void)state;
    box = (struct box){.limits = limits_default(), .now = {.wall_ms = 1700000000000, .boot_ms = 1000, .boot_id = "boot-1"}};
    start(STR_NONE);
    return 0;
}

int close_box(void **state)
{
    (void)state;
    pump_free(box.pump);
    core_free(box.core);
    buf_free(&box.events);
    buf_free(&box.context);
    buf_free(&box.effects);
    buf_free(&box.output);
    return 0;
}

const struct task *task(void)
{
    return core_task(box.core, TASK);
}

void commit(void)
{
    pump_flush(box.pump);
    if (box.committing) {
        box.committing = false;
        pump_committed(box.pump);
    }
    pump_flush(box.pump);
}

void pass(int64_t ms)
{
    box.now.wall_ms += ms;
    box.now.boot_ms += ms;
    pump_tick(box.pump);
}

enum rpc_error feed(struct input *in)
{
    if (!in->task)
        in->task = TASK;
    enum rpc_error error = pump_input(box.pump, in, NULL, NULL);
    const struct task *t;
    LIST_EACH(t, core_tasks(box.core), struct task, node)
    {
        const char *broken = core_invariant(box.core, t);
        if (broken)
            fail_msg("%s", broken);
    }
    return error;
}

enum rpc_error change(enum input_kind kind)
{
    return feed(&(struct input){.kind = kind, .client = STR("test")});
}

enum rpc_error create_as(const char *id, const char *name, struct str prompt)
{
    struct input in = {.kind = INPUT_TASK_CREATE, .task = id, .client = STR("test")};
    in.create.name = str_of(name);
    in.create.prompt = prompt;
    in.create.workspace = STR("/w");
    in.create.model = STR("main");
    in.create.policy = STR("open");
    in.create.head_bytes = 100;
    in.create.tail_bytes = 2;
    in.create.price_input = 1000;
    in.create.price_output = 5000;
    in.create.max_output_tokens = 10;
    return feed(&in);
}

void create(void)
{
    assert_int_equal(create_as(TASK, "fix", STR("do it")), RPC_OK);
}

enum rpc_error steer(enum delivery delivery, struct str text)
{
    struct input in = {.kind = INPUT_STEER, .client = STR("test")};
    in.steer.text = text;
    in.steer.delivery = delivery;
    return feed(&in);
}

void respond(const struct call_spec *calls, size_t n)
{
    struct model_part *parts = mem_alloc((n + 1) * sizeof *parts);
    struct str raw = STR("{}");
    parts[0] = (struct model_part){.kind = PART_MESSAGE, .text = STR("I say.")};
    for (size_t i = 0; i < n; i++)
        parts[i + 1] = (struct model_part){.kind = PART_CALL, .call = calls[i]};
    struct model_response response = {
        .parts = parts, .parts_n = n + 1, .raw = &raw, .raw_n = 1, .finish = n ? FINISH_TOOL_CALLS : FINISH_STOP};
    struct input in = {.kind = INPUT_MODEL_DONE};
    in.model_done.step = task()->steps;
    in.model_done.attempt = task()->attempt;
    in.model_done.response = &response;
    feed(&in);
    mem_free(parts);
}

void fault(enum model_fault what, struct str message)
{
    struct input in = {.kind = INPUT_MODEL_FAILED};
    in.model_failed.step = task()->steps;
    in.model_failed.attempt = task()->attempt;
    in.model_failed.fault = what;
    in.model_failed.message = message;
    feed(&in);
}

void end_run(int64_t run, const struct run_exit *exit)
{
    struct input in = {.kind = INPUT_RUN_ENDED};
    in.run_ended.run = run;
    in.run_ended.exit = exit;
    feed(&in);
}

const struct run_exit good_exit = {.outcome = RUN_OUTCOME_DONE, .has_exit_code = true};

struct call_spec shell(const char *command, int64_t yield_ms)
{
    return (struct call_spec){.wire_id = STR("w"),
                              .tool = STR("exec_command"),
                              .arguments = STR("{}"),
                              .sort = CALL_SORT_RUN,
                              .program = RUN_PROGRAM_SHELL,
                              .command = str_of(command),
                              .payload = str_of(command),
                              .workdir = STR("/w"),
                              .yield_ms = yield_ms,
                              .output_bytes = 1000};
}

struct call_spec input_to(int64_t session, const char *text, int64_t yield_ms)
{
    return (struct call_spec){.wire_id = STR("w"),
                              .tool = STR("write_stdin"),
                              .arguments = STR("{}"),
                              .sort = CALL_SORT_INPUT,
                              .session = session,
                              .input = str_of(text),
                              .yield_ms = yield_ms,
                              .output_bytes = 1000};
}

bool said(const struct buf *where, const char *what)
{
    return strstr(buf_cstr(where), what) != NULL;
}

size_t times(const struct buf *where, const char *what)
{
    size_t n = 0;
    for (const char *p = buf_cstr(where); (p = strstr(p, what)); p++)
        n++;
    return n;
}

void forget(void)
{
    buf_clear(&box.events);
    buf_clear(&box.context);
    buf_clear(&box.effects);
}

/* A text of `n` bytes in which every cut but at even offsets hurts. */
char *umlauts(size_t n)
{
    struct buf b = {0};
    while (b.n < n)
        buf_puts(&b, "\xc3\xa4");
    return buf_take(&b, NULL);
}

void all_is_utf8(void)
{
    assert_true(utf8_valid(buf_view(&box.events)));
    assert_true(utf8_valid(buf_view(&box.context)));
}
