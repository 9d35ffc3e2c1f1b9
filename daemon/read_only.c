#include "read_only.h"

#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/lifecycle.h"
#include "daemon/world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define READ_ONLY_NAME "agentd-read-only"
#define PLACES_N 2
#define ROOM_BYTES 1048576 /* beside the copy: for the index of its log */
#define MIB 1048576
#define PROBE_NAME "agentd.probe"
#define PROBE_BYTES 4096

struct read_only {
    struct daemon_read_only shown; /* first: d->read_only points to it */
    struct daemon *d;
    struct buf reason, copy;
    uv_timer_t again;
    bool watching;
};

static struct read_only *of(struct daemon *d)
{
    return (struct read_only *)(void *)d->read_only;
}

/* ---- the private folder ---- */

/* Always the same for a state folder, so that what a killed daemon left is found. */
static void put_name(struct buf *b, const char *place, const char *state_dir)
{
    unsigned char hash[crypto_generichash_BYTES_MIN];
    char hex[2 * sizeof hash + 1];
    crypto_generichash(hash, sizeof hash, (const unsigned char *)state_dir, strlen(state_dir), NULL, 0);
    buf_printf(b, "%s/" READ_ONLY_NAME "-%.16s", place, sodium_bin2hex(hex, sizeof hex, hash, sizeof hash));
}

/* A folder of ours that nobody else may enter, and no link to one. */
static bool is_private(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 077) == 0;
}

static void remove_folder(const char *path)
{
    int fd = is_private(path) ? open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir && fd >= 0)
        close(fd);
    if (!dir)
        return;
    for (const struct dirent *e; (e = readdir(dir));)
        unlinkat(dirfd(dir), e->d_name, 0); /* all there is are files */
    closedir(dir);
    rmdir(path);
}

static int64_t size_of(const char *dir, const char *name)
{
    struct stat st;
    CLEANUP(buf_free) struct buf path = {0};
    buf_printf(&path, "%s/%s", dir, name);
    return stat(buf_cstr(&path), &st) < 0 ? 0 : st.st_size;
}

/* Copies, or says why not here. */
static int copy_to(struct read_only *r, const char *place, struct buf *error)
{
    struct statvfs fs;
    const char *dir = r->d->state_dir;
    uint64_t bytes = (uint64_t)(size_of(dir, "agentd.db") + size_of(dir, "agentd.db-wal")) + ROOM_BYTES;
    if (statvfs(place, &fs) < 0) {
        buf_printf(error, "; %s: %s", place, strerror(errno));
        return -1;
    }
    uint64_t room = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (fs.f_blocks && room < bytes) {
        buf_printf(error, "; %s has room for %" PRIu64 " MiB, %" PRIu64 " MiB are needed", place, room / MIB, bytes / MIB + 1);
        return -1;
    }
    CLEANUP(buf_free) struct buf path = {0}, why = {0};
    put_name(&path, place, dir);
    int rc = mkdir(buf_cstr(&path), 0700) < 0 ? -1 : 0;
    if (rc < 0)
        buf_printf(error, "; %s cannot be made: %s", buf_cstr(&path), strerror(errno));
    if (rc == 0 && (rc = store_copy(dir, buf_cstr(&path), &why)) != 0) {
        buf_printf(error, "; %s", buf_cstr(&why));
        remove_folder(buf_cstr(&path));
    }
    if (rc == 0)
        buf_str(&r->copy, buf_view(&path));
    return rc;
}

static void find_places(const char *ret[PLACES_N])
{
    const char *run = getenv("XDG_RUNTIME_DIR"), *tmp = getenv("TMPDIR");
    ret[0] = run && *run == '/' ? run : NULL;
    ret[1] = !tmp || !*tmp ? "/tmp" : *tmp == '/' ? tmp : NULL;
}

