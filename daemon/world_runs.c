/* The folders of runs that nobody asks about any more. What the daemon still reads of a run's folder, it reads for runs that the
 * task's state holds: output for a call that waits or polls, live text, the end of a run at a start. So a folder may go
 *
 *     - once the durable state of its task holds the run no more (see forget_runs() in core/apply.c),
 *     - with all others once its task is archived, or removed: who takes it up again is told that the process has ended,
 *     - if there is no such task: a crash came before the folder was removed.
 *
 * Never while the lock of a runner is held. Some folders in each turn of the loop. */
#include "daemon/world.h"

#include "daemon/base/log.h"
#include "daemon/base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FOLDERS_TURN 16 /* of runs, deleted in one turn of the loop */
#define LOOKS_TURN 8    /* tasks that are looked at in one */

struct world_runs {
    char (*tasks)[TASK_ID_SIZE]; /* to be looked at, from tasks_at on */
    size_t tasks_at, tasks_n, tasks_cap;
    DIR *all; /* the folder of all tasks, while a start looks through it */
};

struct world_runs *world_runs_new(const struct daemon *d, bool sweep)
{
    struct world_runs *w = MEM_NEW(struct world_runs);
    CLEANUP(buf_free) struct buf path = {0};
    buf_printf(&path, "%s/runs", d->state_dir);
    w->all = sweep ? opendir(path.p) : NULL;
    return w;
}

void world_runs_free(struct world_runs *w)
{
    if (!w)
        return;
    if (w->all)
        closedir(w->all);
    mem_free(w->tasks);
    mem_free(w);
}

void world_runs_look(struct daemon *d, const char *task)
{
    struct world_runs *w = d->world->runs;
    if (!w)
        return;
    if (w->tasks_n == w->tasks_cap) {
        w->tasks_cap = w->tasks_cap ? w->tasks_cap * 2 : 16;
        w->tasks = mem_realloc(w->tasks, w->tasks_cap * sizeof *w->tasks);
    }
    snprintf(w->tasks[w->tasks_n++], TASK_ID_SIZE, "%s", task);
    world_turn(d);
}

void world_runs_committed(struct daemon *d, struct world_task *wt)
{
    const struct task *t = core_task(d->core, wt->id);
    if (!t || wt->dirty || wt->committing || t->runs_n == 0)
        return;
    int64_t held = 0;
    for (const struct list *node = t->runs.next; node != &t->runs; node = node->next)
        held++;
    if (t->runs_n - held == wt->runs_forgotten)
        return;
    wt->runs_forgotten = t->runs_n - held;
    world_runs_look(d, wt->id);
}

/* ---- one task ---- */

struct held {
    int64_t *runs;
    size_t n;
    bool all; /* nothing of the task may go: it lives, and memory is ahead of what is durable, or its state cannot be read */
};

static void hold_runs(struct held *h, const struct task *t)
{
    const struct run *r;
    LIST_EACH(r, (struct list *)&t->runs, struct run, node)
    {
        h->runs = mem_realloc(h->runs, (h->n + 1) * sizeof *h->runs);
        h->runs[h->n++] = r->n;
    }
}

static int hold_stored(void *arg, const struct store_task *row)
{
    struct held *h = arg;
    struct task *t = row->live ? NULL : task_from_snapshot(row->snapshot);
    h->all = !t;
    if (t)
        hold_runs(h, t);
    if (t)
        task_free(t);
    return 0;
}

static void hold(struct daemon *d, const char *task, struct held *h)
{
    const struct task *t = core_task(d->core, task);
    struct world_task *wt = map_get(&d->world->tasks, str_of(task));
    if (t || wt) {
        h->all = !t || (wt && (wt->dirty || wt->committing));
        if (!h->all)
            hold_runs(h, t);
        return;
    }
    int status = store_task_archived(d->store, task);
    if (status == STORE_E_NONE)
        status = store_task_load(d->store, task, hold_stored, h);
    h->all = h->all || (status != 0 && status != STORE_E_NONE);
}

/* Returns how many folders were deleted; *ret_more: there are others. */
static size_t look_at(struct daemon *d, const char *task, size_t folders_max, bool *ret_more)
{
    struct held h = {0};
    size_t n = 0;
    *ret_more = false;
    hold(d, task, &h);
    if (!h.all)
        n = runs_delete(d->runs, task, h.runs, h.n, folders_max, ret_more);
    mem_free(h.runs);
    return n;
}

/* ---- turns ---- */

static void sweep_next(struct daemon *d)
{
    struct world_runs *w = d->world->runs;
    for (int i = 0; i < LOOKS_TURN; i++) {
        struct dirent *e = readdir(w->all);
        if (!e) {
            closedir(w->all);
            w->all = NULL;
            return;
        }
        /* What somebody else has put there is left alone. */
        if (e->d_name[0] == 't' && strlen(e->d_name) == TASK_ID_SIZE - 1)
            world_runs_look(d, e->d_name);
    }
}

void world_runs_turn(struct daemon *d)
{
    struct world_runs *w = d->world->runs;
    if (!w || d->world->ended)
        return;
    size_t folders = 0;
    for (int i = 0; i < LOOKS_TURN && w->tasks_at < w->tasks_n && folders < FOLDERS_TURN; i++) {
        bool more;
        folders += look_at(d, w->tasks[w->tasks_at], FOLDERS_TURN - folders, &more);
        w->tasks_at += !more;
    }
    if (w->tasks_at == w->tasks_n)
        w->tasks_at = w->tasks_n = 0;
    if (w->tasks_n == 0 && w->all)
        sweep_next(d);
    if (w->tasks_n || w->all)
        world_turn(d);
}
