#include "args.h"

#include "daemon/base/mem.h"

#include <assert.h>
#include <string.h>

#define WORD_MAX 40
#define NAMES_MAX 64

struct parser {
    int argc;
    char **argv;
    int i;
    const char *group; /* "daemon": its second word is still to come */
    bool only_args;    /* after "--" */
    bool help;
    struct args *ret;
    struct buf *error;
};

/* Typing errors between two words: a letter too many, too few, wrong, or two exchanged (optimal string alignment). */
static size_t distance(const char *a, const char *b)
{
    size_t an = strlen(a), bn = strlen(b);
    size_t d[WORD_MAX + 1][WORD_MAX + 1];
    if (an > WORD_MAX || bn > WORD_MAX)
        return WORD_MAX;
    for (size_t i = 0; i <= an; i++) {
        for (size_t j = 0; j <= bn; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            size_t best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best)
                best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best)
                best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[an][bn];
}

/* Of the names, the one that `word` most probably means: one that it begins, or one at most two typing errors away. NULL: none. */
static const char *args_nearest(const char *word, const char *const *names, size_t n)
{
    const char *best = NULL;
    size_t best_distance = 3;
    for (size_t i = 0; i < n; i++) {
        if (strlen(word) >= 2 && strncmp(names[i], word, strlen(word)) == 0)
            return names[i];
        size_t d = distance(word, names[i]);
        if (d < best_distance && d < strlen(names[i])) {
            best = names[i];
            best_distance = d;
        }
    }
    return best;
}

/* The place of an option in args.options, and its row; -1: none of that name. */
static int find_option(const struct cli_command *command, const char *name, size_t n, const struct cli_option **ret)
{
    size_t total = cli_common_n + (command ? command->options_n : 0);
    for (size_t i = 0; i < total; i++) {
        const struct cli_option *o = i < cli_common_n ? &cli_common[i] : &command->options[i - cli_common_n];
        bool brief = o->brief && strlen(o->brief) == n && memcmp(o->brief, name, n) == 0;
        if (brief || (strlen(o->name) == n && memcmp(o->name, name, n) == 0)) {
            *ret = o;
            return (int)i;
        }
    }
    return -1;
}

const char *args_option(const struct args *a, const char *name)
{
    const struct cli_option *o;
    int i = find_option(a->command, name, strlen(name), &o);
    assert(i >= 0);
    return a->options[i];
}

static int unknown_option(struct parser *p, const char *arg, size_t n)
{
    const char *names[NAMES_MAX];
    size_t names_n = 0;
    const struct cli_command *c = p->ret->command;
    for (size_t i = 0; i < cli_common_n; i++)
        names[names_n++] = cli_common[i].name;
    for (size_t i = 0; c && i < c->options_n; i++)
        names[names_n++] = c->options[i].name;
    CLEANUP(buf_free) struct buf word = {0};
    buf_put(&word, arg, n);
    buf_printf(p->error, "unknown option %s", buf_cstr(&word));
    const char *nearest = args_nearest(buf_cstr(&word), names, names_n);
    if (nearest)
        buf_printf(p->error, "; did you mean %s?", nearest);
    else if (c)
        buf_printf(p->error, "; agentctl %s --help lists the options%s", c->name,
                   c->args_max > 0 ? " (-- comes before text that begins with a dash)" : "");
    else
        buf_puts(p->error, "; a command's own options come after it");
    return -1;
}

/* `-x VALUE`, `-xVALUE`, `--name VALUE`, `--name=VALUE`, `--name` */
static int parse_option(struct parser *p, const char *arg)
{
    bool brief = arg[1] != '-';
    const char *equals = brief ? NULL : strchr(arg, '=');
    size_t n = brief ? 2 : equals ? (size_t)(equals - arg) : strlen(arg);
    const struct cli_option *o;
    int at = find_option(p->ret->command, arg, n, &o);
    if (at < 0 || (brief && arg[2] && !o->value))
        return unknown_option(p, arg, brief ? strlen(arg) : n);
    const char *value = equals ? equals + 1 : brief && arg[2] ? arg + 2 : NULL;
    if (!o->value && value) {
        buf_printf(p->error, "%s takes no value", o->name);
        return -1;
    }
    if (o->value && !value) {
        if (p->i >= p->argc) {
            buf_printf(p->error, "%s needs a value: %s %s", o->name, o->name, o->value);
            return -1;
        }
        value = p->argv[p->i++];
    }
    p->ret->options[at] = value ? value : "";
    return 0;
}

