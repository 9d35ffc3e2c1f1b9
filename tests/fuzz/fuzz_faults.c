/* What a provider says when it refuses: a status, a body and headers become a sentence on one line and a
 * bounded wait. Input, separated by 0x1e: the status (two bytes) and the body, then headers: `name: value`.
 */
#include "fuzz.h"

#include "daemon/base/mem.h"
#include "daemon/model/fault.h"
#include "daemon/model/hint.h"
#include "daemon/model/wire.h"

#define WAIT_MS_MAX (366 * 86400000LL * 4000)

static void check_hints(struct str in)
{
    struct hint hint = {0};
    while (in.n) {
        struct str header = fuzz_field(&in);
        const char *colon = header.n ? memchr(header.p, ':', header.n) : NULL;
        size_t n = colon ? (size_t)(colon - header.p) : header.n;
        hint_header(&hint, str_n(header.p, n), colon ? str_n(colon + 1, header.n - n - 1) : STR(""),
                    1780000000000);
    }
    int64_t ms = hint_retry_after_ms(&hint);
    HOLDS(ms >= 0 && ms < WAIT_MS_MAX);
}

static void check_fault(struct fault *f)
{
    HOLDS(f->set && f->message.n > 0 && fuzz_one_line(buf_view(&f->message)));
    HOLDS(f->message.n < FAULT_MESSAGE_MAX + 8);
    HOLDS(f->retry_after_ms >= 0 && f->retry_after_ms < WAIT_MS_MAX);
    fault_free(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str in = fuzz_input(data, size);
    unsigned high = fuzz_byte(&in), status = high << 8 | fuzz_byte(&in);
    struct str body = fuzz_field(&in);
    struct fault of_status = {0}, of_stream = {0};
    fault_set_status(&of_status, (long)status, body, 64);
    check_fault(&of_status);
    if (wire_json_valid(body, 64)) {
        fault_set_error(&of_stream, MODEL_FAULT_SERVER, body);
        check_fault(&of_stream);
    }
    check_hints(in);
    return 0;
}
