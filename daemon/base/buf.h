#pragma once
/* A growable byte buffer, always followed by a NUL that is not counted. Zero-initialise to start. */
#include "str.h"

#include <stdarg.h>
#include <stdint.h>

struct buf {
    char *p;
    size_t n;
    size_t cap;
};

void buf_put(struct buf *b, const void *p, size_t n);
void buf_putc(struct buf *b, char c);
void buf_puts(struct buf *b, const char *s);
void buf_str(struct buf *b, struct str s);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
void buf_i64(struct buf *b, int64_t v);
/* Room for n more bytes at b->p + b->n; the caller writes them and adds to b->n. */
char *buf_reserve(struct buf *b, size_t n);
/* Drops the first n bytes. */
void buf_consume(struct buf *b, size_t n);
void buf_clear(struct buf *b);
/* Hands the bytes over (NUL-terminated, to be freed with mem_free); the buffer is empty again. */
char *buf_take(struct buf *b, size_t *ret_n);
/* Never NULL. */
const char *buf_cstr(const struct buf *b);
static inline struct str buf_view(const struct buf *b)
{
    return (struct str){b->p ? b->p : "", b->n};
}
void buf_free(struct buf *b);
