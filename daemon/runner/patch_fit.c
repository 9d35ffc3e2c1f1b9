/* Hunks -> a new text. A hunk's old lines are looked for exactly first, then with less and less care for white space and punctuation;
 * what is context keeps the bytes that the file has, whatever the patch wrote. */
#include "daemon/runner/patch.h"

#include "daemon/base/mem.h"

#include <ctype.h>

struct line {
    struct str text; /* without its end */
    size_t size;     /* with it */
};

struct text {
    struct line *lines;
    size_t n;
    const char *eol;
};

struct place { /* lines [at, at + n) of the file are the old lines of the hunk */
    const struct patch_hunk *hunk;
    size_t at, n;
    size_t skipped; /* old lines at the hunk's end that the file does not have */
};

struct fit {
    struct text file;
    struct place *places; /* in the order of the file */
    size_t places_n;
    size_t cursor;
    struct str *old; /* of the hunk at work */
    size_t old_n;
};

static struct text split(struct str s)
{
    struct text t = {.eol = "\n"};
    size_t cap = 0, crlf = 0;
    while (s.n > 0) {
        const char *lf = memchr(s.p, '\n', s.n);
        size_t n = lf ? (size_t)(lf - s.p) : s.n, size = n + (lf != NULL);
        if (lf && n && s.p[n - 1] == '\r') {
            crlf++;
            n--;
        }
        if (t.n == cap) {
            cap = cap ? cap * 2 : 64;
            t.lines = mem_realloc(t.lines, cap * sizeof *t.lines);
        }
        t.lines[t.n++] = (struct line){.text = str_n(s.p, n), .size = size};
        s = str_n(s.p + size, s.n - size);
    }
    if (crlf * 2 > t.n)
        t.eol = "\r\n";
    return t;
}

/* ---- likeness of lines ---- */

enum care { CARE_EXACT, CARE_END, CARE_BLANKS, CARE_PUNCTUATION, CARE_N };

static struct str trim_end(struct str s)
{
    while (s.n && isspace((unsigned char)s.p[s.n - 1]))
        s.n--;
    return s;
}

static struct str trim(struct str s)
{
    while (s.n && isspace((unsigned char)s.p[0]))
        s = str_n(s.p + 1, s.n - 1);
    return trim_end(s);
}

/* The ASCII that people type for typographic dashes (U+2010-2015, U+2212), quotes (U+2018-201F) and spaces. */
static char plain(struct str *s)
{
    const unsigned char *p = (const unsigned char *)s->p;
    size_t n = 1;
    char c = s->p[0];
    if (s->n >= 2 && p[0] == 0xC2 && p[1] == 0xA0) {
        n = 2, c = ' ';
    } else if (s->n >= 3 && p[0] == 0xE2 && p[1] == 0x80) {
        n = 3;
        if (p[2] >= 0x90 && p[2] <= 0x95)
            c = '-';
        else if (p[2] >= 0x98 && p[2] <= 0x9B)
            c = '\'';
        else if (p[2] >= 0x9C && p[2] <= 0x9F)
            c = '"';
        else if ((p[2] >= 0x82 && p[2] <= 0x8A) || p[2] == 0xAF)
            c = ' ';
        else
            n = 1;
    } else if (s->n >= 3 && p[0] == 0xE2 && p[1] == 0x88 && p[2] == 0x92) {
        n = 3, c = '-';
    } else if (s->n >= 3 && ((p[0] == 0xE2 && p[1] == 0x81 && p[2] == 0x9F) || (p[0] == 0xE3 && p[1] == 0x80 && p[2] == 0x80))) {
        n = 3, c = ' ';
    }
    *s = str_n(s->p + n, s->n - n);
    return c;
}

static bool alike_plain(struct str a, struct str b)
{
    a = trim(a);
    b = trim(b);
    while (a.n && b.n)
        if (plain(&a) != plain(&b))
            return false;
    return a.n == 0 && b.n == 0;
}

static bool alike(struct str a, struct str b, enum care care)
{
    switch (care) {
    case CARE_EXACT:
        return str_eq(a, b);
    case CARE_END:
        return str_eq(trim_end(a), trim_end(b));
    case CARE_BLANKS:
        return str_eq(trim(a), trim(b));
    case CARE_PUNCTUATION:
        return alike_plain(a, b);
    case CARE_N:
        break;
    }
    return false;
}

static bool fits_at(const struct text *t, const struct str *old, size_t n, size_t at, enum care care)
{
    for (size_t i = 0; i < n; i++)
        if (!alike(t->lines[at + i].text, old[i], care))
            return false;
    return true;
}

#define NOWHERE SIZE_MAX

static size_t find_from(const struct text *t, const struct str *old, size_t n, size_t from, enum care care)
{
    for (size_t at = from; at + n <= t->n; at++)
        if (fits_at(t, old, n, at, care))
            return at;
    return NOWHERE;
}

