#pragma once
/* One block of an archive: contents one behind the other, compressed with a checksum, and beside it where each of
 * them stands. It knows no table. Calls: libzstd. */
#include "daemon/base/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define ARCHIVE_BLOCK_ROWS 256
#define ARCHIVE_BLOCK_BYTES 131072 /* of contents, before they are compressed; a single one may be larger */
#define ARCHIVE_BLOCK_SPAN 65536   /* positions of the journal between the first and the last event; see 0002_archive.sql */
#define ARCHIVE_CONTENT_BYTES_MAX 1048576 /* a larger content stays in its file, and is a block of its own */

enum archive_codec { ARCHIVE_PLAIN = 0, ARCHIVE_ZSTD = 1 }; /* stored */

struct archive_block {
    int64_t n;
    int64_t first, last;         /* seq of events, idx of a prompt's elements */
    int64_t pos_first, pos_last; /* 0 of elements */
    struct buf places, contents;
};

void archive_block_clear(struct archive_block *b);
void archive_block_free(struct archive_block *b);
/* Whether the next one belongs into this block. `number` is its seq or idx. */
bool archive_block_fits(const struct archive_block *b, int64_t number, int64_t pos, int64_t bytes);
void archive_block_add(struct archive_block *b, int64_t number, int64_t pos, struct str content);
/* The same without its bytes: they stay in their file. */
void archive_block_add_file(struct archive_block *b, int64_t number, int64_t pos, int64_t bytes);

/* The body of the block's row, and its codec. Without libzstd, or where nothing is gained, as it is. Unpacked again and
 * compared before it is returned; -1: it was not the same. */
int archive_block_pack(const struct archive_block *b, struct buf *ret_body, enum archive_codec *ret_codec);
/* Replaces what `ret` holds. -1 with a sentence if the body is not what was packed. */
int archive_block_unpack(int64_t codec, struct str body, int64_t bytes, struct buf *ret, struct buf *error);

/* The contents of a block one after the other. */
struct archive_walk {
    struct str places;
    int64_t number, pos; /* of the content that archive_walk_next() came to */
    size_t at, n;        /* where it stands in the contents */
    int64_t bytes_left;
};
void archive_walk_begin(struct archive_walk *w, struct str places, int64_t first, int64_t pos_first, int64_t bytes);
/* 1: another one; 0: the end; -1: the places are damaged. */
int archive_walk_next(struct archive_walk *w);
