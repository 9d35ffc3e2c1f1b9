#pragma once
/* What is to be committed together: rows in the order in which they were put, their bytes copied into one
 * arena. Not bound to a database; it can be written again and again until a commit takes it. */
#include "daemon/store/blob.h"
#include "daemon/store/store.h"

/* A place in the arena (which moves as it grows, so no pointers). */
struct slice {
    size_t at;
    size_t n;
    bool present;
};

/* Bytes that go into their row, or into a file when they are large. */
struct content {
    struct slice bytes;
    uint8_t hash[BLOB_HASH_SIZE]; /* of a large one, once its file is written */
    bool in_row;                  /* it is large, and there was no room for a file */
};

enum batch_kind { BATCH_EVENT, BATCH_CONTEXT, BATCH_TASK, BATCH_KEY, BATCH_META };

struct batch_row {
    enum batch_kind kind;
    struct slice task; /* its id; absent for META */
    union {
        struct {
            int64_t pos, seq, at_ms;
            int kind;
            struct content json;
        } event;
        struct {
            int64_t epoch, index;
            struct content bytes;
        } context;
        struct {
            int64_t seq, created_ms, updated_ms;
            int state;
            bool live;
            struct slice name, snapshot, spec;
        } entry;
        struct {
            int64_t at_ms;
            struct slice key, digest, result;
        } key;
        struct {
            struct slice name, value;
        } meta;
    };
};

struct store_batch {
    struct buf arena;
    struct batch_row *rows;
    size_t rows_n, rows_cap;
    struct slice task; /* the id last copied: rows of one task share it */
    bool stops;        /* see store_batch_stops() */
};

struct str batch_bytes(const struct store_batch *b, struct slice s);
int64_t batch_pos_last(const struct store_batch *b); /* of its events; 0: it holds none */
/* The content of a row that is kept in a file, or NULL if all of it is in the row. */
struct content *batch_large(struct batch_row *row);
/* About what its commit adds to the log: its bytes, and pages around them. */
int64_t batch_log_bytes(const struct store_batch *b);
