#pragma once
/* An intrusive, circular, doubly linked list. A head is a node that holds no element. */
#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next;
    struct list *prev;
};

static inline void list_init(struct list *head)
{
    head->next = head->prev = head;
}

static inline bool list_empty(const struct list *head)
{
    return head->next == head;
}

static inline void list_append(struct list *head, struct list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

/* Safe to call twice. */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->next = node->prev = node;
}

#define LIST_ENTRY(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

/* `safe` variant by construction: the current element may be removed and freed. */
#define LIST_EACH(it, head, type, member)                                                                    \
    for (struct list *it##_node = (head)->next, *it##_next = it##_node->next;                                \
         it##_node != (head) ? (it = LIST_ENTRY(it##_node, type, member), 1) : 0;                            \
         it##_node = it##_next, it##_next = it##_node->next)
