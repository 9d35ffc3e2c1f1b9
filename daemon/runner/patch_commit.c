/*~ All or nothing, in this order: note in the manifest what is to happen, and make its name last; write every new content beside its file
 * and sync it; give each old content a second name; sync the folders; mark the manifest ready; rename; sync the folders; mark it done; drop
 * the second names. Whoever dies before "ready" has changed nothing; after it, patch_recover.c can finish. Without a manifest nothing was
 * changed, even when the power went. */
#include "daemon/runner/patch.h"

#include "daemon/base/mem.h"
#include "daemon/base/pack.h"
#include "daemon/runner/record.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MANIFEST_LEVELS 3 /* of folders that are the daemon's and may be new */

struct step {
    const struct patch_file *file;
    char *temp;   /* the new content; NULL: it is deleted */
    char *backup; /* the old content; NULL: there was none */
    bool placed;
};

struct commit {
    struct step *steps;
    size_t n;
    char **made; /* folders that did not exist, outermost first */
    size_t made_n;
    const char *manifest;
    struct buf *error;
};

void patch_hash(struct str content, char ret[PATCH_HASH_SIZE])
{
    crypto_generichash((unsigned char *)ret, PATCH_HASH_SIZE, (const unsigned char *)content.p, content.n, NULL, 0);
}

int patch_hash_file(const char *path, char ret[PATCH_HASH_SIZE])
{
    CLEANUP(buf_free) struct buf b = {0};
    struct stat st;
    if (lstat(path, &st) < 0)
        return -1;
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlink(path, buf_reserve(&b, PATH_MAX), PATH_MAX);
        b.n = n > 0 ? (size_t)n : 0;
    } else if (!S_ISREG(st.st_mode) || record_read_file(AT_FDCWD, path, PATCH_FILE_BYTES_MAX, &b) < 0) {
        errno = errno ? errno : EINVAL;
        return -1;
    }
    patch_hash(buf_view(&b), ret);
    return 0;
}

