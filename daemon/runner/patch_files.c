/* What a patch makes of the files that it names, computed in memory: several sections may name one file, and each sees what those
 * before it made of it. Reads, and touches nothing. */
#include "daemon/runner/patch.h"

#include "daemon/base/mem.h"
#include "daemon/runner/record.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

static int fail(struct buf *error, struct str name, const char *what)
{
    buf_str(error, name);
    buf_printf(error, ": %s", what);
    return -1;
}

/* The place that a name means: with links resolved as far as it exists, so that two names of one file are one file, and a change goes
 * through a link instead of replacing it. For a deletion only the folder is resolved: the link itself goes. */
static char *resolve(const char *name, bool itself)
{
    struct stat st;
    if (!itself || lstat(name, &st) < 0 || !S_ISLNK(st.st_mode)) {
        char *real = realpath(name, NULL);
        if (real || errno != ENOENT)
            return real;
    }
    struct buf folder = {0};
    const char *slash = strrchr(name, '/');
    const char *base = slash ? slash + 1 : name;
    buf_put(&folder, name, slash ? (size_t)(slash - name) : 0);
    char *upper = !slash ? getcwd(NULL, 0) : folder.n == 0 ? mem_strdup("/") : resolve(folder.p, false);
    if (!upper) {
        buf_free(&folder);
        return NULL;
    }
    buf_clear(&folder);
    buf_puts(&folder, upper);
    if (folder.p[folder.n - 1] != '/')
        buf_putc(&folder, '/');
    buf_puts(&folder, base);
    free(upper);
    return buf_take(&folder, NULL);
}

static int load(struct patch_files *files, struct patch_file *f, struct buf *error)
{
    if (lstat(f->path, &f->before) < 0)
        return errno == ENOENT ? 0 : fail(error, f->name, strerror(errno));
    f->existed = f->exists = true;
    if (S_ISLNK(f->before.st_mode)) {
        char target[PATH_MAX];
        ssize_t n = readlink(f->path, target, sizeof target);
        f->link = true;
        buf_put(&f->old, target, n > 0 ? (size_t)n : 0);
        return 0;
    }
    if (!S_ISREG(f->before.st_mode))
        return fail(error, f->name, S_ISDIR(f->before.st_mode) ? "this is a folder, not a file" : "this is no regular file");
    files->bytes += f->before.st_size;
    if (f->before.st_size > PATCH_FILE_BYTES_MAX || files->bytes > PATCH_TOTAL_BYTES_MAX)
        return fail(error, f->name, "too large to be patched (64 MiB a file, 256 MiB in all); change it with a command");
    if (record_read_file(AT_FDCWD, f->path, PATCH_FILE_BYTES_MAX, &f->old) < 0)
        return fail(error, f->name, strerror(errno));
    buf_str(&f->now, buf_view(&f->old));
    return 0;
}

/* The index of the file, loaded; -1 with `error`. */
static long take(struct patch_files *files, struct str name, bool itself, struct buf *error)
{
    CLEANUP(buf_free) struct buf text = {0};
    buf_str(&text, name);
    char *path = resolve(text.p, itself);
    if (!path)
        return fail(error, name, strerror(errno));
    for (size_t i = 0; i < files->n; i++)
        if (strcmp(files->p[i].path, path) == 0) {
            free(path);
            return (long)i;
        }
    files->p = mem_realloc(files->p, (files->n + 1) * sizeof *files->p);
    struct patch_file *f = &files->p[files->n++];
    *f = (struct patch_file){.path = path, .name = name};
    return load(files, f, error) < 0 ? -1 : (long)files->n - 1;
}

static int add(struct patch_files *files, const struct patch_op *op, struct buf *error)
{
    long i = take(files, op->path, false, error);
    if (i < 0)
        return -1;
    struct patch_file *f = &files->p[i];
    buf_clear(&f->now);
    buf_str(&f->now, buf_view(&op->content));
    f->exists = true;
    return 0;
}