static size_t find(const struct text *t, const struct str *old, size_t n, size_t from, bool at_end)
{
    if (n > t->n)
        return NOWHERE;
    for (enum care care = CARE_EXACT; at_end && care < CARE_N; care++)
        if (t->n - n >= from && fits_at(t, old, n, t->n - n, care))
            return t->n - n;
    for (enum care care = CARE_EXACT; care < CARE_N; care++) {
        size_t at = find_from(t, old, n, from, care);
        if (at != NOWHERE)
            return at;
    }
    return NOWHERE;
}

/* ---- placing a hunk ---- */

static bool overlaps(const struct fit *f, size_t at, size_t n)
{
    size_t last = n ? at + n : at + 1; /* lines that only come in may not come into what goes */
    for (size_t i = 0; i < f->places_n; i++)
        if (at < f->places[i].at + f->places[i].n && f->places[i].at < last)
            return true;
    return false;
}

static void place(struct fit *f, const struct patch_hunk *h, size_t at, size_t n, size_t skipped)
{
    f->places = mem_realloc(f->places, (f->places_n + 1) * sizeof *f->places);
    size_t i = f->places_n++;
    for (; i > 0 && f->places[i - 1].at > at; i--)
        f->places[i] = f->places[i - 1];
    f->places[i] = (struct place){.hunk = h, .at = at, .n = n, .skipped = skipped};
    f->cursor = at + n;
}

static void take_old(struct fit *f, const struct patch_hunk *h)
{
    f->old = mem_realloc(f->old, (h->lines_n + 1) * sizeof *f->old);
    f->old_n = 0;
    for (size_t i = 0; i < h->lines_n; i++)
        if (h->lines[i].sign != '+')
            f->old[f->old_n++] = h->lines[i].text;
}

/* An anchor names a line above: as a whole, or a part of it. */
static size_t find_anchor(const struct text *t, struct str anchor, size_t from)
{
    size_t at = find(t, &anchor, 1, from, false);
    struct str part = trim(anchor);
    for (size_t i = from; at == NOWHERE && i < t->n; i++)
        if (memmem(t->lines[i].text.p, t->lines[i].text.n, part.p, part.n))
            at = i;
    return at;
}

/* The one place where the old lines are, or NOWHERE if there are several. */
static size_t find_only(const struct fit *f, size_t n)
{
    size_t at = find(&f->file, f->old, n, 0, false);
    if (at == NOWHERE || overlaps(f, at, n))
        return NOWHERE;
    for (enum care care = CARE_EXACT; care < CARE_N; care++) {
        size_t first = find_from(&f->file, f->old, n, 0, care);
        if (first != NOWHERE)
            return find_from(&f->file, f->old, n, first + 1, care) == NOWHERE ? first : NOWHERE;
    }
    return NOWHERE;
}

/* Behind the anchors, else in the only place that there is. Blank lines at the hunk's end are often not in the file. */
static bool place_old(struct fit *f, const struct patch_hunk *h, size_t from)
{
    size_t n = f->old_n;
    for (;;) {
        size_t at = from == NOWHERE ? NOWHERE : find(&f->file, f->old, n, from, h->at_end);
        if (at != NOWHERE && overlaps(f, at, n))
            at = NOWHERE;
        if (at == NOWHERE)
            at = find_only(f, n);
        if (at != NOWHERE) {
            place(f, h, at, n, f->old_n - n);
            return true;
        }
        const struct patch_line *last = &h->lines[h->lines_n - 1 - (f->old_n - n)];
        if (n < 2 || last->sign == '+' || trim(last->text).n)
            return false;
        n--;
    }
}

static bool place_hunk(struct fit *f, const struct patch_hunk *h, struct str *ret_anchor)
{
    take_old(f, h);
    size_t from = f->cursor;
    *ret_anchor = STR_NONE;
    for (size_t i = 0; i < h->anchors_n && from != NOWHERE; i++) {
        size_t at = find_anchor(&f->file, h->anchors[i], from);
        if (at == NOWHERE)
            *ret_anchor = h->anchors[i];
        from = at == NOWHERE ? NOWHERE : at + 1;
    }
    if (f->old_n > 0) {
        /* A first context line that repeats the anchor: look from the anchor itself. */
        if (from != NOWHERE && h->anchors_n && from > f->cursor && alike(f->file.lines[from - 1].text, f->old[0], CARE_PUNCTUATION) &&
            find(&f->file, f->old, f->old_n, from - 1, h->at_end) == from - 1)
            from--;
        return place_old(f, h, from);
    }
    size_t at = h->anchors_n && !h->at_end ? from : f->file.n;
    if (from == NOWHERE || overlaps(f, at, 0))
        return false;
    place(f, h, at, 0, 0);
    return true;
}

/* ---- why it does not fit ---- */

#define SHOWN_LINES_MAX 12
#define COMPARED_LINES_MAX 40

