#include "tree.h"

#include "daemon/base/mem.h"

#include <stdio.h>
#include <yaml.h>

struct reader {
    const char *file;
    struct str text;
    struct buf *error;
    yaml_parser_t yaml;
    size_t nodes;
};

static int refuse(struct reader *r, size_t line, const char *sentence)
{
    buf_printf(r->error, "%s:%zu: %s", r->file, line, sentence);
    return -1;
}

/* libyaml counts lines from 0. A quote that is never closed is found at the end of the file, and belongs
 * where it begins. Where the bytes are not even text, an offset is all that is known. */
static size_t problem_line(const struct reader *r)
{
    if (r->yaml.error != YAML_READER_ERROR) {
        bool never_closed =
            r->yaml.context && r->yaml.problem && strstr(r->yaml.problem, "unexpected end of stream");
        return (never_closed ? r->yaml.context_mark.line : r->yaml.problem_mark.line) + 1;
    }
    size_t line = 1;
    for (size_t i = 0; i < r->yaml.problem_offset && i < r->text.n; i++)
        line += r->text.p[i] == '\n';
    return line;
}

/* libyaml's problems are fixed texts: they never quote the file, which may hold a secret. */
static int refuse_yaml(struct reader *r)
{
    const char *problem = r->yaml.problem ? r->yaml.problem : "it cannot be read";
    buf_printf(r->error, "%s:%zu: this is not YAML: ", r->file, problem_line(r));
    if (r->yaml.context)
        buf_printf(r->error, "%s, ", r->yaml.context);
    buf_puts(r->error, problem);
    if (strstr(problem, "cannot start any token"))
        buf_puts(
            r->error,
            "; indent with spaces, not tabs, and put quotes around text that begins with a special sign");
    else if (strstr(problem, "mapping values are not allowed"))
        buf_puts(r->error,
                 "; check the indentation, and put quotes around text that holds a colon and a space");
    else if (r->yaml.error == YAML_READER_ERROR)
        buf_puts(r->error, "; save the file as UTF-8 text");
    else
        buf_puts(r->error, "; check the indentation, quotes and brackets at this line and above");
    return -1;
}

static int next_event(struct reader *r, yaml_event_t *ret)
{
    if (yaml_parser_parse(&r->yaml, ret))
        return 0;
    /* No fault of the file: as an error of the configuration the daemon would stay down. */
    if (r->yaml.error == YAML_MEMORY_ERROR || r->yaml.error == YAML_NO_ERROR)
        mem_none();
    return refuse_yaml(r);
}

static struct tree *tree_new(enum tree_kind kind, size_t line)
{
    struct tree *t = MEM_NEW(struct tree);
    t->kind = kind;
    t->line = line;
    return t;
}

static void tree_freep(struct tree **t)
{
    tree_free(*t);
}

const char *tree_quotable(const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t n = strspn(name, allowed);
    return n <= 32 && name[n] == 0 ? name : "...";
}

static bool has_control(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return true;
    }
    return false;
}

static int read_scalar(struct reader *r, const yaml_event_t *e, struct tree **ret)
{
    const char *text = (const char *)e->data.scalar.value;
    size_t n = e->data.scalar.length, line = e->start_mark.line + 1;
    if (has_control(text, n))
        return refuse(r, line,
                      "this value holds a line break or another control character; write it on one line");
    bool quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    bool nothing = !quoted && (n == 0 || strcmp(text, "~") == 0 || strcmp(text, "null") == 0);
    struct tree *t = tree_new(nothing ? TREE_NULL : TREE_TEXT, line);
    t->text = nothing ? NULL : mem_dup(text, n);
    t->quoted = quoted;
    *ret = t;
    return 0;
}

static int skip_list(struct reader *r, size_t line, struct tree **ret)
{
    for (size_t depth = 1; depth > 0;) {
        yaml_event_t e;
        if (next_event(r, &e) < 0)
            return -1;
        yaml_event_type_t type = e.type;
        yaml_event_delete(&e);
        if (type == YAML_SEQUENCE_START_EVENT || type == YAML_MAPPING_START_EVENT)
            depth++;
        if (type == YAML_SEQUENCE_END_EVENT || type == YAML_MAPPING_END_EVENT)
            depth--;
    }
    *ret = tree_new(TREE_LIST, line);
    return 0;
}

static int read_value(struct reader *r, size_t depth, yaml_event_t *e, struct tree **ret);

static int check_key(struct reader *r, const struct tree *map, const yaml_event_t *e)
{
    size_t line = e->start_mark.line + 1, n = e->data.scalar.length;
    const char *key = (const char *)e->data.scalar.value;
    if (e->type != YAML_SCALAR_EVENT || n == 0 || n > 128 || has_control(key, n))
        return refuse(r, line, "a key must be a short name; write `name: value`");
    if (e->data.scalar.tag || e->data.scalar.anchor)
        return refuse(r, line, "tags and anchors are not supported; write the plain name");
    for (size_t i = 0; i < map->n; i++) {
        if (strcmp(map->pairs[i].key, key) != 0)
            continue;
        buf_printf(
            r->error,
            "%s:%zu: the key `%s` stands here a second time (first in line %zu); remove one of the two",
            r->file, line, tree_quotable(key), map->pairs[i].line);
        return -1;
    }
    return 0;
}

