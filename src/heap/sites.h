/* sites: what was allocated and freed, counted by stack and labels.
 *
 * Ownership  Sites live for ever and own their labels and stacks.
 * Threads    Any; sites_close: one at a time. */
#pragma once
#include <stdatomic.h>
#include <stdint.h>

#include "heap/heap_profile.h"

enum {
    SITES_MAX = 1 << 16
}; /* each some 300 to 800 bytes: a leak of stacks ends before it is one */

/* Objects in units of 1 / SITE_OBJECT: weights are no whole numbers. */
enum { SITE_OBJECT = 1 << 16 };
struct site_count {
    int64_t objects, bytes;
};

static inline struct heap_count site_told(struct site_count count) {
    return (struct heap_count){
        .objects = (count.objects + SITE_OBJECT / 2) / SITE_OBJECT,
        .bytes = count.bytes,
    };
}

/* How things stood when a cycle closed. */
struct site_state {
    struct site_count live, allocated, cycle;
};

/* What a cycle that is not closed yet has done. */
struct site_change {
    _Atomic int64_t objects, bytes, freed_objects, freed_bytes;
};

struct site {
    struct site *_Atomic next_in_bucket;
    struct site *next; /* of all, older */
    uint64_t hash;
    struct labels *labels;
    unsigned depth;
    struct site_change changes[2]; /* by the parity of the cycle */
    struct site_state states[2];   /* so too; guarded by who closes and reads */
    struct site_count aged;        /* of a reader */
    uintptr_t pcs[];
};

/* Takes over the labels. NULL when memory is short or there are SITES_MAX, and then they are given back. */
struct site *sites_find(const uintptr_t *pcs, unsigned depth, struct labels *labels);

enum site_event { SITE_ALLOCATED, SITE_FREED };
/* Counts an object in the cycle of now. */
void sites_count(struct site *site, enum site_event event, const struct site_count *object);
/* A sample was taken, and counted or lost. */
void sites_note_sample(bool is_lost);

struct sites_state {
    uint64_t cycle; /* the last closed one; 0: none */
    uint64_t samples, lost;
    struct site_count live, allocated, in_cycle;
};
/* Begins the next cycle, and writes in states[cycle & 1] of each site how things stood at that moment. */
void sites_close(struct sites_state *state);

struct site *sites_first(void); /* then ->next */

void sites_lock(void);   /* for a fork, see own.h */
void sites_unlock(void); /* by the parent */
void sites_forked(void); /* by the child */
