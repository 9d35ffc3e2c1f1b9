/* The core under the pump, one move at a time, in a world that only writes down what it is told: what is decided in every state, and
 * how what waits for a commit behaves. The simulation looks for what nobody thought of; here is what somebody did. */
#include "core_box.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- what is said is UTF-8, however long it was ---- */

static void test_long_texts(void **state)
{
    (void)state;
    char *text = umlauts(9001);
    create();
    struct call_spec call = shell(text, 1000);
    respond(&call, 1);
    end_run(1, &(struct run_exit){.outcome = RUN_OUTCOME_IN_DOUBT, .detail = STR("lost")});
    all_is_utf8();
    assert_true(said(&box.context, "IN DOUBT"));
    assert_true(said(&box.context, "Known: lost"));

    call = shell(text, 0); /* answered while it runs, so its end is a note */
    respond(&call, 1);
    pass(1);
    end_run(2, &good_exit);
    all_is_utf8();
    assert_true(said(&box.events, "Session 2 ("));

    char *odd = mem_dup(text, 9000);
    memmove(odd + 1, text, 8999);
    odd[0] = 'x';
    fault(MODEL_FAULT_SERVER, str_n(odd, 8999));
    all_is_utf8();
    assert_true(said(&box.events, "provider error: x\xc3\xa4"));
    pass(60000);

    buf_puts(&box.output, text);
    call = input_to(1, "y", 1000);
    respond(&call, 1);
    pass(1);
    all_is_utf8();
    assert_true(said(&box.context, "The input was not written: the process had ended before."));
    assert_true(said(&box.context, text)); /* all of the output, whatever stands before it */
    mem_free(text);
    mem_free(odd);
}

static void test_objective_in_the_state_is_bounded(void **state)
{
    (void)state;
    char *text = umlauts(1000000);
    assert_int_equal(create_as(TASK, "fix", str_of(text)), RPC_OK);
    assert_true(said(&box.events, text));
    assert_true(said(&box.context, text));
    struct buf snapshot = {0};
    task_snapshot(task(), &snapshot); /* written with every commit */
    assert_true(snapshot.n < 16384);
    assert_true(utf8_valid(str_of(task()->objective)));
    buf_free(&snapshot);
    mem_free(text);
}

/* ---- many ---- */

static void test_many_calls(void **state)
{
    (void)state;
    enum { N = 4000 };
    struct call_spec *calls = mem_alloc(N * sizeof *calls);
    for (int i = 0; i < N; i++)
        calls[i] = shell("true", 1000);
    create();
    respond(calls, N);
    mem_free(calls);
    assert_int_equal(times(&box.events, "\"tool.called\""), N);
    assert_int_equal(times(&box.events, "\"tool.result\""), N - box.limits.calls_per_step_max);
    assert_int_equal(task()->calls_open, box.limits.calls_per_step_max);
}

static void test_many_steers(void **state)
{
    (void)state;
    box.limits.steers_pending_max = 10000;
    restart(STR_NONE);
    create();
    for (int i = 0; i < 10000; i++)
        assert_int_equal(steer(DELIVERY_NEXT, STR("and this")), RPC_OK);
    assert_int_equal(steer(DELIVERY_NEXT, STR("and this")), RPC_LIMIT_REACHED);
    respond(NULL, 0);
    assert_int_equal(times(&box.events, "\"steer.delivered\""), 10000);
    assert_int_equal(task()->steers_pending, 0);
}

static void test_many_changed_files(void **state)
{
    (void)state;
    struct call_spec calls[8];
    for (int i = 0; i < 8; i++) {
        calls[i] = shell("patch", 60000);
        calls[i].program = RUN_PROGRAM_PATCH;
    }
    create();
    respond(calls, 8);
    struct buf output = {0};
    for (int i = 0; i < 1000; i++)
        buf_printf(&output, "M file-%d\n", i);
    struct recover_probe probes[8];
    for (int i = 0; i < 8; i++)
        probes[i] = (struct recover_probe){
            .run = i + 1, .probe = RUN_PROBE_ENDED, .exit = good_exit, .output = {.text = buf_view(&output), .covered = 1}};
    struct input in = {.kind = INPUT_RECOVER};
    in.recover.probes = probes;
    in.recover.probes_n = 8;
    feed(&in);
    assert_int_equal(times(&box.events, "\"file.changed\""), 8000);
    buf_free(&output);
}

