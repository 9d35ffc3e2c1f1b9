/* What hardly ever happens to the core: limits, late and strange inputs, damaged bytes, and states that must be called broken. */
#include "core_box.h"

#include "daemon/base/mem.h"

#define OTHER "t00000000000000000000000002"
#define THIRD "t00000000000000000000000003"

static void create_other(const char *id, const char *name)
{
    assert_int_equal(create_as(id, name, STR("do that")), RPC_OK);
}

/* The tests' own way to break a state, or to stand for what another version left. */
static struct task *mine(void)
{
    return (struct task *)(uintptr_t)task();
}

/* ---- limits and names ---- */

static void test_live_tasks_are_bounded(void **state)
{
    (void)state;
    box.limits.tasks_live_max = 1;
    restart(STR_NONE);
    create();
    assert_int_equal(create_as(OTHER, "another", STR("do that")), RPC_LIMIT_REACHED);
    assert_int_equal(change(INPUT_CANCEL), RPC_OK);
    create_other(OTHER, "another");
}

static void test_reopened_with_two_of_its_name(void **state)
{
    (void)state;
    create();
    respond(NULL, 0);
    create_other(OTHER, "fix");
    create_other(THIRD, "fix-2");
    assert_int_equal(steer(DELIVERY_NEXT, STR("more")), RPC_OK);
    assert_string_equal(task()->name, "fix-3");
}

static void test_only_what_is_over_leaves_memory(void **state)
{
    (void)state;
    create();
    core_evict(box.core, OTHER);
    core_evict(box.core, TASK);
    assert_non_null(task());
    respond(NULL, 0);
    core_evict(box.core, TASK);
    assert_null(task());
    assert_int_equal(core_tasks_n(box.core), 0);
}

/* ---- late and strange inputs ---- */

static void test_a_task_that_is_not_there(void **state)
{
    (void)state;
    assert_int_equal(change(INPUT_CANCEL), RPC_TASK_NOT_FOUND);
    assert_int_equal(steer(DELIVERY_NOW, STR("hallo")), RPC_TASK_NOT_FOUND);
    assert_int_equal(box.events.n, 0);
}

/* Its call was answered while it was on its way here. */
static void test_what_comes_late_changes_nothing(void **state)
{
    (void)state;
    create();
    forget();
    struct input yield = {.kind = INPUT_CALL_YIELD};
    yield.call_yield.call = 7;
    feed(&yield);
    struct input done = {.kind = INPUT_INPUT_DONE};
    done.input_done.call = 7;
    done.input_done.error = STR("the process has ended");
    feed(&done);
    end_run(7, &good_exit);
    assert_int_equal(box.events.n, 0);
    assert_int_equal(task()->phase, PHASE_REQUEST);
}

static void respond_using(int64_t input_tokens, enum finish finish)
{
    struct model_part part = {.kind = PART_MESSAGE, .text = STR("I sa")};
    struct str raw = STR("{}");
    struct model_response response = {.parts = &part, .parts_n = 1, .raw = &raw, .raw_n = 1, .finish = finish};
    response.usage.input_tokens = input_tokens;
    struct input in = {.kind = INPUT_MODEL_DONE};
    in.model_done.step = task()->steps;
    in.model_done.attempt = task()->attempt;
    in.model_done.response = &response;
    feed(&in);
}

/* A provider may count what it likes. */
static void test_usage_does_not_overflow(void **state)
{
    (void)state;
    create();
    respond_using(INT64_MAX - 1, FINISH_STOP);
    assert_int_equal(steer(DELIVERY_NEXT, STR("more")), RPC_OK);
    respond_using(7, FINISH_STOP);
    assert_true(task()->usage.input_tokens == INT64_MAX);
}

static void test_an_answer_cut_at_its_limit_is_told(void **state)
{
    (void)state;
    create();
    respond_using(1, FINISH_LENGTH);
    assert_true(said(&box.events, "cut at its output limit"));
    assert_int_equal(task()->state, TASK_STATE_COMPLETED);
}

/* ---- how processes end ---- */

static void end_of(const struct run_exit *exit, const char *words)
{
    create();
    struct call_spec call = shell("make", 1000);
    respond(&call, 1);
    end_run(1, exit);
    assert_true(said(&box.context, words));
    assert_int_equal(times(&box.events, "\"tool.result\""), 1);
}

static void test_a_process_that_could_not_be_started(void **state)
{
    (void)state;
    end_of(&(struct run_exit){.outcome = RUN_OUTCOME_NOT_STARTED, .detail = STR("/nowhere: No such file or directory")},
           "The process could not be started: /nowhere: No such file or directory");
}

