#include "ballast.h"

#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define BALLAST_ROOM_FACTOR 4

static bool ballast_room(const struct ballast *b)
{
    struct statvfs st;
    if (fstatvfs(b->folder, &st) < 0)
        return false;
    if (st.f_blocks == 0) /* a file system that does not count: making the file will tell */
        return true;
    return (uint64_t)st.f_bavail * st.f_frsize >= (uint64_t)BALLAST_BYTES * BALLAST_ROOM_FACTOR;
}

/* posix_fallocate() and not ftruncate(): a hole would give nothing back when it is dropped. */
static bool ballast_make(const struct ballast *b)
{
    int fd = openat(b->folder, BALLAST_NAME, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool made = posix_fallocate(fd, 0, BALLAST_BYTES) == 0;
    close(fd);
    if (!made)
        unlinkat(b->folder, BALLAST_NAME, 0);
    return made;
}

static bool ballast_whole(const struct ballast *b)
{
    struct stat st;
    return fstatat(b->folder, BALLAST_NAME, &st, 0) == 0 && st.st_blocks * 512 >= BALLAST_BYTES;
}

void ballast_open(struct ballast *b, int folder)
{
    b->folder = folder;
    bool there = ballast_whole(b) || (ballast_room(b) && ballast_make(b));
    atomic_store(&b->missing, !there);
}

bool store_give_room(const char *dir)
{
    CLEANUP(buf_free) struct buf path = {0};
    buf_printf(&path, "%s/" BALLAST_NAME, dir);
    return unlink(buf_cstr(&path)) == 0;
}

void ballast_drop(struct ballast *b)
{
    if (atomic_load(&b->missing))
        return;
    unlinkat(b->folder, BALLAST_NAME, 0);
    atomic_store(&b->missing, true);
    log_warn("the disk is full: gave back the reserve of %d MiB", BALLAST_BYTES / 1048576);
}

void ballast_restore(struct ballast *b)
{
    if (!atomic_load(&b->missing) || !ballast_room(b) || !ballast_make(b))
        return;
    atomic_store(&b->missing, false);
    log_info("there is room on the disk again");
}
