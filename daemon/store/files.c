#include "files.h"

#include "daemon/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sys/stat.h>
#include <unistd.h>

int files_open_folder(int parent, const char *name, int *ret)
{
    if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
        return -errno;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    *ret = fd;
    return 0;
}

int files_sync_folder(int folder)
{
    return fsync(folder) < 0 ? -errno : 0;
}

int files_sync_folder_of(const char *path)
{
    char *copy = mem_strdup(path); /* dirname() writes into it */
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 ? -errno : files_sync_folder(fd);
    if (fd >= 0)
        close(fd);
    mem_free(copy);
    return rc;
}

int files_write_all(int fd, struct str bytes)
{
    while (bytes.n) {
        ssize_t n = write(fd, bytes.p, bytes.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        bytes = str_n(bytes.p + n, bytes.n - (size_t)n);
    }
    return 0;
}

int files_read_all(int fd, char *p, size_t n)
{
    while (n) {
        ssize_t got = read(fd, p, n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -EIO;
        p += got;
        n -= (size_t)got;
    }
    return 0;
}

int files_readable(int folder, const char *name)
{
    char piece[16384];
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    ssize_t n;
    while ((n = read(fd, piece, sizeof piece)) > 0 || (n < 0 && errno == EINTR))
        ;
    int rc = n < 0 ? -errno : 0;
    close(fd);
    return rc;
}

bool files_full(int negative_errno)
{
    return negative_errno == -ENOSPC || negative_errno == -EDQUOT;
}
