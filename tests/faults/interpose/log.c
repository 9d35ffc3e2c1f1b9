/* The log: shared by all processes, mapped, each record after the one before it. */
#include "interpose.h"
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>

#define LOG_HEAD 4096

struct log *log_map;

void log_lock(void)
{
    if (pthread_mutex_lock(&log_map->lock) == EOWNERDEAD)
        pthread_mutex_consistent(&log_map->lock);
    if (log_map->die == (uint64_t)getpid()) {
        log_map->die = 0;
        kill(getpid(), SIGKILL);
    }
}

void log_unlock(void)
{
    int error = errno;
    pthread_mutex_unlock(&log_map->lock);
    errno = error;
}

uint8_t program_letter(void)
{
    return strcmp(asked.program, "agentd") == 0          ? 'd'
           : strcmp(asked.program, "agentd-runner") == 0 ? 'r'
           : strcmp(asked.program, "agentd-tool") == 0   ? 't'
                                                         : '?';
}

void log_put(struct record r, const char *name, const char *name2, const struct iovec *data, size_t data_n)
{
    r.program = program_letter();
    r.pid = (uint32_t)getpid();
    r.name_n = (uint32_t)(name ? strlen(name) : 0);
    r.name2_n = (uint32_t)(name2 ? strlen(name2) : 0);
    r.data_n = (uint32_t)data_n;
    r.bytes = (uint32_t)((sizeof r + r.name_n + r.name2_n + data_n + 7) & ~(size_t)7);
    if (log_map->used + r.bytes > log_map->room)
        give_up("interpose: the log is full\n");
    char *to = (char *)log_map + log_map->used;
    memcpy(to, &r, sizeof r);
    to += sizeof r;
    memcpy(to, name ? name : "", r.name_n);
    memcpy(to + r.name_n, name2 ? name2 : "", r.name2_n);
    to += r.name_n + r.name2_n;
    for (size_t done = 0, n; done < data_n; done += n, data++) {
        n = data->iov_len < data_n - done ? data->iov_len : data_n - done;
        memcpy(to + done, data->iov_base, n);
    }
    log_map->used += r.bytes;
}

void log_begin(const char *path)
{
    struct stat st;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0 || flock(fd, LOCK_EX) < 0 || fstat(fd, &st) < 0)
        give_up("interpose: AGENTD_IO_LOG cannot be opened\n");
    struct log *map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        give_up("interpose: AGENTD_IO_LOG cannot be mapped\n");
    if (!map->used) {
        pthread_mutexattr_t how;
        pthread_mutexattr_init(&how);
        pthread_mutexattr_setpshared(&how, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&how, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_init(&map->lock, &how);
        memcpy(map->magic, "agentdio", 8);
        map->room = (uint64_t)st.st_size;
        map->used = LOG_HEAD;
    }
    flock(fd, LOCK_UN); /* the mapping keeps what close() would let go */
    close(fd);
    log_map = map;
}
