#pragma once
/* A YAML (or JSON) file as a tree whose nodes know their line. Knows nothing of what is in it. Calls: base,
 * libyaml, jansson. */
#include "daemon/base/buf.h"

#include <stdbool.h>
#include <stdint.h>
#include <yaml.h>

struct yaml_file {
    const char *path;
    yaml_document_t document;
    struct buf *error; /* the first complaint: "FILE:LINE: ..." */
};

/* Reads the one document of a file. 0, or -1 with the error set. */
int yaml_file_read(struct yaml_file *f, const char *path, size_t bytes_max, struct buf *error);
void yaml_file_free(struct yaml_file *f);
yaml_node_t *yaml_file_root(struct yaml_file *f); /* NULL: an empty file */

/* Sets the error, if there is none yet. Always -1. */
int yaml_complain(struct yaml_file *f, const yaml_node_t *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

size_t yaml_line(const yaml_node_t *node);
/* Walks a mapping or sequence: NULL at the end. */
yaml_node_t *yaml_at(struct yaml_file *f, const yaml_node_t *sequence, size_t i);
yaml_node_t *yaml_key_at(struct yaml_file *f, const yaml_node_t *mapping, size_t i, yaml_node_t **ret_value);
struct str yaml_text(const yaml_node_t *scalar);

/* Each reads one value: 0, or -1 with the error set. `what` names it in the error. Strings are copied. */
int yaml_get_text(struct yaml_file *f, const yaml_node_t *node, const char *what, struct str *ret);
int yaml_get_int(struct yaml_file *f, const yaml_node_t *node, const char *what, int64_t least, int64_t most,
                 int64_t *ret);
/* Any value as JSON text. Numbers keep their digits. */
int yaml_get_json(struct yaml_file *f, const yaml_node_t *node, size_t depth_max, struct buf *ret);
/* The keys of a mapping must be scalars and differ. */
int yaml_check_mapping(struct yaml_file *f, const yaml_node_t *node, const char *what);
