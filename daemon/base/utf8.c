#include "utf8.h"

/* The length of the valid character at s.p[i]; 0 if invalid; *ret_bad is then the number of bytes to replace, or 0
 * if the text merely ends inside a character that is good so far. */
static size_t utf8_char(struct str s, size_t i, size_t *ret_bad)
{
    const unsigned char *p = (const unsigned char *)s.p + i;
    size_t left = s.n - i, len;
    unsigned char low = 0x80, high = 0xbf;
    *ret_bad = 1;
    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        len = 2;
    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        len = 3;
        if (p[0] == 0xe0)
            low = 0xa0;
        if (p[0] == 0xed)
            high = 0x9f;
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        len = 4;
        if (p[0] == 0xf0)
            low = 0x90;
        if (p[0] == 0xf4)
            high = 0x8f;
    } else {
        return 0;
    }
    for (size_t k = 1; k < len; k++) {
        if (k == left) {
            *ret_bad = 0;
            return 0;
        }
        if (p[k] < low || p[k] > high) {
            *ret_bad = k;
            return 0;
        }
        low = 0x80;
        high = 0xbf;
    }
    return len;
}

bool utf8_valid(struct str s)
{
    size_t bad;
    for (size_t i = 0; i < s.n;) {
        size_t n = utf8_char(s, i, &bad);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

size_t utf8_put_valid(struct buf *b, struct str s, bool more)
{
    size_t i = 0, start = 0;
    while (i < s.n) {
        size_t bad, n = utf8_char(s, i, &bad);
        if (n > 0) {
            i += n;
            continue;
        }
        buf_put(b, s.p + start, i - start);
        if (bad == 0 && more)
            return i;
        buf_puts(b, "\xef\xbf\xbd");
        i = bad == 0 ? s.n : i + bad;
        start = i;
    }
    if (i > start)
        buf_put(b, s.p + start, i - start);
    return s.n;
}

size_t utf8_floor(struct str s, size_t n)
{
    if (n >= s.n)
        return s.n;
    while (n > 0 && ((unsigned char)s.p[n] & 0xc0) == 0x80)
        n--;
    return n;
}
