/* The format of the configuration file: which keys there are and what each takes. One table per mapping; the
 * tables below are the whole truth, agentd-config(5) tells it to people. Values are quoted in an error only
 * where they cannot be a secret. */
#include "parts.h"
#include "tree.h"

#include "daemon/base/mem.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

struct reader {
    const char *file;
    struct config *config;
    struct buf *error;
    const struct tree_pair *pair; /* whose value is being read; NULL: the whole file's */
};

typedef int read_fn(struct reader *r, const struct tree *value, void *to);

struct key {
    const char *name;
    read_fn *read;
    size_t offset; /* of the member that it fills */
    bool required;
};

static void __attribute__((format(printf, 2, 0)))
put_sentence(struct buf *b, const char *format, va_list args)
{
    char text[1024];
    vsnprintf(text, sizeof text, format, args);
    buf_puts(b, text);
}

static int __attribute__((format(printf, 3, 4)))
refuse(struct reader *r, size_t line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    buf_printf(r->error, "%s:%zu: ", r->file, line);
    put_sentence(r->error, format, args);
    va_end(args);
    return -1;
}

/* The value that is being read is wrong: told with its key, in the line where that stands. */
static int __attribute__((format(printf, 2, 3))) refuse_value(struct reader *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    buf_printf(r->error, "%s:%zu: ", r->file, r->pair ? r->pair->line : 1);
    if (r->pair)
        buf_printf(r->error, "`%s`: ", tree_quotable(r->pair->key));
    put_sentence(r->error, format, args);
    va_end(args);
    return -1;
}

/* ---- mappings ---- */

static int refuse_unknown(struct reader *r, const struct tree_pair *pair, const struct key *keys, size_t n)
{
    CLEANUP(buf_free) struct buf known = {0};
    for (size_t i = 0; i < n; i++)
        buf_printf(&known, "%s%s", i ? ", " : "", keys[i].name);
    return refuse(r, pair->line, "unknown key `%s`; those known here are: %s", tree_quotable(pair->key),
                  buf_cstr(&known));
}

static int refuse_missing(struct reader *r, const struct tree *map, const struct key *keys, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool found = !keys[i].required;
        for (size_t j = 0; j < map->n && !found; j++)
            found = strcmp(map->pairs[j].key, keys[i].name) == 0;
        if (!found)
            return refuse(r, map->line, "`%s` is missing here; add it", keys[i].name);
    }
    return 0;
}

/* `to` is the struct whose members the table's offsets mean. */
static int read_keys(struct reader *r, const struct tree *map, const struct key *keys, size_t n, void *to)
{
    for (size_t i = 0; i < map->n; i++) {
        const struct tree_pair *pair = &map->pairs[i];
        const struct key *key = keys;
        while (key < keys + n && strcmp(key->name, pair->key) != 0)
            key++;
        if (key == keys + n)
            return refuse_unknown(r, pair, keys, n);
        r->pair = pair;
        if (key->read(r, pair->value, (char *)to + key->offset) < 0)
            return -1;
    }
    return refuse_missing(r, map, keys, n);
}

/* A section whose lines are all commented out is an empty one. */
static int check_map(struct reader *r, const struct tree *value)
{
    if (value->kind == TREE_MAP || value->kind == TREE_NULL)
        return 0;
    return refuse_value(r, "a mapping must stand here: lines of `name: value`, indented below it");
}

/* ---- scalars ---- */

static int read_text(struct reader *r, const struct tree *value, void *to)
{
    if (value->kind != TREE_TEXT)
        return refuse_value(r, "a text must stand here");
    size_t n = strlen(value->text);
    if (n == 0 || n > CONFIG_TEXT_BYTES_MAX)
        return refuse_value(r, "the text here must have 1 to %d bytes", CONFIG_TEXT_BYTES_MAX);
    *(char **)to = mem_dup(value->text, n);
    return 0;
}

static int read_number(struct reader *r, const struct tree *value, int64_t least, int64_t most, int64_t *ret)
{
    int64_t v = 0;
    if (value->kind != TREE_TEXT || value->quoted || config_whole(value->text, &v) < 0 || v < least ||
        v > most)
        return refuse_value(r,
                            "a whole number from %lld to %lld must stand here, digits only, without quotes",
                            (long long)least, (long long)most);
    *ret = v;
    return 0;
}

static int read_tokens(struct reader *r, const struct tree *value, void *to)
{
    return read_number(r, value, 1, 1000000000, to);
}

static int read_price_number(struct reader *r, const struct tree *value, void *to)
{
    CLEANUP(buf_free) struct buf fault = {0};
    if (value->kind != TREE_TEXT || value->quoted)
        return refuse_value(r, "a price is a number without quotes, such as 1.75 (USD per million tokens)");
    if (config_price(value->text, to, &fault) < 0)
        return refuse_value(r, "%s", buf_cstr(&fault));
    return 0;
}

