/* What agentctl shows of other people's text: whatever it is, a terminal only ever shows it. Input: a width,
 * the bytes. */
#include "fuzz.h"

#include "client/text.h"
#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"

/* Characters that reorder what stands around them: U+061C, U+200E, U+200F, U+202A..E, U+2066..9; U+2028 and
 * U+2029 end lines. */
static bool reorders(struct str s)
{
    for (size_t i = 0; i + 1 < s.n; i++) {
        const unsigned char *p = (const unsigned char *)s.p + i;
        if (p[0] == 0xd8 && p[1] == 0x9c)
            return true;
        if (i + 2 >= s.n || p[0] != 0xe2)
            continue;
        if ((p[1] == 0x80 && (p[2] == 0x8e || p[2] == 0x8f || (p[2] >= 0xa8 && p[2] <= 0xae))) ||
            (p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9))
            return true;
    }
    return false;
}

static void check_lines(struct str in)
{
    struct str line;
    while (text_next_line(&in, &line))
        HOLDS(!memchr(line.n ? line.p : "", '\n', line.n) && !memchr(line.n ? line.p : "", '\r', line.n));
}

static void check_json(struct str text)
{
    CLEANUP(buf_free) struct buf json = {0};
    text_put_json(&json, text);
    for (size_t i = 0; i < json.n; i++)
        HOLDS(json.p[i] != 0x7f);
    HOLDS(utf8_valid(buf_view(&json)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(buf_free) struct buf safe = {0}, again = {0}, line = {0}, valid = {0};
    struct str in = fuzz_input(data, size);
    size_t columns = fuzz_byte(&in);
    text_put_safe(&safe, in);
    HOLDS(fuzz_shows(buf_view(&safe), true) && !reorders(buf_view(&safe)));
    text_put_safe(&again, buf_view(&safe));
    HOLDS(str_eq(buf_view(&safe), buf_view(&again)));
    text_put_line(&line, in, columns);
    HOLDS(fuzz_shows(buf_view(&line), false) && !memchr(buf_cstr(&line), '\t', line.n));
    HOLDS(columns < 3 || text_columns(buf_view(&line)) <= columns);
    check_lines(in);
    check_json(fuzz_utf8(&valid, in));
    return 0;
}
