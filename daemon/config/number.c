#include "parts.h"

#define PRICE_MAX 1000000 /* USD per million tokens: one dollar a token */

int config_whole(const char *text, int64_t *ret)
{
    if (text[0] == '0' && text[1]) /* 010 is eight to some readers of YAML and ten to others */
        return -1;
    int64_t v = 0;
    size_t n = 0;
    for (; text[n] >= '0' && text[n] <= '9'; n++) {
        if (n == 18)
            return -1;
        v = v * 10 + (text[n] - '0');
    }
    if (n == 0 || text[n])
        return -1;
    *ret = v;
    return 0;
}

/* Up to three decimals as thousandths; those behind must be zeros. Returns what stands behind them. */
static const char *read_thousandths(const char *p, int64_t *ret)
{
    int64_t v = 0;
    for (int i = 0; i < 3; i++) {
        bool digit = *p >= '0' && *p <= '9';
        v = v * 10 + (digit ? *p - '0' : 0);
        p += digit;
    }
    while (*p == '0')
        p++;
    *ret = v;
    return p;
}

/* A USD per million tokens is 1000 nano-USD per token, so three decimals are all that can be kept exactly. */
int config_price(const char *text, int64_t *ret, struct buf *error)
{
    int64_t whole = 0, thousandths = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9' && whole <= PRICE_MAX; p++)
        whole = whole * 10 + (*p - '0');
    bool any = p > text;
    if (any && *p == '.' && p[1] >= '0' && p[1] <= '9')
        p = read_thousandths(p + 1, &thousandths);
    if (any && *p >= '1' && *p <= '9' && whole <= PRICE_MAX) {
        buf_puts(error, "a price has at most three decimals (USD per million tokens); round it up");
        return -1;
    }
    if (!any || *p || whole > PRICE_MAX || whole * 1000 + thousandths > PRICE_MAX * INT64_C(1000)) {
        buf_printf(error, "a price is a number of USD per million tokens from 0 to %d, such as 1.75",
                   PRICE_MAX);
        return -1;
    }
    *ret = whole * 1000 + thousandths;
    return 0;
}
