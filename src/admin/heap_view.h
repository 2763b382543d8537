/* heap_view: the heap profile as Go programs tell theirs: four values for each stack. Our sites
 * (heap/heap_profile.h) come first, then what is in the heaps of Go libraries (ext/go/go_heap.h): what they
 * tell by themselves, with a label library; of one that tells nothing, a single entry with the size of its
 * heap.
 *
 * Ownership  Entries are borrowed for the call that passes them.
 * Threads    Any that holds no P and may block. */
#pragma once
#include <assert.h>

#include "admin/pprof.h"
#include "heap/heap_profile.h"

/* Go's order, and the order of struct pprof_head. */
enum heap_value {
    HEAP_ALLOC_OBJECTS,
    HEAP_ALLOC_SPACE,
    HEAP_INUSE_OBJECTS,
    HEAP_INUSE_SPACE,
    HEAP_VALUES
};
static_assert((int)HEAP_VALUES <= (int)PPROF_VALUES_MAX, "a profile has room for them");

struct heap_wanted {
    int64_t min_age_ns; /* in use only what is that old */
    bool last_cycle;    /* allocated only what was in the last closed cycle */
    bool close_cycle;   /* closes one before; Go collects its garbage */
};

struct heap_entry {
    const struct stack_count *stack; /* of ours: addresses; its count means nothing */
    const struct told_stack *told;   /* or of a Go library; the other is NULL */
    const int64_t *values;
};
typedef void (*heap_entry_fn)(void *arg, const struct heap_entry *entry);

/* Passes all that has something other than nothing to tell. Lines for people who look at the profile go
 * to notes, each ending in a newline: what rate, what cycle, what is missing. 0, -ENOTSUP (no sampling in
 * this process) or -ENOMEM. */
MUST_CHECK int heap_view_read(const struct heap_wanted *wanted, heap_entry_fn fn, void *arg,
                              struct heap_reading *reading, struct text *notes);

/* One site of another reading, in the same way. */
void heap_view_site(const struct heap_wanted *wanted, const struct heap_site *site,
                    heap_entry_fn fn, void *arg);

/* ---- As a file for go tool pprof ---- */

/* What there is of it: with a minimum age only what is in use. NULL when memory is short. */
struct pprof *heap_pprof_new(const struct heap_wanted *wanted, uint64_t rate,
                             const char *default_type);
/* pprof is what the last function made. A sign of -1 takes the entry away. */
void heap_pprof_add(struct pprof *pprof, const struct heap_wanted *wanted,
                    const struct heap_entry *entry, int sign);
/* Each line as a comment. */
void heap_pprof_notes(struct pprof *pprof, const struct text *notes);
