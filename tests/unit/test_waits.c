/* Waits of every kind, in the core under the pump: what ends one, once, and what becomes of its task and its call. */
#include "core_box.h"

#include "daemon/base/mem.h"
#include "daemon/pump/wakes.h"

#include <inttypes.h>
#include <stdio.h>

#define DAY_MS INT64_C(86400000)
#define YEARS_MS (10 * 365 * DAY_MS)

static struct call_spec wait_for(const struct condition *conditions, size_t n)
{
    return (struct call_spec){.wire_id = STR("w"),
                              .tool = STR("wait"),
                              .arguments = STR("{}"),
                              .sort = CALL_SORT_WAIT,
                              .conditions = conditions,
                              .conditions_n = n};
}

static void begin(const struct condition *conditions, size_t n)
{
    if (!task())
        create();
    struct call_spec call = wait_for(conditions, n);
    respond(&call, 1);
    commit();
}

static void begin_one(struct condition c)
{
    begin(&c, 1);
}

static void file_changed(int64_t wait, int64_t condition)
{
    struct input in = {.kind = INPUT_FILE_CHANGED};
    in.file_changed.wait = wait;
    in.file_changed.condition = condition;
    feed(&in);
}

/* As after a crash, or a reboot: from what is stored. */
static void again(void)
{
    struct buf snapshot = {0};
    task_snapshot(task(), &snapshot);
    forget();
    restart(buf_view(&snapshot));
    feed(&(struct input){.kind = INPUT_RECOVER});
    pump_tick(box.pump);
    commit();
    buf_free(&snapshot);
}

static void reboot(int64_t wall_ms)
{
    box.now.wall_ms += wall_ms;
    box.now.boot_ms = 10;
    memcpy(box.now.boot_id, "boot-2", sizeof "boot-2");
    again();
}

static bool waits(void)
{
    return task()->state == TASK_STATE_WAITING && !list_empty((struct list *)&task()->waits);
}

/* The model has been asked again, and was told `answer`. */
static void assert_woke(const char *fired, const char *answer)
{
    CLEANUP(buf_free) struct buf text = {0};
    buf_printf(&text, "\"wait\":\"w1\",\"fired\":\"%s\"", fired);
    commit();
    assert_int_equal(times(&box.events, "\"kind\":\"wait.ended\""), 1);
    if (!said(&box.events, buf_cstr(&text)))
        fail_msg("no %s in %s", buf_cstr(&text), buf_cstr(&box.events));
    assert_true(said(&box.context, answer));
    assert_int_equal(times(&box.events, "\"kind\":\"tool.result\""), 1);
    assert_int_equal(task()->state, TASK_STATE_RUNNING);
    assert_int_equal(task()->phase, PHASE_REQUEST);
    assert_true(list_empty((struct list *)&task()->waits));
}

static void test_a_duration(void **state)
{
    (void)state;
    begin_one((struct condition){.kind = CONDITION_TIME, .delay_ms = 90000});
    assert_true(said(&box.events, "\"wait\":\"w1\",\"conditions\":[\"time 90.0 s\"]"));
    assert_true(said(&box.events, "\"waiting\":{\"for\":\"timer\",\"until\":\"2023-11-14T22:14:50.000Z\",\"detail\":\"90.0 s\"}"));
    assert_true(waits());
    assert_int_equal(box.wake_ms, 90000);
    box.now.wall_ms += YEARS_MS;
    pass(89999);
    assert_true(waits());
    box.now.wall_ms -= 2 * YEARS_MS;
    pass(1);
    assert_woke("time 90.0 s", "The wait is over: 90.0 s have passed.");
    pass(90000);
    assert_int_equal(times(&box.events, "wait.ended"), 1);
}

static void test_a_duration_goes_on_after_a_crash_and_a_reboot(void **state)
{
    (void)state;
    begin_one((struct condition){.kind = CONDITION_TIME, .delay_ms = 90000});
    pass(30000);
    again();
    assert_true(waits());
    assert_int_equal(box.wake_ms, 60000);
    reboot(20000);
    assert_true(waits());
    assert_int_equal(box.wake_ms, 40000);
    box.now.wall_ms += YEARS_MS;
    pass(39999);
    assert_true(waits());
    pass(1);
    assert_woke("time 90.0 s", "90.0 s have passed");
}