/* What became of a run beyond how it ended is for the model, too: output that was lost, a patch that was settled by a later start. */
static void test_known_of_an_end(void **state)
{
    (void)state;
    create();
    struct call_spec calls[] = {shell("make", 1000), shell("patch", 1000), shell("more", 0)};
    calls[1].program = RUN_PROGRAM_PATCH;
    respond(calls, 3);
    struct run_exit exit = good_exit;
    exit.detail = STR("its output could not all be kept: No space left on device");
    end_run(1, &exit);
    exit.detail = STR("the patch was cut short; it is now applied in whole");
    buf_puts(&box.output, "M a");
    end_run(2, &exit);
    buf_clear(&box.output);
    pass(1);
    exit.detail = STR("the third");
    end_run(3, &exit);
    assert_true(said(&box.context, "Known: its output could not all be kept: No space left on device\n"));
    assert_true(said(&box.context, "M a\nKnown: the patch was cut short; it is now applied in whole\n"));
    assert_true(said(&box.events, "Known: the third"));
}

/* ---- steers and calls that wait ---- */

static void test_steer_before_the_call(void **state)
{
    (void)state;
    create();
    assert_int_equal(steer(DELIVERY_NEXT, STR("use the iterator")), RPC_OK);
    struct call_spec call = shell("sleep 1800", 1800000);
    respond(&call, 1);
    assert_false(said(&box.events, "tool.result"));
    assert_in_range(core_wake(box.core, task(), &box.now), 1, 1000);
    pass(1000); /* a waiting call is answered within a second */
    assert_true(said(&box.context, "as session 1"));
    assert_true(said(&box.events, "\"steer.delivered\""));
    assert_int_equal(task()->phase, PHASE_REQUEST);
}

static void test_queued_steer_hurries_nothing(void **state)
{
    (void)state;
    create();
    assert_int_equal(steer(DELIVERY_QUEUE, STR("then this")), RPC_OK);
    struct call_spec call = shell("sleep 1800", 1800000);
    respond(&call, 1);
    assert_int_equal(steer(DELIVERY_QUEUE, STR("and that")), RPC_OK);
    pass(1000000);
    assert_int_equal(task()->phase, PHASE_TOOLS);
    end_run(1, &good_exit);
    respond(NULL, 0);
    assert_int_equal(task()->turns, 2);
    assert_int_equal(times(&box.events, "\"steer.delivered\""), 2);
}

/* Input that was asked for is on its way until its runner says what became of it. The call is not answered as if it had been
 * written while nobody knows. */
static void test_input_under_way(void **state)
{
    (void)state;
    create();
    struct call_spec call = shell("cat", 0);
    respond(&call, 1);
    pass(1);
    call = input_to(1, "hello\n", 1000);
    respond(&call, 1);
    forget();
    steer(DELIVERY_NOW, STR("hurry"));
    pass(0);
    assert_false(said(&box.events, "tool.result"));
    commit();
    assert_true(said(&box.effects, "input 2 0"));
    struct input done = {.kind = INPUT_INPUT_DONE};
    done.input_done.call = 2;
    done.input_done.ok = true;
    feed(&done);
    pass(0);
    assert_true(said(&box.events, "tool.result"));
    assert_true(said(&box.context, "still running"));
    assert_false(said(&box.context, "not known"));
}

static void test_input_that_nobody_confirms(void **state)
{
    (void)state;
    create();
    struct call_spec call = shell("cat", 0);
    respond(&call, 1);
    pass(1);
    call = input_to(1, "hello\n", 1000);
    respond(&call, 1);
    forget();
    pass(1000);
    assert_false(said(&box.events, "tool.result"));
    assert_in_range(core_wake(box.core, task(), &box.now), 1, 60000);
    pass(60000); /* waits are bounded */
    assert_true(said(&box.events, "tool.result"));
    assert_true(said(&box.context, "not known"));
}

static void test_input_to_a_run_that_is_lost(void **state)
{
    (void)state;
    create();
    struct call_spec call = shell("cat", 0);
    respond(&call, 1);
    pass(1);
    call = input_to(1, "hello\n", 1000);
    respond(&call, 1);
    forget();
    end_run(1, &(struct run_exit){.outcome = RUN_OUTCOME_IN_DOUBT, .detail = STR("lost")});
    assert_true(said(&box.context, "It is not known whether the input was written. IN DOUBT"));
}

