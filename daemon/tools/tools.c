#include "daemon/tools/tools.h"

#include "daemon/base/json.h"
#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"
#include "daemon/tools/arguments.h"

#define DEPTH_MAX 32

static const struct {
    const struct tool *tool;
    tool_prepare_cb *prepare;
} known[] = {
    {&tool_exec, tool_exec_prepare}, {&tool_stdin, tool_stdin_prepare}, {&tool_patch, tool_patch_prepare},
    {&tool_plan, tool_plan_prepare}, {&tool_image, tool_image_prepare}, {&tool_wait, tool_wait_prepare},
};

#define KNOWN_N (sizeof known / sizeof known[0])

/* What models that learnt other harnesses say for the same thing. */
static const struct {
    const char *name, *tool;
} aliases[] = {
    {"shell", "exec_command"},        {"bash", "exec_command"},         {"container.exec", "exec_command"},
    {"local_shell", "exec_command"},  {"shell_command", "exec_command"}, {"run_command", "exec_command"},
    {"applypatch", "apply_patch"},
};

const struct tool *tools_all(size_t *ret_n)
{
    static struct tool all[KNOWN_N];
    for (size_t i = 0; i < KNOWN_N; i++)
        all[i] = *known[i].tool;
    *ret_n = KNOWN_N;
    return all;
}

static tool_prepare_cb *find(struct str name)
{
    if (str_starts(name, "functions."))
        name = str_n(name.p + 10, name.n - 10);
    for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++)
        if (str_eqz(name, aliases[i].name))
            name = str_of(aliases[i].tool);
    for (size_t i = 0; i < KNOWN_N; i++)
        if (str_eqz(name, known[i].tool->name))
            return known[i].prepare;
    return NULL;
}

static void refuse(const struct arguments *a, struct str sentence)
{
    struct buf b = {0};
    buf_puts(&b, "The call was not carried out: ");
    utf8_put_valid(&b, sentence, false);
    a->spec->sort = CALL_SORT_ANSWER;
    a->spec->is_error = true;
    a->spec->answer = arena_copy(a->arena, buf_view(&b));
    buf_free(&b);
}

static void refuse_name(struct arguments *a, struct str name)
{
    buf_clear(a->error); /* what its arguments are does not matter */
    buf_puts(a->error, "there is no tool \"");
    buf_str(a->error, name);
    buf_puts(a->error, "\"; the tools are");
    for (size_t i = 0; i < KNOWN_N; i++)
        buf_printf(a->error, "%s %s", i ? "," : "", known[i].tool->name);
    refuse(a, buf_view(a->error));
}

/* The arguments as JSON: an object, or an object inside a string (some models encode twice), or nothing. NULL with `text` filled:
 * it is something else, which a tool may still understand. */
static json_t *parse(struct str raw, struct buf *error)
{
    if (raw.n == 0)
        return json_object();
    if (json_depth(raw, DEPTH_MAX) > DEPTH_MAX) {
        buf_puts(error, "its arguments are nested too deeply");
        return NULL;
    }
    json_error_t why;
    json_t *root = json_loadb(raw.p, raw.n, JSON_ALLOW_NUL | JSON_DECODE_ANY, &why);
    if (json_is_string(root)) {
        json_t *inner = json_loadb(json_string_value(root), json_string_length(root), JSON_ALLOW_NUL, NULL);
        if (json_is_object(inner)) {
            json_decref(root);
            return inner;
        }
        json_decref(inner);
    }
    if (!root)
        buf_printf(error, "its arguments are not valid JSON (%s, at character %d)", why.text, why.position);
    return root;
}

/* What goes on record: the object on one line, else the bytes as a JSON string. */
static struct str on_record(struct proto_arena *arena, struct str raw, const json_t *root)
{
    struct buf b = {0};
    if (json_is_object(root) && raw.n && raw.p[strspn(raw.p, " \t\r\n")] == '{') {
        json_put_compact(&b, raw);
    } else if (raw.n == 0) {
        buf_puts(&b, "{}");
    } else {
        CLEANUP(buf_free) struct buf valid = {0};
        if (json_is_string(root))
            buf_put(&valid, json_string_value(root), json_string_length(root));
        else
            utf8_put_valid(&valid, raw, false);
        json_put_string(&b, buf_view(&valid));
    }
    struct str copy = arena_copy(arena, buf_view(&b));
    buf_free(&b);
    return copy;
}

static void carry_out(struct arguments *a, tool_prepare_cb *prepare)
{
    if (prepare(a) == 0)
        return;
    struct str wire_id = a->spec->wire_id, tool = a->spec->tool, arguments = a->spec->arguments;
    *a->spec = (struct call_spec){.wire_id = wire_id, .tool = tool, .arguments = arguments};
    refuse(a, buf_view(a->error));
}

void tools_prepare(struct str name, struct str arguments, struct str workspace, const struct limits *limits,
                   struct proto_arena *arena, struct call_spec *ret)
{
    CLEANUP(buf_free) struct buf error = {0};
    CLEANUP(buf_free) struct buf valid = {0};
    utf8_put_valid(&valid, arguments, false);
    struct str raw = buf_view(&valid);
    CLEANUP(buf_free) struct buf tool = {0};
    utf8_put_valid(&tool, name, false);
    json_t *root = parse(raw, &error);
    json_t *nothing = json_object();
    struct arguments a = {.root = json_is_object(root) ? root : nothing,
                          .workspace = workspace,
                          .limits = limits,
                          .arena = arena,
                          .error = &error,
                          .spec = ret};
    if (!json_is_object(root))
        a.raw = json_is_string(root) ? str_n(json_string_value(root), json_string_length(root)) : raw;
    *ret = (struct call_spec){.wire_id = ret->wire_id,
                              .tool = arena_copy(arena, buf_view(&tool)),
                              .arguments = on_record(arena, raw, root)};
    tool_prepare_cb *prepare = find(name);
    if (!prepare)
        refuse_name(&a, buf_view(&tool));
    else if (!json_is_object(root) && prepare != tool_patch_prepare)
        refuse(&a, error.n ? buf_view(&error) : STR("its arguments must be a JSON object"));
    else
        carry_out(&a, prepare);
    json_decref(root);
    json_decref(nothing);
}
