/* agentctl backup: asks the daemon for a copy of its database. */
#include "client/client.h"
#include "client/say.h"
#include "client/text.h"

#include "daemon/base/mem.h"
#include "daemon/base/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static void show(const json_t *result)
{
    CLEANUP(buf_free) struct buf b = {0};
    text_put_line(&b, str_of(client_string(result, "path")), 0);
    buf_puts(&b, "  ");
    text_put_bytes(&b, json_integer_value(json_object_get(result, "bytes")));
    buf_putc(&b, '\n');
    say_data(buf_view(&b));
}

/* The daemon works in a folder of its own. */
static int make_absolute(const char *file, struct buf *ret)
{
    if (*file != '/') {
        char *folder = getcwd(NULL, 0);
        if (!folder || !utf8_valid(str_of(folder))) {
            say_error("the current folder cannot be named",
                      folder ? "its path is not UTF-8" : strerror(errno));
            free(folder);
            return EXIT_FAILED;
        }
        buf_printf(ret, "%s/", strcmp(folder, "/") == 0 ? "" : folder);
        free(folder);
    }
    buf_puts(ret, file);
    return EXIT_DONE;
}

int cmd_backup(struct client *c)
{
    CLEANUP(buf_free) struct buf path = {0};
    const char *file = c->args.args[0];
    if (!*file)
        return client_usage(c, "FILE is empty");
    int code = make_absolute(file, &path);
    if (code != EXIT_DONE)
        return code;
    struct params_daemon_backup params = {.path = buf_view(&path)};
    return client_call(c, METHOD_DAEMON_BACKUP, &params, show);
}
