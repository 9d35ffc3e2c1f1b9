#include "parts.h"

#include "daemon/base/mem.h"

static bool host_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_';
}

static size_t skip_bracketed(const char *p) /* RFC 3986, section 3.2.2: an IPv6 address stands in brackets */
{
    size_t n = strspn(p + 1, "0123456789abcdefABCDEF:.");
    return n > 1 && p[n + 1] == ']' ? n + 2 : 0;
}

/* `host` or `host:port`, up to the path or the end. Returns its length, 0 if it is none. */
static size_t authority(const char *p)
{
    size_t n = 0;
    if (*p == '[')
        n = skip_bracketed(p);
    else
        while (host_char(p[n]))
            n++;
    if (n > 0 && p[n] == ':') {
        size_t digits = strspn(p + n + 1, "0123456789");
        int64_t port = 0;
        for (size_t i = 0; i < digits && port <= 65535; i++)
            port = port * 10 + (p[n + 1 + i] - '0');
        if (port < 1 || port > 65535)
            return 0;
        n += 1 + digits;
    }
    return p[n] == '/' || p[n] == 0 ? n : 0;
}

static const char *url_fault(const char *text)
{
    for (const char *c = text; *c; c++) {
        if (*c <= 0x20 || *c == 0x7f || (unsigned char)*c >= 0x80)
            return "a URL holds no blanks and no characters beyond ASCII";
    }
    size_t scheme = strncmp(text, "http://", 7) == 0 ? 7 : strncmp(text, "https://", 8) == 0 ? 8 : 0;
    if (!scheme)
        return "a base URL begins with https:// or http://, such as https://api.example.com/v1";
    const char *rest = text + scheme;
    if (memchr(rest, '@', strcspn(rest, "/?#")))
        return "a base URL holds no user name or password; name the key under `key:` as env:NAME or "
               "file:PATH";
    if (strpbrk(rest, "?#"))
        return "a base URL ends with its path; remove what begins at `?` or `#`";
    if (!authority(rest))
        return "a base URL needs a host, and a port from 1 to 65535 if one is given, such as "
               "http://127.0.0.1:8080/v1";
    return NULL;
}

char *config_base_url(const char *text, struct buf *error)
{
    const char *fault = url_fault(text);
    if (fault) {
        buf_puts(error, fault);
        return NULL;
    }
    size_t n = strlen(text);
    while (text[n - 1] == '/')
        n--;
    return mem_dup(text, n);
}
