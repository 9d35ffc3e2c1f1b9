#pragma once
/* Named failpoints: at each durable boundary the process can be made to die, as if by kill -9, for the tests
 * of recovery. Compiled in with -Dfailpoints=true only; AGENTD_FAILPOINT=name or name:nth in the environment
 * arms one. Runners get an environment of their own: AGENTD_RUNNER_FAILPOINT is theirs.
 *
 * FAILPOINT_FAILS(name) is true while the file that AGENTD_FAILING names holds that name, one a line: an operation that is to fail for a
 * while, over several lives of the daemon. */

#include <stdbool.h>

#ifdef AGENTD_FAILPOINTS
/* Kills the process if `name` is the armed one and this is its nth time (default: the first). */
void failpoint_hit(const char *name);
#define FAILPOINT(name) failpoint_hit(name)
bool failpoint_fails(const char *name);
#define FAILPOINT_FAILS(name) failpoint_fails(name)
/* What programs of ours that are started with an environment of their own get of ours, NULL behind the last: what arms
 * a runner, and where a sanitizer is to leave its reports. */
char **failpoint_env(void);
#define FAILPOINT_ENV() failpoint_env()
#else
#define FAILPOINT(name) ((void)0)
#define FAILPOINT_FAILS(name) false
#define FAILPOINT_ENV() ((char *[]){NULL})
#endif