static int read_wire(struct reader *r, const struct tree *value, void *to)
{
    if (read_text(r, value, to) < 0)
        return -1;
    const char *wire = *(char **)to;
    if (strcmp(wire, "openai-responses") == 0 || strcmp(wire, "openai-chat") == 0)
        return 0;
    if (strcmp(wire, "anthropic-messages") == 0)
        return refuse_value(
            r, "the wire anthropic-messages is not there yet; use openai-responses or openai-chat");
    return refuse_value(r, "there is no wire %s; it must be openai-responses or openai-chat",
                        tree_quotable(wire));
}

static int read_base_url(struct reader *r, const struct tree *value, void *to)
{
    CLEANUP(buf_free) struct buf fault = {0};
    char *text = NULL;
    if (read_text(r, value, &text) < 0)
        return -1;
    *(char **)to = config_base_url(text, &fault);
    mem_free(text);
    return *(char **)to ? 0 : refuse_value(r, "%s", buf_cstr(&fault));
}

static int read_key(struct reader *r, const struct tree *value, void *to)
{
    CLEANUP(buf_free) struct buf fault = {0};
    if (value->kind != TREE_TEXT || config_key_check(value->text, &fault) < 0)
        return refuse_value(
            r, "%s", fault.n ? buf_cstr(&fault) : "a key is env:NAME or file:PATH; leave it out for none");
    return read_text(r, value, to);
}

static int read_policy(struct reader *r, const struct tree *value, void *to)
{
    if (value->kind != TREE_TEXT || strcmp(value->text, "open") != 0)
        return refuse_value(r,
                            "there is no policy %s; the only one so far is open: tools have the rights of "
                            "the user that runs agentd",
                            value->kind == TREE_TEXT ? tree_quotable(value->text) : "like this");
    mem_free(*(char **)to);
    *(char **)to = NULL;
    return read_text(r, value, to);
}

/* ---- models and providers ---- */

/* Names are typed on command lines and shown in tables. */
static int check_name(struct reader *r, const struct tree_pair *pair)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    size_t n = strspn(pair->key, allowed);
    if (n > 0 && n <= CONFIG_NAME_BYTES_MAX && pair->key[n] == 0 && pair->key[0] != '-' &&
        pair->key[0] != '.')
        return 0;
    return refuse(
        r, pair->line,
        "a name here has 1 to %d letters, digits, `-`, `_` or `.`, and begins with none of `-` and `.`",
        CONFIG_NAME_BYTES_MAX);
}

struct price {
    int64_t input, cached_input, output;
};

/* The cache is no dearer than the input itself where nothing is said about it. */
static int read_price(struct reader *r, const struct tree *value, void *to)
{
    static const struct key keys[] = {
        {"input", read_price_number, offsetof(struct price, input), true},
        {"cached_input", read_price_number, offsetof(struct price, cached_input), false},
        {"output", read_price_number, offsetof(struct price, output), true},
    };
    struct price price = {.cached_input = -1};
    if (value->kind != TREE_MAP)
        return refuse_value(
            r, "a price must be a mapping, such as {input: 1.75, cached_input: 0.175, output: 14}");
    if (read_keys(r, value, keys, sizeof keys / sizeof keys[0], &price) < 0)
        return -1;
    struct config_model *m = to;
    m->price_input = price.input;
    m->price_cached_input = price.cached_input < 0 ? price.input : price.cached_input;
    m->price_output = price.output;
    return 0;
}

static int read_model(struct reader *r, const struct tree *value, struct config_model *m)
{
    static const struct key keys[] = {
        {"provider", read_text, offsetof(struct config_model, provider), true},
        {"name", read_text, offsetof(struct config_model, model), true},
        {"context_window", read_tokens, offsetof(struct config_model, context_window), false},
        {"max_output_tokens", read_tokens, offsetof(struct config_model, max_output_tokens), false},
        {"price", read_price, 0, false},
    };
    if (check_map(r, value) < 0 || read_keys(r, value, keys, sizeof keys / sizeof keys[0], m) < 0)
        return -1;
    if (m->context_window && m->max_output_tokens > m->context_window)
        return refuse(r, value->line,
                      "max_output_tokens is above context_window; an answer must fit into the window");
    return 0;
}

static int read_models(struct reader *r, const struct tree *value, void *to)
{
    (void)to;
    if (check_map(r, value) < 0)
        return -1;
    for (size_t i = 0; i < value->n; i++) {
        const struct tree_pair *pair = &value->pairs[i];
        r->pair = pair;
        if (check_name(r, pair) < 0 || read_model(r, pair->value, config_add_model(r->config, pair->key)) < 0)
            return -1;
    }
    return 0;
}

static int read_providers(struct reader *r, const struct tree *value, void *to)
{
    static const struct key keys[] = {
        {"wire", read_wire, offsetof(struct config_provider, wire), true},
        {"base_url", read_base_url, offsetof(struct config_provider, base_url), true},
        {"key", read_key, offsetof(struct config_provider, key), false},
    };
    (void)to;
    if (check_map(r, value) < 0)
        return -1;
    for (size_t i = 0; i < value->n; i++) {
        const struct tree_pair *pair = &value->pairs[i];
        r->pair = pair;
        if (check_name(r, pair) < 0 || check_map(r, pair->value) < 0 ||
            read_keys(r, pair->value, keys, sizeof keys / sizeof keys[0],
                      config_add_provider(r->config, pair->key)) < 0)
            return -1;
    }
    return 0;
}

