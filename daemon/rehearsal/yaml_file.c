#include "yaml_file.h"

#include "daemon/base/json.h"
#include "daemon/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

size_t yaml_line(const yaml_node_t *node)
{
    return node->start_mark.line + 1;
}

int yaml_complain(struct yaml_file *f, const yaml_node_t *at, const char *format, ...)
{
    if (f->error->n > 0)
        return -1;
    char text[1024];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    buf_printf(f->error, "%s:%zu: %s", f->path, at ? yaml_line(at) : 1, text);
    return -1;
}

static int file_read(const char *path, size_t bytes_max, struct buf *ret, struct buf *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        buf_printf(error, "%s: cannot open it: %s", path, strerror(errno));
        return -1;
    }
    ssize_t n;
    while ((n = read(fd, buf_reserve(ret, 65536), 65536)) > 0 && ret->n <= bytes_max)
        ret->n += (size_t)n;
    int saved = errno;
    close(fd);
    if (n < 0)
        buf_printf(error, "%s: cannot read it: %s", path, strerror(saved));
    else if (ret->n > bytes_max)
        buf_printf(error, "%s: it is larger than %zu bytes", path, bytes_max);
    return error->n > 0 ? -1 : 0;
}

/* JSON is YAML but for one thing: libyaml refuses a character written as two \u escapes (RFC 8259, section
 * 7). They become one \U escape; the lines stay where they were. */
static unsigned long hex4(const char *p)
{
    char digits[5] = {p[0], p[1], p[2], p[3], 0};
    char *end;
    unsigned long v = strtoul(digits, &end, 16);
    return *end ? 0 : v;
}

static void pairs_join(const struct buf *in, struct buf *out)
{
    for (size_t i = 0; i < in->n; i++) {
        const char *p = in->p + i;
        if (*p != '\\' || i + 1 >= in->n) {
            buf_putc(out, *p);
            continue;
        }
        unsigned long high = i + 12 <= in->n && p[1] == 'u' && p[6] == '\\' && p[7] == 'u' ? hex4(p + 2) : 0;
        if (high >= 0xD800 && high < 0xDC00) {
            buf_printf(out, "\\U%08lX", 0x10000 + ((high - 0xD800) << 10) + (hex4(p + 8) - 0xDC00));
            i += 11;
        } else {
            buf_put(out, p, 2);
            i++;
        }
    }
}

static void json_to_yaml(struct buf *text)
{
    if (json_depth(buf_view(text), 512) > 512)
        return;
    json_t *json = json_loadb(buf_cstr(text), text->n, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
    if (!json)
        return;
    json_decref(json);
    struct buf out = {0};
    pairs_join(text, &out);
    buf_free(text);
    *text = out;
}

static int parser_complain(const char *path, const yaml_parser_t *parser, struct buf *error)
{
    size_t line = parser->error == YAML_READER_ERROR ? 1 : parser->problem_mark.line + 1;
    buf_printf(error, "%s:%zu: it is not valid YAML: %s", path, line,
               parser->problem ? parser->problem : "no memory");
    if (parser->error == YAML_READER_ERROR)
        buf_printf(error, " (at byte %zu)", parser->problem_offset);
    return -1;
}

static int document_read(struct yaml_file *f, yaml_parser_t *parser)
{
    if (!yaml_parser_load(parser, &f->document))
        return parser_complain(f->path, parser, f->error);
    yaml_document_t second;
    if (!yaml_parser_load(parser, &second)) {
        yaml_document_delete(&f->document);
        return parser_complain(f->path, parser, f->error);
    }
    yaml_node_t *more = yaml_document_get_root_node(&second);
    if (more)
        yaml_complain(f, more, "there is a second document; a script is one");
    yaml_document_delete(&second);
    if (more)
        yaml_document_delete(&f->document);
    return more ? -1 : 0;
}

int yaml_file_read(struct yaml_file *f, const char *path, size_t bytes_max, struct buf *error)
{
    *f = (struct yaml_file){.path = path, .error = error};
    CLEANUP(buf_free) struct buf text = {0};
    if (file_read(path, bytes_max, &text, error) < 0)
        return -1;
    json_to_yaml(&text);
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        abort();
    yaml_parser_set_input_string(&parser, (const unsigned char *)buf_cstr(&text), text.n);
    int rc = document_read(f, &parser);
    yaml_parser_delete(&parser);
    return rc;
}

void yaml_file_free(struct yaml_file *f)
{
    yaml_document_delete(&f->document);
}

yaml_node_t *yaml_file_root(struct yaml_file *f)
{
    return yaml_document_get_root_node(&f->document);
}

yaml_node_t *yaml_at(struct yaml_file *f, const yaml_node_t *sequence, size_t i)
{
    const yaml_node_item_t *start = sequence->data.sequence.items.start;
    if (start + i >= sequence->data.sequence.items.top)
        return NULL;
    return yaml_document_get_node(&f->document, start[i]);
}

yaml_node_t *yaml_key_at(struct yaml_file *f, const yaml_node_t *mapping, size_t i, yaml_node_t **ret_value)
{
    const yaml_node_pair_t *start = mapping->data.mapping.pairs.start;
    if (start + i >= mapping->data.mapping.pairs.top)
        return NULL;
    *ret_value = yaml_document_get_node(&f->document, start[i].value);
    return yaml_document_get_node(&f->document, start[i].key);
}

struct str yaml_text(const yaml_node_t *scalar)
{
    return str_n((const char *)scalar->data.scalar.value, scalar->data.scalar.length);
}

int yaml_get_text(struct yaml_file *f, const yaml_node_t *node, const char *what, struct str *ret)
{
    if (node->type != YAML_SCALAR_NODE)
        return yaml_complain(f, node, "%s must be a text", what);
    struct str text = yaml_text(node);
    *ret = str_n(mem_dup(text.p, text.n), text.n);
    return 0;
}

int yaml_get_int(struct yaml_file *f, const yaml_node_t *node, const char *what, int64_t least, int64_t most,
                 int64_t *ret)
{
    if (node->type != YAML_SCALAR_NODE)
        return yaml_complain(f, node, "%s must be a whole number", what);
    const char *text = (const char *)node->data.scalar.value;
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end || errno)
        return yaml_complain(f, node, "%s must be a whole number, not \"%.60s\"", what, text);
    if (v < least || v > most)
        return yaml_complain(f, node, "%s must be from %lld to %lld", what, (long long)least,
                             (long long)most);
    *ret = v;
    return 0;
}

