#include "daemon/tools/clean.h"

#include "daemon/base/utf8.h"

#define REPLACEMENT "\xEF\xBF\xBD"

/* NUL is valid UTF-8, but too many readers of JSON end a string there. */
static size_t put_text(struct buf *b, struct str s, bool more)
{
    size_t used = 0;
    while (used < s.n) {
        const char *nul = memchr(s.p + used, 0, s.n - used);
        size_t n = nul ? (size_t)(nul - s.p) - used : s.n - used;
        size_t took = utf8_put_valid(b, str_n(s.p + used, n), more && !nul);
        used += took;
        if (!nul || took < n)
            break;
        buf_puts(b, REPLACEMENT);
        used++;
    }
    return used;
}

/* Where the visible part of a line (without its LF) begins: behind the last CR that has anything behind it. CRs at its end only say
 * where the next text will go. */
static struct str visible(struct str line)
{
    size_t n = line.n;
    while (n > 0 && line.p[n - 1] == '\r')
        n--;
    const char *cr = n ? memrchr(line.p, '\r', n) : NULL;
    size_t from = cr ? (size_t)(cr - line.p) + 1 : 0;
    return str_n(line.p + from, n - from);
}

size_t clean_put(struct buf *b, struct str raw, bool more)
{
    size_t at = 0;
    while (at < raw.n) {
        const char *lf = memchr(raw.p + at, '\n', raw.n - at);
        size_t n = lf ? (size_t)(lf - raw.p) - at : raw.n - at;
        struct str text = visible(str_n(raw.p + at, n));
        bool open = !lf && text.p + text.n == raw.p + raw.n; /* with CRs behind it nothing can complete its last character */
        size_t used = put_text(b, text, more && open);
        if (!lf)
            return used < text.n ? (size_t)(text.p - raw.p) + used : raw.n;
        buf_putc(b, '\n');
        at += n + 1;
    }
    return raw.n;
}