/* While no daemon was there nothing was under way: the next start writes it, however late it comes. */
static void test_input_that_waited_for_a_start(void **state)
{
    (void)state;
    create();
    struct call_spec call = shell("cat", 0);
    respond(&call, 1);
    pass(1);
    call = input_to(1, "hello\n", 1000);
    respond(&call, 1);
    struct buf snapshot = {0};
    task_snapshot(task(), &snapshot);
    restart(buf_view(&snapshot));
    buf_free(&snapshot);
    forget();
    box.now.wall_ms += 86400000;
    box.now.boot_ms += 86400000;
    struct recover_probe probe = {.run = 1, .probe = RUN_PROBE_ALIVE};
    struct input in = {.kind = INPUT_RECOVER};
    in.recover.probes = &probe;
    in.recover.probes_n = 1;
    feed(&in);
    pass(1000);
    assert_false(said(&box.events, "tool.result"));
    commit();
    assert_true(said(&box.effects, "input 2 0"));
    struct input done = {.kind = INPUT_INPUT_DONE};
    done.input_done.call = 2;
    done.input_done.ok = true;
    feed(&done);
    pass(0);
    assert_true(said(&box.events, "tool.result"));
    assert_true(said(&box.context, "still running"));
}

static void test_written_input_is_not_written_again(void **state)
{
    (void)state;
    create();
    struct call_spec call = shell("cat", 0);
    respond(&call, 1);
    pass(1);
    call = input_to(1, "hello\n", 1000);
    respond(&call, 1);
    commit();
    struct input done = {.kind = INPUT_INPUT_DONE};
    done.input_done.call = 2;
    done.input_done.ok = true;
    feed(&done);
    struct effect effects[8];
    size_t n = core_effects(task(), effects, 8);
    for (size_t i = 0; i < n; i++)
        assert_int_not_equal(effects[i].kind, EFFECT_INPUT);
}

/* ---- what an attempt may have cost ---- */

static void test_cancelled_attempt_may_have_cost(void **state)
{
    (void)state;
    create();
    assert_int_equal(change(INPUT_CANCEL), RPC_OK);
    assert_true(task()->usage.uncertain_usd > 0);
    assert_true(said(&box.events, "\"finish\":\"cut\""));
    assert_true(said(&box.events, "\"outcome\":\"cancelled\""));
}

static void test_unreadable_attempts_may_have_cost(void **state)
{
    (void)state;
    create();
    int64_t spent = 0;
    while (task()->state != TASK_STATE_FAILED) {
        fault(MODEL_FAULT_MALFORMED, STR("no JSON"));
        assert_true(task()->usage.uncertain_usd > spent);
        spent = task()->usage.uncertain_usd;
        pass(60000);
    }
}

/* ---- pause, resume, restart ---- */

static void test_a_pause_is_no_failure(void **state)
{
    (void)state;
    create();
    for (int i = 0; i < 10; i++) {
        assert_int_equal(change(INPUT_PAUSE), RPC_OK);
        assert_int_equal(change(INPUT_RESUME), RPC_OK);
        assert_int_equal(task()->phase, PHASE_REQUEST);
        feed(&(struct input){.kind = INPUT_RECOVER});
    }
    fault(MODEL_FAULT_MALFORMED, STR("no JSON"));
    assert_int_equal(task()->state, TASK_STATE_RUNNING);
    assert_int_equal(task()->phase, PHASE_BACKOFF);
    pass(1000); /* the first back-off */
    assert_int_equal(task()->phase, PHASE_REQUEST);
}

static void test_waiting_says_until_when(void **state)
{
    (void)state;
    create();
    for (int i = 0; i < 8; i++) {
        fault(MODEL_FAULT_SERVER, STR("overloaded"));
        struct proto_task view;
        task_view(task(), &view);
        if (view.has_waiting)
            assert_true(view.waiting.until > box.now.wall_ms);
        assert_int_equal(view.has_waiting, i >= 3);
        pass(120000);
    }
    respond(NULL, 0);
    assert_int_equal(task()->state, TASK_STATE_COMPLETED);
}

