/* Makes allocations fail, for tests/faults/oom: preloaded, it stands before malloc and its kin (and before a sanitizer's). Which ones
 * fail is said by whoever maps the same control file, at any time: the next that comes from one of the places (hashes of the calls that
 * led there) that are armed, or one by its number; once, or all from then on. A place that is new is written down, so is what failed.
 *
 * FAILMALLOC=CONTROL,LOG in the environment; without it nothing is done. Programs named agentd-* get it too when they are started, since
 * the daemon gives its runners an environment that is empty. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <unwind.h>

#define DEPTH 8       /* calls that make a place */
#define DEPTH_LOG 24  /* calls that are written down of what failed */
#define SKIP 3        /* our own: unwinding, deciding, malloc */
#define PLACES_MAX 65536
#define KEPT_MAX 8
#define BOOT_BYTES 8192
#define ENV_MAX 512

enum { NOT, ONCE, FROM_THEN_ON };

struct place {
    _Atomic uint64_t hash;
    _Atomic uint64_t armed;
};

/* Shared with the test, which writes all but `fired` and the hashes. */
struct control {
    char program[32]; /* by its name */
    uint64_t number, armed; /* the so-manieth of a process, from 1; 0: none */
    _Atomic int64_t shots;  /* how many may still fail, in all processes */
    _Atomic uint64_t fired;
    uint64_t phase; /* written down with each new place */
    struct place places[PLACES_MAX];
};

static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void (*free)(void *);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    void *(*memalign)(size_t, size_t);
    int (*posix_spawn)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[],
                       char *const[]);
    int (*execve)(const char *, char *const[], char *const[]);
} real;

static struct control *control;
static char log_path[512];
static char kept[KEPT_MAX][1024]; /* entries of the environment that are carried on */
static int kept_n;
static _Atomic int state; /* 0: nothing is known; 1: being found out; 2: ready */
static atomic_uint_fast64_t number;
static atomic_bool failing;
static char boot[BOOT_BYTES]; /* for dlsym(), which allocates */
static size_t boot_n;
static __thread bool inside;

/* ---- beginning ---- */

static void keep(const char *name)
{
    const char *value = getenv(name);
    if (value && kept_n < KEPT_MAX)
        snprintf(kept[kept_n++], sizeof kept[0], "%s=%s", name, value);
}

/* Not at the first allocation: the loader's own come before there is an environment. */
static __attribute__((constructor)) void map_control(void)
{
    const char *said = getenv("FAILMALLOC"), *comma = said ? strchr(said, ',') : NULL;
    if (!comma || strlen(comma + 1) >= sizeof log_path)
        return;
    char path[512];
    snprintf(path, sizeof path, "%.*s", (int)(comma - said), said);
    strcpy(log_path, comma + 1);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *p = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (p == MAP_FAILED)
        return;
    keep("FAILMALLOC");
    keep("LD_PRELOAD");
    keep("ASAN_OPTIONS");
    keep("UBSAN_OPTIONS");
    keep("LSAN_OPTIONS");
    control = p;
}

static void find(const char *name, void *ret)
{
    void *p = dlsym(RTLD_NEXT, name);
    memcpy(ret, &p, sizeof p);
}

/* Threads come later than the first allocation. */
static bool ready(void)
{
    if (state == 2)
        return true;
    if (state == 1)
        return false;
    state = 1;
    find("malloc", &real.malloc);
    find("calloc", &real.calloc);
    find("realloc", &real.realloc);
    find("free", &real.free);
    find("posix_memalign", &real.posix_memalign);
    find("aligned_alloc", &real.aligned_alloc);
    find("memalign", &real.memalign);
    find("posix_spawn", &real.posix_spawn);
    find("execve", &real.execve);
    state = 2;
    return true;
}

static void *boot_alloc(size_t size)
{
    size_t at = (boot_n + 15) & ~(size_t)15;
    if (at + size > sizeof boot)
        abort();
    boot_n = at + size;
    return boot + at;
}

static bool is_boot(const void *p)
{
    return (const char *)p >= boot && (const char *)p < boot + sizeof boot;
}

/* ---- where it comes from ---- */

struct trace {
    uintptr_t at[DEPTH_LOG];
    int n, max, skip;
};

