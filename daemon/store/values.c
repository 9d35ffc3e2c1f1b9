/* Single values. */
#include "daemon/base/failpoint.h"
#include "daemon/base/log.h"
#include "daemon/store/state.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

static void keep_failure(struct store *s, const char *sentence)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    log_error("%s", sentence);
    buf_clear(&s->unread);
    buf_puts(&s->unread, sentence);
    s->unread_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    s->unread_n++;
}

int store_read_failed(struct store *s, const char *what)
{
    CLEANUP(buf_free) struct buf error = {0};
    int status = db_failure(&s->reader);
    db_explain(&s->reader, what, &error);
    keep_failure(s, buf_cstr(&error));
    return status;
}

int store_read_damaged(struct store *s, const char *format, ...)
{
    char sentence[512];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    store_fail_read(s, sentence);
    return STORE_E_FOREIGN;
}

void store_fail_read(struct store *s, const char *sentence)
{
    keep_failure(s, sentence);
    s->unread_lasts = true;
}

bool store_unread_passed(const struct store *s)
{
    return !s->unread_lasts && s->unread_passed_n == s->unread_n;
}

const char *store_unread(const struct store *s, int64_t *ret_ms)
{
    *ret_ms = s->unread_ms;
    return s->unread.n ? buf_cstr(&s->unread) : NULL;
}

struct store *store_read_begin(struct store *s)
{
    if (s->reads++ == 0) {
        blobs_hold(&s->blobs); /* before the moment is chosen: see blobs_removable() */
        s->read_status = db_do(&s->reader, QUERY_READ) ? store_read_failed(s, "cannot begin to read") : 0;
    }
    return s;
}

void store_read_end(struct store **s)
{
    if (--(*s)->reads)
        return;
    if (!(*s)->read_status)
        db_do(&(*s)->reader, QUERY_COMMIT);
    blobs_release(&(*s)->blobs);
}

int64_t store_pos_last(struct store *s)
{
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_POS_LAST);
    if (!s->journal.copy && FAILPOINT_FAILS("store.pos_last"))
        return -STORE_E_IO;
    if (q && sqlite3_step(q) == SQLITE_ROW)
        return sqlite3_column_int64(q, 0);
    return -store_read_failed(s, "cannot read the end of the journal");
}

int store_meta(struct store *s, const char *name, struct buf *ret)
{
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_META);
    if (!q)
        return store_read_failed(s, "cannot read a value");
    db_bind_str(q, 1, str_of(name));
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW)
        buf_str(ret, db_column(q, 0));
    return rc == SQLITE_ROW    ? 0
           : rc == SQLITE_DONE ? STORE_E_NONE
                               : store_read_failed(s, "cannot read a value");
}

int store_key_find(struct store *s, const char *key, struct buf *ret_digest, struct buf *ret_result)
{
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_KEY);
    if (!q)
        return store_read_failed(s, "cannot read a key");
    db_bind_str(q, 1, str_of(key));
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW) {
        buf_str(ret_digest, db_column(q, 0));
        buf_str(ret_result, db_column(q, 1));
    }
    return rc == SQLITE_ROW    ? 0
           : rc == SQLITE_DONE ? STORE_E_NONE
                               : store_read_failed(s, "cannot read a key");
}
