/* After a patch was cut short: what its manifest and the files' contents say decides whether it is finished or undone. Contents are
 * compared by hash; a file that is neither as before nor as after belongs to somebody else and is left alone. Harmless to repeat. */
#include "daemon/runner/patch.h"

#include "daemon/base/mem.h"
#include "daemon/base/pack.h"
#include "daemon/runner/record.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <unistd.h>

enum seen { SEEN_BEFORE, SEEN_AFTER, SEEN_OTHER };

struct change {
    char *path, *temp, *backup;
    struct str line, pre, post;
    enum seen seen;
};

struct recovery {
    struct change *changes;
    size_t n;
    char **made;
    size_t made_n;
    bool ready, done, undone;
    bool unconfirmed; /* a folder could not be synced */
};

static char *text_of(const struct pack_field *f)
{
    return mem_dup(f->bytes.p, f->bytes.n);
}

static void read_change(struct recovery *r, struct str group)
{
    r->changes = mem_realloc(r->changes, (r->n + 1) * sizeof *r->changes);
    struct change *c = &r->changes[r->n++];
    *c = (struct change){0};
    struct pack_field f;
    while (pack_next(&group, &f) == 1) {
        if (pack_is(&f, "path"))
            c->path = text_of(&f);
        else if (pack_is(&f, "temp"))
            c->temp = text_of(&f);
        else if (pack_is(&f, "backup"))
            c->backup = text_of(&f);
        else if (pack_is(&f, "line"))
            c->line = f.bytes;
        else if (pack_is(&f, "pre"))
            c->pre = f.bytes;
        else if (pack_is(&f, "post"))
            c->post = f.bytes;
    }
}

/* A field that was cut off at the end was being written when the process died: what stands before it counts. */
static void read_manifest(struct recovery *r, struct str bytes)
{
    struct pack_field f;
    while (pack_next(&bytes, &f) == 1) {
        if (pack_is(&f, "change"))
            read_change(r, f.bytes);
        else if (pack_is(&f, "made")) {
            r->made = mem_realloc(r->made, (r->made_n + 1) * sizeof *r->made);
            r->made[r->made_n++] = text_of(&f);
        } else if (pack_is(&f, "ready"))
            r->ready = true;
        else if (pack_is(&f, "done"))
            r->done = true;
        else if (pack_is(&f, "undone"))
            r->undone = true;
    }
}

static enum seen look(const struct change *c)
{
    char hash[PATCH_HASH_SIZE];
    errno = 0;
    if (patch_hash_file(c->path, hash) < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            return SEEN_OTHER;
        return !c->post.p ? SEEN_AFTER : !c->pre.p ? SEEN_BEFORE : SEEN_OTHER;
    }
    struct str now = str_n(hash, sizeof hash);
    if (c->post.p && str_eq(now, c->post))
        return SEEN_AFTER;
    return c->pre.p && str_eq(now, c->pre) ? SEEN_BEFORE : SEEN_OTHER;
}

static bool can_finish(const struct change *c)
{
    char hash[PATCH_HASH_SIZE];
    if (c->seen == SEEN_AFTER)
        return true;
    if (c->seen == SEEN_OTHER)
        return false;
    return !c->temp || (patch_hash_file(c->temp, hash) == 0 && str_eq(str_n(hash, sizeof hash), c->post));
}

static int finish_one(const struct change *c)
{
    if (c->seen != SEEN_BEFORE)
        return 0;
    return c->temp ? rename(c->temp, c->path) : unlink(c->path);
}

static int undo_one(const struct change *c)
{
    if (c->seen == SEEN_BEFORE)
        return 0;
    if (c->seen == SEEN_OTHER)
        return -1;
    return c->backup ? rename(c->backup, c->path) : unlink(c->path);
}

/* Only what can be one: of a manifest that was not synced, parts may be missing in the middle, and then a name is cut off. */
static void drop_temporary(const char *path, const char *kind)
{
    size_t n = path ? strlen(path) : 0, kind_n = strlen(kind);
    if (n > kind_n && strstr(path, ".agentd-") && strcmp(path + n - kind_n, kind) == 0)
        unlink(path);
}

static void drop_temporaries(const struct recovery *r)
{
    for (size_t i = 0; i < r->n; i++) {
        drop_temporary(r->changes[i].temp, ".new");
        drop_temporary(r->changes[i].backup, ".old");
    }
}