/* The second start in a boot goes on where the first one was, though the wall clock was set in between. */
static void test_what_a_reboot_left_is_written_down(void **state)
{
    (void)state;
    begin_one((struct condition){.kind = CONDITION_TIME, .delay_ms = 90000});
    box.tasks_written = 0;
    reboot(50000);
    assert_int_equal(box.wake_ms, 40000);
    assert_int_equal(box.tasks_written, 1);
    pass(10000);
    box.now.wall_ms -= YEARS_MS;
    box.tasks_written = 0;
    again();
    assert_int_equal(box.wake_ms, 30000);
    assert_int_equal(box.tasks_written, 0);
}

static void test_what_came_true_while_nobody_was_there(void **state)
{
    (void)state;
    begin_one((struct condition){.kind = CONDITION_QUOTA, .delay_ms = 3600000});
    assert_true(said(&box.events, "\"waiting\":{\"for\":\"quota\""));
    reboot(DAY_MS);
    assert_woke("quota 3600.0 s", "the provider's quota is there again");
}

static void test_the_wall_clock(void **state)
{
    (void)state;
    begin_one((struct condition){.kind = CONDITION_CLOCK, .wall_ms = box.now.wall_ms + DAY_MS});
    assert_true(said(&box.events, "\"waiting\":{\"for\":\"timer\",\"until\":\"2023-11-15T22:13:20.000Z\""));
    assert_int_equal(box.wake_ms, 59000); /* a full minute: all that wait for the clock are looked at together */
    pass(60000);
    box.now.wall_ms -= YEARS_MS; /* somebody sets it: so it says that there is time yet */
    pass(2 * DAY_MS);
    assert_true(waits());
    box.now.wall_ms += YEARS_MS;
    pass(60000); /* within a minute */
    assert_woke("clock 2023-11-15T22:13:20.000Z", "The wait is over: it is 2023-11-16T22:15:20.000Z.");
    box.now.wall_ms -= 2 * DAY_MS; /* and once only, though it says so again */
    pass(3 * DAY_MS);
    assert_int_equal(times(&box.events, "wait.ended"), 1);
}

static void test_the_wall_clock_in_a_moment(void **state)
{
    (void)state;
    begin_one((struct condition){.kind = CONDITION_CLOCK, .wall_ms = box.now.wall_ms + 1500});
    assert_int_equal(box.wake_ms, 1500);
    pass(1500);
    assert_woke("clock 2023-11-14T22:13:21.500Z", "it is 2023-11-14T22:13:21.500Z");
}

static void background(void)
{
    create();
    struct call_spec call = shell("server", 1000);
    respond(&call, 1);
    pass(1000);
    assert_int_equal(task()->phase, PHASE_REQUEST);
    commit();
    forget();
}

static void test_the_end_of_a_run(void **state)
{
    (void)state;
    background();
    begin_one((struct condition){.kind = CONDITION_RUN, .run = 1});
    assert_true(said(&box.events, "\"waiting\":{\"for\":\"run\",\"until\":null,\"detail\":\"the end of session 1\"}"));
    assert_int_equal(box.wake_ms, INT64_MAX);
    forget();
    end_run(1, &good_exit);
    assert_woke("run r1", "The wait is over: session 1 has ended.");
    assert_true(said(&box.context, "Session 1 (server) has ended. Process exited with code 0"));
}

static void test_a_run_that_a_reboot_ended(void **state)
{
    (void)state;
    background();
    begin_one((struct condition){.kind = CONDITION_RUN, .run = 1});
    struct buf snapshot = {0};
    task_snapshot(task(), &snapshot);
    forget();
    restart(buf_view(&snapshot));
    buf_free(&snapshot);
    struct recover_probe probe = {.run = 1, .probe = RUN_PROBE_ENDED, .exit = {.outcome = RUN_OUTCOME_IN_DOUBT, .detail = STR("power")}};
    struct input in = {.kind = INPUT_RECOVER};
    in.recover.probes = &probe;
    in.recover.probes_n = 1;
    feed(&in);
    assert_woke("run r1", "session 1 has ended");
    assert_true(said(&box.context, "IN DOUBT"));
}