static _Unwind_Reason_Code trace_step(struct _Unwind_Context *context, void *arg)
{
    struct trace *t = arg;
    if (t->skip > 0) {
        t->skip--;
        return _URC_NO_REASON;
    }
    t->at[t->n++] = _Unwind_GetIP(context);
    return t->n < t->max ? _URC_NO_REASON : _URC_END_OF_STACK;
}

static void trace_take(struct trace *t, int max, int skip)
{
    *t = (struct trace){.max = max, .skip = skip};
    _Unwind_Backtrace(trace_step, t);
}

/* The module's name and the address in it: the same in every process. */
static uintptr_t in_module(uintptr_t at, const char **ret_name)
{
    struct dl_find_object found;
    if (_dl_find_object((void *)at, &found) != 0) {
        *ret_name = "?";
        return 0;
    }
    const char *name = found.dlfo_link_map->l_name, *slash = strrchr(name, '/');
    *ret_name = !*name ? program_invocation_short_name : slash ? slash + 1 : name;
    return at - found.dlfo_link_map->l_addr;
}

static uint64_t hash_of(const struct trace *t)
{
    uint64_t h = 1469598103934665603u;
    for (int i = 0; i < t->n && i < DEPTH; i++) {
        const char *name;
        uintptr_t at = in_module(t->at[i], &name);
        for (size_t b = 0; b < 8; b++)
            h = (h ^ ((at >> (8 * b)) & 255)) * 1099511628211u;
        for (const char *c = name; *c; c++)
            h = (h ^ (unsigned char)*c) * 1099511628211u;
    }
    return h ? h : 1;
}

/* NULL: there is no room for it. */
static struct place *place_of(uint64_t hash, bool *ret_new)
{
    *ret_new = false;
    for (size_t i = 0; i < PLACES_MAX; i++) {
        struct place *p = &control->places[(hash + i) % PLACES_MAX];
        uint64_t there = atomic_load(&p->hash);
        if (there == 0)
            *ret_new = atomic_compare_exchange_strong(&p->hash, &there, hash);
        if (*ret_new || there == hash)
            return p;
    }
    return NULL;
}

/* One line: what, program, pid, number, hash, phase, then the calls. */
static void note(const char *what, uint64_t hash, uint64_t n, const struct trace *t)
{
    char line[4096];
    size_t at = (size_t)snprintf(line, sizeof line, "%s %s %d %llu %016llx %u", what, program_invocation_short_name, (int)getpid(),
                                 (unsigned long long)n, (unsigned long long)hash, (unsigned)control->phase);
    for (int i = 0; i < t->n && at < sizeof line - 300; i++) {
        const char *name;
        uintptr_t address = in_module(t->at[i], &name);
        at += (size_t)snprintf(line + at, sizeof line - at, " %.128s+%llx", name, (unsigned long long)address);
    }
    line[at++] = '\n';
    int saved = errno, fd = open(log_path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t ignored = write(fd, line, at);
        (void)ignored;
        close(fd);
    }
    errno = saved;
}

/* ---- deciding ---- */

static uint64_t due(const struct place *p, uint64_t n)
{
    uint64_t armed = p ? atomic_load(&p->armed) : NOT;
    if (control->number)
        armed = control->number == n ? control->armed : NOT;
    if (armed == NOT || strcmp(control->program, program_invocation_short_name) != 0)
        return NOT;
    return atomic_load(&control->shots) > 0 && atomic_fetch_sub(&control->shots, 1) > 0 ? armed : NOT;
}

static __attribute__((noinline)) bool decide(void)
{
    struct trace t;
    trace_take(&t, DEPTH, SKIP);
    uint64_t hash = hash_of(&t), n = atomic_fetch_add(&number, 1) + 1;
    bool new;
    struct place *p = place_of(hash, &new);
    if (new)
        note("place", hash, n, &t);
    uint64_t how = due(p, n);
    if (how == NOT)
        return false;
    trace_take(&t, DEPTH_LOG, SKIP);
    note(how == ONCE ? "once" : "from-then-on", hash, n, &t);
    atomic_store(&failing, how == FROM_THEN_ON);
    atomic_fetch_add(&control->fired, 1);
    return true;
}

