#include "buf.h"

#include "mem.h"

#include <stdarg.h>
#include <stdio.h>

char *buf_reserve(struct buf *b, size_t n)
{
    size_t need = b->n + n + 1;
    if (need > b->cap) {
        size_t cap = b->cap ? b->cap : 64;
        while (cap < need)
            cap += cap / 2 + 64;
        b->p = mem_realloc(b->p, cap);
        b->cap = cap;
    }
    return b->p + b->n;
}

void buf_put(struct buf *b, const void *p, size_t n)
{
    char *to = buf_reserve(b, n);
    if (n)
        memcpy(to, p, n);
    b->n += n;
    b->p[b->n] = 0;
}

void buf_putc(struct buf *b, char c)
{
    buf_put(b, &c, 1);
}

void buf_puts(struct buf *b, const char *s)
{
    buf_put(b, s, strlen(s));
}

void buf_str(struct buf *b, struct str s)
{
    buf_put(b, s.p, s.n);
}

void buf_vprintf(struct buf *b, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    if (n >= 0) {
        char *to = buf_reserve(b, (size_t)n);
        vsnprintf(to, (size_t)n + 1, format, again);
        b->n += (size_t)n;
    }
    va_end(again);
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    buf_vprintf(b, format, args);
    va_end(args);
}

void buf_i64(struct buf *b, int64_t v)
{
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%lld", (long long)v);
    buf_put(b, digits, (size_t)n);
}

void buf_consume(struct buf *b, size_t n)
{
    if (n >= b->n) {
        buf_clear(b);
        return;
    }
    memmove(b->p, b->p + n, b->n - n);
    b->n -= n;
    b->p[b->n] = 0;
}

void buf_clear(struct buf *b)
{
    b->n = 0;
    if (b->p)
        b->p[0] = 0;
}

char *buf_take(struct buf *b, size_t *ret_n)
{
    char *p = b->p ? b->p : mem_dup("", 0);
    if (ret_n)
        *ret_n = b->n;
    *b = (struct buf){0};
    return p;
}

const char *buf_cstr(const struct buf *b)
{
    return b->p ? b->p : "";
}

void buf_free(struct buf *b)
{
    mem_free(b->p);
    *b = (struct buf){0};
}