static void put_shown(struct buf *b, const char *mark, struct str s)
{
    buf_printf(b, "\n  %s", mark);
    buf_put(b, s.p, s.n < 200 ? s.n : 200);
}

/* The place with the most lines in common. */
static size_t nearest(const struct fit *f, size_t *ret_same)
{
    size_t best = NOWHERE, best_same = 0;
    size_t n = f->old_n < COMPARED_LINES_MAX ? f->old_n : COMPARED_LINES_MAX;
    for (size_t at = 0; at < f->file.n; at++) {
        size_t same = 0;
        for (size_t i = 0; i < n && at + i < f->file.n; i++)
            same += trim(f->old[i]).n && alike(f->file.lines[at + i].text, f->old[i], CARE_BLANKS);
        if (same > best_same) {
            best_same = same;
            best = at;
        }
    }
    *ret_same = best_same;
    return best;
}

static void explain_nearest(const struct fit *f, struct buf *error)
{
    size_t same;
    size_t at = nearest(f, &same);
    if (at == NOWHERE) {
        buf_puts(error, "\nNone of these lines is in the file.");
        return;
    }
    size_t i = 0;
    while (i < f->old_n && at + i < f->file.n && alike(f->file.lines[at + i].text, f->old[i], CARE_PUNCTUATION))
        i++;
    buf_printf(error, "\nThe nearest place is at line %zu (%zu of %zu lines alike)", at + 1, same, f->old_n);
    if (i == f->old_n) {
        buf_puts(error, ", which another hunk has changed already or which lies above one; put the hunks in the file's order.");
        return;
    }
    buf_printf(error, "; line %zu differs:", at + i + 1);
    put_shown(error, "the patch has: ", f->old[i]);
    put_shown(error, "the file has:  ", at + i < f->file.n ? f->file.lines[at + i].text : STR("(its end)"));
}

static void explain(const struct fit *f, const struct patch_op *op, size_t number, struct str anchor, struct buf *error)
{
    buf_str(error, op->path);
    buf_printf(error, ": hunk %zu of %zu (line %zu of the patch) does not fit.", number + 1, op->hunks_n,
               op->hunks[number].number);
    if (anchor.p) {
        buf_puts(error, " The line after @@ is not in the file behind the hunk before:");
        put_shown(error, "@@ ", anchor);
    }
    if (f->old_n == 0)
        return;
    buf_puts(error, anchor.p ? "\nIt is to replace:" : " It expects these lines:");
    for (size_t i = 0; i < f->old_n && i < SHOWN_LINES_MAX; i++)
        put_shown(error, "| ", f->old[i]);
    if (f->old_n > SHOWN_LINES_MAX)
        buf_printf(error, "\n  ... and %zu more", f->old_n - SHOWN_LINES_MAX);
    explain_nearest(f, error);
    buf_puts(error, "\nRead the file again and send a patch with its lines as they are now.");
}

/* ---- the new text ---- */

static void put_line(struct buf *b, struct str bytes, const char *eol, bool whole)
{
    if (b->n && b->p[b->n - 1] != '\n')
        buf_puts(b, eol);
    buf_str(b, bytes);
    if (!whole)
        buf_puts(b, eol);
}

static void put_kept(struct buf *b, const struct text *t, size_t i)
{
    put_line(b, str_n(t->lines[i].text.p, t->lines[i].size), t->eol, true);
}

static void put_place(struct buf *b, const struct text *t, const struct place *p)
{
    size_t at = p->at;
    for (size_t i = 0; i < p->hunk->lines_n - p->skipped; i++) {
        const struct patch_line *l = &p->hunk->lines[i];
        if (l->sign == ' ')
            put_kept(b, t, at++);
        else if (l->sign == '-')
            at++;
        else {
            struct str text = l->text;
            if (t->eol[0] == '\r' && text.n && text.p[text.n - 1] == '\r')
                text.n--;
            put_line(b, text, t->eol, false);
        }
    }
}

static void put_all(struct buf *b, const struct fit *f)
{
    size_t at = 0;
    for (size_t i = 0; i < f->places_n; i++) {
        while (at < f->places[i].at)
            put_kept(b, &f->file, at++);
        put_place(b, &f->file, &f->places[i]);
        at = f->places[i].at + f->places[i].n;
    }
    while (at < f->file.n)
        put_kept(b, &f->file, at++);
}

int patch_fit(struct str content, const struct patch_op *op, struct buf *ret, struct buf *error)
{
    struct fit f = {.file = split(content)};
    int result = 0;
    for (size_t i = 0; i < op->hunks_n && result == 0; i++) {
        struct str anchor;
        if (!place_hunk(&f, &op->hunks[i], &anchor)) {
            explain(&f, op, i, anchor, error);
            result = -1;
        }
    }
    buf_reserve(ret, content.n);
    if (result == 0)
        put_all(ret, &f);
    mem_free(f.file.lines);
    mem_free(f.places);
    mem_free(f.old);
    return result;
}
