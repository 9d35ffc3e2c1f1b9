/* The files of a database as they are, for a store that is only read. Nobody has it open: its log goes along as it stands. */
#include "daemon/base/mem.h"
#include "daemon/store/files.h"
#include "daemon/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_PIECE_BYTES 1048576

struct copying {
    int from, to; /* folders */
    struct buf *error;
};

static int copy_failed(const struct copying *c, const char *what, const char *name, int rc)
{
    buf_printf(c->error, "%s %s: %s", what, name, strerror(-rc));
    return files_full(rc) ? STORE_E_FULL : STORE_E_IO;
}

static int copy_bytes(const struct copying *c, const char *name, int in, int out)
{
    CLEANUP(buf_free) struct buf piece = {0};
    char *p = buf_reserve(&piece, COPY_PIECE_BYTES);
    for (;;) {
        ssize_t n = read(in, p, COPY_PIECE_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return copy_failed(c, "cannot read", name, -errno);
        int rc = files_write_all(out, str_n(p, (size_t)n));
        if (rc)
            return copy_failed(c, "cannot write the copy of", name, rc);
        if (n == 0)
            return 0;
    }
}

static int copy_file(const struct copying *c, const char *name, bool must)
{
    int in = openat(c->from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (in < 0)
        return errno == ENOENT && !must ? 0 : copy_failed(c, "cannot open", name, -errno);
    int out = openat(c->to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int status = out < 0 ? copy_failed(c, "cannot write the copy of", name, -errno) : copy_bytes(c, name, in, out);
    close(in);
    if (out >= 0)
        close(out);
    return status;
}

int store_copy(const char *dir, const char *to, struct buf *error)
{
    struct copying c = {.from = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                        .to = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                        .error = error};
    int status = c.from < 0 || c.to < 0 ? copy_failed(&c, "cannot open", c.from < 0 ? dir : to, -errno) : 0;
    if (!status)
        status = copy_file(&c, "agentd.db", true);
    if (!status)
        status = copy_file(&c, "agentd.db-wal", false);
    if (c.from >= 0)
        close(c.from);
    if (c.to >= 0)
        close(c.to);
    return status;
}
