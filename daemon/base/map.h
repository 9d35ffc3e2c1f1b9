#pragma once
/* A hash map from strings to pointers. Keys are not copied: each must live as long as its entry, so it usually is a member of
 * the value. */
#include "str.h"

struct map_entry {
    struct str key;
    void *value;
};

struct map {
    struct map_entry *slots; /* open addressing; key.p == NULL: free */
    size_t n, cap;
};

void *map_get(const struct map *m, struct str key); /* or NULL */
/* The key must not be there yet. */
void map_put(struct map *m, struct str key, void *value);
/* Returns the value, or NULL if there is no such key. */
void *map_remove(struct map *m, struct str key);
void map_free(struct map *m);
