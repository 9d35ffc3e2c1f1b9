#include "environment.h"

#include "daemon/base/envname.h"
#include "daemon/base/json.h"
#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"

#include <stdlib.h>
#include <string.h>

extern char **environ;

#define VALUE_BYTES_MAX 32768
#define ALL_BYTES_MAX 61440 /* the daemon refuses more than 64 KiB; what does not fit any more is left out */

/* An environment may hold a name twice; the first is the one that counts, and JSON must not hold it twice. */
static bool is_first(struct str name, const char *value)
{
    char *copy = mem_dup(name.p, name.n);
    bool first = getenv(copy) == value;
    mem_free(copy);
    return first;
}

void environment_put(struct buf *b)
{
    bool first = true;
    size_t bytes = 0;
    buf_putc(b, '{');
    for (char **e = environ; *e; e++) {
        const char *equals = strchr(*e, '=');
        if (!equals)
            continue;
        struct str name = str_n(*e, (size_t)(equals - *e)), value = str_of(equals + 1);
        if (!envname_allowed(name) || !is_first(name, equals + 1) || value.n > VALUE_BYTES_MAX || !utf8_valid(value) || !utf8_valid(name))
            continue;
        if (bytes + name.n + value.n + 2 > ALL_BYTES_MAX)
            continue;
        bytes += name.n + value.n + 2;
        if (!first)
            buf_putc(b, ',');
        first = false;
        json_put_string(b, name);
        buf_putc(b, ':');
        json_put_string(b, value);
    }
    buf_putc(b, '}');
}