static int delete (struct patch_files *files, const struct patch_op *op, struct buf *error)
{
    long i = take(files, op->path, true, error);
    if (i < 0)
        return -1;
    if (!files->p[i].exists)
        return fail(error, op->path, "there is no such file to delete");
    files->p[i].exists = false;
    buf_clear(&files->p[i].now);
    return 0;
}

static int move(struct patch_files *files, size_t from, const struct patch_op *op, struct buf *error)
{
    long to = take(files, op->move_to, false, error);
    if (to < 0)
        return -1;
    struct patch_file *a = &files->p[from], *b = &files->p[to];
    if (a == b)
        return 0;
    buf_clear(&b->now);
    buf_str(&b->now, buf_view(&a->now));
    if (!b->existed)
        b->before.st_mode = a->before.st_mode;
    b->exists = true;
    b->moved_from = a->name;
    a->exists = false;
    a->moved_away = true;
    buf_clear(&a->now);
    return 0;
}

static int update(struct patch_files *files, const struct patch_op *op, struct buf *error)
{
    long i = take(files, op->path, false, error);
    if (i < 0)
        return -1;
    struct patch_file *f = &files->p[i];
    if (!f->exists)
        return fail(error, op->path, "there is no such file to update; use `*** Add File:` for a new one");
    if (op->hunks_n && f->now.n && memchr(f->now.p, 0, f->now.n))
        return fail(error, op->path, "this is a binary file; it cannot be patched as text");
    struct buf now = {0};
    int result = 0;
    if (op->hunks_n) {
        result = patch_fit(buf_view(&f->now), op, &now, error);
        struct buf swap = f->now;
        f->now = result == 0 ? now : swap;
        now = result == 0 ? swap : now;
    }
    buf_free(&now);
    if (result == 0 && op->move_to.p)
        result = move(files, (size_t)i, op, error);
    return result;
}

/* Reads what `patch` names and computes what it makes of it. Touches nothing. */
static int patch_files_compute(const struct patch *patch, struct patch_files *ret, struct buf *error)
{
    *ret = (struct patch_files){0};
    for (size_t i = 0; i < patch->ops_n; i++) {
        const struct patch_op *op = &patch->ops[i];
        int result = op->verb == PATCH_ADD      ? add(ret, op, error)
                     : op->verb == PATCH_DELETE ? delete (ret, op, error)
                                                : update(ret, op, error);
        if (result < 0)
            return -1;
    }
    return 0;
}

static void patch_files_free(struct patch_files *f)
{
    for (size_t i = 0; i < f->n; i++) {
        free(f->p[i].path);
        buf_free(&f->p[i].old);
        buf_free(&f->p[i].now);
    }
    mem_free(f->p);
    *f = (struct patch_files){0};
}

void patch_put_line(const struct patch_file *f, struct buf *b)
{
    bool same = f->existed && f->exists && str_eq(buf_view(&f->old), buf_view(&f->now));
    if ((!f->existed && !f->exists) || f->moved_away)
        return;
    if (f->moved_from.p) {
        buf_puts(b, "R ");
        buf_str(b, f->moved_from);
        buf_puts(b, " -> ");
    } else {
        buf_puts(b, same ? "= " : !f->exists ? "D " : f->existed ? "M " : "A ");
    }
    buf_str(b, f->name);
    buf_puts(b, same && !f->moved_from.p ? " (unchanged)\n" : "\n");
}

int patch_apply(struct str text, const char *manifest, struct buf *report, struct buf *error)
{
    struct patch patch = {0};
    struct patch_files files = {0};
    int result = patch_parse(text, &patch, error);
    if (result == 0)
        result = patch_files_compute(&patch, &files, error);
    if (result == 0)
        result = patch_commit(&files, manifest, error);
    for (size_t i = 0; i < files.n && result == 0; i++)
        patch_put_line(&files.p[i], report);
    if (result == 0 && error->n) {
        buf_str(report, buf_view(error));
        buf_putc(report, '\n');
    }
    patch_files_free(&files);
    patch_free(&patch);
    return result;
}
