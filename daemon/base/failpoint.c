#include "failpoint.h"

#ifdef AGENTD_FAILPOINTS

#include "str.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

void failpoint_hit(const char *name)
{
    static atomic_long hits;
    const char *armed = getenv("AGENTD_FAILPOINT");
    if (!armed)
        return;
    const char *colon = strchr(armed, ':');
    struct str wanted = colon ? str_n(armed, (size_t)(colon - armed)) : str_of(armed);
    if (!str_eqz(wanted, name))
        return;
    long nth = colon ? strtol(colon + 1, NULL, 10) : 1;
    if (atomic_fetch_add(&hits, 1) + 1 == nth)
        raise(SIGKILL);
}

bool failpoint_fails(const char *name)
{
    char line[64];
    bool fails = false;
    const char *path = getenv("AGENTD_FAILING");
    FILE *f = path ? fopen(path, "re") : NULL;
    while (f && !fails && fscanf(f, "%63s", line) == 1)
        fails = strcmp(line, name) == 0;
    if (f)
        fclose(f);
    return fails;
}

static char *entry_of(const char *name, const char *ours)
{
    char *entry = NULL;
    const char *value = getenv(ours);
    if (value && asprintf(&entry, "%s=%s", name, value) < 0)
        entry = NULL;
    return entry;
}

char **failpoint_env(void)
{
    static const char *const names[][2] = {{"AGENTD_FAILPOINT", "AGENTD_RUNNER_FAILPOINT"},
                                           {"AGENTD_FAILING", "AGENTD_FAILING"},
                                           {"ASAN_OPTIONS", "ASAN_OPTIONS"},
                                           {"UBSAN_OPTIONS", "UBSAN_OPTIONS"},
                                           {"LSAN_OPTIONS", "LSAN_OPTIONS"}};
    static char *env[sizeof names / sizeof names[0] + 1];
    static bool made;
    size_t n = 0;
    for (size_t i = 0; !made && i < sizeof names / sizeof names[0]; i++)
        if ((env[n] = entry_of(names[i][0], names[i][1])))
            n++;
    made = true;
    return env;
}

#else

/* ISO C wants something in every file. */
typedef int failpoint_not_compiled_in;

#endif
