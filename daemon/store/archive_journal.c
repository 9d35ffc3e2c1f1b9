/* The journal's own order over all tasks, where some of them are archived. Each block holds events of one task, so the events of
 * a page may lie in many blocks, between each other and between rows. A page is made in two steps: first the places of its
 * events, by position, from the small columns; then their contents, each block unpacked once. Memory is bounded by the page
 * and one block. */
#include "daemon/store/archive_block.h"
#include "daemon/store/page.h"

#include "daemon/base/log.h"
#include "daemon/base/mem.h"

#include <stdlib.h>

#define PLACES_MAX 1000 /* of one page, whatever its limit */

struct place {
    int64_t pos, seq;
    int64_t block; /* 0: a row */
    size_t at, n;  /* in the contents of the block; then in the page's own */
    bool loaded;
    char task[32];
};

struct places {
    struct page *page;
    struct place *p;
    size_t n, cap;
    int64_t after, last; /* what is behind `last` does not come into this page: something before it was left out */
    struct buf contents;
};

static int place_compare(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return (x->pos > y->pos) - (x->pos < y->pos);
}

/* In order, and without what the page has no room for. */
static void places_cut(struct places *all)
{
    int64_t given = 0;
    size_t n = 0;
    qsort(all->p, all->n, sizeof *all->p, place_compare);
    while (n < all->n && n < PLACES_MAX && (int64_t)n < all->page->limit &&
           (n == 0 || (int64_t)all->p[n].n <= all->page->bytes - given))
        given += (int64_t)all->p[n++].n;
    all->n = n;
}

static void places_add(struct places *all, const struct place *place)
{
    if (all->n == all->cap) {
        all->cap = all->cap ? all->cap * 2 : 256;
        all->p = mem_realloc(all->p, all->cap * sizeof *all->p);
    }
    all->p[all->n++] = *place;
}

/* -1: damaged. */
static int places_of_block(struct places *all, sqlite3_stmt *q)
{
    struct place place = {.block = sqlite3_column_int64(q, 0)};
    struct archive_walk w;
    struct str task = db_column(q, 5);
    snprintf(place.task, sizeof place.task, "%.*s", STR_ARG(task));
    archive_walk_begin(&w, db_column(q, 4), sqlite3_column_int64(q, 2), sqlite3_column_int64(q, 1), sqlite3_column_int64(q, 3));
    int more;
    while ((more = archive_walk_next(&w)) > 0) {
        if (w.pos <= all->after || w.pos > all->last)
            continue;
        place.pos = w.pos;
        place.seq = w.number;
        place.at = w.at;
        place.n = w.n;
        places_add(all, &place);
    }
    return more;
}

/* Blocks come by their first position: once something had to be left out, those that begin behind the last place have nothing
 * for this page. */
static int places_of_blocks(struct places *all)
{
    struct store *s = all->page->store;
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_BLOCKS_POS);
    if (!q)
        return store_read_failed(s, "cannot read the journal");
    sqlite3_bind_int64(q, 1, all->after);
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW && sqlite3_column_int64(q, 1) <= all->last) {
        size_t before = all->n;
        if (places_of_block(all, q) < 0)
            return store_read_damaged(s, "a block of an archived task is damaged: its places cannot be read; put a backup in its place");
        if (all->n == before)
            continue;
        size_t found = all->n;
        places_cut(all);
        if (all->n < found)
            all->last = all->p[all->n - 1].pos;
    }
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : store_read_failed(s, "cannot read the journal");
}

static int places_of_rows(struct places *all)
{
    struct store *s = all->page->store;
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_JOURNAL_PLACES);
    if (!q)
        return store_read_failed(s, "cannot read the journal");
    sqlite3_bind_int64(q, 1, all->after);
    int64_t given = 0;
    int rc, n = 0;
    /* One more than the page has room for, so that the cut falls before those that are not looked at. */
    while ((rc = sqlite3_step(q)) == SQLITE_ROW && n <= PLACES_MAX && given <= all->page->bytes) {
        struct place place = {.pos = sqlite3_column_int64(q, 0), .seq = sqlite3_column_int64(q, 1)};
        place.n = (size_t)sqlite3_column_int64(q, 2);
        if (place.pos > all->last)
            break;
        given += (int64_t)place.n;
        n++;
        places_add(all, &place);
    }
    places_cut(all);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : store_read_failed(s, "cannot read the journal");
}

/* Unpacks one block and takes what the page wants of it. */
static int places_load(struct places *all, int64_t block, struct buf *contents)
{
    struct store *s = all->page->store;
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_BLOCK);
    if (!q)
        return store_read_failed(s, "cannot read the journal");
    sqlite3_bind_int64(q, 1, block);
    if (sqlite3_step(q) != SQLITE_ROW)
        return store_read_failed(s, "cannot read the journal");
    int status = archive_contents(s, q, contents);
    for (size_t i = 0; !status && i < all->n; i++) {
        struct place *p = &all->p[i];
        if (p->block != block || p->at + p->n > contents->n)
            continue;
        size_t at = all->contents.n;
        buf_put(&all->contents, contents->p + p->at, p->n);
        p->at = at;
        p->loaded = true;
    }
    return status;
}

static int place_give_row(struct page *page, int64_t pos)
{
    struct store *s = page->store;
    CLEANUP(buf_free) struct buf large = {0};
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_EVENT_AT);
    if (!q)
        return store_read_failed(s, "cannot read the journal");
    sqlite3_bind_int64(q, 1, pos);
    if (sqlite3_step(q) != SQLITE_ROW)
        return store_read_failed(s, "cannot read the journal");
    struct store_event event = {.pos = pos, .seq = sqlite3_column_int64(q, 1), .task = (const char *)sqlite3_column_text(q, 5)};
    int status = store_content(s, q, 2, &large, &event.json);
    return status ? status : page_give(page, &event);
}

static int places_give(struct places *all)
{
    CLEANUP(buf_free) struct buf contents = {0};
    int status = 0;
    for (size_t i = 0; !status && i < all->n; i++) {
        struct place *p = &all->p[i];
        if (!p->block) {
            status = place_give_row(all->page, p->pos);
            continue;
        }
        if (!p->loaded)
            status = places_load(all, p->block, &contents);
        if (!status && !p->loaded)
            return STORE_E_FOREIGN;
        struct store_event event = {.pos = p->pos, .seq = p->seq, .task = p->task};
        event.json = str_n(all->contents.p + p->at, p->n);
        if (!status)
            status = page_give(all->page, &event);
    }
    return status;
}

int archive_journal_after(struct page *page, int64_t after, bool *ret_any)
{
    struct places all = {.page = page, .after = after, .last = INT64_MAX};
    int status = page->limit > 0 ? places_of_blocks(&all) : 0;
    *ret_any = !status && all.n > 0;
    if (*ret_any)
        status = places_of_rows(&all);
    if (!status && *ret_any)
        status = places_give(&all);
    mem_free(all.p);
    buf_free(&all.contents);
    return status;
}
