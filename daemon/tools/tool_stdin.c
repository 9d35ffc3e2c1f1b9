/* write_stdin: input to a process that still runs, or a look at what it wrote meanwhile. */
#include "daemon/tools/arguments.h"
#include "daemon/tools/tools.h"

#include <stdlib.h>

#define YIELD_AFTER_INPUT_MS 1000 /* somebody who answers answers soon */

const struct tool tool_stdin = {
    .name = "write_stdin",
    .description =
        "Writes to the stdin of a process that exec_command left running, waits for its output and returns what is new. Empty or "
        "missing chars only wait. Control-C is \\u0003, control-D (end of input) \\u0004.",
    .parameters =
        "{\"type\":\"object\",\"properties\":{"
        "\"session_id\":{\"type\":\"integer\",\"description\":\"The number that exec_command returned.\"},"
        "\"chars\":{\"type\":\"string\",\"description\":\"The bytes to write; end a line with \\\\n.\"},"
        "\"yield_time_ms\":{\"type\":\"integer\",\"description\":\"How long to wait for its end, in milliseconds. Default 1000 after "
        "input, 10000 without.\"},"
        "\"max_output_tokens\":{\"type\":\"integer\",\"description\":\"Output to return at most; the middle is left out. Default 10000.\"}"
        "},\"required\":[\"session_id\"],\"additionalProperties\":false}",
};

static int take_session(struct arguments *a)
{
    const json_t *v = argument(a, "session_id,session,id");
    const char *text = json_string_value(v);
    char *end;
    if (text && text[0] == 'r') { /* a run as events name it */
        a->spec->session = strtoll(text + 1, &end, 10);
        if (end != text + 1 && !*end && a->spec->session > 0)
            return 0;
    } else if (v && argument_number(a, "session_id,session,id", &a->spec->session) == 1 && a->spec->session > 0) {
        return 0;
    }
    buf_clear(a->error);
    buf_puts(a->error, "`session_id` must be the number that exec_command returned for a process that still runs");
    return -1;
}

int tool_stdin_prepare(struct arguments *a)
{
    struct str chars = STR("");
    if (take_session(a) < 0 || argument_text(a, "chars,input,text,data", &chars) < 0 ||
        argument_waits(a, chars.n ? YIELD_AFTER_INPUT_MS : a->limits->yield_ms) < 0)
        return -1;
    if ((int64_t)chars.n > a->limits->input_bytes_max) {
        buf_printf(a->error, "`chars` is longer than %lld bytes; write it in pieces, or to a file that the process reads",
                   (long long)a->limits->input_bytes_max);
        return -1;
    }
    a->spec->sort = CALL_SORT_INPUT;
    a->spec->input = arena_copy(a->arena, chars);
    return 0;
}
