#include "daemon/store/zstd_api.h"

#include "daemon/base/library.h"

#include <stdbool.h>
#include <uv.h>

#define LIBRARY "libzstd.so.1"

static struct zstd_api api;
static bool loaded;

static void load(void)
{
    void *library = library_open(LIBRARY, "libzstd1");
    if (!library)
        return;
#define X(name)                                                                                              \
    if (library_find(library, LIBRARY, "ZSTD_" #name, &api.name, sizeof api.name) != 0)                      \
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
