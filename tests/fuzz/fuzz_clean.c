/* Raw output of a program as text for the model: valid UTF-8 without NUL or CR, done once is done. Input:
 * where the first piece ends, the bytes. */
#include "fuzz.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"
#include "daemon/tools/clean.h"

static void check_text(struct str s)
{
    HOLDS(utf8_valid(s) && !memchr(s.p, 0, s.n) && !memchr(s.p, '\r', s.n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(buf_free) struct buf whole = {0}, again = {0}, piece = {0};
    struct str in = fuzz_input(data, size);
    size_t n = fuzz_byte(&in);
    HOLDS(clean_put(&whole, in, false) == in.n);
    check_text(buf_view(&whole));
    HOLDS(whole.n <= 3 * in.n);
    HOLDS(clean_put(&again, buf_view(&whole), false) == whole.n);
    HOLDS(str_eq(buf_view(&whole), buf_view(&again)));
    if (n > in.n)
        n = in.n;
    size_t used = clean_put(&piece, str_n(in.p, n), true);
    HOLDS(used <= n && used + 3 >= n);
    check_text(buf_view(&piece));
    return 0;
}
