/* Tasks as the daemon holds them beside the core: their specs, how a reference finds one, how they come back at a start. */
#include "daemon/world.h"

#include "daemon/base/failpoint.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/model/provider.h"

#include <stdio.h>

static struct world_task *find(struct daemon *d, const char *id)
{
    return map_get(&d->world->tasks, str_of(id));
}

static struct world_task *add(struct daemon *d, const char *id)
{
    struct world_task *wt = MEM_NEW(struct world_task);
    snprintf(wt->id, sizeof wt->id, "%s", id);
    wt->daemon = d;
    map_put(&d->world->tasks, str_of(wt->id), wt);
    return wt;
}

static void set_spec(struct world_task *wt, struct str json)
{
    if (spec_decode(json, &wt->spec) < 0) {
        log_error("task %s: its stored specification cannot be read", wt->id);
        return;
    }
    wt->has_spec = true;
    wt->provider = provider_find(wt->spec.model.wire);
}

/* Without one, nothing could be written for the model that the task has. */
static bool spec_known(const struct store_task *row)
{
    struct task_spec spec;
    if (spec_decode(row->spec, &spec) < 0)
        return false;
    bool known = provider_find(spec.model.wire) != NULL;
    spec_free(&spec);
    return known;
}

static int load_spec_cb(void *arg, const struct store_task *row)
{
    set_spec(arg, row->spec);
    return 0;
}

struct world_task *world_task_of(struct daemon *d, const char *id)
{
    struct world_task *wt = find(d, id);
    if (!wt) {
        wt = add(d, id);
        if (store_task_load(d->store, id, load_spec_cb, wt) == STORE_E_IO && !d->read_only) {
            log_error("agentd ends and reads again at its next start: what a task works with cannot be read");
            world_read_again(d, "the specification of a task cannot be read");
        }
    }
    return wt;
}

void world_task_spec(struct daemon *d, const char *task, struct str spec, struct str head)
{
    struct world_task *wt = add(d, task);
    set_spec(wt, spec);
    buf_str(&wt->new_spec, spec);
    buf_str(&wt->new_head, head);
    world_visit(d, task); /* should the task be refused */
}

static void drop(struct world_task *wt)
{
    if (wt->transfer)
        model_cancel(wt->transfer);
    if (wt->has_spec)
        spec_free(&wt->spec);
    buf_free(&wt->new_spec);
    buf_free(&wt->new_head);
    mem_free(wt);
}

void world_task_drop(struct daemon *d, const char *id)
{
    struct world_task *wt = map_remove(&d->world->tasks, str_of(id));
    if (wt)
        drop(wt);
}

void world_transfers_cancel(struct daemon *d)
{
    struct map *m = &d->world->tasks;
    for (size_t i = 0; i < m->cap; i++) {
        struct world_task *wt = m->slots[i].key.p ? m->slots[i].value : NULL;
        if (wt && wt->transfer)
            model_cancel(wt->transfer);
        if (wt)
            wt->transfer = NULL;
    }
}

void world_tasks_free(struct daemon *d)
{
    struct map *m = &d->world->tasks;
    for (size_t i = 0; i < m->cap; i++) {
        if (m->slots[i].key.p)
            drop(m->slots[i].value);
    }
    map_free(m);
}

/* ---- references ---- */

struct restore {
    struct daemon *d;
    const struct task *task;
};

static int restore_cb(void *arg, const struct store_task *row)
{
    struct restore *r = arg;
    if (spec_known(row))
        r->task = core_restore(r->d->core, row->snapshot);
    if (!r->task) {
        char sentence[96];
        snprintf(sentence, sizeof sentence, "the stored state of task %s is damaged", row->id);
        store_fail_read(r->d->store, sentence);
    }
    return 0;
}

/* The newest task in memory that `ref` means (a name, or @last); it may not be committed yet. */
static const struct task *newest(struct daemon *d, struct str ref)
{
    bool any = str_eqz(ref, "@last");
    const struct task *t, *last = NULL;
    LIST_EACH(t, core_tasks(d->core), struct task, node)
    {
        if ((any || str_eqz(ref, t->name)) && (!last || strcmp(t->id, last->id) > 0))
            last = t;
    }
    return last;
}

const struct task *world_task(struct daemon *d, struct str ref, enum rpc_error *ret_error)
{
    char id[32];
    *ret_error = RPC_TASK_NOT_FOUND;
    if (ref.n == 0 || ref.n > 256)
        return NULL;
    CLEANUP(buf_free) struct buf text = {0};
    buf_str(&text, ref);
    const struct task *t = core_task(d->core, buf_cstr(&text));
    if (!t)
        t = core_task_named(d->core, ref);
    if (t)
        return t;
    int r = store_task_resolve(d->store, ref, id);
    const struct task *last = newest(d, ref);
    if (last && (r != 0 || strcmp(last->id, id) > 0))
        return last;
    if (r != 0) {
        *ret_error = r == STORE_E_NONE        ? RPC_TASK_NOT_FOUND
                     : r == STORE_E_AMBIGUOUS ? RPC_TASK_AMBIGUOUS
                                              : RPC_STATE_UNREADABLE;
        return NULL;
    }
    t = core_task(d->core, id);
    if (t)
        return t;
    struct restore restore = {.d = d};
    r = store_task_load(d->store, id, restore_cb, &restore);
    if (!restore.task)
        *ret_error = r == STORE_E_NONE ? RPC_TASK_NOT_FOUND : RPC_STATE_UNREADABLE;
    else
        world_visit(d, id);
    return restore.task;
}

/* ---- keeping ---- */

/* What is in memory may have inputs under way that the store does not know yet. */
static bool may_forget(void *arg, const char *task)
{
    struct daemon *d = arg;
    return !core_task(d->core, task) && !find(d, task);
}