static void test_a_run_that_is_over_is_not_waited_for(void **state)
{
    (void)state;
    background();
    end_run(1, &good_exit);
    forget();
    begin_one((struct condition){.kind = CONDITION_RUN, .run = 1});
    assert_woke("run r1", "session 1 has ended");
    assert_false(said(&box.events, "\"to\":\"waiting\""));
}

static void test_a_run_that_ended_long_ago(void **state)
{
    (void)state;
    create();
    for (int i = 1; i <= 34; i++) {
        struct call_spec call = shell("true", 1000);
        respond(&call, 1);
        end_run(i, &good_exit);
        feed(&(struct input){.kind = INPUT_RUN_GONE, .run_gone.run = i});
    }
    commit();
    forget();
    begin_one((struct condition){.kind = CONDITION_RUN, .run = 1});
    assert_true(said(&box.context, "Session 1 ended long ago: there is nothing to wait for."));
    begin_one((struct condition){.kind = CONDITION_RUN, .run = 35});
    assert_true(said(&box.context, "There is no session 35."));
    assert_int_equal(times(&box.events, "wait.started"), 0);
}

static const struct condition a_file = {.kind = CONDITION_FILE,
                                        .path = STR("/w/a"),
                                        .stamp = {.exists = true, .size = 5, .mtime_ns = 7, .inode = 9}};

static void test_a_file(void **state)
{
    (void)state;
    begin_one(a_file);
    assert_true(said(&box.events, "\"conditions\":[\"file /w/a\"]"));
    assert_true(said(&box.events, "\"waiting\":{\"for\":\"file\",\"until\":null,\"detail\":\"a change of /w/a\"}"));
    assert_true(said(&box.effects, "watch 1 0\n"));
    again();
    assert_true(said(&box.effects, "watch 1 0\n"));
    const struct condition *c = &task_wait(task(), 1)->conditions[0];
    assert_int_equal(c->stamp.size, 5);
    assert_int_equal(c->stamp.mtime_ns, 7);
    assert_int_equal(c->stamp.inode, 9);
    assert_true(c->stamp.exists);
    file_changed(1, 0);
    assert_woke("file /w/a", "The wait is over: /w/a has changed.");
    assert_true(said(&box.effects, "unwatch 1 0\n"));
    file_changed(1, 0); /* late */
    assert_int_equal(times(&box.events, "wait.ended"), 1);
}

static void test_a_change_of_something_else(void **state)
{
    (void)state;
    const struct condition both[] = {{.kind = CONDITION_ANSWER}, a_file};
    begin(both, 2);
    file_changed(2, 0);
    file_changed(1, 0);
    file_changed(1, 2);
    file_changed(1, -1);
    assert_true(waits());
    file_changed(1, 1);
    assert_woke("file /w/a", "/w/a has changed");
}

static void test_an_answer(void **state)
{
    (void)state;
    begin_one((struct condition){.kind = CONDITION_ANSWER});
    assert_true(said(&box.events, "\"waiting\":{\"for\":\"question\",\"until\":null,\"detail\":\"an answer\"}"));
    steer(DELIVERY_QUEUE, STR("yes"));
    assert_woke("answer", "The wait is over: there is an answer.");
}

static void test_a_steer_ends_it_early(void **state)
{
    (void)state;
    begin_one((struct condition){.kind = CONDITION_TIME, .delay_ms = DAY_MS});
    steer(DELIVERY_QUEUE, STR("when you are done"));
    assert_true(waits());
    steer(DELIVERY_NEXT, STR("look at this"));
    assert_woke("input", "The wait was ended early: there is new input.");
    assert_true(said(&box.context, "look at this"));
}

static void test_resume_ends_it_early(void **state)
{
    (void)state;
    begin_one((struct condition){.kind = CONDITION_TIME, .delay_ms = DAY_MS});
    assert_int_equal(change(INPUT_RESUME), RPC_OK);
    assert_woke("resumed", "The user ended the wait early: go on.");
}

