#include "archive_block.h"

#include "daemon/base/mem.h"
#include "daemon/store/blob.h"
#include "daemon/store/zstd_api.h"

#include <string.h>

#define LEVEL 3

/* ---- numbers: 7 bits a byte, the low ones first, the last byte below 128 ---- */

static void put_number(struct buf *b, uint64_t n)
{
    for (; n >= 0x80; n >>= 7)
        buf_putc(b, (char)(n | 0x80));
    buf_putc(b, (char)n);
}

static bool take_number(struct str *in, int64_t *ret)
{
    uint64_t n = 0;
    for (unsigned shift = 0; in->n && shift < 63; shift += 7) {
        uint8_t byte = (uint8_t)*in->p;
        *in = str_n(in->p + 1, in->n - 1);
        n |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *ret = (int64_t)n;
            return true;
        }
    }
    return false;
}

/* ---- filling ---- */

void archive_block_clear(struct archive_block *b)
{
    buf_clear(&b->places);
    buf_clear(&b->contents);
    b->n = 0;
}

void archive_block_free(struct archive_block *b)
{
    buf_free(&b->places);
    buf_free(&b->contents);
}

bool archive_block_fits(const struct archive_block *b, int64_t number, int64_t pos, int64_t bytes)
{
    return b->n == 0 || (b->n < ARCHIVE_BLOCK_ROWS && number == b->last + 1 && pos - b->pos_first < ARCHIVE_BLOCK_SPAN &&
                         bytes <= ARCHIVE_BLOCK_BYTES - (int64_t)b->contents.n);
}

void archive_block_add_file(struct archive_block *b, int64_t number, int64_t pos, int64_t bytes)
{
    if (b->n++ == 0) {
        b->first = number;
        b->pos_first = b->pos_last = pos;
    }
    put_number(&b->places, (uint64_t)(pos - b->pos_last));
    put_number(&b->places, (uint64_t)bytes);
    b->last = number;
    b->pos_last = pos;
}

void archive_block_add(struct archive_block *b, int64_t number, int64_t pos, struct str content)
{
    archive_block_add_file(b, number, pos, (int64_t)content.n);
    buf_str(&b->contents, content);
}

/* ---- packing ---- */

static bool compress(const struct zstd_api *zstd, struct str contents, struct buf *ret)
{
    ZSTD_CCtx *c = zstd->createCCtx();
    if (!c)
        return false;
    zstd->CCtx_setParameter(c, ZSTD_c_compressionLevel, LEVEL);
    zstd->CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
    size_t room = zstd->compressBound(contents.n);
    char *p = buf_reserve(ret, room);
    size_t n = zstd->compress2(c, p, room, contents.p, contents.n);
    zstd->freeCCtx(c);
    if (zstd->isError(n))
        return false;
    ret->n += n;
    return true;
}

int archive_block_pack(const struct archive_block *b, struct buf *ret_body, enum archive_codec *ret_codec)
{
    const struct zstd_api *zstd = zstd_api();
    struct str contents = buf_view(&b->contents);
    *ret_codec = ARCHIVE_ZSTD;
    if (!zstd || !compress(zstd, contents, ret_body) || ret_body->n >= contents.n) {
        *ret_codec = ARCHIVE_PLAIN;
        buf_clear(ret_body);
        buf_str(ret_body, contents);
        return 0;
    }
    CLEANUP(buf_free) struct buf again = {0};
    CLEANUP(buf_free) struct buf error = {0};
    int rc = archive_block_unpack(*ret_codec, buf_view(ret_body), (int64_t)contents.n, &again, &error);
    return rc == 0 && str_eq(buf_view(&again), contents) ? 0 : -1;
}

static int unpack_zstd(struct str body, int64_t bytes, struct buf *ret, struct buf *error)
{
    const struct zstd_api *zstd = zstd_api();
    if (!zstd) {
        buf_puts(error, "libzstd, which packed it, cannot be loaded");
        return -1;
    }
    char *p = buf_reserve(ret, (size_t)bytes);
    size_t n = zstd->decompress(p, (size_t)bytes, body.p, body.n);
    if (zstd->getErrorCode(n) == ZSTD_error_memory_allocation)
        mem_none(); /* it is not damaged */
    if (zstd->isError(n) || n != (size_t)bytes) {
        buf_puts(error, zstd->isError(n) ? zstd->getErrorName(n) : "it has another length");
        return -1;
    }
    ret->n = n;
    ret->p[n] = 0;
    return 0;
}

int archive_block_unpack(int64_t codec, struct str body, int64_t bytes, struct buf *ret, struct buf *error)
{
    buf_clear(ret);
    if (codec == ARCHIVE_ZSTD && bytes >= 0 && bytes <= BLOB_BYTES_MAX)
        return unpack_zstd(body, bytes, ret, error);
    if (codec == ARCHIVE_PLAIN && bytes == (int64_t)body.n) {
        buf_str(ret, body);
        return 0;
    }
    buf_puts(error, "it has another length, or was packed in a way that is not known");
    return -1;
}

/* ---- walking ---- */

void archive_walk_begin(struct archive_walk *w, struct str places, int64_t first, int64_t pos_first, int64_t bytes)
{
    *w = (struct archive_walk){.places = places, .number = first - 1, .pos = pos_first, .bytes_left = bytes};
}

int archive_walk_next(struct archive_walk *w)
{
    int64_t pos, bytes;
    if (!w->places.n)
        return w->bytes_left ? -1 : 0;
    if (!take_number(&w->places, &pos) || !take_number(&w->places, &bytes) || bytes > w->bytes_left ||
        pos > ARCHIVE_BLOCK_SPAN)
        return -1;
    w->number++;
    w->pos += pos;
    w->at += w->n;
    w->n = (size_t)bytes;
    w->bytes_left -= bytes;
    return 1;
}
