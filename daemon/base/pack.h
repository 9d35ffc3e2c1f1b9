#pragma once
/* A small self-describing encoding for state that is stored: a sequence of fields, each {name, type, value}. A
 * reader walks the fields, takes those that it knows and skips the rest, so that older and newer programs can read
 * each other's state. Layout of a field: type (1 byte) · name length (1) · name · value; integers are 8 bytes little
 * endian, strings and groups a 4-byte length and the bytes. A group holds fields. */
#include "buf.h"

#include <stdbool.h>
#include <stdint.h>

void pack_i64(struct buf *b, const char *name, int64_t v);      /* 0 is not written */
void pack_str(struct buf *b, const char *name, struct str s);   /* absent is not written */
/* Returns a mark for pack_close(). Groups nest. */
size_t pack_open(struct buf *b, const char *name);
void pack_close(struct buf *b, size_t mark);

enum pack_type { PACK_I64 = 1, PACK_STR = 2, PACK_GROUP = 3 };

struct pack_field {
    enum pack_type type;
    struct str name;
    int64_t i64;
    struct str bytes; /* of a string or a group */
};

/* Takes the next field off `*in`. 1: a field; 0: the end; -1: damaged. */
int pack_next(struct str *in, struct pack_field *ret);
static inline bool pack_is(const struct pack_field *f, const char *name)
{
    return str_eqz(f->name, name);
}
