#include "fuzz.h"

#include "daemon/base/log.h"
#include "daemon/base/utf8.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

/* The same input takes the same way each time: jansson's hash is otherwise seeded by chance. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    json_object_seed(1);
    log_set_level(LOG_LEVEL_ERROR);
    return 0;
}

void fuzz_broken(const char *condition, const char *file, int line)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
    abort();
}

static struct str take(struct str *in, size_t n)
{
    struct str taken = str_n(in->p, n);
    *in = str_n(in->p + n, in->n - n);
    return taken;
}

unsigned fuzz_byte(struct str *in)
{
    return in->n ? (unsigned char)take(in, 1).p[0] : 0;
}

int64_t fuzz_i64(struct str *in)
{
    int64_t v = 0;
    struct str bytes = take(in, in->n < sizeof v ? in->n : sizeof v);
    memcpy(&v, bytes.p, bytes.n);
    return v;
}

static struct str take_until(struct str *in, char end)
{
    const char *found = in->n ? memchr(in->p, end, in->n) : NULL;
    struct str taken = take(in, found ? (size_t)(found - in->p) : in->n);
    if (found)
        take(in, 1);
    return taken;
}

struct str fuzz_line(struct str *in)
{
    return take_until(in, '\n');
}

struct str fuzz_field(struct str *in)
{
    return take_until(in, 0x1e);
}

struct str fuzz_utf8(struct buf *b, struct str s)
{
    buf_clear(b);
    utf8_put_valid(b, s, false);
    return buf_view(b);
}

bool fuzz_one_line(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return false;
    return utf8_valid(s);
}

bool fuzz_shows(struct str s, bool lines)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool c1 = c == 0xc2 && i + 1 < s.n && (unsigned char)s.p[i + 1] < 0xa0;
        if ((c < 0x20 && c != '\t' && !(c == '\n' && lines)) || c == 0x7f || c1)
            return false;
    }
    return utf8_valid(s);
}

bool fuzz_json(struct str s)
{
    json_t *json = json_loadb(s.p, s.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
    json_decref(json);
    return json != NULL;
}
