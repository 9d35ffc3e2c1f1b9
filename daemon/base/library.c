#include "library.h"

#include "log.h"
#include "mem.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* The loader says it in words only; these are libc's. */
static bool is_memory(const char *why)
{
    return strstr(why, "out of memory") || strstr(why, "cannot allocate") || strstr(why, strerror(ENOMEM));
}

void *library_open(const char *name, const char *package)
{
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library)
        return library;
    const char *why = dlerror();
    if (!why || is_memory(why))
        mem_none();
    log_error("%s cannot be loaded (on Debian: apt install %s): %s", name, package, why);
    return NULL;
}

/* ISO C has no cast from an object pointer to a function pointer; POSIX promises that they are of one form. */
int library_find(void *library, const char *name, const char *symbol, void *ret, size_t size)
{
    void *found = dlsym(library, symbol);
    if (!found || size != sizeof found) {
        log_error("%s is too old: it has no %s", name, symbol);
        return -1;
    }
    memcpy(ret, &found, size);
    return 0;
}
