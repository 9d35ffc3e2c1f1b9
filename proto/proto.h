#pragma once
/* The protocol's types at run time: descriptors that the generator makes from agentd.json, and two generic
 * functions over them, one that writes a C struct as JSON and one that reads and checks JSON into a C struct.
 * Nothing that crosses the socket is written or read in any other way, so a reply cannot differ from the schema.
 *
 * C shapes: string -> struct str (absent or null: p == NULL) · int -> int64_t · bool -> bool · time -> int64_t,
 * milliseconds since 1970 (null: 0) · usd -> int64_t, nano-dollars · enum:X -> enum X · object:X -> struct X ·
 * array:X -> `const struct X *name; size_t name_n` · json -> struct str with JSON text on one line. An int, enum or
 * object that may be absent or null has a companion `bool has_name`. */
#include "daemon/base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum proto_type {
    PROTO_STRING,
    PROTO_INT,
    PROTO_BOOL,
    PROTO_TIME,
    PROTO_USD,
    PROTO_ENUM,
    PROTO_OBJECT,
    PROTO_JSON,
    PROTO_ARRAY_OBJECT,
    PROTO_ARRAY_STRING,
    PROTO_ARRAY_JSON, /* elements are struct str */
};

enum proto_flag { PROTO_OPTIONAL = 1, PROTO_NULLABLE = 2, PROTO_HAS = 4, PROTO_DEFAULT = 8 };

struct proto_enum {
    const char *name;
    const char *const *values;
    size_t n;
};

struct proto_object;

struct proto_field {
    const char *name;
    enum proto_type type;
    unsigned flags;
    size_t offset;
    size_t extra; /* offset of has_name or name_n */
    const struct proto_enum *enumeration;
    const struct proto_object *object;
    int64_t min, max; /* of an int its value, of a string its bytes; no bound: INT64_MIN, INT64_MAX */
    int64_t def;
};

struct proto_object {
    const char *name;
    size_t size;
    const struct proto_field *fields;
    size_t n;
};

struct proto_error {
    int code;
    const char *name;
    const char *hint;
};

/* Appends the JSON text of the struct, on one line, without a newline. Strings must be valid UTF-8. */
void proto_encode(struct buf *b, const struct proto_object *type, const void *p);
/* Appends only the members, comma-separated, for objects that have more than one source. */
void proto_encode_members(struct buf *b, const struct proto_object *type, const void *p);

struct event;
/* The whole event as clients see it: `{"seq", "pos", "task", "at", "kind", ...}` on one line. */
void event_encode(struct buf *b, const struct event *event);

/* "name" of an enum's value; never NULL for values of the enum. */
const char *proto_enum_name(const struct proto_enum *e, int value);
/* The value, or -1. */
int proto_enum_value(const struct proto_enum *e, struct str name);

/* What decoding allocates; zero-initialise, free once the struct is no longer used. */
struct proto_arena {
    void **p;
    size_t n, cap;
};
void *proto_arena_alloc(struct proto_arena *a, size_t n);
void proto_arena_free(struct proto_arena *a);

enum proto_decode_flag { PROTO_STRICT = 1 /* an unknown member is an error */ };

#ifdef JANSSON_H
/* Reads `json` (NULL counts as an empty object) into the zeroed struct `ret`. Strings point into `json`, which must
 * outlive it. On success 0; else -1 and a sentence in `error` that names the member and what it must be. */
int proto_decode(const struct proto_object *type, const json_t *json, unsigned flags, void *ret,
                 struct proto_arena *arena, struct buf *error);
#endif
