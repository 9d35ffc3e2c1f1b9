/* exec_command: a command line in a shell. */
#include "daemon/tools/arguments.h"
#include "daemon/tools/tools.h"

#include <ctype.h>

const struct tool tool_exec = {
    .name = "exec_command",
    .description =
        "Runs a command line in a shell (bash where there is one). Returns its output and exit code; if it still runs when "
        "yield_time_ms is over, returns the output so far and a session_id for write_stdin, and the process goes on. Processes "
        "left in the background live on after the call. stdin is an open pipe (a terminal with tty): give search tools a "
        "path and redirect stdin from /dev/null where a program would read it.",
    .parameters =
        "{\"type\":\"object\",\"properties\":{"
        "\"cmd\":{\"type\":\"string\",\"description\":\"The command line.\"},"
        "\"workdir\":{\"type\":\"string\",\"description\":\"Folder to run it in; relative to the workspace, which is the default.\"},"
        "\"tty\":{\"type\":\"boolean\",\"description\":\"Run it in a terminal (PTY). Default false.\"},"
        "\"yield_time_ms\":{\"type\":\"integer\",\"description\":\"How long to wait for its end, in milliseconds. Default 10000.\"},"
        "\"max_output_tokens\":{\"type\":\"integer\",\"description\":\"Output to return at most; the middle is left out. Default 10000.\"}"
        "},\"required\":[\"cmd\"],\"additionalProperties\":false}",
};

static void put_quoted(struct buf *b, struct str word)
{
    bool plain = word.n > 0;
    for (size_t i = 0; i < word.n && plain; i++)
        plain = isalnum((unsigned char)word.p[i]) || (word.p[i] && strchr("_-./=:,@%+", word.p[i]));
    if (plain) {
        buf_str(b, word);
        return;
    }
    buf_putc(b, '\'');
    for (size_t i = 0; i < word.n; i++) {
        if (word.p[i] == '\'')
            buf_puts(b, "'\\''");
        else
            buf_putc(b, word.p[i]);
    }
    buf_putc(b, '\'');
}

static struct str element(const json_t *array, size_t i)
{
    const json_t *v = json_array_get(array, i);
    return str_n(json_string_value(v), json_string_length(v));
}

static bool is_shell(struct str word)
{
    static const char *const shells[] = {"bash", "sh", "/bin/bash", "/bin/sh", "/usr/bin/bash", "zsh"};
    for (size_t i = 0; i < sizeof shells / sizeof shells[0]; i++)
        if (str_eqz(word, shells[i]))
            return true;
    return false;
}

/* ["bash", "-lc", "text"] is the text; any other array is quoted word by word. */
static int join_array(const json_t *array, struct buf *b)
{
    size_t n = json_array_size(array);
    for (size_t i = 0; i < n; i++)
        if (!json_is_string(json_array_get(array, i)))
            return -1;
    if (n == 3 && is_shell(element(array, 0)) && (str_eqz(element(array, 1), "-c") || str_eqz(element(array, 1), "-lc"))) {
        buf_str(b, element(array, 2));
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_putc(b, ' ');
        put_quoted(b, element(array, i));
    }
    return 0;
}

static int take_command(const struct arguments *a, struct str *ret)
{
    const json_t *v = argument(a, "cmd,command,script");
    struct buf b = {0};
    int result = 0;
    if (json_is_string(v))
        buf_put(&b, json_string_value(v), json_string_length(v));
    else
        result = json_is_array(v) ? join_array(v, &b) : -1;
    size_t blank = 0;
    while (blank < b.n && isspace((unsigned char)b.p[blank]))
        blank++;
    if (result < 0 || blank == b.n)
        buf_puts(a->error, "`cmd` must be the command line, as a string that is not empty");
    else if (memchr(b.p, 0, b.n))
        buf_puts(a->error, "`cmd` holds a NUL, which no shell can read; write \\0 in a printf instead");
    else if ((int64_t)b.n > a->limits->input_bytes_max)
        buf_printf(a->error, "`cmd` is longer than %lld bytes; write a file with apply_patch and run that",
                   (long long)a->limits->input_bytes_max);
    *ret = arena_copy(a->arena, buf_view(&b));
    buf_free(&b);
    return a->error->n ? -1 : 0;
}

/* Many models call the patch tool through the shell: `apply_patch <<'EOF' ... EOF`. Returns the patch if the command is that and
 * nothing else. */
static struct str only_patch(struct str cmd)
{
    size_t at = 0;
    while (at < cmd.n && isspace((unsigned char)cmd.p[at]))
        at++;
    struct str rest = str_n(cmd.p + at, cmd.n - at);
    if (!str_starts(rest, "apply_patch") && !str_starts(rest, "applypatch"))
        return STR_NONE;
    static const char begin[] = "*** Begin Patch", end[] = "*** End Patch";
    const char *from = memmem(rest.p, rest.n, begin, sizeof begin - 1), *last = NULL, *p = from;
    while (p && (p = memmem(p, (size_t)(rest.p + rest.n - p), end, sizeof end - 1)))
        last = p, p += sizeof end - 1;
    if (!last)
        return STR_NONE;
    size_t open = rest.p[5] == '_' ? 11 : 10;
    for (const char *c = rest.p + open; c < from; c++)
        if (!isspace((unsigned char)*c) && !isalnum((unsigned char)*c) && !strchr("<-'\"_", *c))
            return STR_NONE;
    for (const char *c = last + sizeof end - 1; c < rest.p + rest.n; c++)
        if (!isspace((unsigned char)*c) && !isalnum((unsigned char)*c) && !strchr("'\"_", *c))
            return STR_NONE;
    return str_n(from, (size_t)(last + sizeof end - 1 - from));
}

int tool_exec_prepare(struct arguments *a)
{
    struct call_spec *s = a->spec;
    struct str workdir = STR(""), cmd;
    if (argument_waits(a, a->limits->yield_ms) < 0 || argument_text(a, "workdir,cwd,working_directory", &workdir) < 0 ||
        argument_flag(a, "tty,pty", &s->tty) < 0 || take_command(a, &cmd) < 0)
        return -1;
    if (memchr(workdir.p, 0, workdir.n)) {
        buf_puts(a->error, "`workdir` must be a path");
        return -1;
    }
    s->workdir = argument_path(a, workdir);
    struct str patch = only_patch(cmd);
    if (patch.p)
        return tool_patch_spec(a, patch);
    s->sort = CALL_SORT_RUN;
    s->program = RUN_PROGRAM_SHELL;
    s->payload = cmd;
    s->command = argument_title(a->arena, cmd);
    return 0;
}