static void test_cancel_ends_it(void **state)
{
    (void)state;
    begin_one(a_file);
    assert_int_equal(change(INPUT_CANCEL), RPC_OK);
    commit();
    assert_true(said(&box.events, "\"wait\":\"w1\",\"fired\":\"cancelled\""));
    assert_int_equal(times(&box.events, "\"kind\":\"tool.result\""), 1);
    assert_true(said(&box.context, "The user cancelled the task."));
    assert_true(said(&box.effects, "unwatch 1 0\n"));
    assert_int_equal(task()->state, TASK_STATE_CANCELLED);
    assert_false(task_live(task()));
}

static void test_pause_and_resume_leave_it(void **state)
{
    (void)state;
    begin_one((struct condition){.kind = CONDITION_TIME, .delay_ms = 60000});
    assert_int_equal(change(INPUT_PAUSE), RPC_OK);
    pass(20000);
    forget();
    assert_int_equal(change(INPUT_RESUME), RPC_OK);
    assert_true(waits());
    assert_true(said(&box.events, "\"from\":\"paused\",\"to\":\"waiting\",\"reason\":\"60.0 s\",\"waiting\":{\"for\":\"timer\""));
    assert_string_equal(task()->activity, "waits: 60.0 s");
    assert_true(said(&box.events, "\"by\":{\"client\":\"test\""));
    pass(40000);
    assert_woke("time 60.0 s", "have passed");
}

static void test_it_ends_while_the_task_is_paused(void **state)
{
    (void)state;
    begin_one((struct condition){.kind = CONDITION_TIME, .delay_ms = 60000});
    assert_int_equal(change(INPUT_PAUSE), RPC_OK);
    pass(60000);
    assert_int_equal(times(&box.events, "wait.ended"), 1);
    assert_int_equal(task()->state, TASK_STATE_PAUSED);
    assert_int_equal(task()->phase, PHASE_NEXT);
    assert_int_equal(change(INPUT_RESUME), RPC_OK);
    assert_woke("time 60.0 s", "have passed");
}

static void test_two_at_once_end_it_once(void **state)
{
    (void)state;
    background();
    const struct condition all[] = {{.kind = CONDITION_RUN, .run = 1}, a_file, {.kind = CONDITION_TIME, .delay_ms = 1000}};
    begin(all, 3);
    assert_true(said(&box.events, "\"conditions\":[\"run r1\",\"file /w/a\",\"time 1.0 s\"]"));
    assert_true(said(&box.events, "\"until\":\"2023-11-14T22:13:22.000Z\",\"detail\":\"the end of session 1 or a change of /w/a or 1.0 s\""));
    forget();
    box.now.boot_ms += 1000;
    end_run(1, &good_exit);
    file_changed(1, 1);
    pump_tick(box.pump);
    assert_woke("run r1", "session 1 has ended");
}

static void test_waits_side_by_side(void **state)
{
    (void)state;
    create();
    const struct condition soon = {.kind = CONDITION_TIME, .delay_ms = 1000};
    const struct condition late = {.kind = CONDITION_CLOCK, .wall_ms = box.now.wall_ms + 5000};
    struct call_spec calls[] = {wait_for(&soon, 1), wait_for(&late, 1), shell("make", 2000)};
    respond(calls, 3);
    assert_int_equal(task()->state, TASK_STATE_RUNNING); /* it works: a process is waited for, too */
    pass(1000);
    assert_true(said(&box.events, "\"wait\":\"w1\",\"fired\":\"time 1.0 s\""));
    pass(1000);
    assert_true(waits());
    assert_true(said(&box.events, "\"detail\":\"2023-11-14T22:13:25.000Z\""));
    pass(3000);
    assert_true(said(&box.events, "\"wait\":\"w2\",\"fired\":\"clock 2023-11-14T22:13:25.000Z\""));
    assert_int_equal(task()->phase, PHASE_REQUEST);
    assert_int_equal(times(&box.events, "\"kind\":\"tool.result\""), 3);
}

