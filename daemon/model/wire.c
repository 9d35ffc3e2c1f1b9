#include "daemon/model/wire.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four digits of a \u escape at s.p[i], or -1. */
static int32_t hex_unit(struct str s, size_t i)
{
    int32_t unit = 0;
    if (i + 4 > s.n)
        return -1;
    for (size_t k = i; k < i + 4; k++) {
        int digit = hex_digit(s.p[k]);
        if (digit < 0)
            return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

static bool is_high(int32_t unit)
{
    return unit >= 0xd800 && unit <= 0xdbff;
}

static bool is_low(int32_t unit)
{
    return unit >= 0xdc00 && unit <= 0xdfff;
}

/* The low half that makes a pair with the \u escape at s.p[i], or -1. */
static int32_t low_after(struct str s, size_t i)
{
    if (i + 12 > s.n || s.p[i + 6] != '\\' || s.p[i + 7] != 'u')
        return -1;
    int32_t unit = hex_unit(s, i + 8);
    return is_low(unit) ? unit : -1;
}

/* jansson refuses half surrogate pairs. It is shown a copy of the same length in which they are U+FFFD. */
static bool mend(struct str text, struct buf *ret)
{
    bool mended = false;
    for (size_t i = 0; i + 6 <= text.n; i++) {
        const char *escape = memchr(text.p + i, '\\', text.n - i);
        if (!escape)
            break;
        i = (size_t)(escape - text.p);
        int32_t unit = i + 6 <= text.n && text.p[i + 1] == 'u' ? hex_unit(text, i + 2) : 0;
        if (is_high(unit) && low_after(text, i) >= 0) {
            i += 11;
        } else if (is_high(unit) || is_low(unit)) {
            if (!mended)
                buf_str(ret, text);
            mended = true;
            memcpy(ret->p + i + 2, "fffd", 4);
            i += 5;
        } else {
            i++;
        }
    }
    return mended;
}

bool wire_json_valid(struct str text, size_t depth_max)
{
    struct buf mended = {0};
    if (json_depth(text, depth_max) > depth_max)
        return false;
    struct str shown = mend(text, &mended) ? buf_view(&mended) : text;
    json_t *root = json_loadb(shown.p ? shown.p : "", shown.n,
                              JSON_ALLOW_NUL | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
    json_decref(root);
    buf_free(&mended);
    return root != NULL;
}

int64_t wire_int(struct str value, int64_t otherwise)
{
    char digits[32];
    if (value.n == 0 || value.n >= sizeof digits || value.p[0] < '0' || value.p[0] > '9')
        return otherwise;
    memcpy(digits, value.p, value.n);
    digits[value.n] = 0;
    double number = strtod(digits, NULL);
    return number < 9e18 ? (int64_t)number : otherwise;
}

struct str wire_inside(struct str value)
{
    if (value.n < 2 || value.p[0] != '"')
        return STR_NONE;
    return str_n(value.p + 1, value.n - 2);
}

bool wire_is_null(struct str value)
{
    return value.p == NULL || str_eqz(value, "null");
}

bool wire_is(struct str value, const char *text)
{
    struct str inside = wire_inside(value);
    return inside.p && str_eqz(inside, text);
}

static void put_char(struct buf *b, int32_t c)
{
    if (c < 0x80) {
        buf_putc(b, (char)c);
    } else if (c < 0x800) {
        char p[] = {(char)(0xc0 | (c >> 6)), (char)(0x80 | (c & 63))};
        buf_put(b, p, sizeof p);
    } else if (c < 0x10000) {
        char p[] = {(char)(0xe0 | (c >> 12)), (char)(0x80 | ((c >> 6) & 63)), (char)(0x80 | (c & 63))};
        buf_put(b, p, sizeof p);
    } else {
        char p[] = {(char)(0xf0 | (c >> 18)), (char)(0x80 | ((c >> 12) & 63)), (char)(0x80 | ((c >> 6) & 63)),
                    (char)(0x80 | (c & 63))};
        buf_put(b, p, sizeof p);
    }
}

/* The \u escape at s.p[i]; returns its length, 0 if the rest of a pair may still come. */
static size_t put_unit(struct buf *b, struct str s, size_t i, bool more)
{
    int32_t unit = hex_unit(s, i + 2);
    if (unit < 0) /* cannot be in checked text */
        return s.n - i;
    if (is_high(unit)) {
        int32_t low = low_after(s, i);
        if (low >= 0) {
            put_char(b, 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
            return 12;
        }
        if (more && i + 6 == s.n)
            return 0;
    }
    put_char(b, is_high(unit) || is_low(unit) ? 0xfffd : unit);
    return 6;
}

/* The escape at s.p[i]; as put_unit(). */
static size_t put_escape(struct buf *b, struct str s, size_t i, bool more)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    if (i + 1 >= s.n)
        return 1;
    if (s.p[i + 1] == 'u')
        return put_unit(b, s, i, more);
    const char *found = memchr(from, s.p[i + 1], sizeof from - 1);
    buf_putc(b, found ? to[found - from] : s.p[i + 1]);
    return 2;
}

size_t wire_put_text(struct buf *b, struct str inside, bool more)
{
    size_t i = 0;
    while (i < inside.n) {
        const char *escape = memchr(inside.p + i, '\\', inside.n - i);
        size_t plain = escape ? (size_t)(escape - inside.p) : inside.n;
        buf_put(b, inside.p + i, plain - i);
        i = plain;
        if (!escape)
            break;
        size_t used = put_escape(b, inside, i, more);
        if (used == 0)
            break;
        i += used;
    }
    return i;
}

void wire_put_string(struct buf *b, struct str value)
{
    struct str inside = wire_inside(value);
    if (inside.p)
        wire_put_text(b, inside, false);
}

void wire_put_raw(struct buf *b, struct str value)
{
    if (value.n > 0 && (memchr(value.p, '\n', value.n) || memchr(value.p, '\r', value.n)))
        json_put_compact(b, value);
    else
        buf_str(b, value);
}

/* Behind the value at a.p[i], in checked text. */
static size_t value_end(struct str a, size_t i)
{
    size_t depth = 0;
    for (bool in_string = false; i < a.n; i++) {
        char c = a.p[i];
        if (in_string) {
            if (c == '\\')
                i++;
            in_string = c != '"';
            continue;
        }
        in_string = c == '"';
        if (c == '[' || c == '{')
            depth++;
        else if (depth == 0 && (c == ',' || c == ']' || c == '}'))
            return i;
        else if (c == ']' || c == '}')
            depth--;
    }
    return i;
}

bool wire_each(struct str array, size_t *state, struct str *ret)
{
    size_t i = *state;
    if (i == 0 && (array.n == 0 || array.p[0] != '['))
        return false;
    if (i >= array.n || array.p[i] == ']')
        return false;
    size_t start = i + 1;
    while (start < array.n && strchr(" \t\r\n", array.p[start]))
        start++;
    size_t end = value_end(array, start), next = end;
    while (end > start && strchr(" \t\r\n", array.p[end - 1]))
        end--;
    *state = next;
    *ret = str_n(array.p + start, end - start);
    return end > start; /* nothing: the array is empty */
}
