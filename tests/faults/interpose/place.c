/* Which files and folders are ours: those below the root. */
#include "interpose.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static const char *root;
static size_t root_n;

void place_begin(const char *path)
{
    root = path;
    root_n = path ? strlen(path) : 0;
}

static bool below_root(const char *path, char *ret)
{
    if (!root || strncmp(path, root, root_n) != 0 || (path[root_n] && path[root_n] != '/'))
        return false;
    strcpy(ret, path[root_n] ? path + root_n + 1 : ".");
    return true;
}

static bool fd_path(int fd, char ret[PATH_ROOM])
{
    char link[40], path[PATH_ROOM];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n < 0 ? 0 : n] = 0;
    return n > 0 && below_root(path, ret);
}

bool place_find(int fd, struct place *ret)
{
    if (!log_map || fd < 0 || fstat(fd, &ret->st) < 0 || !(S_ISREG(ret->st.st_mode) || S_ISDIR(ret->st.st_mode)))
        return false;
    return fd_path(fd, ret->path);
}

bool entry_find(int at, const char *path, struct entry *ret)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    char folder[PATH_ROOM] = ".";
    struct stat st;
    ret->folder = -1;
    if (!log_map || strlen(path) >= sizeof folder || strlen(name) >= sizeof ret->name)
        return false;
    if (slash) {
        memcpy(folder, path, (size_t)(slash - path));
        folder[slash - path] = 0;
    }
    strcpy(ret->name, name);
    ret->folder = (int)syscall(SYS_openat, at, slash == path ? "/" : folder, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (ret->folder >= 0 && fd_path(ret->folder, ret->path) && fstat(ret->folder, &st) == 0) {
        ret->file = st.st_ino;
        size_t n = strcmp(ret->path, ".") == 0 ? 0 : strlen(ret->path);
        snprintf(ret->path + n, sizeof ret->path - n, "%s%s", n ? "/" : "", name);
        return true;
    }
    if (ret->folder >= 0)
        close(ret->folder);
    ret->folder = -1;
    return false;
}

void entry_end(struct entry *e)
{
    int error = errno;
    if (e->folder >= 0)
        close(e->folder);
    errno = error;
}

bool entry_stat(const struct entry *e, struct stat *ret)
{
    return fstatat(e->folder, e->name, ret, AT_SYMLINK_NOFOLLOW) == 0;
}
