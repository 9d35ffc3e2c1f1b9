#pragma once
/* A YAML file as a small tree in which every value knows its line. It keeps the part of YAML that a
 * configuration needs: mappings and scalars. Anchors, aliases, tags and further documents are refused: none
 * of them is needed here, and each makes a file mean something else than it shows. It knows no key of the
 * configuration. Calls: base, libyaml. */
#include "daemon/base/buf.h"

#include <stdbool.h>

#define TREE_DEPTH_MAX 8
#define TREE_NODES_MAX 8192

enum tree_kind {
    TREE_NULL, /* nothing, `~` or `null` */
    TREE_TEXT,
    TREE_MAP,
    TREE_LIST, /* its elements are not kept: no key takes one */
};

struct tree_pair;

struct tree {
    enum tree_kind kind;
    size_t line;             /* from 1 */
    char *text;              /* TREE_TEXT: UTF-8 without control characters */
    bool quoted;             /* TREE_TEXT: written with quotes or as a block, so never a number */
    struct tree_pair *pairs; /* TREE_MAP, in the order of the file; keys are unique and not empty */
    size_t n;
};

struct tree_pair {
    char *key;
    size_t line;
    struct tree *value;
};

/* Reads `text`, called `file` in errors. 0, or -1 with `file:line: sentence`. An empty file is TREE_NULL. */
int tree_read(const char *file, struct str text, struct tree **ret, struct buf *error);
void tree_free(struct tree *t);
/* What an error may quote: the name itself if it looks like one, else dots. A secret that slipped out of its
 * place is longer. */
const char *tree_quotable(const char *name);
