#include "wire.h"

#include "daemon/base/json.h"

const struct wire *wire_at(size_t i)
{
    static const struct wire *const wires[] = {&wire_responses, &wire_chat};
    return i < sizeof wires / sizeof *wires ? wires[i] : NULL;
}

static const char *error_type(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 429:
        return "rate_limit_error";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

void wire_put_error(struct reply *reply, int status, const char *code, struct str message)
{
    reply->status = status;
    reply->content_type = "application/json";
    buf_clear(&reply->body);
    buf_puts(&reply->body, "{\"error\":{\"message\":");
    json_put_string(&reply->body, message);
    buf_printf(&reply->body, ",\"type\":\"%s\",\"param\":null,\"code\":", error_type(status));
    if (code)
        json_put_string(&reply->body, str_of(code));
    else
        buf_puts(&reply->body, "null");
    buf_puts(&reply->body, "}}\n");
}

void wire_put_id(struct buf *b, const char *prefix, const struct request *r, const struct answer *a, size_t i)
{
    buf_printf(b, "\"%s_%016llx%04llx%02zx\"", prefix, (unsigned long long)r->conversation,
               (unsigned long long)a->step, i);
}
