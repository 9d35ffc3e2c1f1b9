/* What takes long and goes on beside the journal, each on a thread that lives as long as it: checks of the
 * database, and what remains of a backup once its pages are copied. */
#include "daemon/base/mem.h"
#include "daemon/store/state.h"

struct store_check {
    struct list node;
    store_check_cb *done;
    void *arg;
};

struct store_backup {
    struct list node;
    struct store *store;
    struct journal_backup work;
    struct check check; /* of the copy */
    uv_thread_t thread;
    bool finishing; /* the thread is there */
    atomic_bool over;
    store_backup_cb *done;
    void *arg;
};

/* ---- backups ---- */

static void backup_main(void *arg)
{
    struct store_backup *b = arg;
    b->work.status = backup_finish(b->work.work, &b->store->blobs, &b->check, &b->work.error);
    backup_free(b->work.work);
    b->work.work = NULL;
    atomic_store(&b->over, true);
    uv_async_send(&b->store->async);
}

static struct store_backup *backup_first(struct store *s)
{
    return list_empty(&s->backups) ? NULL : LIST_ENTRY(s->backups.next, struct store_backup, node);
}

static bool backup_under_way(struct store *s, struct store_backup *b)
{
    if (b->finishing)
        return !atomic_load(&b->over);
    if (!journal_backup_over(&s->journal, &b->work))
        return true;
    if (b->work.status)
        return false;
    int rc = uv_thread_create(&b->thread, backup_main, b);
    b->finishing = rc == 0;
    if (rc) {
        buf_printf(&b->work.error, "a thread for the backup cannot be started: %s", uv_strerror(rc));
        b->work.status = STORE_E_IO;
    }
    return b->finishing;
}

static void backup_end(struct store *s, struct store_backup *b)
{
    list_remove(&b->node);
    blobs_release(&s->blobs);
    store_hold_loop(s);
    if (b->finishing)
        uv_thread_join(&b->thread);
    b->done(b->arg, b->work.status, buf_cstr(&b->work.error));
    backup_free(b->work.work);
    check_destroy(&b->check);
    buf_free(&b->work.error);
    mem_free(b->work.path);
    mem_free(b);
}

static void backups_report(struct store *s)
{
    struct store_backup *b;
    while (!s->closed && (b = backup_first(s)) && !backup_under_way(s, b)) {
        struct store_backup *next =
            b->node.next == &s->backups ? NULL : LIST_ENTRY(b->node.next, struct store_backup, node);
        if (next)
            journal_submit_backup(&s->journal, &next->work);
        backup_end(s, b);
    }
}

void store_backup(struct store *s, const char *path, store_backup_cb *done, void *arg)
{
    struct store_backup *b = MEM_NEW(struct store_backup);
    bool first = list_empty(&s->backups);
    b->store = s;
    b->done = done;
    b->arg = arg;
    b->work.path = mem_strdup(path);
    check_init(&b->check);
    list_append(&s->backups, &b->node);
    blobs_hold(&s->blobs);
    store_hold_loop(s);
    if (first)
        journal_submit_backup(&s->journal, &b->work);
}

/* ---- checks ---- */

static void check_main(void *arg)
{
    struct store *s = arg;
    blobs_hold(&s->blobs);
    s->check_status = check_run(&s->check, s->path, &s->blobs, &s->check_error);
    blobs_release(&s->blobs);
    atomic_store(&s->check_over, true);
    uv_async_send(&s->async);
}

/* All who wait share one check, which begins after they asked. */
static void checks_begin(struct store *s)
{
    for (struct list *node = s->checks.next; node != &s->checks; node = node->next)
        s->checking_n++;
    if (!s->checking_n)
        return;
    check_reset(&s->check);
    buf_clear(&s->check_error);
    s->unread_checked_n = s->unread_n;
    atomic_store(&s->check_over, false);
    int rc = uv_thread_create(&s->check_thread, check_main, s);
    s->check_runs = rc == 0;
    if (s->check_runs)
        return;
    s->check_status = STORE_E_STOPPED;
    buf_printf(&s->check_error, "a thread for the check cannot be started: %s", uv_strerror(rc));
    atomic_store(&s->check_over, true);
    uv_async_send(&s->async);
}

static void check_join(struct store *s)
{
    if (s->check_runs)
        uv_thread_join(&s->check_thread);
    s->check_runs = false;
}

static void checks_end(struct store *s, int status, const char *error)
{
    for (; s->checking_n; s->checking_n--) {
        struct store_check *c = LIST_ENTRY(s->checks.next, struct store_check, node);
        list_remove(&c->node);
        store_hold_loop(s);
        c->done(c->arg, status, error);
        mem_free(c);
    }
}

static void checks_report(struct store *s)
{
    if (s->closed || !s->checking_n || !atomic_load(&s->check_over))
        return;
    check_join(s);
    if (s->check_status == 0)
        s->unread_passed_n = s->unread_checked_n;
    CLEANUP(buf_free) struct buf error = s->check_error;
    s->check_error = (struct buf){0};
    checks_end(s, s->check_status, buf_cstr(&error));
    if (!s->closed)
        checks_begin(s);
}

void store_check(struct store *s, store_check_cb *done, void *arg)
{
    struct store_check *c = MEM_NEW(struct store_check);
    c->done = done;
    c->arg = arg;
    list_append(&s->checks, &c->node);
    store_hold_loop(s);
    if (!s->checking_n)
        checks_begin(s);
}

/* ---- for the store ---- */

void store_asides_init(struct store *s)
{
    list_init(&s->backups);
    list_init(&s->checks);
    check_init(&s->check);
}

void store_asides_report(struct store *s)
{
    backups_report(s);
    checks_report(s);
}

void store_asides_stop(struct store *s)
{
    struct store_backup *b = backup_first(s);
    if (s->check_runs)
        check_stop_wait(&s->check);
    check_join(s);
    if (b && b->finishing) {
        check_stop_wait(&b->check);
        uv_thread_join(&b->thread);
        b->finishing = false;
    }
}

void store_asides_free(struct store *s)
{
    struct store_backup *b;
    static const char stopped[] = "the daemon is stopping";
    while ((b = backup_first(s))) {
        if (!atomic_load(&b->over) || b->work.status) { /* else it was whole before the end */
            b->work.status = STORE_E_STOPPED;
            buf_clear(&b->work.error);
            buf_puts(&b->work.error, stopped);
        }
        backup_end(s, b);
    }
    s->checking_n = 0;
    for (struct list *node = s->checks.next; node != &s->checks; node = node->next)
        s->checking_n++;
    checks_end(s, STORE_E_STOPPED, stopped);
}