static void test_pause_in_every_phase(void **state)
{
    (void)state;
    create();
    assert_int_equal(change(INPUT_RESUME), RPC_BAD_STATE);
    assert_int_equal(change(INPUT_PAUSE), RPC_OK); /* in REQUEST */
    assert_int_equal(change(INPUT_PAUSE), RPC_BAD_STATE);
    assert_int_equal(task()->phase, PHASE_BACKOFF);
    pass(1000000);
    assert_int_equal(steer(DELIVERY_NOW, STR("more")), RPC_OK);
    assert_int_equal(task()->phase, PHASE_BACKOFF);
    assert_int_equal(change(INPUT_RESUME), RPC_OK);
    assert_int_equal(task()->attempt, 2);
    assert_true(said(&box.events, "\"steer.delivered\""));
    fault(MODEL_FAULT_SERVER, STR("no"));
    assert_int_equal(change(INPUT_PAUSE), RPC_OK); /* in BACKOFF */
    pass(1000000);
    assert_int_equal(task()->attempt, 2);
    assert_int_equal(change(INPUT_RESUME), RPC_OK);
    assert_int_equal(task()->attempt, 3);
    struct call_spec call = shell("make", 1000);
    respond(&call, 1);
    assert_int_equal(change(INPUT_PAUSE), RPC_OK); /* in TOOLS */
    end_run(1, &good_exit);
    assert_int_equal(task()->phase, PHASE_NEXT);
    assert_int_equal(change(INPUT_CANCEL), RPC_OK); /* paused, in NEXT */
    assert_int_equal(change(INPUT_PAUSE), RPC_BAD_STATE);
    assert_int_equal(change(INPUT_CANCEL), RPC_BAD_STATE);
    assert_int_equal(steer(DELIVERY_QUEUE, STR("go on")), RPC_OK); /* a cancelled task is taken up again */
    assert_int_equal(task()->state, TASK_STATE_RUNNING);
    assert_int_equal(task()->turns, 2);
    respond(NULL, 0);
    assert_int_equal(task()->state, TASK_STATE_COMPLETED);
}

/* A task that waits in the queue may find a place while others recover. Its first attempt is not one that was cut. */
static void test_admitted_while_others_recover(void **state)
{
    (void)state;
    const char *other = "t00000000000000000000000002";
    box.limits.tasks_running_max = 1;
    restart(STR_NONE);
    create();
    create_as(other, "second", STR("do that"));
    assert_int_equal(core_task(box.core, other)->state, TASK_STATE_QUEUED);
    struct buf snapshots[2] = {{0}, {0}};
    task_snapshot(task(), &snapshots[0]);
    task_snapshot(core_task(box.core, other), &snapshots[1]);
    box.limits.tasks_running_max = 2;
    restart(buf_view(&snapshots[0]));
    assert_non_null(core_restore(box.core, buf_view(&snapshots[1])));
    forget();
    feed(&(struct input){.kind = INPUT_RECOVER});
    feed(&(struct input){.kind = INPUT_RECOVER, .task = other});
    pump_tick(box.pump);
    assert_int_equal(core_task(box.core, other)->attempt, 1);
    assert_int_equal(core_task(box.core, other)->phase, PHASE_REQUEST);
    assert_int_equal(times(&box.events, "\"recovered\""), 1);
    buf_free(&snapshots[0]);
    buf_free(&snapshots[1]);
}

/* ---- tasks that are over ---- */

static void test_reopening_respects_the_limit(void **state)
{
    (void)state;
    box.limits.tasks_live_max = 1;
    restart(STR_NONE);
    create();
    respond(NULL, 0);
    assert_int_equal(task()->state, TASK_STATE_COMPLETED);
    assert_int_equal(create_as("t00000000000000000000000002", "fix", STR("do that")), RPC_OK);
    assert_int_equal(steer(DELIVERY_NEXT, STR("more")), RPC_LIMIT_REACHED);
    feed(&(struct input){.kind = INPUT_CANCEL, .task = "t00000000000000000000000002"});
    assert_int_equal(steer(DELIVERY_NEXT, STR("more")), RPC_OK);
}

static void test_reopened_with_its_name_taken(void **state)
{
    (void)state;
    create();
    respond(NULL, 0);
    assert_int_equal(create_as("t00000000000000000000000002", "fix", STR("do that")), RPC_OK);
    assert_int_equal(create_as("t00000000000000000000000003", "fix", STR("do that")), RPC_NAME_TAKEN);
    assert_int_equal(steer(DELIVERY_NEXT, STR("more")), RPC_OK);
    assert_string_equal(task()->name, "fix-2");
    assert_ptr_equal(core_task_named(box.core, STR("fix-2")), task());
    assert_int_equal(task()->epoch, 1);
    assert_int_equal(task()->turns, 2);
}