static struct tree_pair *add_pair(struct tree *map, const yaml_event_t *e)
{
    if ((map->n & (map->n - 1)) == 0) /* the room doubles at each power of two */
        map->pairs = mem_realloc(map->pairs, (map->n ? map->n * 2 : 1) * sizeof *map->pairs);
    struct tree_pair *pair = &map->pairs[map->n++];
    *pair = (struct tree_pair){
        .key = mem_dup(e->data.scalar.value, e->data.scalar.length),
        .line = e->start_mark.line + 1,
    };
    return pair;
}

/* `e` is a key; its value follows. */
static int read_pair(struct reader *r, size_t depth, struct tree *map, const yaml_event_t *e)
{
    if (check_key(r, map, e) < 0)
        return -1;
    yaml_event_t value;
    if (next_event(r, &value) < 0)
        return -1;
    struct tree_pair *pair = add_pair(map, e);
    int rc = read_value(r, depth + 1, &value, &pair->value);
    yaml_event_delete(&value);
    return rc;
}

static int read_map(struct reader *r, size_t depth, size_t line, struct tree **ret)
{
    CLEANUP(tree_freep) struct tree *map = tree_new(TREE_MAP, line);
    for (;;) {
        yaml_event_t e;
        if (next_event(r, &e) < 0)
            return -1;
        bool end = e.type == YAML_MAPPING_END_EVENT;
        int rc = end ? 0 : read_pair(r, depth, map, &e);
        yaml_event_delete(&e);
        if (rc < 0)
            return -1;
        if (end)
            break;
    }
    *ret = map;
    map = NULL;
    return 0;
}

static bool has_tag_or_anchor(const yaml_event_t *e)
{
    if (e->type == YAML_SCALAR_EVENT)
        return e->data.scalar.tag || e->data.scalar.anchor;
    if (e->type == YAML_SEQUENCE_START_EVENT)
        return e->data.sequence_start.tag || e->data.sequence_start.anchor;
    if (e->type == YAML_MAPPING_START_EVENT)
        return e->data.mapping_start.tag || e->data.mapping_start.anchor;
    return e->type == YAML_ALIAS_EVENT;
}

static int read_value(struct reader *r, size_t depth, yaml_event_t *e, struct tree **ret)
{
    size_t line = e->start_mark.line + 1;
    if (has_tag_or_anchor(e))
        return refuse(r, line, "tags, anchors and aliases are not supported; write the value out");
    if (depth > TREE_DEPTH_MAX || ++r->nodes > TREE_NODES_MAX)
        return refuse(r, line,
                      "this is nested too deep or too long for a configuration; see agentd-config(5)");
    if (e->type == YAML_SCALAR_EVENT)
        return read_scalar(r, e, ret);
    if (e->type == YAML_SEQUENCE_START_EVENT)
        return skip_list(r, line, ret);
    return read_map(r, depth, line, ret);
}

/* Stream and document starts come first, and after the one document the stream must end. */
static int read_stream(struct reader *r, struct tree **ret)
{
    CLEANUP(tree_freep) struct tree *root = NULL;
    for (;;) {
        yaml_event_t e;
        if (next_event(r, &e) < 0)
            return -1;
        int rc = 0;
        bool end = e.type == YAML_STREAM_END_EVENT;
        if (e.type == YAML_DOCUMENT_START_EVENT && root)
            rc = refuse(r, e.start_mark.line + 1,
                        "a second document begins here; keep one and remove the `---`");
        else if (!end && e.type != YAML_STREAM_START_EVENT && e.type != YAML_DOCUMENT_START_EVENT &&
                 e.type != YAML_DOCUMENT_END_EVENT)
            rc = read_value(r, 1, &e, &root);
        yaml_event_delete(&e);
        if (rc < 0)
            return -1;
        if (end)
            break;
    }
    *ret = root ? root : tree_new(TREE_NULL, 1);
    root = NULL;
    return 0;
}

int tree_read(const char *file, struct str text, struct tree **ret, struct buf *error)
{
    struct reader r = {.file = file, .text = text, .error = error};
    if (!yaml_parser_initialize(&r.yaml))
        mem_none();
    yaml_parser_set_encoding(&r.yaml, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.yaml, (const unsigned char *)text.p, text.n);
    int rc = read_stream(&r, ret);
    yaml_parser_delete(&r.yaml);
    return rc;
}

void tree_free(struct tree *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n; i++) {
        mem_free(t->pairs[i].key);
        tree_free(t->pairs[i].value);
    }
    mem_free(t->pairs);
    mem_free(t->text);
    mem_free(t);
}