static void test_a_process_that_a_signal_ended(void **state)
{
    (void)state;
    end_of(&(struct run_exit){.outcome = RUN_OUTCOME_DONE, .has_signal = true, .signal = 11}, "ended by signal 11");
}

/* ---- every fault has its words ---- */

static void test_each_fault_is_named(void **state)
{
    (void)state;
    static const struct {
        enum model_fault fault;
        const char *words;
    } faults[] = {{MODEL_FAULT_MALFORMED, "unreadable stream: why"}, /* several failures and this one end a task */
                  {MODEL_FAULT_RATE_LIMIT, "rate limit: why"},
                  {MODEL_FAULT_SERVER, "provider error: why"},
                  {MODEL_FAULT_NETWORK, "network: why"},
                  {MODEL_FAULT_CUT, "stream cut: why"},
                  {MODEL_FAULT_STALL, "stream stalled: why"},
                  {MODEL_FAULT_CREDENTIALS, "credentials: why"}};
    create();
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        forget();
        fault(faults[i].fault, STR("why"));
        if (!said(&box.events, faults[i].words))
            fail_msg("%s: %s", faults[i].words, buf_cstr(&box.events));
        pass(86400000);
        assert_int_equal(task()->phase, PHASE_REQUEST);
    }
    fault(MODEL_FAULT_REQUEST, STR("why"));
    assert_int_equal(task()->state, TASK_STATE_FAILED);
    assert_true(said(&box.events, "request refused: why"));
}

/* ---- bytes ---- */

static void test_damaged_snapshots_are_refused(void **state)
{
    (void)state;
    struct buf whole = {0};
    create();
    struct call_spec calls[] = {shell("sleep 9", 1000), shell("sleep 8", 1000)};
    respond(calls, 2);
    steer(DELIVERY_QUEUE, STR("then"));
    task_snapshot(task(), &whole);
    struct task *t = task_from_snapshot(buf_view(&whole));
    assert_non_null(t);
    task_free(t);
    assert_null(task_from_snapshot(STR_NONE));
    assert_null(task_from_snapshot(STR("no snapshot of anything")));
    for (size_t n = 0; n < whole.n; n++) { /* cut anywhere: no task, or one with all that it must have */
        t = task_from_snapshot(str_n(whole.p, n));
        if (!t)
            continue;
        assert_true(t->name && t->workspace && t->model && t->policy && t->objective);
        task_free(t);
    }
    buf_free(&whole);
}

/* ---- what the invariants call broken ---- */

static void broken(const char *words)
{
    const char *found = core_invariant(box.core, task());
    assert_non_null(found);
    assert_string_equal(found, words);
}

static void test_wrong_counts_are_found(void **state)
{
    (void)state;
    create();
    assert_null(core_invariant(box.core, task()));
    mine()->steers_pending++;
    broken("steers_pending counts the steers that were not delivered");
    mine()->steers_pending--;
    mine()->runs_open++;
    broken("runs_open counts the runs whose runner lives");
    mine()->runs_open--;
    mine()->calls_open++;
    broken("calls_open counts the calls");
    mine()->calls_open--;
    assert_null(core_invariant(box.core, task()));
}

static void test_wrong_phases_are_found(void **state)
{
    (void)state;
    create();
    mine()->phase = PHASE_TOOLS;
    broken("calls are open if and only if the phase is TOOLS");
    mine()->phase = PHASE_REQUEST;
    mine()->state = TASK_STATE_COMPLETED;
    broken("a final task has no open turn");
    mine()->state = TASK_STATE_QUEUED;
    broken("a task that asks the model holds a place");
    mine()->phase = PHASE_IDLE;
    mine()->turn_wants_step = false;
    broken("a queued task has something to do");
    mine()->state = TASK_STATE_RUNNING;
    mine()->phase = PHASE_REQUEST;
    mine()->attempt = 0;
    broken("an attempt has a step");
    mine()->attempt = 1;
    mine()->turns = 0;
    broken("an open turn has a number");
    mine()->turns = 1;
    assert_null(core_invariant(box.core, task()));
}

static struct run *first_run(void)
{
    return (struct run *)(uintptr_t)task_run(task(), 1);
}

static struct call *first_call(void)
{
    return (struct call *)(uintptr_t)task_call(task(), 1);
}

