#pragma once
/* Every statement that is run more than once, by name. Prepared when first used, kept for the life of a
 * connection. */

#define QUERY_TASK_COLUMNS                                                                                   \
    "t.id, t.name, t.state, t.live, t.seq, t.created_ms, t.updated_ms, t.snapshot"
#define QUERY_EVENT_COLUMNS "e.pos, e.seq, e.body, e.hash, e.bytes"
/* Older than the task that a page goes on from. */
#define QUERY_OLDER "(created_ms, n) < (?1, ?2)"

#define QUERIES(X)                                                                                           \
    X(BEGIN, "BEGIN IMMEDIATE")                                                                              \
    X(COMMIT, "COMMIT")                                                                                      \
    X(ROLLBACK, "ROLLBACK")                                                                                  \
    X(TASK_N, "SELECT n FROM tasks WHERE id = ?1")                                                           \
    /* The usual case: a live task stays live under its name, and no index is touched. */                    \
    X(TASK_UPDATE, "UPDATE tasks SET state = ?3, seq = ?5, updated_ms = ?7, snapshot = ?8"                   \
                   " WHERE id = ?1 AND name = ?2 AND live = 1 AND ?4 = 1")                                   \
    X(TASK_PUT, "INSERT INTO tasks (id, name, state, live, seq, created_ms, updated_ms, snapshot)"           \
                " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"                                                   \
                " ON CONFLICT (id) DO UPDATE SET name = excluded.name, state = excluded.state,"              \
                " live = excluded.live, seq = excluded.seq, updated_ms = excluded.updated_ms,"               \
                " snapshot = excluded.snapshot")                                                             \
    X(SPEC_PUT, "INSERT INTO specs (task, spec) VALUES (?1, ?2)"                                             \
                " ON CONFLICT (task) DO UPDATE SET spec = excluded.spec")                                    \
    X(EVENT_PUT, "INSERT INTO events (pos, task, seq, kind, at_ms, body, hash, bytes)"                       \
                 " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")                                                 \
    X(CONTEXT_PUT, "INSERT INTO context (task, epoch, idx, body, hash, bytes)"                               \
                   " VALUES (?1, ?2, ?3, ?4, ?5, ?6)")                                                       \
    X(KEY_PUT, "INSERT INTO keys (key, task, digest, result, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)"             \
               " ON CONFLICT (key) DO NOTHING")                                                              \
    /* A stretch of those without a task: its end, and what is too old in it. */                             \
    X(KEYS_END, "SELECT max(key) FROM (SELECT key FROM keys WHERE task IS NULL AND key > ?1"                 \
                " ORDER BY key LIMIT ?2)")                                                                   \
    X(KEYS_DELETE, "DELETE FROM keys WHERE task IS NULL AND key > ?1 AND key <= ?2 AND at_ms < ?3")          \
    X(META_PUT, "INSERT INTO meta (name, value) VALUES (?1, ?2)"                                             \
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value")                                  \
                                                                                                             \
    X(POS_LAST, "SELECT coalesce(max(pos), 0) FROM events")                                                  \
    X(META, "SELECT value FROM meta WHERE name = ?1")                                                        \
    X(KEY, "SELECT digest, result FROM keys WHERE key = ?1")                                                 \
    X(TASK, "SELECT " QUERY_TASK_COLUMNS ", s.spec FROM tasks t LEFT JOIN specs s ON s.task = t.n"           \
            " WHERE t.id = ?1")                                                                              \
    X(TASKS_LIVE, "SELECT " QUERY_TASK_COLUMNS ", s.spec FROM tasks t LEFT JOIN specs s ON s.task = t.n"     \
                  " WHERE t.live = 1")                                                                       \
    X(TASK_PLACE, "SELECT created_ms, n FROM tasks WHERE id = ?1")                                           \
    /* Live ones and those that ended since: two small sets, found by their own indexes. */                  \
    X(TASKS_RECENT, "WITH page (c, n) AS ("                                                                  \
                    "SELECT created_ms, n FROM tasks WHERE live = 1 AND " QUERY_OLDER                        \
                    " UNION ALL "                                                                            \
                    "SELECT created_ms, n FROM tasks INDEXED BY tasks_ended"                                 \
                    " WHERE live = 0 AND updated_ms >= ?3 AND " QUERY_OLDER                                  \
                    " ORDER BY 1 DESC, 2 DESC LIMIT ?4)"                                                     \
                    "SELECT " QUERY_TASK_COLUMNS ", NULL FROM page p CROSS JOIN tasks t ON t.n = p.n"        \
                    " ORDER BY p.c DESC, p.n DESC")                                                          \
    X(TASKS_ALL, "SELECT " QUERY_TASK_COLUMNS ", NULL FROM tasks t WHERE " QUERY_OLDER                       \
                 " ORDER BY t.created_ms DESC, t.n DESC LIMIT ?4")                                           \
    X(TASK_NAMED, "SELECT id FROM tasks WHERE name = ?1 ORDER BY live DESC, created_ms DESC, n DESC LIMIT 1")\
    X(TASK_PREFIX, "SELECT id FROM tasks WHERE id >= ?1 AND id < ?2 LIMIT 2")                                \
    X(TASK_LAST, "SELECT id FROM tasks ORDER BY created_ms DESC, n DESC LIMIT 1")                            \
    X(EVENTS_AFTER, "SELECT " QUERY_EVENT_COLUMNS " FROM events e WHERE e.task = ?1 AND e.seq > ?2"          \
                    " ORDER BY e.seq LIMIT ?3")                                                              \
    X(EVENTS_BEFORE, "SELECT " QUERY_EVENT_COLUMNS " FROM events e WHERE e.task = ?1 AND e.seq < ?2"         \
                     " ORDER BY e.seq DESC LIMIT ?3")                                                        \
    X(JOURNAL_AFTER, "SELECT " QUERY_EVENT_COLUMNS ", t.id FROM events e CROSS JOIN tasks t ON t.n = e.task" \
                     " WHERE e.pos > ?1 ORDER BY e.pos LIMIT ?2")                                            \
    X(CONTEXT, "SELECT idx, body, hash, bytes FROM context WHERE task = ?1 AND epoch = ?2 ORDER BY idx")     \
    X(BLOBS, "SELECT 'event ' || pos, hash, bytes FROM events WHERE hash IS NOT NULL UNION ALL"              \
             " SELECT 'context ' || n, hash, bytes FROM context WHERE hash IS NOT NULL")                     \
    X(CHECK, "PRAGMA quick_check(1)")

enum query {
#define X(name, sql) QUERY_##name,
    QUERIES(X)
#undef X
        QUERY_N
};
