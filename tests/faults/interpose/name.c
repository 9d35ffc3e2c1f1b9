/* Names: what makes, moves and removes them. */
#include "interpose.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define NAMED(op_, at_, path_, call)                                                                         \
    struct entry e;                                                                                          \
    if (!entry_find(at_, path_, &e))                                                                         \
        return (int)(call);                                                                                  \
    log_lock();                                                                                                  \
    int error = fault_at(op_, e.path);                                                                          \
    int rc = error > 0 ? failed(error) : (int)(call);

#define NAMED_END                                                                                            \
    log_unlock();                                                                                                \
    entry_end(&e);                                                                                           \
    return rc;

static void put_created(const struct entry *e)
{
    struct stat st;
    if (entry_stat(e, &st))
        log_put((struct record){.op = OP_CREATE, .file = e->file, .file2 = st.st_ino, .at = st.st_mode}, e->name, NULL, NULL, 0);
}

int mkdirat(int at, const char *path, mode_t mode)
{
    NAMED(OP_MKDIR, at, path, syscall(SYS_mkdirat, at, path, mode))
    if (rc == 0)
        put_created(&e);
    NAMED_END
}

int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

int unlinkat(int at, const char *path, int flags)
{
    NAMED(OP_UNLINK, at, path, syscall(SYS_unlinkat, at, path, flags))
    if (rc == 0)
        log_put((struct record){.op = OP_UNLINK, .file = e.file}, e.name, NULL, NULL, 0);
    NAMED_END
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

/* From outside the root to the inside would bring content that nobody has recorded; nothing of ours does so. */
int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    struct entry target;
    NAMED(OP_RENAME, from_at, from, syscall(SYS_renameat2, from_at, from, to_at, to, flags))
    if (rc == 0 && entry_find(to_at, to, &target)) {
        log_put((struct record){.op = OP_RENAME, .file = e.file, .file2 = target.file}, e.name, target.name, NULL, 0);
        entry_end(&target);
    }
    NAMED_END
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
    return renameat2(from_at, from, to_at, to, 0);
}

int rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int linkat(int from_at, const char *from, int to_at, const char *to, int flags)
{
    struct stat st;
    NAMED(OP_LINK, to_at, to, syscall(SYS_linkat, from_at, from, to_at, to, flags))
    if (rc == 0 && entry_stat(&e, &st))
        log_put((struct record){.op = OP_LINK, .file = e.file, .file2 = st.st_ino}, e.name, NULL, NULL, 0);
    NAMED_END
}

int link(const char *from, const char *to)
{
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int symlink(const char *target, const char *path)
{
    struct stat st;
    NAMED(OP_CREATE, AT_FDCWD, path, syscall(SYS_symlinkat, target, AT_FDCWD, path))
    if (rc == 0) {
        put_created(&e);
        struct iovec data = {(void *)(uintptr_t)target, strlen(target)};
        if (entry_stat(&e, &st))
            log_put((struct record){.op = OP_WRITE, .file = st.st_ino}, e.path, NULL, &data, data.iov_len);
    }
    NAMED_END
}

int bind(int fd, const struct sockaddr *address, socklen_t n)
{
    const char *path = address->sa_family == AF_UNIX ? ((const struct sockaddr_un *)address)->sun_path : "";
    if (!*path)
        return (int)syscall(SYS_bind, fd, address, n);
    NAMED(OP_CREATE, AT_FDCWD, path, syscall(SYS_bind, fd, address, n))
    if (rc == 0)
        put_created(&e);
    NAMED_END
}
