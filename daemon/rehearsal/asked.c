#include "asked.h"

#include "daemon/base/mem.h"

#define BUCKETS 16384

struct entry {
    uint64_t conversation;
    int64_t step;
    int64_t count;
    uint32_t next; /* in the bucket, index + 1 */
};

struct asked {
    uint32_t buckets[BUCKETS];
    struct entry *entries; /* a ring once it is full */
    uint32_t n, cap, oldest;
};

struct asked *asked_new(void)
{
    return MEM_NEW(struct asked);
}

void asked_free(struct asked *a)
{
    mem_free(a->entries);
    mem_free(a);
}

static uint32_t *bucket(struct asked *a, uint64_t conversation, int64_t step)
{
    uint64_t h = (conversation ^ (uint64_t)step * 0x9E3779B97F4A7C15u) * 0xBF58476D1CE4E5B9u;
    return &a->buckets[(h >> 32) % BUCKETS];
}

static void forget(struct asked *a, uint32_t i)
{
    struct entry *e = &a->entries[i];
    uint32_t *link = bucket(a, e->conversation, e->step);
    while (*link != i + 1)
        link = &a->entries[*link - 1].next;
    *link = e->next;
}

static uint32_t slot_take(struct asked *a)
{
    if (a->n == ASKED_ENTRIES_MAX) {
        uint32_t i = a->oldest;
        a->oldest = (i + 1) % ASKED_ENTRIES_MAX;
        forget(a, i);
        return i;
    }
    if (a->n == a->cap) {
        a->cap = a->cap ? a->cap * 2 : 64;
        a->entries = mem_realloc(a->entries, a->cap * sizeof *a->entries);
    }
    return a->n++;
}

int64_t asked_count(struct asked *a, uint64_t conversation, int64_t step)
{
    for (uint32_t i = *bucket(a, conversation, step); i; i = a->entries[i - 1].next) {
        struct entry *e = &a->entries[i - 1];
        if (e->conversation == conversation && e->step == step)
            return e->count++;
    }
    uint32_t i = slot_take(a);
    uint32_t *head = bucket(a, conversation, step);
    a->entries[i] = (struct entry){.conversation = conversation, .step = step, .count = 1, .next = *head};
    *head = i + 1;
    return 0;
}
