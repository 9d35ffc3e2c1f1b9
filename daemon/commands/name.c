#include "name.h"

#define NAME_BYTES_MAX 64
#define SLUG_BYTES_MAX 32

static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool name_valid(struct str name)
{
    if (name.n == 0 || name.n > NAME_BYTES_MAX || name.p[0] == '-' || name.p[0] == '.')
        return false;
    for (size_t i = 0; i < name.n; i++) {
        if (!is_letter_or_digit(name.p[i]) && !strchr("-_.", name.p[i]))
            return false;
    }
    return memchr(name.p, 0, name.n) == NULL;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Takes the next word; a letter beyond ASCII is left out but does not end it ("café" -> "caf"), an apostrophe
 * too. */
static bool next_word(struct str *text, char *word, size_t *ret_n)
{
    size_t i = 0, n = 0;
    while (i < text->n && !is_letter_or_digit(text->p[i]))
        i++;
    for (; i < text->n; i++) {
        char c = text->p[i];
        if (!is_letter_or_digit(c) && !((unsigned char)c & 0x80) && c != '\'')
            break;
        if (is_letter_or_digit(c) && n < SLUG_BYTES_MAX)
            word[n++] = lower(c);
    }
    *text = str_n(text->p + i, text->n - i);
    *ret_n = n;
    return n > 0;
}

void name_from_prompt(struct str prompt, struct buf *ret)
{
    char word[SLUG_BYTES_MAX];
    size_t n;
    buf_clear(ret);
    while (next_word(&prompt, word, &n)) {
        if (ret->n && ret->n + 1 + n > SLUG_BYTES_MAX)
            break;
        if (ret->n)
            buf_putc(ret, '-');
        buf_put(ret, word, n);
    }
    if (ret->n == 0)
        buf_puts(ret, "task");
}
