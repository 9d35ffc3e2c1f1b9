/* The stored state of a task: any bytes are refused or become a task; what that task is stored as becomes the
 * same bytes again; and it can be shown, counted and looked at without harm. */
#include "fuzz.h"

#include "daemon/base/mem.h"
#include "daemon/core/core.h"
#include "daemon/core/plan.h"

#define EFFECTS_MAX 64

static void check_again(struct str snapshot)
{
    CLEANUP(buf_free) struct buf again = {0};
    struct task *t = task_from_snapshot(snapshot);
    HOLDS(t);
    task_snapshot(t, &again);
    HOLDS(str_eq(snapshot, buf_view(&again)));
    task_free(t);
}

static void check_view(const struct task *t)
{
    CLEANUP(buf_free) struct buf json = {0};
    struct proto_task view;
    task_view(t, &view);
    proto_encode(&json, &proto_task_type, &view);
    HOLDS(json.n > 2 && json.p[0] == '{' && json.p[json.n - 1] == '}');
}

static void check_restored(struct str snapshot)
{
    struct limits limits = limits_default();
    struct effect effects[EFFECTS_MAX];
    struct clock_now now = {.wall_ms = 1780000000000, .boot_ms = 5000, .boot_id = "b"};
    struct core *c = core_new(&limits);
    const struct task *t = core_restore(c, snapshot);
    HOLDS(t && core_task(c, t->id) == t);
    if (!core_invariant(c, t)) {
        core_effects(t, effects, EFFECTS_MAX);
        HOLDS(core_wake(c, t, &now) >= 0);
        core_call_due(t, &now);
        core_admissible(c);
    }
    core_evict(c, t->id);
    core_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(buf_free) struct buf snapshot = {0};
    struct task *t = task_from_snapshot(fuzz_input(data, size));
    if (!t)
        return 0;
    task_snapshot(t, &snapshot);
    check_view(t);
    task_free(t);
    check_again(buf_view(&snapshot));
    check_restored(buf_view(&snapshot));
    return 0;
}
