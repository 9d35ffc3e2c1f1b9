#include "map.h"

#include "mem.h"

#include <stdint.h>

/* FNV-1a, 64 bits: keys are our own ids and names of live tasks, whose number is bounded. */
static size_t hash(struct str s)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < s.n; i++)
        h = (h ^ (unsigned char)s.p[i]) * 1099511628211u;
    return (size_t)(h ^ h >> 32);
}

static size_t find(const struct map *m, struct str key)
{
    size_t i = hash(key) & (m->cap - 1);
    while (m->slots[i].key.p && !str_eq(m->slots[i].key, key))
        i = (i + 1) & (m->cap - 1);
    return i;
}

void *map_get(const struct map *m, struct str key)
{
    return m->cap ? m->slots[find(m, key)].value : NULL;
}

static void grow(struct map *m)
{
    struct map old = *m;
    m->cap = old.cap ? old.cap * 2 : 16;
    m->slots = mem_alloc(m->cap * sizeof *m->slots);
    for (size_t i = 0; i < old.cap; i++) {
        if (old.slots[i].key.p)
            m->slots[find(m, old.slots[i].key)] = old.slots[i];
    }
    mem_free(old.slots);
}

void map_put(struct map *m, struct str key, void *value)
{
    if ((m->n + 1) * 4 > m->cap * 3)
        grow(m);
    m->slots[find(m, key)] = (struct map_entry){key, value};
    m->n++;
}

void *map_remove(struct map *m, struct str key)
{
    if (!m->cap)
        return NULL;
    size_t i = find(m, key);
    void *value = m->slots[i].value;
    if (!m->slots[i].key.p)
        return NULL;
    m->slots[i] = (struct map_entry){0};
    m->n--;
    /* Entries behind the hole that probed past it move up (Knuth, TAOCP 6.4, algorithm R). */
    for (size_t j = (i + 1) & (m->cap - 1); m->slots[j].key.p; j = (j + 1) & (m->cap - 1)) {
        struct map_entry e = m->slots[j];
        m->slots[j] = (struct map_entry){0};
        m->slots[find(m, e.key)] = e;
    }
    return value;
}

void map_free(struct map *m)
{
    mem_free(m->slots);
    *m = (struct map){0};
}
