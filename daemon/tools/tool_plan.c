/* update_plan: the model's own list of what it does, shown to people. Needs no process. */
#include "daemon/tools/arguments.h"
#include "daemon/tools/tools.h"

#define ENTRIES_MAX 100
#define ENTRY_BYTES_MAX 2000

const struct tool tool_plan = {
    .name = "update_plan",
    .description = "Replaces the plan that the user sees: short steps, each pending, in_progress or completed; at most one in_progress.",
    .parameters =
        "{\"type\":\"object\",\"properties\":{"
        "\"plan\":{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"step\":{\"type\":\"string\"},"
        "\"status\":{\"type\":\"string\",\"enum\":[\"pending\",\"in_progress\",\"completed\"]}},"
        "\"required\":[\"step\",\"status\"],\"additionalProperties\":false}},"
        "\"explanation\":{\"type\":\"string\"}},\"required\":[\"plan\"],\"additionalProperties\":false}",
};

static const struct {
    const char *name;
    enum plan_status status;
} statuses[] = {
    {"pending", PLAN_STATUS_PENDING},         {"todo", PLAN_STATUS_PENDING},       {"not_started", PLAN_STATUS_PENDING},
    {"in_progress", PLAN_STATUS_IN_PROGRESS}, {"in-progress", PLAN_STATUS_IN_PROGRESS},
    {"active", PLAN_STATUS_IN_PROGRESS},      {"completed", PLAN_STATUS_COMPLETED}, {"complete", PLAN_STATUS_COMPLETED},
    {"done", PLAN_STATUS_COMPLETED},
};

static int take_status(const struct arguments *entry, enum plan_status *ret)
{
    struct str s = STR("pending");
    if (argument_text(entry, "status,state", &s) < 0)
        return -1;
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
        if (str_eqz(s, statuses[i].name)) {
            *ret = statuses[i].status;
            return 0;
        }
    buf_puts(entry->error, "`status` of a step must be pending, in_progress or completed");
    return -1;
}

static int take_entry(const struct arguments *a, const json_t *v, struct proto_plan_entry *ret)
{
    struct arguments entry = *a;
    entry.root = v;
    struct str text = STR_NONE;
    if (json_is_string(v))
        text = str_n(json_string_value(v), json_string_length(v));
    else if (json_is_object(v) && (argument_text(&entry, "step,text,content,title,description", &text) < 0 ||
                                   take_status(&entry, &ret->status) < 0))
        return -1;
    if (!text.p || text.n == 0 || text.n > ENTRY_BYTES_MAX) {
        buf_clear(a->error);
        buf_printf(a->error, "each element of `plan` must be {\"step\": text of at most %d bytes, \"status\": ...}",
                   ENTRY_BYTES_MAX);
        return -1;
    }
    ret->text = arena_copy(a->arena, text);
    return 0;
}

int tool_plan_prepare(struct arguments *a)
{
    const json_t *plan = argument(a, "plan,entries,steps,todos");
    size_t n = json_array_size(plan);
    if (!json_is_array(plan) || n > ENTRIES_MAX) {
        buf_printf(a->error, "`plan` must be an array of at most %d steps", ENTRIES_MAX);
        return -1;
    }
    struct proto_plan_entry *entries = proto_arena_alloc(a->arena, (n + 1) * sizeof *entries);
    memset(entries, 0, (n + 1) * sizeof *entries);
    for (size_t i = 0; i < n; i++)
        if (take_entry(a, json_array_get(plan, i), &entries[i]) < 0)
            return -1;
    a->spec->sort = CALL_SORT_ANSWER;
    a->spec->answer = STR("Plan updated.");
    a->spec->plan = entries;
    a->spec->plan_n = n;
    return 0;
}
