#pragma once
/* Named failpoints: at each durable boundary the process can be made to die, as if by kill -9, for the tests
 * of recovery. Compiled in with -Dfailpoints=true only; AGENTD_FAILPOINT=name or name:nth in the environment
 * arms one. Runners get an environment of their own: AGENTD_RUNNER_FAILPOINT is theirs. */

#ifdef AGENTD_FAILPOINTS
/* Kills the process if `name` is the armed one and this is its nth time (default: the first). */
void failpoint_hit(const char *name);
#define FAILPOINT(name) failpoint_hit(name)
/* What arms a runner, as an entry of its environment; NULL: nothing. */
char *failpoint_of_runner(void);
#define FAILPOINT_OF_RUNNER() failpoint_of_runner()
#else
#define FAILPOINT(name) ((void)0)
#define FAILPOINT_OF_RUNNER() ((char *)0)
#endif