static void test_two_waits_that_wait(void **state)
{
    (void)state;
    create();
    const struct condition soon = {.kind = CONDITION_TIME, .delay_ms = 1000};
    struct call_spec calls[] = {wait_for(&soon, 1), wait_for(&a_file, 1)};
    respond(calls, 2);
    assert_int_equal(task()->waiting_for, WAITING_FOR_TIMER);
    pass(1000);
    assert_true(waits());
    assert_int_equal(task()->waiting_for, WAITING_FOR_FILE);
    file_changed(2, 0);
    assert_int_equal(task()->phase, PHASE_REQUEST);
}

static void test_what_cannot_be_waited_for(void **state)
{
    (void)state;
    box.limits.waits_per_task_max = 2;
    restart(STR_NONE);
    create();
    const struct condition time = {.kind = CONDITION_TIME, .delay_ms = 1000}, nothing = {.kind = CONDITION_RUN, .run = 7};
    struct call_spec calls[] = {wait_for(&time, 1), wait_for(&nothing, 1), wait_for(&time, 1), wait_for(&time, 1)};
    respond(calls, 4);
    assert_true(said(&box.context, "There is no session 7."));
    assert_true(said(&box.context, "2 waits of this task are not over yet, which is the limit."));
    assert_int_equal(times(&box.events, "\"kind\":\"wait.started\""), 2);
    assert_true(waits());
}

/* What a snapshot of before had no word for is not there; what one of later says is refused and not forgotten. */
static void test_snapshots(void **state)
{
    (void)state;
    struct buf old = {0}, with = {0};
    create();
    task_snapshot(task(), &old);
    assert_null(memmem(old.p, old.n, "wait\0", 5));
    const struct condition both[] = {{.kind = CONDITION_TIME, .delay_ms = 1000}, a_file};
    begin(both, 2);
    task_snapshot(task(), &with);
    char *kind = memmem(with.p, with.n, "kind", 4);
    assert_non_null(kind);
    assert_int_equal(kind[4], CONDITION_TIME);
    kind[4] = 77;
    assert_null(task_from_snapshot(buf_view(&with)));
    kind[4] = 0;
    assert_null(task_from_snapshot(buf_view(&with)));
    kind[4] = CONDITION_TIME;
    struct task *t = task_from_snapshot(buf_view(&with));
    assert_non_null(t);
    assert_int_equal(t->waits_n, 1);
    assert_int_equal(task_wait(t, 1)->conditions_n, 2);
    assert_null(task_wait(t, 2));
    task_free(t);
    while ((kind = memmem(with.p, with.n, "condition", 9)))
        memcpy(kind, "Condition", 9); /* as if it had none */
    assert_null(task_from_snapshot(buf_view(&with)));
    for (size_t n = 1; n < with.n; n++) { /* damaged anywhere: refused or a task, and no harm */
        t = task_from_snapshot(str_n(with.p, n));
        if (t)
            task_free(t);
    }
    buf_free(&old);
    buf_free(&with);
}

/* ---- places: limits.tasks_running_max ---- */

#define OTHER "t00000000000000000000000002"

static const struct task *other(void)
{
    return core_task(box.core, OTHER);
}

static void cancel_other(void)
{
    struct input in = {.kind = INPUT_CANCEL, .task = OTHER, .client = STR("test")};
    assert_int_equal(feed(&in), RPC_OK);
}

/* One place, and a second task that is queued for it. */
static void two_for_one_place(void)
{
    box.limits.tasks_running_max = 1;
    restart(STR_NONE);
    create();
    assert_int_equal(create_as(OTHER, "other", STR("do it")), RPC_OK);
    assert_int_equal(other()->state, TASK_STATE_QUEUED);
}

