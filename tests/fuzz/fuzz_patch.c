/* Patches: any text is read or refused with a sentence, each hunk fits or does not, the same each time; and a
 * patch that takes all lines of one text and gives those of another does just that. No file is touched.
 * Input, separated by 0x1e: the content of a file, the patch. */
#include "fuzz.h"

#include "daemon/base/mem.h"
#include "daemon/runner/patch.h"

static void check_op(struct str content, const struct patch_op *op)
{
    CLEANUP(buf_free) struct buf first = {0}, second = {0}, error = {0}, other = {0};
    HOLDS(op->path.n > 0 && !memchr(op->path.p, 0, op->path.n));
    if (op->verb != PATCH_UPDATE)
        return;
    int fits = patch_fit(content, op, &first, &error);
    HOLDS((fits < 0) == (error.n > 0));
    HOLDS(patch_fit(content, op, &second, &other) == fits);
    HOLDS(str_eq(buf_view(&first), buf_view(&second)) && str_eq(buf_view(&error), buf_view(&other)));
}

static void check_any(struct str content, struct str text)
{
    CLEANUP(buf_free) struct buf error = {0};
    CLEANUP(patch_free) struct patch patch = {0};
    int read = patch_parse(text, &patch, &error);
    HOLDS((read < 0) == (error.n > 0));
    HOLDS(read < 0 || (patch.ops_n > 0 && patch.ops_n <= PATCH_OPS_MAX));
    for (size_t i = 0; read == 0 && i < patch.ops_n; i++)
        check_op(content, &patch.ops[i]);
}

static size_t put_lines(struct buf *b, char sign, struct str text, struct buf *plain)
{
    size_t n = 0;
    while (text.n) {
        struct str line = fuzz_line(&text);
        buf_putc(b, sign);
        buf_str(b, line);
        buf_putc(b, '\n');
        buf_str(plain, line);
        buf_putc(plain, '\n');
        n++;
    }
    return n;
}

static void check_replaced(struct str from, struct str to)
{
    CLEANUP(buf_free) struct buf text = {0}, old = {0}, wanted = {0}, got = {0}, error = {0};
    CLEANUP(patch_free) struct patch patch = {0};
    buf_puts(&text, "*** Begin Patch\n*** Update File: f\n@@\n");
    if (put_lines(&text, '-', from, &old) + put_lines(&text, '+', to, &wanted) == 0)
        return;
    buf_puts(&text, "*** End Patch\n");
    HOLDS(patch_parse(buf_view(&text), &patch, &error) == 0);
    HOLDS(patch.ops_n == 1 && patch.ops[0].hunks_n == 1);
    HOLDS(patch_fit(from, &patch.ops[0], &got, &error) == 0);
    HOLDS(str_eq(buf_view(&got), buf_view(&wanted)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = fuzz_input(data, size);
    struct str content = fuzz_field(&in);
    check_any(content, in);
    /* CR LF is taken for one line end, so texts with CRs do not come back as they were. */
    if (!memchr(data ? (const void *)data : "", '\r', size))
        check_replaced(content, in);
    return 0;
}
