/* Folders of runs that nobody asks about any more. */
#include "daemon/base/mem.h"
#include "daemon/tools/link.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static DIR *open_dir(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (fd >= 0 && !d)
        close(fd);
    return d;
}

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* A run's folder holds files only. */
static bool delete_run(int task, const char *run)
{
    DIR *d = open_dir(task, run);
    if (!d)
        return unlinkat(task, run, 0) == 0;
    struct dirent *e;
    while ((e = readdir(d)))
        if (!is_dots(e->d_name))
            unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    return unlinkat(task, run, AT_REMOVEDIR) == 0;
}

static bool is_held(struct runs *r, const char *task, const char *run, const int64_t *held, size_t n)
{
    int64_t number = run[0] == 'r' ? strtoll(run + 1, NULL, 10) : 0;
    for (size_t i = 0; i < n; i++)
        if (held[i] == number)
            return true;
    if (link_find(r, task, run))
        return true;
    int fd = runs_open_dir(r, task, run);
    bool alive = runs_lock_held(fd);
    if (fd >= 0)
        close(fd);
    return alive;
}

size_t runs_delete(struct runs *r, const char *task, const int64_t *held, size_t held_n, size_t max, bool *ret_more)
{
    CLEANUP(buf_free) struct buf path = {0};
    buf_printf(&path, "%s/%s", r->dir, task);
    DIR *d = open_dir(AT_FDCWD, path.p);
    struct dirent *e;
    size_t n = 0;
    *ret_more = false;
    while (d && !*ret_more && (e = readdir(d))) {
        if (is_dots(e->d_name) || is_held(r, task, e->d_name, held, held_n))
            continue;
        if (n == max)
            *ret_more = true;
        else
            n += delete_run(dirfd(d), e->d_name);
    }
    if (d)
        closedir(d);
    if (d && held_n == 0)
        rmdir(path.p); /* stays if something is left in it */
    return n;
}
