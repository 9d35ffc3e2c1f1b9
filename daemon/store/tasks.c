/* Rows of tasks, one by one, in pages, by name. */
#include "daemon/base/log.h"
#include "daemon/store/state.h"

#include <stdio.h>

#define TASK_ID_TEXT_SIZE 32
#define TASK_PREFIX_MIN 6

static bool store_forgets(const struct store *s, const char *id)
{
    return s->forgetting[0] && strcmp(id, s->forgetting) == 0;
}

int store_task_number(struct store *s, const char *id, int64_t *ret)
{
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_TASK_N);
    if (!q)
        return store_read_failed(s, "cannot read a task");
    if (store_forgets(s, id))
        return STORE_E_NONE;
    db_bind_str(q, 1, str_of(id));
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW)
        *ret = sqlite3_column_int64(q, 0);
    return rc == SQLITE_ROW    ? 0
           : rc == SQLITE_DONE ? STORE_E_NONE
                               : store_read_failed(s, "cannot read a task");
}

/* Runs a bound statement whose columns are QUERY_TASK_COLUMNS and the spec. */
static int tasks_walk(struct store *s, sqlite3_stmt *q, store_task_cb *cb, void *arg, int64_t *ret_n)
{
    int rc;
    for (*ret_n = 0; (rc = sqlite3_step(q)) == SQLITE_ROW; ++*ret_n) {
        struct store_task row = {
            .id = (const char *)sqlite3_column_text(q, 0),
            .name = (const char *)sqlite3_column_text(q, 1),
            .state = sqlite3_column_int(q, 2),
            .live = sqlite3_column_int(q, 3),
            .seq = sqlite3_column_int64(q, 4),
            .created_ms = sqlite3_column_int64(q, 5),
            .updated_ms = sqlite3_column_int64(q, 6),
            .snapshot = db_column(q, 7),
            .spec = db_column(q, 8),
        };
        int status = cb(arg, &row);
        if (status)
            return status;
    }
    return rc == SQLITE_DONE ? 0 : store_read_failed(s, "cannot read tasks");
}

int store_tasks_live(struct store *s, store_task_cb *cb, void *arg)
{
    int64_t n;
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_TASKS_LIVE);
    return q ? tasks_walk(s, q, cb, arg, &n) : store_read_failed(s, "cannot read tasks");
}

int store_task_load(struct store *s, const char *id, store_task_cb *cb, void *arg)
{
    int64_t n;
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_TASK);
    if (!q)
        return store_read_failed(s, "cannot read a task");
    if (store_forgets(s, id))
        return STORE_E_NONE;
    db_bind_str(q, 1, str_of(id));
    int status = tasks_walk(s, q, cb, arg, &n);
    return status || n ? status : STORE_E_NONE;
}

int store_task_archived(struct store *s, const char *id)
{
    int64_t n;
    STORE_READ(s);
    int status = store_task_number(s, id, &n);
    if (status)
        return status;
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_ARCHIVE_STATE);
    if (!q)
        return store_read_failed(s, "cannot read a task");
    sqlite3_bind_int64(q, 1, n);
    if (sqlite3_step(q) != SQLITE_ROW)
        return store_read_failed(s, "cannot read a task");
    bool whole = !sqlite3_column_int(q, 0) && sqlite3_column_int64(q, 1) == sqlite3_column_int64(q, 2);
    return whole ? 0 : STORE_E_NONE;
}

/* Where the page goes on: behind the place of a task in the order (created, number). */
static int tasks_place(struct store *s, struct str after, int64_t *ret_created, int64_t *ret_n)
{
    *ret_created = *ret_n = INT64_MAX;
    if (!after.p)
        return 0;
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_TASK_PLACE);
    if (!q)
        return store_read_failed(s, "cannot read tasks");
    db_bind_str(q, 1, after);
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW) {
        *ret_created = sqlite3_column_int64(q, 0);
        *ret_n = sqlite3_column_int64(q, 1);
    }
    return rc == SQLITE_ROW    ? 0
           : rc == SQLITE_DONE ? STORE_E_NONE
                               : store_read_failed(s, "cannot read tasks");
}

