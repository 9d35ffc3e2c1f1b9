#include "daemon/store/zstd_api.h"

#include "daemon/base/library.h"
#include "daemon/base/mem.h"

#include <stdbool.h>
#include <uv.h>

#define LIBRARY "libzstd.so.1"

#define TRIES_MAX 5 /* what fails so often is not there; before, it may have been want of memory */

static struct zstd_api api;
static uv_mutex_t mutex;
static bool loaded;
static int tries;

static void begin(void)
{
    if (uv_mutex_init(&mutex) != 0)
        mem_none();
}

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
    uv_once(&once, begin);
    uv_mutex_lock(&mutex);
    if (!loaded && tries < TRIES_MAX) {
        tries++;
        load();
    }
    bool found = loaded;
    uv_mutex_unlock(&mutex);
    return found ? &api : NULL;
}
