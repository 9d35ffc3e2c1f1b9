/* A call as a model writes it: whatever its arguments are, there is something to carry out within its bounds,
 * or an answer for the model. Input: the name of the tool, a line feed, the arguments. */
#include <jansson.h>

#include "fuzz.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"
#include "daemon/model/wire.h"
#include "daemon/tools/tools.h"

static void check_answer(const struct call_spec *s)
{
    HOLDS(s->answer.n > 0 && utf8_valid(s->answer) && (!s->is_error || s->plan_n == 0));
    for (size_t i = 0; i < s->plan_n; i++)
        HOLDS(s->plan[i].text.n > 0 && utf8_valid(s->plan[i].text) &&
              (unsigned)s->plan[i].status < PLAN_STATUS_N);
}

static void check_run(const struct call_spec *s, const struct limits *limits)
{
    HOLDS(s->workdir.n > 0 && s->workdir.p[0] == '/' && !memchr(s->workdir.p, 0, s->workdir.n));
    HOLDS(s->payload.n > 0 && utf8_valid(s->command) && !memchr(s->command.p, '\n', s->command.n));
    HOLDS(s->program == RUN_PROGRAM_PATCH || !memchr(s->payload.p, 0, s->payload.n));
    HOLDS((int64_t)s->payload.n <= limits->patch_bytes_max);
}

static void check_wait(const struct call_spec *s, const struct limits *limits)
{
    HOLDS(s->conditions_n > 0 && (int64_t)s->conditions_n <= limits->wait_conditions_max);
    for (size_t i = 0; i < s->conditions_n; i++) {
        const struct condition *c = &s->conditions[i];
        switch (c->kind) {
        case CONDITION_TIME:
            HOLDS(c->delay_ms >= 0 && c->delay_ms <= limits->wait_ms_max);
            break;
        case CONDITION_CLOCK:
            break;
        case CONDITION_RUN:
            HOLDS(c->run > 0);
            break;
        case CONDITION_FILE:
            HOLDS(c->path.n > 0 && c->path.p[0] == '/' && !memchr(c->path.p, 0, c->path.n));
            HOLDS((int64_t)c->path.n <= limits->wait_path_bytes_max);
            break;
        case CONDITION_ANSWER:
        case CONDITION_QUOTA:
            fuzz_broken("a model cannot wait for it", __FILE__, __LINE__);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = fuzz_input(data, size);
    struct str name = fuzz_line(&in);
    struct limits limits = limits_default();
    CLEANUP(proto_arena_free) struct proto_arena arena = {0};
    struct call_spec s = {.wire_id = STR("wire")};
    tools_prepare(name, in, STR("/work"), &limits, &arena, &s);
    HOLDS(str_eqz(s.wire_id, "wire") && utf8_valid(s.tool));
    HOLDS(s.arguments.n > 0 && wire_json_valid(s.arguments, 64) && strchr("{\"", s.arguments.p[0]));
    HOLDS(!memchr(s.arguments.p, '\n', s.arguments.n) && utf8_valid(s.arguments));
    HOLDS(s.sort == CALL_SORT_ANSWER || s.sort == CALL_SORT_RUN || s.sort == CALL_SORT_INPUT || s.sort == CALL_SORT_WAIT);
    if (s.sort == CALL_SORT_ANSWER) {
        check_answer(&s);
        return 0;
    }
    if (s.sort == CALL_SORT_WAIT) {
        check_wait(&s, &limits);
        return 0;
    }
    HOLDS(s.yield_ms >= 0 && s.yield_ms <= limits.yield_ms_max);
    HOLDS(s.output_bytes > 0 && s.output_bytes <= limits.tool_output_bytes_max);
    if (s.sort == CALL_SORT_RUN)
        check_run(&s, &limits);
    else
        HOLDS(s.session > 0 && (int64_t)s.input.n <= limits.input_bytes_max);
    return 0;
}