/* ---- limits ---- */

struct bound {
    const char *name;
    size_t offset;
    int64_t least, most;
};

static const struct bound bounds[] = {
#define X(name, def, least, most, doc) {#name, offsetof(struct limits, name), least, most},
    LIMITS(X)
#undef X
};

static const struct bound *bound_find(const char *name)
{
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        if (strcmp(bounds[i].name, name) == 0)
            return &bounds[i];
    }
    return NULL;
}

static size_t line_of(const struct tree *map, const char *name, size_t otherwise)
{
    for (size_t i = 0; i < map->n; i++) {
        if (strcmp(map->pairs[i].key, name) == 0)
            return map->pairs[i].line;
    }
    return otherwise;
}

/* Pairs of which the first is a default or a start, and the second its bound. */
static int check_limit_pairs(struct reader *r, const struct tree *map)
{
    static const char *const pairs[][2] = {
        {"tool_output_bytes", "tool_output_bytes_max"},
        {"yield_ms", "yield_ms_max"},
        {"retry_ms_min", "retry_ms_max"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        const char *limits = (const char *)&r->config->limits;
        int64_t low = *(const int64_t *)(const void *)(limits + bound_find(pairs[i][0])->offset);
        int64_t high = *(const int64_t *)(const void *)(limits + bound_find(pairs[i][1])->offset);
        if (low > high)
            return refuse(r, line_of(map, pairs[i][0], line_of(map, pairs[i][1], map->line)),
                          "%s (%lld) is above %s (%lld); set both so that they fit", pairs[i][0],
                          (long long)low, pairs[i][1], (long long)high);
    }
    return 0;
}

static int read_limits(struct reader *r, const struct tree *value, void *to)
{
    if (check_map(r, value) < 0)
        return -1;
    for (size_t i = 0; i < value->n; i++) {
        const struct tree_pair *pair = &value->pairs[i];
        const struct bound *b = bound_find(pair->key);
        if (!b)
            return refuse(r, pair->line, "unknown limit `%s`; agentd-config(5) lists them",
                          tree_quotable(pair->key));
        r->pair = pair;
        if (read_number(r, pair->value, b->least, b->most, (int64_t *)(void *)((char *)to + b->offset)) < 0)
            return -1;
    }
    return check_limit_pairs(r, value);
}

/* ---- the whole ---- */

static const struct tree *child(const struct tree *map, const char *name)
{
    for (size_t i = 0; i < map->n; i++) {
        if (strcmp(map->pairs[i].key, name) == 0)
            return map->pairs[i].value;
    }
    return NULL;
}

/* Every model was read, so `models` is there, and each of them has a `provider`. */
static int check_providers(struct reader *r, const struct tree *root)
{
    const struct tree *models = child(root, "models");
    for (size_t i = 0; i < r->config->models_n; i++) {
        const struct config_model *m = &r->config->models[i];
        if (config_provider_find(r->config, m->provider))
            continue;
        return refuse(
            r, child(models->pairs[i].value, "provider")->line,
            "the provider %s of model %s is not under `providers:`; add it there, or correct the name",
            tree_quotable(m->provider), m->name);
    }
    return 0;
}

static int check_default(struct reader *r, const struct tree *root)
{
    struct config *c = r->config;
    if (c->model) {
        if (config_model_find(c, str_of(c->model)))
            return 0;
        return refuse(r, child(root, "model")->line,
                      "the default, %s, is not under `models:`; add it there, or correct the name",
                      tree_quotable(c->model));
    }
    if (c->models_n > 1)
        return refuse(r, root->line,
                      "several models and no default; add a line `model: NAME` with the one to use");
    if (c->models_n == 1)
        c->model = mem_strdup(c->models[0].name);
    return 0;
}

static int read_root(struct reader *r, const struct tree *root)
{
    static const struct key keys[] = {
        {"model", read_text, offsetof(struct config, model), false},
        {"models", read_models, 0, false},
        {"providers", read_providers, 0, false},
        {"policy", read_policy, offsetof(struct config, policy), false},
        {"limits", read_limits, offsetof(struct config, limits), false},
    };
    if (check_map(r, root) < 0 || read_keys(r, root, keys, sizeof keys / sizeof keys[0], r->config) < 0 ||
        check_providers(r, root) < 0)
        return -1;
    return check_default(r, root);
}

int config_read(const char *file, struct str text, struct config *config, struct buf *error)
{
    struct tree *root = NULL;
    if (tree_read(file, text, &root, error) < 0)
        return -1;
    struct reader r = {.file = file, .config = config, .error = error};
    int rc = read_root(&r, root);
    tree_free(root);
    return rc;
}
