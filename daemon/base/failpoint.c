#include "failpoint.h"

#ifdef AGENTD_FAILPOINTS

#include "str.h"

#include <signal.h>
#include <stdatomic.h>
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

char *failpoint_of_runner(void)
{
    static char entry[128];
    const char *armed = getenv("AGENTD_RUNNER_FAILPOINT");
    if (!armed)
        return NULL;
    snprintf(entry, sizeof entry, "AGENTD_FAILPOINT=%s", armed);
    return entry;
}

#else

/* ISO C wants something in every file. */
typedef int failpoint_not_compiled_in;

#endif