/* The model thinks that its server still runs: it has to be told. */
static void test_idle_processes_end_and_the_model_hears_of_it(void **state)
{
    (void)state;
    create();
    struct call_spec call = shell("server", 0);
    respond(&call, 1);
    pass(1);
    respond(NULL, 0);
    assert_int_equal(task()->state, TASK_STATE_COMPLETED);
    assert_true(task_live(task()));
    pass(box.limits.run_idle_ms_max);
    commit();
    assert_true(said(&box.effects, "kill 1 0"));
    end_run(1, &(struct run_exit){.outcome = RUN_OUTCOME_KILLED, .has_signal = true, .signal = 15});
    struct input gone = {.kind = INPUT_RUN_GONE};
    gone.run_gone.run = 1;
    feed(&gone);
    assert_false(task_live(task()));
    forget();
    assert_int_equal(steer(DELIVERY_NEXT, STR("is it up?")), RPC_OK);
    assert_true(said(&box.context, "background process"));
}

/* What is only known from locks is written when nothing else keeps the task in memory. */
static void test_gone_is_committed(void **state)
{
    (void)state;
    create();
    struct call_spec call = shell("make", 1000);
    respond(&call, 1);
    end_run(1, &good_exit);
    respond(NULL, 0);
    commit();
    assert_true(pump_settled(box.pump));
    struct input gone = {.kind = INPUT_RUN_GONE};
    gone.run_gone.run = 1;
    feed(&gone);
    pump_flush(box.pump);
    assert_true(box.committing);
    commit();
}

/* Of runs that are over the last ones are kept. None goes while a response that speaks of it is being carried out. */
static void test_old_runs_are_forgotten_between_steps(void **state)
{
    (void)state;
    create();
    for (int64_t run = 1; run <= 33; run++) {
        struct call_spec call = shell("make", 1000);
        respond(&call, 1);
        end_run(run, &good_exit);
        struct input gone = {.kind = INPUT_RUN_GONE};
        gone.run_gone.run = run;
        feed(&gone);
    }
    struct call_spec calls[2] = {{.wire_id = STR("w"), .tool = STR("update_plan"), .arguments = STR("{}"),
                                  .sort = CALL_SORT_ANSWER, .answer = STR("ok")},
                                 input_to(1, "", 1000)};
    respond(calls, 2);
    pass(1);
    assert_int_equal(task()->calls_open, 0);
    assert_null(task_run(task(), 1));
    assert_non_null(task_run(task(), 2));
}

/* ---- the pump ---- */

static void count_cb(void *arg)
{
    ++*(int *)arg;
}

static void test_nothing_leaves_before_its_commit(void **state)
{
    (void)state;
    int replies = 0;
    create();
    pump_after(box.pump, count_cb, &replies);
    pump_flush(box.pump);
    assert_int_equal(replies, 0);
    assert_false(said(&box.effects, "model"));
    pump_after(box.pump, count_cb, &replies); /* behind the commit that is under way */
    assert_int_equal(change(INPUT_PAUSE), RPC_OK);
    pump_after(box.pump, count_cb, &replies);
    pump_flush(box.pump); /* one at a time */
    box.committing = false;
    pump_committed(box.pump);
    assert_int_equal(replies, 1);
    assert_true(said(&box.effects, "model 1 1"));
    pump_flush(box.pump);
    assert_int_equal(replies, 1);
    box.committing = false;
    pump_committed(box.pump);
    assert_int_equal(replies, 3);
    assert_true(pump_settled(box.pump));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, open_box, close_box)
    const struct CMUnitTest tests[] = {
        T(test_long_texts),
        T(test_objective_in_the_state_is_bounded),
        T(test_many_calls),
        T(test_many_steers),
        T(test_many_changed_files),
        T(test_known_of_an_end),
        T(test_steer_before_the_call),
        T(test_queued_steer_hurries_nothing),
        T(test_input_under_way),
        T(test_input_that_nobody_confirms),
        T(test_input_to_a_run_that_is_lost),
        T(test_input_that_waited_for_a_start),
        T(test_written_input_is_not_written_again),
        T(test_cancelled_attempt_may_have_cost),
        T(test_unreadable_attempts_may_have_cost),
        T(test_a_pause_is_no_failure),
        T(test_waiting_says_until_when),
        T(test_pause_in_every_phase),
        T(test_admitted_while_others_recover),
        T(test_reopening_respects_the_limit),
        T(test_reopened_with_its_name_taken),
        T(test_idle_processes_end_and_the_model_hears_of_it),
        T(test_gone_is_committed),
        T(test_old_runs_are_forgotten_between_steps),
        T(test_nothing_leaves_before_its_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
