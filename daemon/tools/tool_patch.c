/* apply_patch: changes to files. The work itself is done by agentd-tool in a run. */
#include "daemon/tools/arguments.h"
#include "daemon/tools/tools.h"

const struct tool tool_patch = {
    .name = "apply_patch",
    .description =
        "Changes files by a patch, all of it or nothing. Format:\n*** Begin Patch\n*** Add File: path\n+each line of the new "
        "file\n*** Delete File: path\n*** Update File: path\n*** Move to: new path (optional)\n@@ a line of code above the "
        "change, such as the function's head (optional)\n three lines of context, each after a space\n-a line that goes\n+a line "
        "that comes\n three lines of context\n*** End Patch\nA file may have several @@ hunks, in order. *** End of File after a "
        "hunk ties it to the end.",
    .parameters = "{\"type\":\"object\",\"properties\":{\"input\":{\"type\":\"string\",\"description\":\"The patch, from "
                  "*** Begin Patch to *** End Patch.\"}},\"required\":[\"input\"],\"additionalProperties\":false}",
};

/* The paths named, for people. */
static void put_title(struct buf *b, struct str patch)
{
    static const char *const heads[] = {"*** Add File: ", "*** Delete File: ", "*** Update File: "};
    buf_puts(b, "apply_patch");
    while (patch.n > 0) {
        const char *lf = memchr(patch.p, '\n', patch.n);
        size_t n = lf ? (size_t)(lf - patch.p) : patch.n;
        struct str line = str_n(patch.p, n);
        while (line.n && (line.p[line.n - 1] == '\r' || line.p[line.n - 1] == ' '))
            line.n--;
        for (size_t i = 0; i < 3; i++)
            if (str_starts(line, heads[i])) {
                buf_putc(b, ' ');
                buf_put(b, line.p + strlen(heads[i]), line.n - strlen(heads[i]));
            }
        n += lf != NULL;
        patch = str_n(patch.p + n, patch.n - n);
    }
}

int tool_patch_spec(struct arguments *a, struct str patch)
{
    if ((int64_t)patch.n > a->limits->patch_bytes_max) {
        buf_printf(a->error, "the patch is longer than %lld bytes; send it in parts",
                   (long long)a->limits->patch_bytes_max);
        return -1;
    }
    struct buf title = {0};
    put_title(&title, patch);
    a->spec->sort = CALL_SORT_RUN;
    a->spec->program = RUN_PROGRAM_PATCH;
    a->spec->tty = false;
    a->spec->payload = arena_copy(a->arena, patch);
    a->spec->command = argument_title(a->arena, buf_view(&title));
    buf_free(&title);
    return 0;
}

int tool_patch_prepare(struct arguments *a)
{
    struct str patch = STR_NONE, workdir = STR("");
    if (a->raw.p) /* the patch itself, as of a tool that takes plain text */
        patch = a->raw;
    else if (argument_text(a, "input,patch,patch_text,patchText,diff", &patch) < 0 ||
             argument_text(a, "workdir,cwd", &workdir) < 0)
        return -1;
    static const char begin[] = "*** Begin Patch";
    if (!patch.p || !memmem(patch.p, patch.n, begin, sizeof begin - 1)) {
        buf_clear(a->error);
        buf_puts(a->error, "`input` must be a patch that begins with a line `*** Begin Patch` and ends with `*** End Patch`");
        return -1;
    }
    buf_clear(a->error);
    if (argument_waits(a, a->limits->yield_ms) < 0)
        return -1;
    a->spec->workdir = argument_path(a, workdir);
    return tool_patch_spec(a, patch);
}
