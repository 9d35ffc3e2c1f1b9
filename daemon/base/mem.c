#include "mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

void mem_none(void)
{
    static char text[] = ": out of memory; what was acknowledged is safe, start again to go on\n";
    struct iovec line[] = {{program_invocation_short_name, strlen(program_invocation_short_name)},
                           {text, sizeof text - 1}};
    ssize_t ignored = writev(STDERR_FILENO, line, 2);
    (void)ignored;
    _exit(MEM_EXIT_STATUS);
}

void *mem_alloc(size_t size)
{
    void *p = calloc(1, size ? size : 1);
    if (!p)
        mem_none();
    return p;
}

void *mem_malloc_raw(size_t size)
{
    void *p = malloc(size ? size : 1);
    if (!p)
        mem_none();
    return p;
}

void *mem_calloc_raw(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size ? size : 1);
    if (!p)
        mem_none();
    return p;
}

void *mem_realloc(void *p, size_t size)
{
    void *q = realloc(p, size ? size : 1);
    if (!q)
        mem_none();
    return q;
}

char *mem_dup(const void *p, size_t n)
{
    char *q = mem_malloc_raw(n + 1);
    if (n)
        memcpy(q, p, n);
    q[n] = 0;
    return q;
}

char *mem_strdup(const char *s)
{
    return s ? mem_dup(s, strlen(s)) : NULL;
}

void mem_free(void *p)
{
    free(p);
}
