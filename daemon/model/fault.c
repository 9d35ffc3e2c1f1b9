#include "daemon/model/fault.h"

#include "daemon/base/utf8.h"
#include "daemon/model/wire.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define RETRY_AFTER_MS_MAX ((int64_t)31 * 24 * 3600 * 1000)

/* One line of clean text, whatever a server sent. */
static void put_clean(struct buf *b, struct str text)
{
    struct buf valid = {0};
    utf8_put_valid(&valid, str_n(text.p, text.n < 4 * FAULT_MESSAGE_MAX ? text.n : 4 * FAULT_MESSAGE_MAX),
                   false);
    struct str s = buf_view(&valid);
    bool cut = s.n > FAULT_MESSAGE_MAX;
    s.n = utf8_floor(s, cut ? FAULT_MESSAGE_MAX : s.n);
    for (size_t i = 0; i < s.n; i++) {
        bool control = (unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f;
        if (!control)
            buf_putc(b, s.p[i]);
        else if (b->n > 0 && b->p[b->n - 1] != ' ')
            buf_putc(b, ' ');
    }
    if (cut)
        buf_puts(b, "...");
    buf_free(&valid);
}

void fault_set(struct fault *f, enum model_fault kind, const char *format, ...)
{
    char text[2 * FAULT_MESSAGE_MAX];
    if (f->set)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    f->set = true;
    f->kind = kind;
    buf_clear(&f->message);
    put_clean(&f->message, str_of(text));
}

void fault_free(struct fault *f)
{
    buf_free(&f->message);
}

/* The factor of a unit's name, 0 if it is none. */
static double unit_factor(struct str unit)
{
    static const struct {
        const char *name;
        double ms;
    } units[] = {{"milliseconds", 1}, {"millisecond", 1}, {"msec", 1},     {"ms", 1},      {"seconds", 1e3},
                 {"second", 1e3},     {"secs", 1e3},      {"sec", 1e3},    {"s", 1e3},     {"minutes", 6e4},
                 {"minute", 6e4},     {"mins", 6e4},      {"min", 6e4},    {"m", 6e4},     {"hours", 36e5},
                 {"hour", 36e5},      {"h", 36e5},        {"days", 864e5}, {"day", 864e5}, {"d", 864e5}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (unit.n == strlen(units[i].name) && strncasecmp(unit.p, units[i].name, unit.n) == 0)
            return units[i].ms;
    return 0;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Reads "12.5" at *i without strtod(), which would follow the locale and take "1e9", "inf" and "0x". */
static double read_number(struct str s, size_t *i)
{
    double value = 0, scale = 1;
    bool fraction = false;
    for (; *i < s.n; (*i)++) {
        char c = s.p[*i];
        if (c == '.' && !fraction && *i + 1 < s.n && is_digit(s.p[*i + 1])) {
            fraction = true;
            continue;
        }
        if (!is_digit(c))
            break;
        value = value * 10 + (c - '0');
        scale *= fraction ? 10 : 1;
    }
    return value / scale;
}

int64_t fault_duration_ms(struct str s, int64_t unit_ms)
{
    double total = 0;
    size_t i = 0;
    while (i < s.n && is_digit(s.p[i])) {
        double value = read_number(s, &i);
        size_t space = i;
        while (space < s.n && s.p[space] == ' ')
            space++;
        size_t end = space;
        while (end < s.n && isalpha((unsigned char)s.p[end]))
            end++;
        double factor = unit_factor(str_n(s.p + space, end - space));
        if (factor <= 0) {
            if (total <= 0)
                total = value * (double)unit_ms;
            break;
        }
        total += value * factor;
        i = end;
    }
    return total < (double)RETRY_AFTER_MS_MAX ? (int64_t)total : RETRY_AFTER_MS_MAX;
}

/* "Rate limit reached ... Please try again in 6.2s." */
static int64_t hint_in_message(struct str message)
{
    static const char words[] = "try again in ";
    const char *found = memmem(message.p, message.n, words, sizeof words - 1);
    if (!found)
        return 0;
    found += sizeof words - 1;
    return fault_duration_ms(str_n(found, message.n - (size_t)(found - message.p)), 1000);
}

static bool has_word(struct str code, const char *const *words)
{
    for (; *words; words++)
        if (memmem(code.p, code.n, *words, strlen(*words)))
            return true;
    return false;
}

/* What the provider's own name for an error means; `otherwise` if it is not known. Order matters: more
 * telling ones first. */
static enum model_fault kind_of_code(struct str code, enum model_fault otherwise)
{
    static const char *const limit[] = {
        "rate_limit", "insufficient_quota", "usage_limit", "quota", "too_many_requests", "429", NULL};
    static const char *const key[] = {"invalid_api_key", "authentication", "permission", "401", "403", NULL};
    static const char *const request[] = {"context_length",
                                          "exceed_context_size",
                                          "invalid_",
                                          "unsupported_",
                                          "image_",
                                          "policy",
                                          "not_found",
                                          "data_residency",
                                          "400",
                                          "404",
                                          "413",
                                          "422",
                                          NULL};
    if (!code.p || code.n == 0)
        return otherwise;
    if (has_word(code, limit))
        return MODEL_FAULT_RATE_LIMIT;
    if (has_word(code, key))
        return MODEL_FAULT_CREDENTIALS;
    return has_word(code, request) ? MODEL_FAULT_REQUEST : otherwise;
}

/* The object that holds message and code: {"error": {...}} or the object itself; some gateways wrap it in an
 * array. */
static struct str error_object(struct str json)
{
    size_t state = 0;
    struct str element;
    if (wire_each(json, &state, &element))
        json = element;
    struct str inner = json_find(json, "error");
    return inner.n > 0 && inner.p[0] == '{' ? inner : json;
}

static struct str error_message(struct str error)
{
    static const char *const names[] = {"message", "error", "detail", NULL};
    for (size_t i = 0; names[i]; i++) {
        struct str value = json_find(error, names[i]);
        if (wire_inside(value).n > 0)
            return value;
    }
    return STR_NONE;
}

static int64_t error_retry_ms(struct str error, struct str message)
{
    int64_t seconds = wire_int(json_find(error, "resets_in_seconds"), 0);
    if (seconds > 0)
        return seconds < RETRY_AFTER_MS_MAX / 1000 ? seconds * 1000 : RETRY_AFTER_MS_MAX;
    return hint_in_message(message);
}

/* Codes are strings, or (OpenRouter, llama.cpp) numbers: the raw value serves both. */
static enum model_fault error_kind(struct str error, enum model_fault otherwise)
{
    enum model_fault kind = kind_of_code(json_find(error, "code"), otherwise);
    return kind != otherwise ? kind : kind_of_code(json_find(error, "type"), otherwise);
}

void fault_set_error(struct fault *f, enum model_fault otherwise, struct str json)
{
    struct buf message = {0};
    struct str error = error_object(json);
    wire_put_string(&message, error_message(error));
    struct buf code = {0};
    wire_put_string(&code, json_find(error, "code"));
    if (!f->set) {
        if (message.n > 0 && code.n > 0)
            fault_set(f, error_kind(error, otherwise), "the provider says: %s (%s)", buf_cstr(&message),
                      buf_cstr(&code));
        else
            fault_set(f, error_kind(error, otherwise), "the provider says: %s",
                      message.n > 0 ? buf_cstr(&message) : "an error without a message");
        f->retry_after_ms = error_retry_ms(error, buf_view(&message));
    }
    buf_free(&message);
    buf_free(&code);
}

static enum model_fault kind_of_status(long status)
{
    switch (status) {
    case 401:
    case 403:
        return MODEL_FAULT_CREDENTIALS;
    case 402: /* credit is used up: like a quota, it comes back */
    case 429:
        return MODEL_FAULT_RATE_LIMIT;
    case 408:
    case 409:
    case 425:
        return MODEL_FAULT_SERVER;
    default:
        return status >= 500 ? MODEL_FAULT_SERVER : MODEL_FAULT_REQUEST;
    }
}

void fault_set_status(struct fault *f, long status, struct str body, size_t depth_max)
{
    struct buf message = {0};
    if (f->set)
        return;
    if (wire_json_valid(body, depth_max)) {
        struct str error = error_object(body);
        wire_put_string(&message, error_message(error));
        f->retry_after_ms = error_retry_ms(error, buf_view(&message));
    } else if (body.n > 0 && body.p[0] != '<') { /* a page of HTML tells nobody anything */
        buf_str(&message, str_n(body.p, body.n < FAULT_MESSAGE_MAX ? body.n : FAULT_MESSAGE_MAX));
    }
    if (status >= 300 && status < 400)
        fault_set(f, MODEL_FAULT_REQUEST,
                  "HTTP %ld: the provider redirects, which is not followed; set base_url to where it leads",
                  status);
    else
        fault_set(f, kind_of_status(status), "HTTP %ld%s%s", status, message.n > 0 ? ": " : "",
                  buf_cstr(&message));
    buf_free(&message);
}
