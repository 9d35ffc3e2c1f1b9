#pragma once
/* A page of events that is being given to somebody: how many may follow. */
#include "daemon/store/state.h"

struct page {
    struct store *store;
    int64_t limit, bytes; /* of the page */
    int64_t n, given;     /* events and bytes so far */
    bool full;            /* the next one has no room */
    store_event_cb *cb;
    void *arg;
};

/* Whether an event of that size may follow; the first always may. Once one has no room, none has. */
static inline bool page_room(struct page *p, int64_t bytes)
{
    p->full = p->full || p->n >= p->limit || (p->n && bytes > p->bytes - p->given);
    return !p->full;
}

static inline int page_give(struct page *p, const struct store_event *event)
{
    p->n++;
    p->given += (int64_t)event->json.n;
    return p->cb(p->arg, event);
}

/* archive_read.c: the events of a task that are in blocks. */
int archive_events_after(struct page *p, int64_t n, const char *task, int64_t after);
int archive_events_before(struct page *p, int64_t n, const char *task, int64_t before);
/* Elements of a prompt that are in blocks: appended as in store_context_read(), *next is the index of what follows. */
int archive_context(struct store *s, int64_t n, int64_t epoch, struct buf *ret, int64_t *next);
/* archive_journal.c: whether some events behind `after` are in blocks: then the page comes from blocks and rows, merged. */
int archive_journal_after(struct page *p, int64_t after, bool *ret_any);
/* The plain content of a bound and stepped row of QUERY_BLOCK_COLUMNS. */
int archive_contents(struct store *s, sqlite3_stmt *q, struct buf *ret);

/* How one element of a prompt is put behind those before it. */
static inline void page_element(struct buf *ret, int64_t index, struct str bytes)
{
    if (index > 1)
        buf_putc(ret, ',');
    buf_str(ret, bytes);
}