void read_only_clean(const char *state_dir)
{
    const char *places[PLACES_N];
    find_places(places);
    for (size_t i = 0; i < PLACES_N; i++) {
        CLEANUP(buf_free) struct buf path = {0};
        if (places[i])
            put_name(&path, places[i], state_dir);
        if (path.n)
            remove_folder(buf_cstr(&path));
    }
}

static int copy_somewhere(struct read_only *r, struct buf *error)
{
    const char *places[PLACES_N];
    CLEANUP(buf_free) struct buf why = {0};
    find_places(places);
    for (size_t i = 0; i < PLACES_N; i++)
        if (places[i] && copy_to(r, places[i], &why) == 0)
            return 0;
    buf_printf(error, "no copy of the database could be made, from which agentd would serve read-only%s. Set TMPDIR to a folder with room "
                      "on a disk that works", buf_cstr(&why));
    return -1;
}

/* ---- life ---- */

int read_only_begin(struct daemon *d, const char *reason, struct buf *error)
{
    struct read_only *r = MEM_NEW(struct read_only);
    struct clock_now now;
    r->d = d;
    d->read_only = &r->shown;
    buf_puts(&r->reason, reason);
    world_clock(d, &now);
    int rc = copy_somewhere(r, error);
    if (rc == 0)
        rc = store_open_copy(d->state_dir, buf_cstr(&r->copy), d->loop, &d->store, error);
    r->shown = (struct daemon_read_only){.reason = buf_cstr(&r->reason), .copy = buf_cstr(&r->copy), .since_ms = now.wall_ms};
    if (rc == 0)
        log_warn("agentd is read-only: %s. It serves from the copy in %s, and looks whether it can write again every %" PRId64 " s", reason,
                 buf_cstr(&r->copy), d->config->limits.read_only_retry_ms / 1000);
    return rc == 0 ? 0 : rc == STORE_E_NEWER || rc == STORE_E_FOREIGN ? LIFECYCLE_EXIT_NEWER : LIFECYCLE_EXIT_ROOM;
}

/* Whether the disk takes and keeps a few bytes. 0 or an errno. */
static int probe(const struct daemon *d)
{
    static const char zeros[PROBE_BYTES];
    CLEANUP(buf_free) struct buf path = {0};
    buf_printf(&path, "%s/" PROBE_NAME, d->state_dir);
    int fd = open(buf_cstr(&path), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    int rc = fd < 0 || write(fd, zeros, sizeof zeros) != sizeof zeros || fsync(fd) < 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    if (fd >= 0 && unlink(buf_cstr(&path)) < 0 && !rc)
        rc = errno;
    return rc;
}

static void again_cb(uv_timer_t *timer)
{
    struct read_only *r = timer->data;
    int rc = probe(r->d);
    if (rc) {
        log_warn("agentd stays read-only: the state folder cannot be written: %s", strerror(rc));
        read_only_watch(r->d);
        return;
    }
    log_info("the state folder can be written: agentd ends, to be started again and open its journal");
    world_stop(r->d, true);
}

void read_only_watch(struct daemon *d)
{
    struct read_only *r = of(d);
    struct clock_now now;
    int64_t ms = d->config->limits.read_only_retry_ms;
    if (!r->watching) {
        uv_timer_init(d->loop, &r->again);
        r->again.data = r;
        uv_unref((uv_handle_t *)&r->again);
    }
    r->watching = true;
    world_clock(d, &now);
    r->shown.next_try_ms = now.wall_ms + ms;
    uv_timer_start(&r->again, again_cb, (uint64_t)ms, 0);
}

static void closed_cb(uv_handle_t *handle)
{
    (void)handle;
}

void read_only_end(struct daemon *d)
{
    struct read_only *r = of(d);
    if (r->watching)
        uv_close((uv_handle_t *)&r->again, closed_cb);
    r->watching = false;
}

void read_only_free(struct daemon *d)
{
    struct read_only *r = of(d);
    if (r->copy.n)
        remove_folder(buf_cstr(&r->copy));
    buf_free(&r->reason);
    buf_free(&r->copy);
    mem_free(r);
    d->read_only = NULL;
}
