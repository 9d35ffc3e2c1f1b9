#pragma once
/* Every statement that is run more than once, by name. Prepared when first used, kept for the life of a
 * connection. */
#include "daemon/store/archive_block.h"

#define QUERY_TASK_COLUMNS                                                                                   \
    "t.id, t.name, t.state, t.live, t.seq, t.created_ms, t.updated_ms, t.snapshot"
#define QUERY_EVENT_COLUMNS "e.pos, e.seq, e.body, e.hash, e.bytes"
#define QUERY_BLOCK_COLUMNS "b.body, b.hash, b.bytes, b.codec, b.places"
#define QUERY_TEXT(macro) QUERY_TEXT_OF(macro)
#define QUERY_TEXT_OF(value) #value
/* Older than the task that a page goes on from. */
#define QUERY_OLDER "(created_ms, n) < (?1, ?2)"

#define QUERIES(X)                                                                                           \
    X(READ, "BEGIN")                                                                                         \
    X(BEGIN, "BEGIN IMMEDIATE")                                                                              \
    X(COMMIT, "COMMIT")                                                                                      \
    X(ROLLBACK, "ROLLBACK")                                                                                  \
    X(TASK_N, "SELECT n FROM tasks WHERE id = ?1")                                                           \
    /* The usual case: a live task stays live under its name, and no index is touched. */                    \
    X(TASK_UPDATE, "UPDATE tasks SET state = ?3, seq = ?5, updated_ms = ?7, snapshot = ?8"                   \
                   " WHERE id = ?1 AND name = ?2 AND live = 1 AND ?4 = 1")                                   \
    /* A number of its own: what is left of a task that was removed may still stand in `archives`. */        \
    X(TASK_PUT, "INSERT INTO tasks (n, id, name, state, live, seq, created_ms, updated_ms, snapshot)"        \
                " VALUES (1 + max(coalesce((SELECT max(n) FROM tasks), 0),"                                  \
                " coalesce((SELECT max(task) FROM archives), 0)), ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"           \
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
    /* The first is not enough: the row of the last event may be in a block, or gone. */                    \
    X(POS_LAST, "SELECT max((SELECT coalesce(max(pos), 0) FROM events), coalesce((SELECT"                   \
                " CAST(CAST(value AS TEXT) AS INTEGER) FROM meta WHERE name = 'pos_last'), 0))")            \
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
             " SELECT 'context ' || n, hash, bytes FROM context WHERE hash IS NOT NULL UNION ALL"            \
             " SELECT 'archived event ' || pos_first, hash, bytes FROM archive_events"                       \
             " WHERE hash IS NOT NULL UNION ALL"                                                             \
             " SELECT 'archived context ' || n, hash, bytes FROM archive_context WHERE hash IS NOT NULL")    \
                                                                                                             \
    /* archive_move.c: from rows to blocks. */                                                               \
    X(ARCHIVE_STATE, "SELECT t.live, t.seq, a.seq FROM tasks t LEFT JOIN archives a ON a.task = t.n"         \
                     " WHERE t.n = ?1")                                                                      \
    X(ARCHIVE_BEGIN, "INSERT INTO archives (task, seq, at_ms) VALUES (?1, 0, ?2)"                            \
                     " ON CONFLICT (task) DO NOTHING")                                                       \
    X(ARCHIVE_WHOLE, "UPDATE archives SET seq = ?2, at_ms = ?3 WHERE task = ?1")                             \
    X(ARCHIVE_EVENTS_PUT, "INSERT INTO archive_events (task, seq_first, seq_last, pos_first, pos_last,"      \
                          " bytes, codec, places, body, hash)"                                               \
                          " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")                               \
    X(ARCHIVE_CONTEXT_PUT, "INSERT INTO archive_context (task, epoch, idx_first, idx_last,"                  \
                           " bytes, codec, places, body, hash)"                                              \
                           " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")                                   \
    X(MOVE_EVENTS, "SELECT " QUERY_EVENT_COLUMNS " FROM events e WHERE e.task = ?1 ORDER BY e.seq")          \
    X(MOVE_EVENTS_DROP, "DELETE FROM events WHERE task = ?1 AND seq BETWEEN ?2 AND ?3")                      \
    X(MOVE_CONTEXT, "SELECT epoch, idx, body, hash, bytes FROM context WHERE task = ?1 ORDER BY epoch, idx") \
    X(MOVE_CONTEXT_DROP, "DELETE FROM context WHERE task = ?1 AND epoch = ?2 AND idx BETWEEN ?3 AND ?4")     \
    X(POS_KEEP, "INSERT INTO meta (name, value) SELECT 'pos_last', CAST(printf('%020d', ?2) AS BLOB)"        \
                " WHERE ?1 ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)")             \
    X(REMOVE_KEYS, "DELETE FROM keys WHERE key IN (SELECT key FROM keys WHERE task = ?1 LIMIT ?2)")          \
    X(REMOVE_SPEC, "DELETE FROM specs WHERE task = ?1")                                                      \
    X(REMOVE_TASK, "DELETE FROM tasks WHERE n = ?1")                                                         \
    X(REMOVE_MARK, "UPDATE archives SET seq = -1 WHERE task = ?1")                                           \
    X(SCRAP_NEXT, "SELECT task FROM archives WHERE seq < 0 LIMIT 1")                                         \
    X(SCRAP_EVENT_FILES, "SELECT hash FROM archive_events WHERE task = ?1 ORDER BY seq_first LIMIT ?2")      \
    X(SCRAP_EVENTS, "DELETE FROM archive_events WHERE n IN (SELECT n FROM archive_events"                    \
                    " WHERE task = ?1 ORDER BY seq_first LIMIT ?2)")                                         \
    X(SCRAP_CONTEXT_FILES, "SELECT hash FROM archive_context WHERE task = ?1"                                \
                           " ORDER BY epoch, idx_first LIMIT ?2")                                            \
    X(SCRAP_CONTEXT, "DELETE FROM archive_context WHERE n IN (SELECT n FROM archive_context"                 \
                     " WHERE task = ?1 ORDER BY epoch, idx_first LIMIT ?2)")                                 \
    X(SCRAP_MARK, "DELETE FROM archives WHERE task = ?1 AND seq < 0")                                        \
    /* archive.c: what is due. */                                                                            \
    X(ARCHIVE_WALK, "SELECT t.n, t.updated_ms, t.seq, a.seq, t.id FROM tasks t INDEXED BY tasks_ended"             \
                    " LEFT JOIN archives a ON a.task = t.n"                                                  \
                    " WHERE t.live = 0 AND (t.updated_ms, t.n) > (?1, ?2)"                                   \
                    " ORDER BY t.updated_ms, t.n LIMIT ?3")                                                  \
    X(ARCHIVE_OLDEST, "SELECT t.n, t.updated_ms, t.id FROM tasks t INDEXED BY tasks_ended"                   \
                      " CROSS JOIN archives a ON a.task = t.n"                                               \
                      " WHERE t.live = 0 AND a.seq = t.seq ORDER BY t.updated_ms, t.n LIMIT 1")              \
    X(BLOB_NAMED, "SELECT 1 WHERE EXISTS (SELECT 1 FROM events WHERE hash = ?1)"                             \
                  " OR EXISTS (SELECT 1 FROM context WHERE hash = ?1)"                                       \
                  " OR EXISTS (SELECT 1 FROM archive_events WHERE hash = ?1)"                                \
                  " OR EXISTS (SELECT 1 FROM archive_context WHERE hash = ?1)")                              \
                                                                                                             \
    /* archive_read.c: from blocks. The block that holds what is looked for, and those that follow. */       \
    X(BLOCKS_AFTER, "SELECT " QUERY_BLOCK_COLUMNS ", b.seq_first, b.pos_first FROM archive_events b"         \
                    " WHERE b.task = ?1 AND b.seq_first >= coalesce((SELECT max(seq_first)"                  \
                    " FROM archive_events WHERE task = ?1 AND seq_first <= ?2 + 1), 0) ORDER BY b.seq_first")\
    X(BLOCKS_BEFORE, "SELECT " QUERY_BLOCK_COLUMNS ", b.seq_first, b.pos_first FROM archive_events b"        \
                     " WHERE b.task = ?1 AND b.seq_first < ?2 ORDER BY b.seq_first DESC")                    \
    X(BLOCKS_POS, "SELECT b.n, b.pos_first, b.seq_first, b.bytes, b.places, t.id"                            \
                  " FROM archive_events b CROSS JOIN tasks t ON t.n = b.task"                                \
                  " WHERE b.pos_first > ?1 - " QUERY_TEXT(ARCHIVE_BLOCK_SPAN) " AND b.pos_last > ?1"         \
                  " ORDER BY b.pos_first")                                                                   \
    X(BLOCK, "SELECT " QUERY_BLOCK_COLUMNS " FROM archive_events b WHERE b.n = ?1")                          \
    X(BLOCKS_CONTEXT, "SELECT " QUERY_BLOCK_COLUMNS ", b.idx_first FROM archive_context b"                   \
                      " WHERE b.task = ?1 AND b.epoch = ?2 ORDER BY b.idx_first")                            \
    X(JOURNAL_PLACES, "SELECT pos, seq, coalesce(bytes, length(CAST(body AS BLOB))) FROM events"             \
                      " WHERE pos > ?1 ORDER BY pos")                                                        \
    X(EVENT_AT, "SELECT " QUERY_EVENT_COLUMNS ", t.id FROM events e CROSS JOIN tasks t ON t.n = e.task"      \
                " WHERE e.pos = ?1")                                                                         \
    X(ARCHIVE_BLOCKS, "SELECT " QUERY_BLOCK_COLUMNS ", 'archived event ' || b.pos_first FROM archive_events b"\
                      " UNION ALL SELECT " QUERY_BLOCK_COLUMNS ", 'archived context ' || b.n"                \
                      " FROM archive_context b")                                                             \
    X(CHECK, "PRAGMA quick_check(1)")

enum query {
#define X(name, sql) QUERY_##name,
    QUERIES(X)
#undef X
        QUERY_N
};
