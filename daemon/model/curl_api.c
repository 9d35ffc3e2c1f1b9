#include "daemon/model/curl_api.h"

#include "daemon/base/log.h"
#include "daemon/base/mem.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

#define LIBRARY "libcurl.so.4"

struct curl_api curl_api;

/* ISO C has no cast from an object pointer to a function pointer; POSIX promises that they are of one form.
 */
static int load_symbol(void *library, const char *name, void *ret, size_t size)
{
    void *symbol = dlsym(library, name);
    if (!symbol || size != sizeof symbol) {
        log_error("%s is too old: it has no %s", LIBRARY, name);
        return -1;
    }
    memcpy(ret, &symbol, size);
    return 0;
}

static int load(void)
{
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        log_error("%s cannot be loaded (on Debian: apt install libcurl4): %s", LIBRARY, why ? why : "no reason given");
        return -1;
    }
#define X(name)                                                                                              \
    if (load_symbol(library, "curl_" #name, &curl_api.name, sizeof curl_api.name) != 0)                      \
        return -1;
    CURL_API(X)
#undef X
    if (curl_api.global_init_mem(CURL_GLOBAL_DEFAULT, mem_malloc_raw, mem_free, mem_realloc, mem_strdup, mem_calloc_raw) !=
        CURLE_OK) {
        log_error("%s does not start", LIBRARY);
        return -1;
    }
    return 0;
}

int curl_api_load(void)
{
    static bool loaded;
    loaded = loaded || load() == 0;
    return loaded ? 0 : -1;
}
