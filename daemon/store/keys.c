#include "keys.h"

#include "daemon/store/store.h"

#include <time.h>

#define KEYS_MS_MAX (KEYS_DAYS * 24 * 3600 * 1000LL)

/* Before the first step, less than every key. */
static struct str keys_at(const struct keys_walk *walk)
{
    return walk->at.n ? buf_view(&walk->at) : STR("");
}

static int64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The last key of this step; STORE_E_NONE if there are no more. */
static int keys_end(struct keys_walk *walk, struct db *db, struct buf *ret)
{
    CLEANUP_QUERY *q = db_query(db, QUERY_KEYS_END);
    if (!q)
        return db_failure(db);
    db_bind_str(q, 1, keys_at(walk));
    sqlite3_bind_int64(q, 2, KEYS_STEP);
    if (sqlite3_step(q) != SQLITE_ROW)
        return db_failure(db);
    struct str end = db_column(q, 0);
    if (!end.p)
        return STORE_E_NONE;
    buf_str(ret, end);
    return 0;
}

static int keys_delete(struct keys_walk *walk, struct db *db, struct str end)
{
    CLEANUP_QUERY *q = db_query(db, QUERY_KEYS_DELETE);
    if (!q)
        return db_failure(db);
    db_bind_str(q, 1, keys_at(walk));
    db_bind_str(q, 2, end);
    sqlite3_bind_int64(q, 3, wall_ms() - KEYS_MS_MAX);
    return db_run(db, q);
}

int keys_step(struct keys_walk *walk, struct db *db, bool *ret_over, struct buf *error)
{
    CLEANUP(buf_free) struct buf end = {0};
    int status = keys_end(walk, db, &end);
    *ret_over = status == STORE_E_NONE;
    if (*ret_over) {
        buf_clear(&walk->at);
        return 0;
    }
    if (!status)
        status = keys_delete(walk, db, buf_view(&end));
    if (status) {
        db_explain(db, "cannot forget old keys", error);
        return status == STORE_E_FULL ? STORE_E_FULL : STORE_E_IO;
    }
    buf_clear(&walk->at);
    buf_str(&walk->at, buf_view(&end));
    return 0;
}

void keys_walk_free(struct keys_walk *walk)
{
    buf_free(&walk->at);
}