int patch_sync_parent(const char *path)
{
    CLEANUP(buf_free) struct buf folder = {0};
    const char *slash = strrchr(path, '/');
    if (slash)
        buf_put(&folder, path, slash == path ? 1 : (size_t)(slash - path));
    else
        buf_putc(&folder, '.');
    int fd = open(folder.p, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int result = fsync(fd);
    close(fd);
    return result;
}

static int fail(struct commit *c, const char *path, const char *what)
{
    buf_printf(c->error, "%s: %s: %s", path, what, strerror(errno));
    return -1;
}

/* ---- what is to be done ---- */

static char *beside(const char *path, const char *tag, const char *kind)
{
    struct buf b = {0};
    const char *base = strrchr(path, '/') + 1;
    buf_put(&b, path, (size_t)(base - path));
    /* A name may have 255 bytes. */
    buf_printf(&b, ".%.*s.agentd-%s.%s", 200, base, tag, kind);
    return buf_take(&b, NULL);
}

static bool changes(const struct patch_file *f)
{
    if (!f->existed || !f->exists)
        return f->existed != f->exists;
    return !str_eq(buf_view(&f->old), buf_view(&f->now));
}

static void plan(struct commit *c, const struct patch_files *files)
{
    char tag[17];
    unsigned char random[8];
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(tag, sizeof tag, random, sizeof random);
    c->steps = mem_alloc((files->n + 1) * sizeof *c->steps);
    for (size_t i = 0; i < files->n; i++) {
        const struct patch_file *f = &files->p[i];
        if (!changes(f))
            continue;
        struct step *s = &c->steps[c->n++];
        s->file = f;
        s->temp = f->exists ? beside(f->path, tag, "new") : NULL;
        s->backup = f->existed ? beside(f->path, tag, "old") : NULL;
    }
}

/* ---- manifest ---- */

static int manifest_append(const struct commit *c, const struct buf *b, int flags)
{
    if (!c->manifest)
        return 0;
    int fd = open(c->manifest, O_WRONLY | O_APPEND | O_CLOEXEC | flags, 0600);
    if (fd < 0)
        return -1;
    int result = record_write_all(fd, buf_view(b));
    if (result == 0)
        result = fdatasync(fd);
    close(fd);
    return result;
}

/* The manifest stands in `runs`/<task>/<run>, and whoever made these folders has not synced them. */
static int manifest_keep(struct commit *c)
{
    CLEANUP(buf_free) struct buf path = {0};
    buf_puts(&path, c->manifest ? c->manifest : "");
    for (int level = 0; level < MANIFEST_LEVELS && path.n; level++) {
        if (patch_sync_parent(path.p) < 0)
            return fail(c, path.p, "its folder cannot be synced");
        const char *slash = strrchr(path.p, '/');
        path.n = slash ? (size_t)(slash - path.p) : 0;
        path.p[path.n] = 0;
    }
    return 0;
}

static int manifest_begin(struct commit *c)
{
    CLEANUP(buf_free) struct buf b = {0}, line = {0};
    for (size_t i = 0; i < c->n; i++) {
        const struct step *s = &c->steps[i];
        buf_clear(&line);
        char hash[PATCH_HASH_SIZE];
        size_t mark = pack_open(&b, "change");
        pack_str(&b, "path", str_of(s->file->path));
        pack_str(&b, "temp", str_of(s->temp));
        pack_str(&b, "backup", str_of(s->backup));
        patch_put_line(s->file, &line);
        pack_str(&b, "line", buf_view(&line));
        patch_hash(buf_view(&s->file->old), hash);
        if (s->backup)
            pack_str(&b, "pre", str_n(hash, sizeof hash));
        patch_hash(buf_view(&s->file->now), hash);
        if (s->temp)
            pack_str(&b, "post", str_n(hash, sizeof hash));
        pack_close(&b, mark);
    }
    if (manifest_append(c, &b, O_CREAT | O_EXCL) < 0)
        return fail(c, c->manifest, "cannot note what is to be done");
    return manifest_keep(c);
}

static int manifest_mark(struct commit *c, const char *name)
{
    CLEANUP(buf_free) struct buf b = {0};
    pack_i64(&b, name, 1);
    return manifest_append(c, &b, 0) < 0 ? fail(c, c->manifest, "cannot note what is done") : 0;
}

/* ---- folders ---- */

static size_t folder_n(const char *path)
{
    return (size_t)(strrchr(path, '/') - path);
}

static bool same_folder(const char *one, const char *other)
{
    return folder_n(one) == folder_n(other) && strncmp(one, other, folder_n(one)) == 0;
}

/* Makes the names last: of new folders in those above them, of files and what stands beside them. Each folder once. */
static int sync_folders(struct commit *c)
{
    for (size_t i = 0; i < c->made_n; i++)
        if (patch_sync_parent(c->made[i]) < 0)
            return fail(c, c->made[i], "its folder cannot be synced");
    for (size_t i = 0; i < c->n; i++) {
        size_t before = 0;
        while (before < i && !same_folder(c->steps[before].file->path, c->steps[i].file->path))
            before++;
        if (before == i && patch_sync_parent(c->steps[i].file->path) < 0)
            return fail(c, c->steps[i].file->path, "its folder cannot be synced");
    }
    return 0;
}

/* ---- preparing ---- */

static int make_folder(struct commit *c, const char *path)
{
    if (mkdir(path, 0777) < 0)
        return errno == EEXIST ? 0 : fail(c, path, "cannot make the folder");
    c->made = mem_realloc(c->made, (c->made_n + 1) * sizeof *c->made);
    c->made[c->made_n++] = mem_strdup(path);
    CLEANUP(buf_free) struct buf b = {0};
    pack_str(&b, "made", str_of(path));
    return manifest_append(c, &b, 0) < 0 ? fail(c, c->manifest, "cannot note a new folder") : 0;
}

static int make_folders(struct commit *c, const char *path)
{
    CLEANUP(buf_free) struct buf part = {0};
    buf_puts(&part, path);
    for (char *slash = strchr(part.p + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        struct stat st;
        if (stat(part.p, &st) < 0 && make_folder(c, part.p) < 0)
            return -1;
        *slash = '/';
    }
    return 0;
}

static int write_new(struct commit *c, const char *path, struct str content, const struct patch_file *f)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0)
        return fail(c, path, "cannot be written");
    int result = record_write_all(fd, content);
    if (f->before.st_mode) {
        if (f->existed && (f->before.st_uid != geteuid() || f->before.st_gid != getegid()) &&
            fchown(fd, f->before.st_uid, f->before.st_gid) < 0)
            errno = 0; /* only root can; the file is then ours, as with any editor */
        result = result < 0 || fchmod(fd, f->before.st_mode & 07777) < 0 ? -1 : 0;
    }
    if (result < 0 || fsync(fd) < 0)
        result = fail(c, path, "cannot be written");
    close(fd);
    return result;
}

static int keep_old(struct commit *c, const struct step *s)
{
    if (linkat(AT_FDCWD, s->file->path, AT_FDCWD, s->backup, 0) == 0)
        return 0;
    if (s->file->link)
        return symlink(s->file->old.p, s->backup) < 0 ? fail(c, s->backup, "cannot be written") : 0;
    return write_new(c, s->backup, buf_view(&s->file->old), s->file); /* a file system without links, or another's file */
}

