#include "script.h"

#include "daemon/base/mem.h"

static void step_free(struct step *s)
{
    mem_free((void *)s->say.p);
    mem_free((void *)s->reasoning.p);
    mem_free((void *)s->phase.p);
    for (size_t i = 0; i < s->calls_n; i++) {
        mem_free((void *)s->calls[i].tool.p);
        mem_free((void *)s->calls[i].arguments.p);
    }
    mem_free(s->calls);
    for (size_t i = 0; i < EXPECT_COUNT; i++)
        mem_free((void *)s->expect[i].pattern.p);
    for (size_t i = 0; i < s->faults_n; i++) {
        mem_free((void *)s->faults[i].code.p);
        mem_free((void *)s->faults[i].message.p);
        mem_free((void *)s->faults[i].malformed.p);
    }
    mem_free(s->faults);
}

void script_free(struct script *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->steps_n; i++)
        step_free(&s->steps[i]);
    mem_free(s->steps);
    mem_free(s->path);
    mem_free(s);
}

const struct step *script_step(const struct script *s, int64_t number)
{
    size_t low = 0, high = s->steps_n - 1;
    while (low < high) {
        size_t middle = low + (high - low + 1) / 2;
        if (s->steps[middle].first <= number)
            low = middle;
        else
            high = middle - 1;
    }
    return &s->steps[low];
}

const struct fault *script_fault(const struct step *step, int64_t asked)
{
    for (size_t i = 0; i < step->faults_n; i++) {
        if (asked < step->faults[i].times)
            return &step->faults[i];
        asked -= step->faults[i].times;
    }
    return NULL;
}

void script_fill(struct buf *b, struct str text, int64_t number)
{
    while (text.n > 0) {
        const char *mark = memmem(text.p, text.n, "{k}", 3);
        size_t before = mark ? (size_t)(mark - text.p) : text.n;
        buf_put(b, text.p, before);
        if (!mark)
            return;
        buf_i64(b, number);
        text = str_n(mark + 3, text.n - before - 3);
    }
}

const char *expect_name(enum expect_what what)
{
    switch (what) {
    case EXPECT_LAST_OUTPUT:
        return "last_output_matches";
    case EXPECT_ANY_OUTPUT:
        return "any_output_matches";
    case EXPECT_LAST_USER:
        return "last_user_matches";
    case EXPECT_REQUEST:
        return "request_matches";
    }
    return "";
}
