/* UTF-8: what is valid is what jansson takes for it; replacing makes any bytes valid, changes nothing that
 * was, and does not care where a stream is cut. Input: where to cut, the bytes. */
#include <jansson.h>

#include "fuzz.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"

static void check_floor(struct str s, size_t n)
{
    size_t at = utf8_floor(s, n);
    HOLDS(at <= n && at + 4 > (n < s.n ? n : s.n));
    HOLDS(utf8_valid(str_n(s.p, at)) && utf8_valid(str_n(s.p + at, s.n - at)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = fuzz_input(data, size);
    size_t cut = fuzz_byte(&in);
    CLEANUP(buf_free) struct buf whole = {0}, pieces = {0};
    json_t *string = json_stringn(in.p, in.n);
    HOLDS(utf8_valid(in) == (string != NULL));
    json_decref(string);
    HOLDS(utf8_put_valid(&whole, in, false) == in.n);
    HOLDS(utf8_valid(buf_view(&whole)));
    HOLDS(!utf8_valid(in) || str_eq(in, buf_view(&whole)));
    size_t used = utf8_put_valid(&pieces, str_n(in.p, cut < in.n ? cut : in.n), true);
    HOLDS(used <= in.n && used + 3 >= (cut < in.n ? cut : in.n));
    utf8_put_valid(&pieces, str_n(in.p + used, in.n - used), false);
    HOLDS(str_eq(buf_view(&whole), buf_view(&pieces)));
    check_floor(buf_view(&whole), cut);
    return 0;
}