static int prepare(struct commit *c)
{
    for (size_t i = 0; i < c->n; i++) {
        const struct step *s = &c->steps[i];
        if (s->temp && (make_folders(c, s->file->path) < 0 || write_new(c, s->temp, buf_view(&s->file->now), s->file) < 0))
            return -1;
        if (s->backup && keep_old(c, s) < 0)
            return -1;
    }
    return sync_folders(c) < 0 ? -1 : manifest_mark(c, "ready");
}

/* ---- placing ---- */

/* Somebody else may have written to it since it was read. */
static bool still_as_read(const struct patch_file *f)
{
    struct stat st;
    if (lstat(f->path, &st) < 0)
        return !f->existed && errno == ENOENT;
    return f->existed && st.st_ino == f->before.st_ino && st.st_dev == f->before.st_dev &&
           st.st_size == f->before.st_size && st.st_mtim.tv_sec == f->before.st_mtim.tv_sec &&
           st.st_mtim.tv_nsec == f->before.st_mtim.tv_nsec;
}

static int put_in_place(struct commit *c)
{
    for (size_t i = 0; i < c->n; i++) {
        struct step *s = &c->steps[i];
        if (!still_as_read(s->file)) {
            buf_printf(c->error, "%s: it was changed by somebody else meanwhile; nothing was applied", s->file->path);
            return -1;
        }
        if ((s->temp ? rename(s->temp, s->file->path) : unlink(s->file->path)) < 0)
            return fail(c, s->file->path, s->temp ? "cannot be replaced" : "cannot be deleted");
        s->placed = true;
    }
    return 0;
}

/* All is in place: a disk that fails now is no reason to take it back, which would have to write again. Should the power go before it was
 * synced, the manifest, which is still "ready", says how to finish. */
static void finish(struct commit *c)
{
    if (sync_folders(c) == 0 && manifest_mark(c, "done") == 0)
        return;
    buf_puts(c->error, "; it is applied, but the disk did not confirm it: should the power go now, look whether it is still there");
}

/* Backwards, so that what was there first is there last. */
static bool undo(struct commit *c)
{
    bool whole = true;
    for (size_t i = c->n; i-- > 0;) {
        struct step *s = &c->steps[i];
        if (!s->placed)
            continue;
        if ((s->backup ? rename(s->backup, s->file->path) : unlink(s->file->path)) < 0) {
            buf_printf(c->error, "\n%s could not be taken back: %s; its old content is in %s", s->file->path, strerror(errno),
                       s->backup ? s->backup : "no file, it is new");
            whole = false;
        } else {
            patch_sync_parent(s->file->path);
        }
    }
    return whole;
}

static void drop_temporaries(const struct commit *c)
{
    for (size_t i = 0; i < c->n; i++) {
        if (c->steps[i].temp)
            unlink(c->steps[i].temp);
        if (c->steps[i].backup)
            unlink(c->steps[i].backup);
    }
}

static void commit_free(struct commit *c)
{
    for (size_t i = 0; i < c->n; i++) {
        mem_free(c->steps[i].temp);
        mem_free(c->steps[i].backup);
    }
    for (size_t i = 0; i < c->made_n; i++)
        mem_free(c->made[i]);
    mem_free(c->steps);
    mem_free(c->made);
}

/* Somebody who ends the run is asked to wait for the moment that this takes. */
static void block_signals(bool block)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(block ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

int patch_commit(const struct patch_files *f, const char *manifest, struct buf *error)
{
    if (sodium_init() < 0) {
        buf_puts(error, "the random number generator does not work");
        return -1;
    }
    struct commit c = {.manifest = manifest, .error = error};
    block_signals(true);
    plan(&c, f);
    int result = manifest_begin(&c);
    if (result == 0) {
        result = prepare(&c);
        if (result == 0)
            result = put_in_place(&c);
        if (result == 0)
            finish(&c);
        /* An old content that could not be put back stays where the error says it is, and so does the manifest. */
        bool undone = result < 0 && undo(&c);
        if (result == 0 || undone)
            drop_temporaries(&c);
        for (size_t i = c.made_n; undone && i-- > 0;)
            rmdir(c.made[i]);
        if (undone && c.manifest)
            unlink(c.manifest);
        if (result < 0 && !undone)
            result = PATCH_E_HALF;
    }
    block_signals(false);
    commit_free(&c);
    return result;
}
