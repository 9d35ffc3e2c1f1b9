#pragma once
/* libcurl, loaded when the first request is about to be made. Linking it costs every start of the daemon the
 * 30 libraries that it brings along, and 6 MB for as long as the daemon idles. Headers come from libcurl as
 * usual; the calls go through this table. */
#include <curl/curl.h>

#define CURL_API(X)                                                                                          \
    X(global_init_mem)                                                                                       \
    X(free)                                                                                                  \
    X(slist_append)                                                                                          \
    X(slist_free_all)                                                                                        \
    X(easy_init)                                                                                             \
    X(easy_cleanup)                                                                                          \
    X(easy_setopt)                                                                                           \
    X(easy_getinfo)                                                                                          \
    X(easy_strerror)                                                                                         \
    X(multi_init)                                                                                            \
    X(multi_cleanup)                                                                                         \
    X(multi_setopt)                                                                                          \
    X(multi_assign)                                                                                          \
    X(multi_add_handle)                                                                                      \
    X(multi_remove_handle)                                                                                   \
    X(multi_info_read)                                                                                       \
    X(multi_socket_action)                                                                                   \
    X(url)                                                                                                   \
    X(url_set)                                                                                               \
    X(url_get)                                                                                               \
    X(url_cleanup)

struct curl_api {
#define X(name) __typeof__(curl_##name) *name;
    CURL_API(X)
#undef X
};

extern struct curl_api curl_api;

/* Loads and starts the library, once. 0, or -1 (the log says why). */
int curl_api_load(void);
