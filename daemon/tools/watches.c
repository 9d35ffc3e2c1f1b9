#include "daemon/tools/watches.h"

#include "daemon/base/buf.h"
#include "daemon/base/list.h"
#include "daemon/base/mem.h"

#include <stdio.h>
#include <sys/stat.h>

#define LOOK_MS 10000 /* where nothing is notified */
#define SOON_MS 50    /* from a notification to the look: a busy folder must not cost a stat for each */
#define BUSY_MS 1000  /* the same where look after look finds nothing, as in a folder that a build works in */

/* A path is followed through the folder that holds it, or the nearest one that is there: its file may be replaced by another, or not
 * be there yet. A folder is followed itself, since its entries are what changes it. */
struct watch {
    struct list node;
    struct watches *all;
    char task[TASK_ID_SIZE];
    int64_t wait, condition;
    char *path;
    struct file_stamp stamp;
    char *folder; /* the one that is followed; NULL: none */
    dev_t folder_device;
    ino_t folder_inode;
    uv_fs_event_t event;
    int64_t looked; /* the pass that looked at it last */
    bool told;
};

struct watches {
    uv_loop_t *loop;
    watches_changed_cb *changed;
    void *arg;
    struct list watches;
    uv_timer_t look;
    bool soon;      /* the timer is set to less than LOOK_MS */
    bool notified;  /* that is why */
    uint64_t soon_ms; /* from SOON_MS to BUSY_MS */
    int64_t passes;
    size_t handles; /* not closed yet */
};

void watches_stamp(const char *path, struct file_stamp *ret)
{
    struct stat st;
    *ret = (struct file_stamp){0};
    if (stat(path, &st) < 0)
        return;
    *ret = (struct file_stamp){.exists = true,
                               .size = (int64_t)st.st_size,
                               .mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
                               .inode = (int64_t)st.st_ino};
}

static bool stamp_eq(const struct file_stamp *a, const struct file_stamp *b)
{
    return a->exists == b->exists && a->size == b->size && a->mtime_ns == b->mtime_ns && a->inode == b->inode;
}

/* ---- the timer ---- */

static void look_cb(uv_timer_t *timer);

static void look_in(struct watches *w, uint64_t ms)
{
    w->soon = ms < LOOK_MS;
    uv_timer_start(&w->look, look_cb, ms, 0);
}

/* ---- the folder ---- */

static void follow_none(struct watch *one)
{
    uv_fs_event_stop(&one->event);
    mem_free(one->folder);
    one->folder = NULL;
}

/* One word is enough until the look: where others write, each more would wake the daemon for nothing. */
static void event_cb(uv_fs_event_t *event, const char *name, int events, int status)
{
    (void)name;
    (void)events;
    (void)status; /* whatever it says: the look will tell */
    struct watch *one = event->data;
    struct watches *w = one->all;
    follow_none(one);
    w->notified = true;
    if (!w->soon)
        look_in(w, w->soon_ms);
}

/* The path itself if it is a folder, else the nearest one above. */
static bool nearest_folder(const char *path, struct buf *ret, struct stat *st)
{
    buf_puts(ret, path);
    while (stat(buf_cstr(ret), st) < 0 || !S_ISDIR(st->st_mode)) {
        const char *slash = strrchr(buf_cstr(ret), '/');
        if (!slash || ret->n <= 1)
            return false;
        size_t n = (size_t)(slash - ret->p);
        ret->n = n ? n : 1;
        ret->p[ret->n] = 0;
    }
    return true;
}

static void follow(struct watch *one)
{
    CLEANUP(buf_free) struct buf folder = {0};
    struct stat st;
    if (!nearest_folder(one->path, &folder, &st)) {
        follow_none(one);
        return;
    }
    if (one->folder && strcmp(one->folder, buf_cstr(&folder)) == 0 && one->folder_device == st.st_dev &&
        one->folder_inode == st.st_ino)
        return;
    follow_none(one);
    if (uv_fs_event_start(&one->event, event_cb, buf_cstr(&folder), 0) < 0)
        return; /* no watch is left, say: LOOK_MS */
    one->folder = mem_strdup(buf_cstr(&folder));
    one->folder_device = st.st_dev;
    one->folder_inode = st.st_ino;
}