static void test_a_paused_turn_holds_no_place(void **state)
{
    (void)state;
    two_for_one_place();
    struct call_spec call = shell("make", 60000);
    respond(&call, 1);
    assert_int_equal(change(INPUT_PAUSE), RPC_OK);
    assert_int_equal(other()->state, TASK_STATE_RUNNING);
    forget();
    assert_int_equal(change(INPUT_RESUME), RPC_OK);
    assert_int_equal(task()->state, TASK_STATE_QUEUED);
    assert_true(said(&box.events, "\"from\":\"paused\",\"to\":\"queued\",\"reason\":\"resumed\""));
    end_run(1, &good_exit); /* what was under way goes on; no request follows */
    assert_int_equal(task()->phase, PHASE_NEXT);
    assert_int_equal(task()->state, TASK_STATE_QUEUED);
    assert_int_equal(change(INPUT_RESUME), RPC_BAD_STATE);
    pass(100000);
    assert_int_equal(task()->state, TASK_STATE_QUEUED);
    cancel_other();
    assert_int_equal(task()->state, TASK_STATE_RUNNING);
    assert_int_equal(task()->phase, PHASE_REQUEST);
    assert_true(said(&box.events, "\"from\":\"queued\",\"to\":\"running\",\"reason\":\"goes on\""));
}

static void test_a_queued_back_off_waits_for_its_place(void **state)
{
    (void)state;
    two_for_one_place();
    fault(MODEL_FAULT_SERVER, STR("no"));
    assert_int_equal(change(INPUT_PAUSE), RPC_OK);
    assert_int_equal(change(INPUT_RESUME), RPC_OK);
    assert_int_equal(task()->state, TASK_STATE_QUEUED);
    pass(100000);
    assert_int_equal(task()->phase, PHASE_BACKOFF);
    commit();
    assert_int_equal(box.wake_ms, INT64_MAX); /* it is not the time that it waits for */
    assert_int_equal(change(INPUT_PAUSE), RPC_OK);
    assert_int_equal(change(INPUT_RESUME), RPC_OK);
    cancel_other();
    assert_int_equal(task()->phase, PHASE_REQUEST);
}

static void test_an_outage_holds_its_place(void **state)
{
    (void)state;
    two_for_one_place();
    fault(MODEL_FAULT_CREDENTIALS, STR("no"));
    assert_int_equal(task()->state, TASK_STATE_WAITING);
    assert_int_equal(other()->state, TASK_STATE_QUEUED);
}

static void test_a_wait_holds_no_place(void **state)
{
    (void)state;
    two_for_one_place();
    begin_one((struct condition){.kind = CONDITION_TIME, .delay_ms = 1000});
    assert_true(waits());
    assert_int_equal(other()->state, TASK_STATE_RUNNING);
    pass(1000);
    assert_true(said(&box.events, "\"from\":\"waiting\",\"to\":\"queued\",\"reason\":\"time 1.0 s\""));
    assert_true(said(&box.events, "\"wait\":\"w1\",\"fired\":\"time 1.0 s\""));
    assert_int_equal(task()->phase, PHASE_NEXT);
    cancel_other();
    assert_woke("time 1.0 s", "have passed");
}

static void test_a_file_that_changed_waits_for_a_place(void **state)
{
    (void)state;
    two_for_one_place();
    begin_one(a_file);
    file_changed(1, 0);
    assert_int_equal(task()->state, TASK_STATE_QUEUED);
    cancel_other();
    assert_woke("file /w/a", "has changed");
}

/* Two waits, of which one is over while there is no place: the other needs none. */
static void test_who_only_waits_needs_no_place(void **state)
{
    (void)state;
    two_for_one_place();
    const struct condition soon = {.kind = CONDITION_TIME, .delay_ms = 1000};
    struct call_spec calls[] = {wait_for(&soon, 1), wait_for(&a_file, 1)};
    respond(calls, 2);
    assert_int_equal(other()->state, TASK_STATE_RUNNING);
    pass(1000);
    assert_true(waits());
    assert_int_equal(task()->waiting_for, WAITING_FOR_FILE);
    assert_int_equal(change(INPUT_PAUSE), RPC_OK);
    assert_int_equal(change(INPUT_RESUME), RPC_OK);
    assert_true(waits());
}

