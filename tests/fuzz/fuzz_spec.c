/* What a task keeps from its creation: any bytes are refused or read, and what was read can be written and
 * read again. */
#include "fuzz.h"

#include "daemon/base/mem.h"
#include "daemon/commands/spec.h"

static size_t env_n(const struct task_spec *spec)
{
    size_t n = 0;
    for (; spec->env[n]; n++)
        HOLDS(strchr(spec->env[n], '='));
    return n;
}

static void check_same(const struct task_spec *a, const struct task_spec *b)
{
    HOLDS(str_eq(a->model.wire, b->model.wire) && str_eq(a->model.base_url, b->model.base_url));
    HOLDS(str_eq(a->model.name, b->model.name) && strcmp(a->provider, b->provider) == 0);
    HOLDS(strcmp(a->workspace, b->workspace) == 0 && env_n(b) <= env_n(a));
    HOLDS(strcmp(a->instructions ? a->instructions : "", b->instructions ? b->instructions : "") == 0);
    HOLDS(a->model.context_window == b->model.context_window && a->model.price_input == b->model.price_input);
    HOLDS(a->model.max_output_tokens == b->model.max_output_tokens &&
          a->model.price_output == b->model.price_output);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(buf_free) struct buf text = {0};
    struct task_spec first = {0}, second = {0};
    if (spec_decode(fuzz_input(data, size), &first) < 0)
        return 0;
    spec_encode(&first, &text);
    HOLDS(spec_decode(buf_view(&text), &second) == 0);
    check_same(&first, &second);
    spec_free(&first);
    spec_free(&second);
    return 0;
}
