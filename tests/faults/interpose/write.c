/* Writing to files and sockets, sizes and syncs. */
#include "interpose.h"
#include <fcntl.h>
#include <sys/socket.h>

/* `at` < 0: where the file stands, which is its end with O_APPEND. */
static ssize_t write_file(int fd, const struct place *p, struct iovec data, off64_t at)
{
    struct stat st;
    log_lock();
    int error = fault_at(OP_WRITE, p->path);
    if (error == SHORT && data.iov_len > 1)
        data.iov_len /= 2;
    if (error > 0) {
        log_unlock();
        return failed(error);
    }
    off64_t from = at;
    if (at < 0 && (fcntl(fd, F_GETFL) & O_APPEND))
        from = fstat(fd, &st) == 0 ? st.st_size : 0;
    else if (at < 0)
        from = lseek(fd, 0, SEEK_CUR);
    ssize_t n = at < 0 ? syscall(SYS_write, fd, data.iov_base, data.iov_len)
                       : syscall(SYS_pwrite64, fd, data.iov_base, data.iov_len, at);
    if (n > 0)
        log_put((struct record){.op = OP_WRITE, .file = p->st.st_ino, .at = from}, p->path, NULL, &data, (size_t)n);
    log_unlock();
    return n;
}

static bool is_socket(int fd)
{
    struct stat st;
    return log_map && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

static ssize_t sent(ssize_t n, int fd, const struct iovec *data)
{
    if (n > 0)
        log_put((struct record){.op = OP_SEND, .file = (uint64_t)fd}, NULL, NULL, data, (size_t)n);
    log_unlock();
    return n;
}

ssize_t write(int fd, const void *from, size_t n)
{
    struct place p;
    struct iovec data = {(void *)(uintptr_t)from, n};
    if (place_find(fd, &p))
        return write_file(fd, &p, data, -1);
    if (!is_socket(fd))
        return syscall(SYS_write, fd, from, n);
    log_lock();
    return sent(syscall(SYS_write, fd, from, n), fd, &data);
}

ssize_t pwrite64(int fd, const void *from, size_t n, off64_t at)
{
    struct place p;
    struct iovec data = {(void *)(uintptr_t)from, n};
    return place_find(fd, &p) ? write_file(fd, &p, data, at) : syscall(SYS_pwrite64, fd, from, n, at);
}

ssize_t pwrite(int fd, const void *from, size_t n, off_t at)
{
    return pwrite64(fd, from, n, at);
}

/* To files, one part at a time: a writer of several has to expect that not all are taken. */
ssize_t writev(int fd, const struct iovec *data, int n)
{
    struct place p;
    if (place_find(fd, &p))
        return n > 0 ? write_file(fd, &p, data[0], -1) : 0;
    if (!is_socket(fd))
        return syscall(SYS_writev, fd, data, n);
    log_lock();
    return sent(syscall(SYS_writev, fd, data, n), fd, data);
}

ssize_t sendto(int fd, const void *from, size_t n, int flags, const struct sockaddr *to, socklen_t to_n)
{
    struct iovec data = {(void *)(uintptr_t)from, n};
    if (!log_map)
        return syscall(SYS_sendto, fd, from, n, flags, to, to_n);
    log_lock();
    return sent(syscall(SYS_sendto, fd, from, n, flags, to, to_n), fd, &data);
}

ssize_t send(int fd, const void *from, size_t n, int flags)
{
    return sendto(fd, from, n, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    if (!log_map)
        return syscall(SYS_sendmsg, fd, message, flags);
    log_lock();
    return sent(syscall(SYS_sendmsg, fd, message, flags), fd, message->msg_iov);
}

/* ---- sizes and syncs ---- */

int ftruncate64(int fd, off64_t size)
{
    struct place p;
    if (!place_find(fd, &p))
        return (int)syscall(SYS_ftruncate, fd, size);
    log_lock();
    int error = fault_at(OP_TRUNCATE, p.path);
    int rc = error > 0 ? failed(error) : (int)syscall(SYS_ftruncate, fd, size);
    if (rc == 0)
        log_put((struct record){.op = OP_TRUNCATE, .file = p.st.st_ino, .at = size}, p.path, NULL, NULL, 0);
    log_unlock();
    return rc;
}

int ftruncate(int fd, off_t size)
{
    return ftruncate64(fd, size);
}

/* Returns its error and leaves errno alone. */
int posix_fallocate64(int fd, off64_t at, off64_t n)
{
    struct place p;
    if (!place_find(fd, &p))
        return syscall(SYS_fallocate, fd, 0, at, n) < 0 ? errno : 0;
    log_lock();
    int error = fault_at(OP_ALLOCATE, p.path);
    if (error <= 0)
        error = syscall(SYS_fallocate, fd, 0, at, n) < 0 ? errno : 0;
    if (!error)
        log_put((struct record){.op = OP_ALLOCATE, .file = p.st.st_ino, .at = at + n}, p.path, NULL, NULL, 0);
    log_unlock();
    return error;
}

int posix_fallocate(int fd, off_t at, off_t n)
{
    return posix_fallocate64(fd, at, n);
}

static int sync_really(int fd, long call)
{
    if (asked.sync_us < 0)
        return (int)syscall(call, fd);
    usleep((useconds_t)asked.sync_us);
    return 0;
}

/* Not under the lock while it waits: what is written meanwhile may or may not last. */
static int sync_file(int fd, long call)
{
    struct place p;
    if (!place_find(fd, &p))
        return sync_really(fd, call);
    log_lock();
    int error = fault_at(OP_SYNC, p.path);
    log_put((struct record){.op = OP_SYNC_BEGIN, .file = p.st.st_ino}, p.path, NULL, NULL, 0);
    uint64_t begun = log_map->used;
    log_unlock();
    if (error > 0)
        return failed(error);
    int rc = sync_really(fd, call);
    log_lock();
    if (rc == 0)
        log_put((struct record){.op = OP_SYNC, .file = p.st.st_ino, .at = (int64_t)begun}, p.path, NULL, NULL, 0);
    log_unlock();
    return rc;
}

int fsync(int fd)
{
    return sync_file(fd, SYS_fsync);
}

int fdatasync(int fd)
{
    return sync_file(fd, SYS_fdatasync);
}
