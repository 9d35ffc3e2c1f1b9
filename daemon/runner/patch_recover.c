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
    bool ready, done;
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
    int result = c->temp ? rename(c->temp, c->path) : unlink(c->path);
    return result < 0 ? -1 : patch_sync_parent(c->path);
}

static int undo_one(const struct change *c)
{
    if (c->seen == SEEN_BEFORE)
        return 0;
    if (c->seen == SEEN_OTHER)
        return -1;
    int result = c->backup ? rename(c->backup, c->path) : unlink(c->path);
    return result < 0 ? -1 : patch_sync_parent(c->path);
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

static bool each(const struct recovery *r, int (*fn)(const struct change *), struct buf *report)
{
    bool all = true;
    for (size_t i = 0; i < r->n; i++)
        if (fn(&r->changes[i]) < 0) {
            buf_printf(report, "%s: %s\n", r->changes[i].path,
                       r->changes[i].seen == SEEN_OTHER ? "changed by somebody else, left alone" : strerror(errno));
            all = false;
        }
    return all;
}

static enum patch_recovered decide(struct recovery *r, struct buf *report)
{
    bool finish = r->ready;
    for (size_t i = 0; i < r->n; i++) {
        r->changes[i].seen = look(&r->changes[i]);
        finish = finish && can_finish(&r->changes[i]);
    }
    if (r->done)
        return PATCH_FINISHED; /* what happened to the files since is no business of the patch */
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