/* First follow, then look: what changes in between is notified. */
static bool look(struct watch *one)
{
    struct file_stamp now;
    follow(one);
    watches_stamp(one->path, &now);
    return !stamp_eq(&now, &one->stamp);
}

/* Who is told may remove any of them, so it begins anew after each, without those that this pass looked at. */
static struct watch *next_changed(struct watches *w)
{
    struct watch *one;
    LIST_EACH(one, &w->watches, struct watch, node)
    {
        if (one->told || one->looked == w->passes)
            continue;
        one->looked = w->passes;
        if (look(one))
            return one;
    }
    return NULL;
}

static void look_later(struct watches *w, bool found)
{
    w->soon_ms = w->notified && !found ? w->soon_ms * 2 : SOON_MS;
    if (w->soon_ms > BUSY_MS)
        w->soon_ms = BUSY_MS;
    w->notified = false;
    if (!list_empty(&w->watches) && !w->soon)
        look_in(w, LOOK_MS);
}

static void look_cb(uv_timer_t *timer)
{
    struct watches *w = timer->data;
    struct watch *one;
    bool found = false;
    w->soon = false;
    w->passes++;
    while ((one = next_changed(w))) {
        char task[TASK_ID_SIZE];
        memcpy(task, one->task, sizeof task);
        one->told = found = true;
        follow_none(one);
        w->changed(w->arg, task, one->wait, one->condition);
    }
    look_later(w, found);
}

/* ---- life ---- */

struct watches *watches_new(uv_loop_t *loop, watches_changed_cb *changed, void *arg)
{
    struct watches *w = MEM_NEW(struct watches);
    w->loop = loop;
    w->changed = changed;
    w->arg = arg;
    w->handles = 1;
    w->soon_ms = SOON_MS;
    list_init(&w->watches);
    uv_timer_init(loop, &w->look);
    w->look.data = w;
    return w;
}

static void released(struct watches *w)
{
    if (--w->handles == 0)
        mem_free(w);
}

static void watch_closed_cb(uv_handle_t *handle)
{
    struct watch *one = handle->data;
    struct watches *w = one->all;
    mem_free(one->path);
    mem_free(one);
    released(w);
}

static void timer_closed_cb(uv_handle_t *handle)
{
    released(handle->data);
}

static void watch_drop(struct watch *one)
{
    list_remove(&one->node);
    follow_none(one);
    uv_close((uv_handle_t *)&one->event, watch_closed_cb);
}

void watches_free(struct watches *w)
{
    struct watch *one;
    LIST_EACH(one, &w->watches, struct watch, node)
        watch_drop(one);
    uv_close((uv_handle_t *)&w->look, timer_closed_cb);
}

static struct watch *find(const struct watches *w, const char *task, int64_t wait, int64_t condition)
{
    struct watch *one;
    LIST_EACH(one, (struct list *)&w->watches, struct watch, node)
    {
        if (one->wait == wait && one->condition == condition && strcmp(one->task, task) == 0)
            return one;
    }
    return NULL;
}

void watches_add(struct watches *w, const char *task, int64_t wait, int64_t condition, struct str path,
                 const struct file_stamp *stamp)
{
    if (find(w, task, wait, condition))
        return;
    struct watch *one = MEM_NEW(struct watch);
    one->all = w;
    snprintf(one->task, sizeof one->task, "%s", task);
    one->wait = wait;
    one->condition = condition;
    one->path = mem_dup(path.p, path.n);
    one->stamp = *stamp;
    uv_fs_event_init(w->loop, &one->event);
    one->event.data = one;
    w->handles++;
    list_append(&w->watches, &one->node);
    look_in(w, 0);
}

void watches_remove(struct watches *w, const char *task, int64_t wait, int64_t condition)
{
    struct watch *one = find(w, task, wait, condition);
    if (one)
        watch_drop(one);
}