static const struct cli_command *find_command(const char *group, const char *word)
{
    for (size_t i = 0; i < cli_commands_n; i++) {
        const char *name = cli_commands[i].name;
        size_t n = group ? strlen(group) : 0;
        if (group && (strncmp(name, group, n) != 0 || name[n] != ' '))
            continue;
        if (strcmp(group ? name + n + 1 : name, word) == 0)
            return &cli_commands[i];
    }
    return NULL;
}

static bool is_group(const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; i < cli_commands_n; i++) {
        if (strncmp(cli_commands[i].name, word, n) == 0 && cli_commands[i].name[n] == ' ')
            return true;
    }
    return false;
}

/* The second words of a group, or all first words, each once. */
static size_t command_words(const char *group, const char **ret, char storage[NAMES_MAX][WORD_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < cli_commands_n && n < NAMES_MAX; i++) {
        const char *name = cli_commands[i].name;
        size_t skip = group ? strlen(group) + 1 : 0;
        if (group && (strncmp(name, group, skip - 1) != 0 || name[skip - 1] != ' '))
            continue;
        size_t length = group ? strlen(name + skip) : strcspn(name, " ");
        memcpy(storage[n], name + skip, length);
        storage[n][length] = 0;
        if (n == 0 || strcmp(storage[n - 1], storage[n]) != 0) {
            ret[n] = storage[n];
            n++;
        }
    }
    return n;
}

static void list_commands(struct parser *p)
{
    const char *words[NAMES_MAX];
    char storage[NAMES_MAX][WORD_MAX];
    size_t n = command_words(p->group, words, storage);
    buf_printf(p->error, "; the commands are%s%s:", p->group ? " agentctl " : "", p->group ? p->group : "");
    for (size_t i = 0; i < n; i++)
        buf_printf(p->error, "%s %s", i ? "," : "", words[i]);
}

static int unknown_command(struct parser *p, const char *word)
{
    const char *words[NAMES_MAX];
    char storage[NAMES_MAX][WORD_MAX];
    size_t n = command_words(p->group, words, storage);
    const char *nearest = args_nearest(word, words, n);
    buf_printf(p->error, "unknown command %s%s%s", p->group ? p->group : "", p->group ? " " : "", word);
    if (nearest)
        buf_printf(p->error, "; did you mean %s%s%s?", p->group ? p->group : "", p->group ? " " : "", nearest);
    else
        list_commands(p);
    return -1;
}

static int parse_word(struct parser *p, const char *word)
{
    struct args *a = p->ret;
    if (!a->command) {
        if (!p->group && strcmp(word, "help") == 0 && !p->help) {
            p->help = true;
            return 0;
        }
        a->command = find_command(p->group, word);
        if (a->command)
            return 0;
        if (p->group || !is_group(word))
            return unknown_command(p, word);
        p->group = word;
        return 0;
    }
    if (a->args_n == a->command->args_max) {
        buf_printf(p->error, "one argument too many: %.60s", word);
        if (a->args_n > 0)
            buf_printf(p->error, " (put quotes around a %s of several words)", a->command->args[a->args_n - 1]);
        return -1;
    }
    a->args[a->args_n++] = word;
    return 0;
}

/* "-" and "-5" are arguments; so is what begins with a dash and a space. */
static bool looks_like_option(const char *arg)
{
    if (arg[0] != '-')
        return false;
    char c = arg[1];
    return c == '-' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '?';
}

static int check_complete(struct parser *p)
{
    struct args *a = p->ret;
    if (!a->command) {
        buf_puts(p->error, p->group ? "a command is missing" : "no command");
        list_commands(p);
        return -1;
    }
    if (a->args_n >= a->command->args_min)
        return 0;
    buf_printf(p->error, "%s is missing\nusage: %s", a->command->args[a->args_n], a->command->synopsis);
    return -1;
}

int args_parse(int argc, char **argv, struct args *ret, struct buf *error)
{
    struct parser p = {.argc = argc, .argv = argv, .i = 1, .ret = ret, .error = error};
    memset(ret, 0, sizeof *ret);
    while (p.i < argc) {
        const char *arg = argv[p.i++];
        if (!p.only_args && strcmp(arg, "--") == 0)
            p.only_args = true;
        else if ((!p.only_args && looks_like_option(arg) ? parse_option(&p, arg) : parse_word(&p, arg)) < 0)
            return -1;
    }
    ret->version = args_has(ret, "--version");
    if (p.help || args_has(ret, "--help")) {
        ret->help = ret->command ? ret->command->help : cli_help;
        return 0;
    }
    return ret->version ? 0 : check_complete(&p);
}
