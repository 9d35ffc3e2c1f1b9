#include "daemon/model/curl_api.h"

#include "daemon/base/library.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"

#include <stdbool.h>

#define LIBRARY "libcurl.so.4"

struct curl_api curl_api;

static int load(void)
{
    void *library = library_open(LIBRARY, "libcurl4");
    if (!library)
        return -1;
#define X(name)                                                                                              \
    if (library_find(library, LIBRARY, "curl_" #name, &curl_api.name, sizeof curl_api.name) != 0)            \
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
