/* view_image: shows an image file to the model. agentd-tool reads it in a run. */
#include "daemon/tools/arguments.h"
#include "daemon/tools/tools.h"

const struct tool tool_image = {
    .name = "view_image",
    .description = "Shows you an image file (PNG, JPEG, GIF or WebP).",
    .parameters = "{\"type\":\"object\",\"properties\":{\"path\":{\"type\":\"string\",\"description\":\"The file; relative to the "
                  "workspace.\"}},\"required\":[\"path\"],\"additionalProperties\":false}",
};

int tool_image_prepare(struct arguments *a)
{
    struct str path = STR_NONE;
    if (argument_text(a, "path,file,file_path,filename", &path) < 0 || argument_waits(a, a->limits->yield_ms) < 0)
        return -1;
    if (!path.p || path.n == 0 || path.n > 4096 || memchr(path.p, 0, path.n)) {
        buf_puts(a->error, "`path` must be the path of an image file");
        return -1;
    }
    struct buf title = {0};
    buf_puts(&title, "view_image ");
    buf_str(&title, path);
    a->spec->sort = CALL_SORT_RUN;
    a->spec->program = RUN_PROGRAM_IMAGE;
    a->spec->workdir = arena_copy(a->arena, a->workspace);
    a->spec->payload = argument_path(a, path);
    a->spec->command = argument_title(a->arena, buf_view(&title));
    buf_free(&title);
    return 0;
}