/* Of new folders first. Of one folder after the other: files of a patch mostly stand together. */
static void sync_folders(struct recovery *r)
{
    const char *before = "";
    for (size_t i = 0; i < r->made_n; i++)
        r->unconfirmed = (patch_sync_parent(r->made[i]) < 0 && errno != ENOENT) || r->unconfirmed;
    for (size_t i = 0; i < r->n; i++) {
        const char *path = r->changes[i].path, *slash = path ? strrchr(path, '/') : NULL;
        if (!slash || (strncmp(before, path, (size_t)(slash - path) + 1) == 0 && !strchr(before + (slash - path) + 1, '/')))
            continue;
        before = path;
        r->unconfirmed = patch_sync_parent(path) < 0 || r->unconfirmed;
    }
}

static bool each(struct recovery *r, int (*fn)(const struct change *), struct buf *report)
{
    bool all = true;
    for (size_t i = 0; i < r->n; i++)
        if (fn(&r->changes[i]) < 0) {
            buf_printf(report, "%s: %s\n", r->changes[i].path,
                       r->changes[i].seen == SEEN_OTHER ? "changed by somebody else, left alone" : strerror(errno));
            all = false;
        }
    sync_folders(r);
    return all;
}

static enum patch_recovered decide(struct recovery *r, struct buf *report)
{
    if (r->done || r->undone) /* what happened to the files since is no business of the patch */
        return r->done ? PATCH_FINISHED : PATCH_UNDONE;
    bool finish = r->ready;
    for (size_t i = 0; i < r->n; i++) {
        r->changes[i].seen = look(&r->changes[i]);
        finish = finish && can_finish(&r->changes[i]);
    }
    if (finish)
        return each(r, finish_one, report) ? PATCH_FINISHED : PATCH_CONFLICT;
    if (!r->ready)
        return PATCH_UNDONE; /* nothing was placed before */
    return each(r, undo_one, report) ? PATCH_UNDONE : PATCH_CONFLICT;
}

/* As patch_apply() reports it. */
static void put_finished(const struct recovery *r, struct buf *report)
{
    for (size_t i = 0; i < r->n; i++)
        buf_str(report, r->changes[i].line);
    if (r->unconfirmed)
        buf_puts(report, "; it is applied, but the disk did not confirm it: should the power go now, look whether it is still there\n");
}

/* Who looks again finds what somebody did to the files meanwhile, and must not take it for a half of the patch. */
static void mark(const struct recovery *r, const char *manifest, enum patch_recovered result)
{
    CLEANUP(buf_free) struct buf b = {0};
    if (result == PATCH_CONFLICT || r->unconfirmed || r->done || r->undone)
        return;
    pack_i64(&b, result == PATCH_FINISHED ? "done" : "undone", 1);
    int fd = open(manifest, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0)
        return;
    if (record_write_all(fd, buf_view(&b)) == 0)
        fdatasync(fd);
    close(fd);
}

enum patch_recovered patch_recover(const char *manifest, struct buf *report)
{
    CLEANUP(buf_free) struct buf bytes = {0};
    struct recovery r = {0};
    enum patch_recovered result = PATCH_CONFLICT;
    if (sodium_init() < 0 || record_read_file(AT_FDCWD, manifest, PATCH_TOTAL_BYTES_MAX, &bytes) < 0) {
        buf_printf(report, "%s: %s\n", manifest, strerror(errno));
    } else {
        read_manifest(&r, buf_view(&bytes));
        result = decide(&r, report);
        mark(&r, manifest, result);
        if (result != PATCH_CONFLICT)
            drop_temporaries(&r);
        for (size_t i = r.made_n; result == PATCH_UNDONE && i-- > 0;)
            rmdir(r.made[i]);
    }
    if (result == PATCH_FINISHED)
        put_finished(&r, report);
    for (size_t i = 0; i < r.n; i++) {
        mem_free(r.changes[i].path);
        mem_free(r.changes[i].temp);
        mem_free(r.changes[i].backup);
    }
    for (size_t i = 0; i < r.made_n; i++)
        mem_free(r.made[i]);
    mem_free(r.changes);
    mem_free(r.made);
    return result;
}
