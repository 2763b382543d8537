/* list: an intrusive doubly linked ring. The head is a node whose neighbours are the ends.
 *
 * Ownership  Nodes live inside their owners; the list borrows them from insert until remove.
 * Threads    None: a list belongs to whoever owns its head. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *prev, *next;
};

static inline void list_init(struct list *head) {
    head->prev = head->next = head;
}

static inline bool list_is_empty(const struct list *head) {
    return head->next == head;
}

/* A node that list_remove or list_init has touched is its own ring. */
static inline bool list_is_linked(const struct list *node) {
    return node->next != NULL && node->next != node;
}

static inline void list_insert_before(struct list *at, struct list *node) {
    node->prev = at->prev;
    node->next = at;
    at->prev->next = node;
    at->prev = node;
}

static inline void list_push_back(struct list *head, struct list *node) {
    list_insert_before(head, node);
}

static inline void list_push_front(struct list *head, struct list *node) {
    list_insert_before(head->next, node);
}

static inline void list_remove(struct list *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->prev = node->next = node;
}

/* The first node, unlinked; NULL from an empty list. */
static inline struct list *list_pop_front(struct list *head) {
    struct list *node = head->next;
    if (node == head)
        return NULL;
    list_remove(node);
    return node;
}
