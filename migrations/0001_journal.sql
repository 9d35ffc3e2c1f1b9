-- The journal of events, the state of each task, the bytes of each prompt, the answers to keyed changes.
--
-- A task is known by a small number here; its 27-byte id stands in its own row only. Rows are found through one index
-- each: a clustered (task, seq) key measured 16 times slower with many tasks, as each commit dirties a leaf per task.
--
-- Content above 128 KiB is in a file of the folder `blobs`, named by its BLAKE2b-256 hash; the row holds hash and
-- length (`hash`, `bytes`) in its place.

CREATE TABLE migrations (
    version INTEGER PRIMARY KEY,
    name    TEXT    NOT NULL,
    hash    BLOB    NOT NULL CHECK (length(hash) = 32),
    at_ms   INTEGER NOT NULL
) STRICT;

CREATE TABLE meta (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The columns that change with every commit (state, seq, updated_ms, snapshot) are in no index that holds live tasks.
CREATE TABLE tasks (
    n          INTEGER PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,
    name       TEXT    NOT NULL,
    state      INTEGER NOT NULL,
    live       INTEGER NOT NULL CHECK (live IN (0, 1)),
    seq        INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    snapshot   BLOB    NOT NULL
) STRICT;

CREATE INDEX tasks_live    ON tasks (created_ms) WHERE live = 1;
CREATE INDEX tasks_ended   ON tasks (updated_ms) WHERE live = 0;
CREATE INDEX tasks_created ON tasks (created_ms);
CREATE INDEX tasks_name    ON tasks (name);

-- Apart from the row above, because it is large and never changes while that row is written again with each commit.
CREATE TABLE specs (
    task INTEGER PRIMARY KEY REFERENCES tasks (n),
    spec BLOB    NOT NULL
) STRICT;

CREATE TABLE events (
    pos   INTEGER PRIMARY KEY,
    task  INTEGER NOT NULL REFERENCES tasks (n),
    seq   INTEGER NOT NULL,
    kind  INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    body  TEXT,
    hash  BLOB,
    bytes INTEGER,
    CHECK ((body IS NULL) = (hash IS NOT NULL) AND (hash IS NULL) = (bytes IS NULL))
) STRICT;

CREATE UNIQUE INDEX events_task ON events (task, seq);
CREATE INDEX events_blob ON events (hash) WHERE hash IS NOT NULL;

CREATE TABLE context (
    n     INTEGER PRIMARY KEY,
    task  INTEGER NOT NULL REFERENCES tasks (n),
    epoch INTEGER NOT NULL,
    idx   INTEGER NOT NULL,
    body  BLOB,
    hash  BLOB,
    bytes INTEGER,
    CHECK ((body IS NULL) = (hash IS NOT NULL) AND (hash IS NULL) = (bytes IS NULL))
) STRICT;

CREATE UNIQUE INDEX context_task ON context (task, epoch, idx);
CREATE INDEX context_blob ON context (hash) WHERE hash IS NOT NULL;

CREATE TABLE keys (
    key    TEXT    NOT NULL PRIMARY KEY,
    task   INTEGER REFERENCES tasks (n),
    digest BLOB    NOT NULL,
    result BLOB    NOT NULL,
    at_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX keys_task ON keys (task);
