#pragma once
/* Named failpoints: at each durable boundary the process can be made to die, as if by kill -9, for the tests
 * of recovery. Compiled in with -Dfailpoints=true only; AGENTD_FAILPOINT=name or name:nth in the environment
 * arms one. */

#ifdef AGENTD_FAILPOINTS
/* Kills the process if `name` is the armed one and this is its nth time (default: the first). */
void failpoint_hit(const char *name);
#define FAILPOINT(name) failpoint_hit(name)
#else
#define FAILPOINT(name) ((void)0)
#endif
