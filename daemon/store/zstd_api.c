#include "daemon/store/zstd_api.h"

#include "daemon/base/log.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>
#include <uv.h>

#define LIBRARY "libzstd.so.1"

static struct zstd_api api;
static bool loaded;

/* ISO C has no cast from an object pointer to a function pointer; POSIX promises that they are of one form. */
static bool load_symbol(void *library, const char *name, void *ret, size_t size)
{
    void *symbol = dlsym(library, name);
    if (!symbol || size != sizeof symbol) {
        log_error("%s is too old: it has no %s", LIBRARY, name);
        return false;
    }
    memcpy(ret, &symbol, size);
    return true;
}

static void load(void)
{
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        log_error("%s cannot be loaded (on Debian: apt install libzstd1): %s", LIBRARY, dlerror());
        return;
    }
#define X(name)                                                                                              \
    if (!load_symbol(library, "ZSTD_" #name, &api.name, sizeof api.name))                                    \
        return;
    ZSTD_API(X)
#undef X
    loaded = true;
}

const struct zstd_api *zstd_api(void)
{
    static uv_once_t once = UV_ONCE_INIT;
    uv_once(&once, load);
    return loaded ? &api : NULL;
}
