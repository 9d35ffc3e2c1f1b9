/* Programs that are started. */
#include "interpose.h"
#include <dlfcn.h>
#include <spawn.h>
#include <string.h>

static char *const kept_names[] = {(char *)"LD_PRELOAD=",       (char *)"AGENTD_IO_LOG=",     (char *)"AGENTD_IO_ROOT=",
                                   (char *)"AGENTD_IO_CENSUS=", (char *)"AGENTD_IO_FAIL=",    (char *)"AGENTD_IO_BOOT_ID=",
                                   (char *)"ASAN_OPTIONS=",     (char *)"UBSAN_OPTIONS=",     (char *)"AGENTD_IO_SYNC_US=", NULL};
#define KEPT_MAX 9
static char *kept[KEPT_MAX + 1];

void spawn_begin(char *const env[])
{
    size_t k = 0;
    for (; *env && k < KEPT_MAX; env++)
        for (char *const *name = kept_names; *name; name++)
            if (strncmp(*env, *name, strlen(*name)) == 0)
                kept[k++] = strdup(*env);
}

static bool is_ours(const char *path)
{
    const char *slash = strrchr(path, '/');
    return strncmp(slash ? slash + 1 : path, "agentd-", 7) == 0;
}

static size_t count(char *const env[])
{
    size_t n = 0;
    while (env && env[n])
        n++;
    return n;
}

/* Without memory of the heap: a child that shares its parent's may call it. */
static void join(char **to, char *const env[])
{
    for (; env && *env; env++)
        *to++ = *env;
    for (char **k = kept; *k; k++)
        *to++ = *k;
    *to = NULL;
}

static void note_spawn(const char *path)
{
    if (!log_map)
        return;
    log_lock();
    log_put((struct record){.op = OP_SPAWN}, path, NULL, NULL, 0);
    log_unlock();
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
                char *const argv[], char *const env[])
{
    int (*real)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[], char *const[]);
    *(void **)&real = dlsym(RTLD_NEXT, "posix_spawn");
    char *all[count(env) + KEPT_MAX + 1];
    join(all, env);
    note_spawn(argv[1] ? argv[1] : path);
    return real(pid, path, actions, attributes, argv, is_ours(path) ? all : env);
}

int execve(const char *path, char *const argv[], char *const env[])
{
    char *all[count(env) + KEPT_MAX + 1];
    join(all, env);
    return (int)syscall(SYS_execve, path, argv, is_ours(path) ? all : env);
}