static size_t digits(const char *p)
{
    return strspn(p, "0123456789");
}

/* RFC 8259, section 6. */
static bool is_json_number(struct str s)
{
    const char *p = s.p;
    p += *p == '-';
    size_t n = digits(p);
    if (n == 0 || (n > 1 && *p == '0'))
        return false;
    p += n;
    if (*p == '.') {
        n = digits(++p);
        if (n == 0)
            return false;
        p += n;
    }
    if (*p == 'e' || *p == 'E') {
        p++;
        p += *p == '+' || *p == '-';
        n = digits(p);
        if (n == 0)
            return false;
        p += n;
    }
    return p == s.p + s.n;
}

static void scalar_to_json(const yaml_node_t *node, struct buf *ret)
{
    struct str text = yaml_text(node);
    bool plain = node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (plain && (text.n == 0 || str_eqz(text, "~")))
        buf_puts(ret, "null");
    else if (plain && (str_eqz(text, "true") || str_eqz(text, "false") || str_eqz(text, "null") ||
                       is_json_number(text)))
        buf_str(ret, text);
    else
        json_put_string(ret, text);
}

static int mapping_to_json(struct yaml_file *f, const yaml_node_t *node, size_t depth_max, struct buf *ret)
{
    if (yaml_check_mapping(f, node, "an object") < 0)
        return -1;
    yaml_node_t *key, *value;
    buf_putc(ret, '{');
    for (size_t i = 0; (key = yaml_key_at(f, node, i, &value)); i++) {
        if (i > 0)
            buf_putc(ret, ',');
        json_put_string(ret, yaml_text(key));
        buf_putc(ret, ':');
        if (yaml_get_json(f, value, depth_max - 1, ret) < 0)
            return -1;
    }
    buf_putc(ret, '}');
    return 0;
}

static int sequence_to_json(struct yaml_file *f, const yaml_node_t *node, size_t depth_max, struct buf *ret)
{
    yaml_node_t *value;
    buf_putc(ret, '[');
    for (size_t i = 0; (value = yaml_at(f, node, i)); i++) {
        if (i > 0)
            buf_putc(ret, ',');
        if (yaml_get_json(f, value, depth_max - 1, ret) < 0)
            return -1;
    }
    buf_putc(ret, ']');
    return 0;
}

#define JSON_BYTES_MAX (64 << 20)

int yaml_get_json(struct yaml_file *f, const yaml_node_t *node, size_t depth_max, struct buf *ret)
{
    if (depth_max == 0)
        return yaml_complain(f, node, "this is nested too deeply");
    if (ret->n > JSON_BYTES_MAX) /* aliases can multiply a small file */
        return yaml_complain(f, node, "this becomes more than %d bytes of JSON", JSON_BYTES_MAX);
    switch (node->type) {
    case YAML_SCALAR_NODE:
        scalar_to_json(node, ret);
        return 0;
    case YAML_SEQUENCE_NODE:
        return sequence_to_json(f, node, depth_max, ret);
    case YAML_MAPPING_NODE:
        return mapping_to_json(f, node, depth_max, ret);
    case YAML_NO_NODE:
        break;
    }
    return yaml_complain(f, node, "a value is missing");
}

static int key_order(const void *a, const void *b)
{
    struct str x = yaml_text(*(yaml_node_t *const *)a), y = yaml_text(*(yaml_node_t *const *)b);
    int order = memcmp(x.p, y.p, x.n < y.n ? x.n : y.n);
    return order ? order : (x.n > y.n) - (x.n < y.n);
}

int yaml_check_mapping(struct yaml_file *f, const yaml_node_t *node, const char *what)
{
    if (node->type != YAML_MAPPING_NODE)
        return yaml_complain(f, node, "%s must be a mapping (key: value)", what);
    size_t n = (size_t)(node->data.mapping.pairs.top - node->data.mapping.pairs.start);
    yaml_node_t **keys = mem_alloc(n * sizeof *keys), *value;
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        keys[i] = yaml_key_at(f, node, i, &value);
        if (keys[i]->type != YAML_SCALAR_NODE)
            rc = yaml_complain(f, keys[i], "a key must be a text");
    }
    if (rc == 0 && n > 1)
        qsort(keys, n, sizeof *keys, key_order);
    for (size_t i = 1; i < n && rc == 0; i++)
        if (str_eq(yaml_text(keys[i - 1]), yaml_text(keys[i])))
            rc = yaml_complain(f, keys[i], "the key \"%.60s\" is there twice", yaml_text(keys[i]).p);
    mem_free(keys);
    return rc;
}
