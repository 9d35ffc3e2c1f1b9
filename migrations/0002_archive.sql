-- Tasks that ended a while ago, compressed: their events and the elements of their prompts move from rows of their own
-- into blocks of some hundred. What of a task is in blocks is a beginning of it (events by seq, a prompt by idx); the rest, if
-- it was taken up again, is in rows. A block holds at most 65536 positions, so that those around one are found.
--
-- The body is all contents one behind the other, as the codec says (0: plain, 1: zstd); `bytes` is its length when plain,
-- `places` says how long each content is, and for events its position. A single large content may stay in its file of
-- the folder `blobs`: then the row holds the hash in place of a body.

-- The row of a task outlives it (seq -1) until its blocks are gone, so that its number is not given out again before.
CREATE TABLE archives (
    task  INTEGER PRIMARY KEY,
    seq   INTEGER NOT NULL, -- of the task when all of it was in blocks; 0: never yet
    at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX archives_gone ON archives (task) WHERE seq < 0;

CREATE TABLE archive_events (
    n         INTEGER PRIMARY KEY,
    task      INTEGER NOT NULL,
    seq_first INTEGER NOT NULL,
    seq_last  INTEGER NOT NULL,
    pos_first INTEGER NOT NULL,
    pos_last  INTEGER NOT NULL,
    bytes     INTEGER NOT NULL,
    codec     INTEGER NOT NULL,
    places    BLOB    NOT NULL,
    body      BLOB,
    hash      BLOB,
    CHECK ((body IS NULL) = (hash IS NOT NULL))
) STRICT;

CREATE UNIQUE INDEX archive_events_task ON archive_events (task, seq_first);
CREATE INDEX archive_events_pos  ON archive_events (pos_first, pos_last);
CREATE INDEX archive_events_blob ON archive_events (hash) WHERE hash IS NOT NULL;

CREATE TABLE archive_context (
    n         INTEGER PRIMARY KEY,
    task      INTEGER NOT NULL,
    epoch     INTEGER NOT NULL,
    idx_first INTEGER NOT NULL,
    idx_last  INTEGER NOT NULL,
    bytes     INTEGER NOT NULL,
    codec     INTEGER NOT NULL,
    places    BLOB    NOT NULL,
    body      BLOB,
    hash      BLOB,
    CHECK ((body IS NULL) = (hash IS NOT NULL))
) STRICT;

CREATE UNIQUE INDEX archive_context_task ON archive_context (task, epoch, idx_first);
CREATE INDEX archive_context_blob ON archive_context (hash) WHERE hash IS NOT NULL;
