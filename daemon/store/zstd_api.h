#pragma once
/* libzstd, loaded when the first task is archived or read back: an idle daemon does without it. Headers come from
 * libzstd as usual; the calls go through this table. */
#include <zstd.h>
#include <zstd_errors.h>

#define ZSTD_API(X)                                                                                          \
    X(compressBound)                                                                                         \
    X(createCCtx)                                                                                            \
    X(freeCCtx)                                                                                              \
    X(CCtx_setParameter)                                                                                     \
    X(compress2)                                                                                             \
    X(decompress)                                                                                            \
    X(isError)                                                                                               \
    X(getErrorName)                                                                                          \
    X(getErrorCode)

struct zstd_api {
#define X(name) __typeof__(ZSTD_##name) *name;
    ZSTD_API(X)
#undef X
};

/* NULL if it cannot be loaded (the log says why, once). From any thread. */
const struct zstd_api *zstd_api(void);