/* What comes behind main (leaks are looked for, counts of coverage written) is none of the program's own. */
static atomic_bool over;

/* Whether this one is to fail. What unwinding itself allocates is not counted. */
static __attribute__((noinline)) bool fails(void)
{
    if (!control || inside || atomic_load(&over))
        return false;
    if (atomic_load(&failing)) {
        errno = ENOMEM;
        return true;
    }
    inside = true;
    int saved = errno;
    bool result = decide();
    errno = result ? ENOMEM : saved;
    inside = false;
    return result;
}

/* ---- what it stands before ---- */

#define PUBLIC __attribute__((visibility("default")))

static int (*program_main)(int, char **, char **);

static int main_and_over(int argc, char **argv, char **env)
{
    int status = program_main(argc, argv, env);
    atomic_store(&over, true);
    return status;
}

int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*rtld_fini)(void), void *stack_end);
PUBLIC int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void), void (*fini)(void),
                             void (*rtld_fini)(void), void *stack_end)
{
    int (*start)(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void), void (*)(void), void *);
    find("__libc_start_main", &start);
    program_main = main;
    return start(main_and_over, argc, argv, init, fini, rtld_fini, stack_end);
}

PUBLIC void exit(int status)
{
    void (*leave)(int);
    find("exit", &leave);
    atomic_store(&over, true);
    leave(status);
    __builtin_unreachable();
}

PUBLIC void *malloc(size_t size)
{
    if (!ready())
        return boot_alloc(size);
    return fails() ? NULL : real.malloc(size);
}

PUBLIC void *calloc(size_t n, size_t size)
{
    if (!ready())
        return boot_alloc(n * size); /* static memory is zero */
    return fails() ? NULL : real.calloc(n, size);
}

PUBLIC void *realloc(void *p, size_t size)
{
    if (!ready() || is_boot(p)) {
        void *q = state == 2 ? real.malloc(size) : boot_alloc(size);
        size_t there = p ? (size_t)(boot + sizeof boot - (char *)p) : 0;
        if (q && p)
            memcpy(q, p, size < there ? size : there);
        return q;
    }
    return fails() ? NULL : real.realloc(p, size);
}

PUBLIC void free(void *p)
{
    if (p && !is_boot(p) && ready())
        real.free(p);
}

PUBLIC int posix_memalign(void **ret, size_t alignment, size_t size)
{
    ready();
    return fails() ? ENOMEM : real.posix_memalign(ret, alignment, size);
}

PUBLIC void *aligned_alloc(size_t alignment, size_t size)
{
    ready();
    return fails() ? NULL : real.aligned_alloc(alignment, size);
}

PUBLIC void *memalign(size_t alignment, size_t size)
{
    ready();
    return fails() ? NULL : real.memalign(alignment, size);
}

/* ---- carried on ---- */

static bool is_ours(const char *path)
{
    const char *slash = strrchr(path, '/');
    return control && strncmp(slash ? slash + 1 : path, "agentd-", 7) == 0;
}

static bool is_kept(const char *entry)
{
    for (int i = 0; i < kept_n; i++)
        if (strncmp(entry, kept[i], (size_t)(strchr(kept[i], '=') - kept[i]) + 1) == 0)
            return true;
    return false;
}

/* Nothing is allocated: this may be a child of vfork(). */
static char *const *carry(char *const *env, char *ret[ENV_MAX])
{
    int n = 0;
    for (int i = 0; env && env[i] && n < ENV_MAX - KEPT_MAX - 1; i++)
        if (!is_kept(env[i]))
            ret[n++] = env[i];
    for (int i = 0; i < kept_n; i++)
        ret[n++] = kept[i];
    ret[n] = NULL;
    return ret;
}

PUBLIC int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
                       char *const argv[], char *const env[])
{
    char *more[ENV_MAX];
    ready();
    return real.posix_spawn(pid, path, actions, attributes, argv, is_ours(path) ? carry(env, more) : env);
}

PUBLIC int execve(const char *path, char *const argv[], char *const env[])
{
    char *more[ENV_MAX];
    ready();
    return real.execve(path, argv, is_ours(path) ? carry(env, more) : env);
}
