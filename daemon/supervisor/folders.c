#include "folders.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int folders_sync_above(const char *path)
{
    char *copy = strdup(path); /* dirname() writes into it */
    int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int rc = fd < 0 ? errno == EACCES ? 0 : -1 : fsync(fd) < 0 && errno != EINVAL && errno != EROFS ? -1 : 0;
    int failed = errno;
    if (fd >= 0)
        close(fd);
    free(copy);
    errno = failed;
    return rc;
}

/* An existing folder may stand where mkdir() is not allowed at all (a read-only root), so EEXIST is not the
 * only good error. */
static int make_one(const char *path)
{
    struct stat st;
    if (mkdir(path, 0700) == 0)
        return folders_sync_above(path);
    if (errno == EEXIST)
        return 0;
    int failed = errno;
    if (stat(path, &st) == 0)
        return 0;
    errno = failed;
    return -1;
}

int folders_make(const char *path)
{
    char *copy = strdup(path);
    if (!copy)
        return -1;
    int rc = 0;
    for (char *slash = strchr(copy + 1, '/'); slash && rc == 0; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        rc = make_one(copy);
        *slash = '/';
    }
    if (rc == 0)
        rc = make_one(copy);
    int failed = errno;
    free(copy);
    errno = failed;
    return rc;
}