static void kept(void *arg, const char *task, bool removed)
{
    struct daemon *d = arg;
    world_runs_look(d, task);
    if (removed)
        rpc_task_removed(d->rpc, task);
}

void world_retain(struct daemon *d)
{
    static const struct store_keeper keeper = {.may_forget = may_forget, .kept = kept};
    const struct limits *l = &d->config->limits;
    const struct store_retention retention = {
        .archive_after_ms = l->archive_after_ms, .keep_ms = l->keep_ms, .bytes_max = l->storage_bytes_max};
    store_retain(d->store, &retention, &keeper, d);
    d->world->runs = world_runs_new(d, true);
    world_turn(d);
}

/* ---- start ---- */

static int live_cb(void *arg, const struct store_task *row)
{
    struct daemon *d = arg;
    if (!spec_known(row) || !core_restore(d->core, row->snapshot))
        log_error("task %s: its stored state cannot be read; it is left as it is", row->id);
    return 0;
}

static enum previous_end previous_end(struct daemon *d)
{
    CLEANUP(buf_free) struct buf boot = {0};
    CLEANUP(buf_free) struct buf stopped = {0};
    store_meta(d->store, "boot_id", &boot);
    store_meta(d->store, "stopped", &stopped);
    if (str_eqz(buf_view(&stopped), "yes"))
        return PREVIOUS_END_STOP;
    return str_eqz(buf_view(&boot), d->now_cached.boot_id) ? PREVIOUS_END_CRASH : PREVIOUS_END_REBOOT;
}

static const struct call *waiting_call(const struct task *t, int64_t run)
{
    const struct call *c;
    LIST_EACH(c, (struct list *)&t->calls, struct call, node)
    {
        if (c->run == run)
            return c;
    }
    return NULL;
}

struct probes {
    struct recover_probe *p;
    struct buf *texts; /* owned: details and outputs */
    size_t n;
};

static struct str keep(struct buf *b, struct str s)
{
    if (s.p)
        buf_str(b, s);
    return s.p ? buf_view(b) : STR_NONE;
}

/* The database is a backup that was put here: its runs have left nothing in this state folder, and that says nothing. */
static bool is_copy(struct daemon *d)
{
    CLEANUP(buf_free) struct buf copy = {0};
    return store_meta(d->store, STORE_META_COPY, &copy) == 0 && str_eqz(buf_view(&copy), "yes");
}

static void doubt_copied(struct recover_probe *probe)
{
    probe->probe = RUN_PROBE_ENDED;
    probe->exit = (struct run_exit){
        .outcome = RUN_OUTCOME_IN_DOUBT,
        .detail = STR("agentd was restored from a backup that was made before this had ended: whether it ran, and how it ended, "
                      "is not known"),
    };
}

static void probe_run(struct daemon *d, const struct task *t, const struct run *r, bool copy, struct probes *all)
{
    char name[24];
    world_run_name(r->n, name);
    struct recover_probe *probe = &all->p[all->n];
    struct buf *texts = &all->texts[all->n * 2];
    *probe = (struct recover_probe){.run = r->n};
    bool this_boot = strcmp(r->boot_id, d->now_cached.boot_id) == 0;
    probe->probe = runs_probe(d->runs, t->id, name, this_boot, r->program == RUN_PROGRAM_PATCH && !copy, &probe->exit);
    if (copy && probe->probe == RUN_PROBE_NOT_STARTED)
        doubt_copied(probe);
    all->n++;
    if (probe->probe != RUN_PROBE_ENDED)
        return;
    probe->exit.detail = keep(&texts[0], probe->exit.detail);
    probe->output = (struct run_output){.end = r->seen_bytes};
    const struct call *c = waiting_call(t, r->n);
    if (!c)
        return;
    world_collect(d, t, r, c->output_bytes, &probe->output);
    probe->output.text = keep(&texts[1], probe->output.text);
    probe->output.image_data = STR_NONE;
}

static void recover_task(struct daemon *d, const struct task *t, enum previous_end end, bool copy)
{
    size_t cap = (size_t)t->runs_open + 1;
    struct probes all = {.p = mem_alloc(cap * sizeof *all.p), .texts = mem_alloc(cap * 2 * sizeof *all.texts)};
    const struct run *r;
    LIST_EACH(r, (struct list *)&t->runs, struct run, node)
    {
        if (!r->ended)
            probe_run(d, t, r, copy, &all);
    }
    FAILPOINT("world.recover_task");
    struct input in = {.kind = INPUT_RECOVER, .task = t->id};
    in.recover.previous_end = end;
    in.recover.probes = all.p;
    in.recover.probes_n = all.n;
    pump_input(d->pump, &in, NULL, NULL);
    for (size_t i = 0; i < cap * 2; i++)
        buf_free(&all.texts[i]);
    mem_free(all.texts);
    mem_free(all.p);
}

int world_recover(struct daemon *d, struct buf *error)
{
    enum previous_end end = previous_end(d);
    bool copy = is_copy(d);
    if (store_tasks_live(d->store, live_cb, d) != 0) {
        buf_puts(error, "the tasks cannot be read from the database");
        return -1;
    }
    const struct task *t;
    LIST_EACH(t, core_tasks(d->core), struct task, node)
        recover_task(d, t, end, copy);
    store_batch_meta(d->world->rows, "boot_id", str_of(d->now_cached.boot_id));
    store_batch_meta(d->world->rows, "stopped", STR("no"));
    if (copy)
        store_batch_meta(d->world->rows, STORE_META_COPY, STR("no"));
    pump_dirty(d->pump);
    pump_tick(d->pump);
    world_turn(d);
    FAILPOINT("world.recovered");
    d->previous_end = end;
    d->recovered = true;
    return 0;
}
