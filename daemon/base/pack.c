#include "pack.h"

#include <assert.h>

static void put_head(struct buf *b, enum pack_type type, const char *name)
{
    size_t n = strlen(name);
    assert(n > 0 && n < 256);
    buf_putc(b, (char)type);
    buf_putc(b, (char)n);
    buf_put(b, name, n);
}

static void put_u32(char *to, size_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (char)(v >> (8 * i));
}

void pack_i64(struct buf *b, const char *name, int64_t v)
{
    if (v == 0)
        return;
    put_head(b, PACK_I64, name);
    char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (char)((uint64_t)v >> (8 * i));
    buf_put(b, bytes, sizeof bytes);
}

void pack_str(struct buf *b, const char *name, struct str s)
{
    if (!s.p)
        return;
    assert(s.n < UINT32_MAX);
    put_head(b, PACK_STR, name);
    char bytes[4];
    put_u32(bytes, s.n);
    buf_put(b, bytes, sizeof bytes);
    buf_put(b, s.p, s.n);
}

size_t pack_open(struct buf *b, const char *name)
{
    put_head(b, PACK_GROUP, name);
    buf_put(b, "\0\0\0", 4);
    return b->n;
}

void pack_close(struct buf *b, size_t mark)
{
    assert(b->n - mark < UINT32_MAX);
    put_u32(b->p + mark - 4, b->n - mark);
}

static const unsigned char *take(struct str *in, size_t n)
{
    if (in->n < n)
        return NULL;
    const unsigned char *p = (const unsigned char *)in->p;
    in->p += n;
    in->n -= n;
    return p;
}

int pack_next(struct str *in, struct pack_field *ret)
{
    if (in->n == 0)
        return 0;
    struct pack_field f = {0};
    const unsigned char *head = take(in, 2);
    if (!head)
        return -1;
    f.type = (enum pack_type)head[0];
    const unsigned char *name = take(in, head[1]);
    if (!name)
        return -1;
    f.name = str_n((const char *)name, head[1]);
    if (f.type == PACK_I64) {
        const unsigned char *v = take(in, 8);
        if (!v)
            return -1;
        uint64_t u = 0;
        for (int i = 7; i >= 0; i--)
            u = u << 8 | v[i];
        f.i64 = (int64_t)u;
    } else if (f.type == PACK_STR || f.type == PACK_GROUP) {
        const unsigned char *v = take(in, 4);
        if (!v)
            return -1;
        size_t n = (size_t)v[0] | (size_t)v[1] << 8 | (size_t)v[2] << 16 | (size_t)v[3] << 24;
        const unsigned char *bytes = take(in, n);
        if (!bytes)
            return -1;
        f.bytes = str_n((const char *)bytes, n);
    } else {
        return -1;
    }
    *ret = f;
    return 1;
}