static void test_wrong_links_are_found(void **state)
{
    (void)state;
    create();
    struct call_spec call = shell("sleep 9", 100000);
    respond(&call, 1);
    first_call()->run = 7;
    broken("an open call waits for a run that is known");
    first_call()->run = 1;
    first_run()->ended = true;
    broken("a call is answered when its run ends");
    first_run()->ended = false;
    first_run()->gone = true;
    mine()->runs_open--;
    broken("a runner that is gone has ended its run");
    first_run()->gone = false;
    mine()->runs_open++;
    assert_null(core_invariant(box.core, task()));
}

static void test_a_task_that_nobody_finds_is_found(void **state)
{
    (void)state;
    create();
    char *name = mine()->name;
    mine()->name = mem_strdup("somebody");
    broken("a live task is found by its name");
    mem_free(mine()->name);
    mine()->name = name;
    assert_null(core_invariant(box.core, task()));
}

static void test_wrong_waits_are_found(void **state)
{
    (void)state;
    create();
    struct call_spec run = shell("sleep 9", 0);
    respond(&run, 1);
    pass(1);
    struct condition end = {.kind = CONDITION_RUN, .run = 1};
    struct call_spec call = {.wire_id = STR("w"), .tool = STR("wait"), .arguments = STR("{}"), .sort = CALL_SORT_WAIT,
                             .conditions = &end, .conditions_n = 1};
    respond(&call, 1);
    assert_null(core_invariant(box.core, task()));
    struct wait *w = (struct wait *)(uintptr_t)LIST_ENTRY(task()->waits.next, struct wait, node);
    int64_t of = w->call;
    w->call = 99;
    broken("a wait has a call that it answers");
    w->call = of;
    w->conditions_n = 0;
    broken("a wait has a condition");
    w->conditions_n = 1;
    first_run()->ended = true;
    broken("a wait ends with its run");
    first_run()->ended = false;
    list_remove(&w->node);
    broken("a call that waits has one wait");
    list_append(&mine()->waits, &w->node);
    assert_null(core_invariant(box.core, task()));
}

static void test_a_wait_that_should_be_over_is_found(void **state)
{
    (void)state;
    create();
    struct condition answer = {.kind = CONDITION_ANSWER};
    struct call_spec call = {.wire_id = STR("w"), .tool = STR("wait"), .arguments = STR("{}"), .sort = CALL_SORT_WAIT,
                             .conditions = &answer, .conditions_n = 1};
    respond(&call, 1);
    assert_null(core_invariant(box.core, task()));
    struct steer late = {.n = 9, .delivery = DELIVERY_NEXT};
    list_append(&mine()->steers, &late.node);
    mine()->steers_pending++;
    broken("an answer ends its wait");
    LIST_ENTRY(task()->waits.next, struct wait, node)->conditions->kind = CONDITION_TIME;
    broken("input ends a wait");
    list_remove(&late.node);
    mine()->steers_pending--;
    mine()->state = TASK_STATE_RUNNING;
    broken("a task with nothing but waits says that it waits");
    mine()->state = TASK_STATE_WAITING;
    assert_null(core_invariant(box.core, task()));
}

static void test_a_wait_that_is_only_said_is_found(void **state)
{
    (void)state;
    create();
    mine()->state = TASK_STATE_WAITING;
    mine()->waiting_for = WAITING_FOR_FILE;
    broken("a task that says what it waits for has a wait");
    mine()->state = TASK_STATE_RUNNING;
    struct call_spec call = shell("sleep 9", 100000);
    respond(&call, 1);
    mine()->state = TASK_STATE_WAITING;
    broken("a task that says that it waits has no process to wait for");
    mine()->state = TASK_STATE_RUNNING;
    assert_null(core_invariant(box.core, task()));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, open_box, close_box)
    const struct CMUnitTest tests[] = {
        T(test_live_tasks_are_bounded),
        T(test_reopened_with_two_of_its_name),
        T(test_only_what_is_over_leaves_memory),
        T(test_a_task_that_is_not_there),
        T(test_what_comes_late_changes_nothing),
        T(test_usage_does_not_overflow),
        T(test_an_answer_cut_at_its_limit_is_told),
        T(test_a_process_that_could_not_be_started),
        T(test_a_process_that_a_signal_ended),
        T(test_each_fault_is_named),
        T(test_damaged_snapshots_are_refused),
        T(test_wrong_counts_are_found),
        T(test_wrong_phases_are_found),
        T(test_wrong_links_are_found),
        T(test_a_task_that_nobody_finds_is_found),
        T(test_wrong_waits_are_found),
        T(test_a_wait_that_should_be_over_is_found),
        T(test_a_wait_that_is_only_said_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
