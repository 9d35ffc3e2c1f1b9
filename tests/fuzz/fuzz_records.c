/* The small files of a run: any bytes are refused or read, and what was read is written and read as the same.
 * Input: the bytes of a spec, a start mark or an exit record; for the last both as they are and with a good
 * checksum behind them. */
#include "fuzz.h"

#include "daemon/base/mem.h"
#include "daemon/base/pack.h"
#include "daemon/runner/record.h"

/* CRC-32 as in ISO 3309, to get behind it. */
static uint32_t checksum(struct str s)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < s.n; i++) {
        crc ^= (unsigned char)s.p[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void check_env(struct str env)
{
    struct pack_field f;
    while (pack_next(&env, &f) > 0)
        HOLDS(f.name.p);
}

static void check_spec(struct str in)
{
    CLEANUP(buf_free) struct buf first = {0}, second = {0};
    struct run_spec spec;
    if (run_spec_get(in, &spec) < 0)
        return;
    check_env(spec.env);
    run_spec_put(&first, &spec);
    HOLDS(run_spec_get(buf_view(&first), &spec) == 0);
    run_spec_put(&second, &spec);
    HOLDS(str_eq(buf_view(&first), buf_view(&second)));
}

static void check_mark(struct str in)
{
    CLEANUP(buf_free) struct buf first = {0}, second = {0};
    struct run_mark mark;
    if (run_mark_get(in, &mark) < 0)
        return;
    run_mark_put(&first, &mark);
    HOLDS(run_mark_get(buf_view(&first), &mark) == 0);
    run_mark_put(&second, &mark);
    HOLDS(str_eq(buf_view(&first), buf_view(&second)));
}

static void check_record(struct str in)
{
    CLEANUP(buf_free) struct buf first = {0}, second = {0};
    struct run_record record;
    if (run_record_get(in, &record) < 0 || record.end == 0) /* nobody writes one that says nothing */
        return;
    run_record_put(&first, &record);
    HOLDS(run_record_get(buf_view(&first), &record) == 0);
    run_record_put(&second, &record);
    HOLDS(str_eq(buf_view(&first), buf_view(&second)));
    /* Half written is damaged. */
    HOLDS(run_record_get(str_n(first.p, first.n - 1), &record) < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(buf_free) struct buf good = {0};
    struct str in = fuzz_input(data, size);
    check_spec(in);
    check_mark(in);
    check_record(in);
    buf_str(&good, in);
    uint32_t crc = checksum(in);
    buf_put(&good, &crc, sizeof crc);
    check_record(buf_view(&good));
    return 0;
}