int store_tasks_page(struct store *s, struct str after, int64_t since_ms, int64_t limit, store_task_cb *cb,
                     void *arg)
{
    int64_t created, place, n;
    int status = tasks_place(s, after, &created, &place);
    if (status)
        return status;
    CLEANUP_QUERY *q = db_query(&s->reader, since_ms > 0 ? QUERY_TASKS_RECENT : QUERY_TASKS_ALL);
    if (!q)
        return store_read_failed(s, "cannot read tasks");
    sqlite3_bind_int64(q, 1, created);
    sqlite3_bind_int64(q, 2, place);
    if (since_ms > 0)
        sqlite3_bind_int64(q, 3, since_ms);
    sqlite3_bind_int64(q, 4, limit < 0 ? 0 : limit);
    return tasks_walk(s, q, cb, arg, &n);
}

/* ---- what a person wrote -> an id ---- */

/* The id of the only row of a bound statement; STORE_E_NONE, STORE_E_AMBIGUOUS. */
static int resolve_row(struct store *s, sqlite3_stmt *q, char ret_id[TASK_ID_TEXT_SIZE])
{
    char id[TASK_ID_TEXT_SIZE];
    int rc = sqlite3_step(q);
    if (rc == SQLITE_DONE)
        return STORE_E_NONE;
    if (rc == SQLITE_ROW) {
        struct str found = db_column(q, 0);
        snprintf(id, sizeof id, "%.*s", STR_ARG(found));
        rc = sqlite3_step(q);
    }
    if (rc == SQLITE_ROW)
        return STORE_E_AMBIGUOUS;
    if (rc != SQLITE_DONE)
        return store_read_failed(s, "cannot look for a task");
    if (store_forgets(s, id))
        return STORE_E_NONE;
    memcpy(ret_id, id, sizeof id);
    return 0;
}

static int resolve_exact(struct store *s, struct str text, char ret_id[TASK_ID_TEXT_SIZE])
{
    int64_t n;
    char id[TASK_ID_TEXT_SIZE];
    if (text.n >= sizeof id || memchr(text.p, 0, text.n))
        return STORE_E_NONE;
    snprintf(id, sizeof id, "%.*s", STR_ARG(text));
    int status = store_task_number(s, id, &n);
    if (!status)
        memcpy(ret_id, id, sizeof id);
    return status;
}

static int resolve_name(struct store *s, struct str text, char ret_id[TASK_ID_TEXT_SIZE])
{
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_TASK_NAMED);
    if (!q)
        return store_read_failed(s, "cannot look for a task");
    db_bind_str(q, 1, text);
    return resolve_row(s, q, ret_id);
}

static int resolve_prefix(struct store *s, struct str text, char ret_id[TASK_ID_TEXT_SIZE])
{
    if (text.n < TASK_PREFIX_MIN)
        return STORE_E_NONE;
    CLEANUP(buf_free) struct buf end = {0};
    buf_str(&end, text);
    buf_putc(&end, 0x7f); /* behind every digit of an id */
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_TASK_PREFIX);
    if (!q)
        return store_read_failed(s, "cannot look for a task");
    db_bind_str(q, 1, text);
    db_bind_str(q, 2, buf_view(&end));
    return resolve_row(s, q, ret_id);
}

static int resolve_last(struct store *s, struct str text, char ret_id[TASK_ID_TEXT_SIZE])
{
    if (!str_eqz(text, "@last"))
        return STORE_E_NONE;
    CLEANUP_QUERY *q = db_query(&s->reader, QUERY_TASK_LAST);
    return q ? resolve_row(s, q, ret_id) : store_read_failed(s, "cannot look for a task");
}

int store_task_resolve(struct store *s, struct str text, char ret_id[TASK_ID_TEXT_SIZE])
{
    int status = text.p ? resolve_exact(s, text, ret_id) : STORE_E_NONE;
    if (status == STORE_E_NONE && text.p)
        status = resolve_name(s, text, ret_id);
    if (status == STORE_E_NONE && text.p)
        status = resolve_prefix(s, text, ret_id);
    if (status == STORE_E_NONE && text.p)
        status = resolve_last(s, text, ret_id);
    return status;
}
