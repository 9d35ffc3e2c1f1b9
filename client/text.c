#include "text.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"

#include <stdlib.h>

#define REPLACEMENT "\xef\xbf\xbd"

/* One character of valid UTF-8 at s.p[i]; *ret_n is its length. */
static uint32_t decode(struct str s, size_t i, size_t *ret_n)
{
    const unsigned char *p = (const unsigned char *)s.p + i;
    if (p[0] < 0x80) {
        *ret_n = 1;
        return p[0];
    }
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    uint32_t c = p[0] & (0xffu >> (n + 1));
    for (size_t k = 1; k < n; k++)
        c = c << 6 | (p[k] & 0x3f);
    *ret_n = n;
    return c;
}

/* The length of a complete escape sequence at s.p[i] == ESC (ECMA-48: CSI, and the strings that ST or BEL end), else 0. */
static size_t escape_length(struct str s, size_t i)
{
    if (i + 1 >= s.n)
        return 0;
    char kind = s.p[i + 1];
    if (kind == '[') {
        for (size_t k = i + 2; k < s.n; k++) {
            unsigned char c = (unsigned char)s.p[k];
            if (c >= 0x40 && c <= 0x7e)
                return k + 1 - i;
            if (c < 0x20 || c > 0x3f)
                return 0;
        }
        return 0;
    }
    if (kind == ']' || kind == 'P' || kind == '_' || kind == '^' || kind == 'X') {
        for (size_t k = i + 2; k < s.n && s.p[k] != '\n'; k++) {
            if (s.p[k] == '\a')
                return k + 1 - i;
            if (s.p[k] == '\033' && k + 1 < s.n && s.p[k + 1] == '\\')
                return k + 2 - i;
        }
        return 0;
    }
    if (kind == '(' || kind == ')')
        return i + 2 < s.n && s.p[i + 2] >= 0x30 && s.p[i + 2] < 0x7f ? 3 : 0;
    return 0;
}