static void test_places_after_a_start(void **state)
{
    (void)state;
    two_for_one_place();
    begin_one((struct condition){.kind = CONDITION_TIME, .delay_ms = 1000});
    pass(1000);
    assert_int_equal(task()->state, TASK_STATE_QUEUED);
    again(); /* without the other one: there is a place */
    assert_int_equal(task()->state, TASK_STATE_RUNNING);
    assert_int_equal(task()->phase, PHASE_REQUEST);
}

/* ---- the heap of moments ---- */

#define TASKS 50

static int64_t moments[TASKS];

static const char *name_of(int i)
{
    static char name[16];
    snprintf(name, sizeof name, "t%03d", i);
    return name;
}

static void expect_soonest(const struct wakes *w)
{
    int best = -1;
    int64_t at_ms;
    for (int i = 0; i < TASKS; i++) {
        if (moments[i] != INT64_MAX && (best < 0 || moments[i] < moments[best]))
            best = i;
    }
    const char *first = wakes_first(w, &at_ms);
    if (best < 0) {
        assert_null(first);
        return;
    }
    assert_string_equal(first, name_of(best));
    assert_int_equal(at_ms, moments[best]);
}

/* Whatever is set, moved and taken away: the first is the soonest, and of those at one moment the first by name. */
static void test_the_soonest_moment(void **state)
{
    (void)state;
    struct wakes w = {0};
    uint32_t x = 1;
    for (int i = 0; i < TASKS; i++)
        moments[i] = INT64_MAX;
    expect_soonest(&w);
    for (int turn = 0; turn < 20000; turn++) {
        x = x * 1664525 + 1013904223;
        int i = (int)(x >> 8) % TASKS;
        moments[i] = (x >> 20) % 4 == 0 ? INT64_MAX : (int64_t)(x >> 24);
        wakes_set(&w, name_of(i), moments[i]);
        expect_soonest(&w);
    }
    wakes_free(&w);
}

/* The world is asked for a moment once, and again when it is another. */
static void test_the_world_is_asked_for_the_soonest(void **state)
{
    (void)state;
    create();
    create_as("t00000000000000000000000002", "other", STR("do it"));
    commit();
    assert_int_equal(box.wake_ms, 0); /* as it was before anything was asked for */
    begin_one((struct condition){.kind = CONDITION_TIME, .delay_ms = 90000});
    assert_int_equal(box.wake_ms, 90000);
    box.wake_ms = -1;
    steer(DELIVERY_QUEUE, STR("later"));
    commit();
    assert_int_equal(box.wake_ms, -1);
    change(INPUT_CANCEL);
    commit();
    assert_int_equal(box.wake_ms, INT64_MAX);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, open_box, close_box)
    const struct CMUnitTest tests[] = {
        T(test_a_duration),
        T(test_a_duration_goes_on_after_a_crash_and_a_reboot),
        T(test_what_a_reboot_left_is_written_down),
        T(test_what_came_true_while_nobody_was_there),
        T(test_the_wall_clock),
        T(test_the_wall_clock_in_a_moment),
        T(test_the_end_of_a_run),
        T(test_a_run_that_a_reboot_ended),
        T(test_a_run_that_is_over_is_not_waited_for),
        T(test_a_run_that_ended_long_ago),
        T(test_a_file),
        T(test_a_change_of_something_else),
        T(test_an_answer),
        T(test_a_steer_ends_it_early),
        T(test_resume_ends_it_early),
        T(test_cancel_ends_it),
        T(test_pause_and_resume_leave_it),
        T(test_it_ends_while_the_task_is_paused),
        T(test_two_at_once_end_it_once),
        T(test_waits_side_by_side),
        T(test_two_waits_that_wait),
        T(test_what_cannot_be_waited_for),
        T(test_snapshots),
        T(test_a_paused_turn_holds_no_place),
        T(test_a_queued_back_off_waits_for_its_place),
        T(test_an_outage_holds_its_place),
        T(test_a_wait_holds_no_place),
        T(test_a_file_that_changed_waits_for_a_place),
        T(test_who_only_waits_needs_no_place),
        T(test_places_after_a_start),
        T(test_the_soonest_moment),
        T(test_the_world_is_asked_for_the_soonest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
