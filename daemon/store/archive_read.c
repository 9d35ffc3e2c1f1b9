/* What is in blocks, read back: events of a task both ways, elements of a prompt. */
#include "daemon/store/archive_block.h"
#include "daemon/store/page.h"
#include "daemon/store/zstd_api.h"

#include "daemon/base/log.h"

#include <inttypes.h>

static int block_damaged(struct store *s, const char *why)
{
    return store_read_damaged(s, "a block of an archived task is damaged: %s; put a backup in its place", why);
}

int archive_contents(struct store *s, sqlite3_stmt *q, struct buf *ret)
{
    CLEANUP(buf_free) struct buf error = {0};
    struct str body = db_column(q, 0);
    int64_t bytes = sqlite3_column_int64(q, 2);
    if (body.p && sqlite3_column_int64(q, 3) == ARCHIVE_ZSTD && !zstd_api()) {
        store_fail_read(s, "a block of an archived task cannot be read: libzstd cannot be loaded; install it (on Debian: libzstd1)");
        return STORE_E_IO;
    }
    if (body.p)
        return archive_block_unpack(sqlite3_column_int64(q, 3), body, bytes, ret, &error) < 0 ? block_damaged(s, buf_cstr(&error))
                                                                                              : 0;
    struct str hash = db_column(q, 1);
    buf_clear(ret);
    int rc = hash.n == BLOB_HASH_SIZE ? blobs_read(&s->blobs, (const uint8_t *)hash.p, bytes, ret) : -EBADMSG;
    return rc ? block_damaged(s, "its file of the folder blobs is missing, or is not what was written") : 0;
}

/* The walk over the contents of a row; its columns 5 and 6 are the first number and position. */
static void block_walk(sqlite3_stmt *q, bool events, struct archive_walk *w)
{
    archive_walk_begin(w, db_column(q, 4), sqlite3_column_int64(q, 5), events ? sqlite3_column_int64(q, 6) : 0,
                       sqlite3_column_int64(q, 2));
}

/* One event, if the page has room for it; the block is unpacked for the first. */
static int block_give(struct page *p, sqlite3_stmt *q, const char *task, const struct archive_walk *w, struct buf *contents)
{
    if (!page_room(p, (int64_t)w->n))
        return 0;
    int status = contents->n ? 0 : archive_contents(p->store, q, contents);
    if (!status && w->at + w->n > contents->n)
        status = block_damaged(p->store, "its places cannot be read");
    if (status)
        return status;
    return page_give(p, &(struct store_event){
                            .pos = w->pos, .seq = w->number, .task = task, .json = str_n(contents->p + w->at, w->n)});
}

/* Those behind `after`, upwards. */
static int block_give_after(struct page *p, sqlite3_stmt *q, const char *task, int64_t after, struct buf *contents)
{
    struct archive_walk w;
    int more = 0, status = 0;
    block_walk(q, true, &w);
    while (!status && !p->full && (more = archive_walk_next(&w)) > 0) {
        if (w.number > after)
            status = block_give(p, q, task, &w, contents);
    }
    return status ? status : more < 0 ? block_damaged(p->store, "its places cannot be read") : 0;
}

/* Those before `before`, downwards. */
static int block_give_before(struct page *p, sqlite3_stmt *q, const char *task, int64_t before, struct buf *contents)
{
    struct archive_walk all[ARCHIVE_BLOCK_ROWS], w;
    int n = 0, more, status = 0;
    block_walk(q, true, &w);
    while ((more = archive_walk_next(&w)) > 0 && w.number < before && n < ARCHIVE_BLOCK_ROWS)
        all[n++] = w;
    if (more < 0)
        return block_damaged(p->store, "its places cannot be read");
    while (!status && n-- && !p->full)
        status = block_give(p, q, task, &all[n], contents);
    return status;
}

static int events_of_blocks(struct page *p, enum query query, int64_t n, const char *task, int64_t from)
{
    CLEANUP(buf_free) struct buf contents = {0};
    CLEANUP_QUERY *q = db_query(&p->store->reader, query);
    if (!q)
        return store_read_failed(p->store, "cannot read archived events");
    sqlite3_bind_int64(q, 1, n);
    sqlite3_bind_int64(q, 2, from);
    int rc = SQLITE_DONE, status = 0;
    while (!status && !p->full && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        buf_clear(&contents);
        status = query == QUERY_BLOCKS_AFTER ? block_give_after(p, q, task, from, &contents)
                                             : block_give_before(p, q, task, from, &contents);
    }
    return status || p->full || rc == SQLITE_DONE ? status : store_read_failed(p->store, "cannot read archived events");
}

int archive_events_after(struct page *p, int64_t n, const char *task, int64_t after)
{
    return events_of_blocks(p, QUERY_BLOCKS_AFTER, n, task, after);
}

int archive_events_before(struct page *p, int64_t n, const char *task, int64_t before)
{
    return events_of_blocks(p, QUERY_BLOCKS_BEFORE, n, task, before);
}

static int block_elements(struct store *s, sqlite3_stmt *q, struct buf *contents, struct buf *ret, int64_t *next)
{
    struct archive_walk w;
    int more, status = archive_contents(s, q, contents);
    block_walk(q, false, &w);
    while (!status && (more = archive_walk_next(&w)) > 0) {
        if (w.number != *next)
            return block_damaged(s, "an element of a prompt is missing");
        page_element(ret, (*next)++, str_n(contents->p + w.at, w.n));
    }
    return status ? status : more < 0 ? block_damaged(s, "its places cannot be read") : 0;
}

int archive_context(struct store *s, int64_t n, int64_t epoch, struct buf *ret, int64_t *next)
{
    CLEANUP(buf_free) struct buf contents = {0};
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_BLOCKS_CONTEXT);
    if (!q)
        return store_read_failed(s, "cannot read an archived prompt");
    sqlite3_bind_int64(q, 1, n);
    sqlite3_bind_int64(q, 2, epoch);
    int rc, status = 0;
    while (!status && (rc = sqlite3_step(q)) == SQLITE_ROW)
        status = block_elements(s, q, &contents, ret, next);
    return status || rc == SQLITE_DONE ? status : store_read_failed(s, "cannot read an archived prompt");
}
