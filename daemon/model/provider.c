#include "daemon/model/provider.h"

#include "daemon/base/json.h"

#include <sodium.h>

const struct provider *provider_find(struct str wire)
{
    static const struct provider *const all[] = {&provider_responses, &provider_chat};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (str_eqz(wire, all[i]->wire))
            return all[i];
    return NULL;
}

void provider_put_data_url(struct buf *b, struct str media_type, struct str bytes)
{
    size_t size = sodium_base64_ENCODED_LEN(bytes.n, sodium_base64_VARIANT_ORIGINAL);
    buf_puts(b, "\"data:");
    json_put_escaped(b, media_type);
    buf_puts(b, ";base64,");
    char *to = buf_reserve(b, size);
    sodium_bin2base64(to, size, (const unsigned char *)bytes.p, bytes.n, sodium_base64_VARIANT_ORIGINAL);
    b->n += size - 1; /* the size counts the NUL */
    buf_putc(b, '"');
}

void provider_put_call_id(struct buf *b)
{
    unsigned char random[12];
    char hex[2 * sizeof random + 1];
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(hex, sizeof hex, random, sizeof random);
    buf_puts(b, "call_");
    buf_puts(b, hex);
}