/* Marks, embeddings, overrides and isolates that change the order in which text is shown (Unicode UAX #9). */
static bool reorders(uint32_t c)
{
    return c == 0x061c || c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

static bool harmless(uint32_t c)
{
    if (c == '\n' || c == '\t')
        return true;
    return c >= 0x20 && !(c >= 0x7f && c <= 0x9f) && !reorders(c) && c != 0x2028 && c != 0x2029;
}

void text_put_safe(struct buf *b, struct str s)
{
    CLEANUP(buf_free) struct buf valid = {0};
    if (!utf8_valid(s)) {
        utf8_put_valid(&valid, s, false);
        s = buf_view(&valid);
    }
    for (size_t i = 0; i < s.n;) {
        size_t n, skip = s.p[i] == '\033' ? escape_length(s, i) : 0;
        if (skip) {
            i += skip;
            continue;
        }
        if (harmless(decode(s, i, &n)))
            buf_put(b, s.p + i, n);
        else if (!(s.p[i] == '\r' && i + 1 < s.n && s.p[i + 1] == '\n'))
            buf_puts(b, REPLACEMENT);
        i += n;
    }
}

static size_t columns_of(uint32_t c)
{
    bool wide = (c >= 0x1100 && c <= 0x115f) || (c >= 0x2e80 && c <= 0xa4cf) || (c >= 0xac00 && c <= 0xd7a3) ||
                (c >= 0xf900 && c <= 0xfaff) || (c >= 0xfe30 && c <= 0xfe6f) || (c >= 0xff00 && c <= 0xff60) ||
                (c >= 0xffe0 && c <= 0xffe6) || (c >= 0x1f300 && c <= 0x1faff) || (c >= 0x20000 && c <= 0x3fffd);
    bool combining = (c >= 0x0300 && c <= 0x036f) || (c >= 0x200b && c <= 0x200d) || (c >= 0xfe00 && c <= 0xfe0f);
    return wide ? 2 : combining ? 0 : 1;
}

size_t text_columns(struct str s)
{
    size_t columns = 0;
    for (size_t i = 0, n; i < s.n; i += n)
        columns += columns_of(decode(s, i, &n));
    return columns;
}

/* Cuts what was appended after `start` to `columns`. */
static void cut(struct buf *b, size_t start, size_t columns)
{
    struct str s = buf_view(b);
    size_t used = 0, keep = start, n;
    for (size_t i = start; i < s.n; i += n) {
        used += columns_of(decode(s, i, &n));
        if (used + 3 <= columns)
            keep = i + n;
        if (used > columns) {
            b->n = keep;
            buf_puts(b, "...");
            return;
        }
    }
}

void text_put_line(struct buf *b, struct str s, size_t columns)
{
    CLEANUP(buf_free) struct buf safe = {0};
    size_t start = b->n;
    /* What will be cut anyway need not be looked at: no character takes more than four bytes. */
    if (columns && s.n > columns * 64)
        s.n = columns * 64;
    text_put_safe(&safe, s);
    bool space = false;
    for (size_t i = 0; i < safe.n; i++) {
        char c = safe.p[i];
        if (c == '\n' || c == '\t' || c == ' ') {
            space = b->n > start;
            continue;
        }
        if (space)
            buf_putc(b, ' ');
        space = false;
        buf_putc(b, c);
    }
    if (columns)
        cut(b, start, columns);
}

bool text_next_line(struct str *in, struct str *ret)
{
    if (in->n == 0)
        return false;
    const char *end = memchr(in->p, '\n', in->n);
    size_t n = end ? (size_t)(end - in->p) : in->n;
    struct str line = {in->p, n};
    n += end != NULL;
    *in = str_n(in->p + n, in->n - n);
    while (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    const char *cr = memrchr(line.p, '\r', line.n);
    if (cr)
        line = str_n(cr + 1, line.n - (size_t)(cr + 1 - line.p));
    *ret = line;
    return true;
}

void text_put_duration(struct buf *b, int64_t ms)
{
    long long s = ms / 1000;
    if (ms < 1000)
        buf_printf(b, "%lld ms", (long long)(ms < 0 ? 0 : ms));
    else if (ms < 10000)
        buf_printf(b, "%lld.%lld s", s, (long long)(ms % 1000 / 100));
    else if (s < 60)
        buf_printf(b, "%lld s", s);
    else if (s < 3600)
        buf_printf(b, "%lldm %llds", s / 60, s % 60);
    else if (s < 86400)
        buf_printf(b, "%lldh %lldm", s / 3600, s % 3600 / 60);
    else
        buf_printf(b, "%lldd %lldh", s / 86400, s % 86400 / 3600);
}

void text_put_age(struct buf *b, int64_t ms)
{
    long long s = ms < 0 ? 0 : ms / 1000;
    if (s < 60)
        buf_printf(b, "%llds", s);
    else if (s < 3600)
        buf_printf(b, "%lldm", s / 60);
    else if (s < 86400)
        buf_printf(b, "%lldh", s / 3600);
    else
        buf_printf(b, "%lldd", s / 86400);
}

static void put_scaled(struct buf *b, int64_t n, const char *const *units)
{
    int unit = 0;
    double v = (double)n;
    while (v >= 999.95 && unit < 3) {
        v /= 1000;
        unit++;
    }
    if (unit == 0)
        buf_printf(b, "%lld%s", (long long)n, units[0]);
    else
        buf_printf(b, "%.1f%s", v, units[unit]);
}

void text_put_bytes(struct buf *b, int64_t bytes)
{
    static const char *const units[] = {" B", " KB", " MB", " GB"};
    put_scaled(b, bytes, units);
}

void text_put_count(struct buf *b, int64_t n)
{
    static const char *const units[] = {"", "k", "M", "G"};
    put_scaled(b, n, units);
}

int text_parse_number(const char *text, int64_t *ret)
{
    int64_t v = 0;
    if (!*text)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || v > (INT64_MAX - 9) / 10)
            return -1;
        v = v * 10 + (*text - '0');
    }
    *ret = v;
    return 0;
}

int text_parse_duration(const char *text, int64_t *ret_ms)
{
    char digits[16];
    size_t n = strlen(text);
    if (n < 2 || n > sizeof digits)
        return -1;
    memcpy(digits, text, n - 1);
    digits[n - 1] = 0;
    int64_t v, unit;
    switch (text[n - 1]) {
    case 's':
        unit = 1000;
        break;
    case 'm':
        unit = 60000;
        break;
    case 'h':
        unit = 3600000;
        break;
    case 'd':
        unit = 86400000;
        break;
    default:
        return -1;
    }
    if (text_parse_number(digits, &v) < 0 || v > INT64_MAX / 86400000 / 2)
        return -1;
    *ret_ms = v * unit;
    return 0;
}

void text_put_json(struct buf *b, struct str json)
{
    size_t start = 0;
    for (size_t i = 0; i < json.n; i++) {
        unsigned char c = (unsigned char)json.p[i];
        bool c1 = c == 0xc2 && i + 1 < json.n && (unsigned char)json.p[i + 1] < 0xa0;
        if (c != 0x7f && !c1)
            continue;
        buf_put(b, json.p + start, i - start);
        buf_printf(b, "\\u%04x", c1 ? (unsigned char)json.p[i + 1] : c);
        i += c1;
        start = i + 1;
    }
    if (json.n > start)
        buf_put(b, json.p + start, json.n - start);
}
