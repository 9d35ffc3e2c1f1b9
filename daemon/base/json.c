#include "json.h"

void json_put_escaped(struct buf *b, struct str s)
{
    static const char hex[] = "0123456789abcdef";
    size_t start = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        buf_put(b, s.p + start, i - start);
        start = i + 1;
        switch (c) {
        case '"':
            buf_puts(b, "\\\"");
            break;
        case '\\':
            buf_puts(b, "\\\\");
            break;
        case '\n':
            buf_puts(b, "\\n");
            break;
        case '\r':
            buf_puts(b, "\\r");
            break;
        case '\t':
            buf_puts(b, "\\t");
            break;
        default: {
            char escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
            buf_put(b, escape, sizeof escape);
        }
        }
    }
    if (s.n > start)
        buf_put(b, s.p + start, s.n - start);
}

void json_put_string(struct buf *b, struct str s)
{
    buf_putc(b, '"');
    json_put_escaped(b, s);
    buf_putc(b, '"');
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static size_t skip_space(struct str t, size_t i)
{
    while (i < t.n && is_space(t.p[i]))
        i++;
    return i;
}

/* From the opening quote to behind the closing one. */
static size_t skip_string(struct str t, size_t i)
{
    for (i++; i < t.n; i++) {
        if (t.p[i] == '\\')
            i++;
        else if (t.p[i] == '"')
            return i + 1;
    }
    return t.n;
}

static size_t skip_value(struct str t, size_t i)
{
    if (i >= t.n)
        return t.n;
    if (t.p[i] == '"')
        return skip_string(t, i);
    if (t.p[i] != '{' && t.p[i] != '[') {
        while (i < t.n && t.p[i] != ',' && t.p[i] != '}' && t.p[i] != ']' && !is_space(t.p[i]))
            i++;
        return i;
    }
    size_t depth = 0;
    while (i < t.n) {
        char c = t.p[i];
        if (c == '"') {
            i = skip_string(t, i);
            continue;
        }
        i++;
        if (c == '{' || c == '[')
            depth++;
        else if ((c == '}' || c == ']') && --depth == 0)
            return i;
    }
    return t.n;
}

struct str json_find(struct str text, const char *name)
{
    size_t name_n = strlen(name);
    size_t i = skip_space(text, 0);
    if (i >= text.n || text.p[i] != '{')
        return STR_NONE;
    i = skip_space(text, i + 1);
    while (i < text.n && text.p[i] == '"') {
        size_t key = i + 1;
        i = skip_string(text, i);
        size_t key_n = i - 1 - key;
        i = skip_space(text, i);
        if (i >= text.n || text.p[i] != ':')
            return STR_NONE;
        i = skip_space(text, i + 1);
        size_t value = i;
        i = skip_value(text, i);
        if (key_n == name_n && memcmp(text.p + key, name, name_n) == 0)
            return str_n(text.p + value, i - value);
        i = skip_space(text, i);
        if (i >= text.n || text.p[i] != ',')
            return STR_NONE;
        i = skip_space(text, i + 1);
    }
    return STR_NONE;
}

bool json_next(struct str *array, struct str *ret)
{
    /* What was taken leaves the comma (or bracket) behind it at the front. */
    size_t i = skip_space(*array, 0);
    if (i >= array->n || (array->p[i] != '[' && array->p[i] != ','))
        return false;
    i = skip_space(*array, i + 1);
    if (i >= array->n || array->p[i] == ']')
        return false;
    size_t end = skip_value(*array, i);
    *ret = str_n(array->p + i, end - i);
    *array = str_n(array->p + end, array->n - end);
    return true;
}

void json_put_compact(struct buf *b, struct str json)
{
    size_t i = 0;
    while (i < json.n) {
        if (is_space(json.p[i])) {
            i++;
            continue;
        }
        size_t end = json.p[i] == '"' ? skip_string(json, i) : i + 1;
        buf_put(b, json.p + i, end - i);
        i = end;
    }
}

size_t json_depth(struct str text, size_t max)
{
    size_t depth = 0, deepest = 0;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == '"') {
            i = skip_string(text, i) - 1;
        } else if (c == '{' || c == '[') {
            if (++depth > deepest)
                deepest = depth;
            if (deepest > max)
                return deepest;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return deepest;
}
