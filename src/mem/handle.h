/* handle: a number that stands for an object of ours wherever foreign code holds one. The number can be
 * kept, copied, forged and used at any time: it opens the object while that is alive, and nothing after.
 *
 *      63                     22 21         0
 *     ┌─────────────────────────┬────────────┐    index: a slot of the table
 *     │       generation        │   index    │    generation: which of the objects that the slot has had;
 *     └─────────────────────────┴────────────┘    from 1 on, so that no handle is 0
 *
 * Life       handle_make ─► alive ─► handle_destroy ─► refused from then on ─► last lease released ─►
 *            finalizer, once. A lease keeps the object: look-up and lease are one atomic step, so either
 *            a user has the object and its end waits for him, or the end was first and he has nothing.
 * Finalizer  Runs in the handle_destroy that finds no lease, else in the handle_release that gives the
 *            last one back: on whichever thread that is, one of the foreign code's maybe. So it needs no
 *            P and frees what malloc made; what belongs to a P it sends there (rt_post). It may use other
 *            handles of the same table.
 * Threads    Any, for everything but handle_make, which is of the thread that its shard belongs to.
 * Limits     `max` objects at a time, set by handle_table_init; HANDLE_LEASES_MAX leases of one object.
 * Wrap       A slot whose generations are used up is never used again, so no handle is ever given out
 *            twice. There are 2^42: a slot that is used a million times in a second has them for 50 days. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/stats.h"

enum {
    HANDLE_INDEX_BITS = 22,
    HANDLE_MAX = 1 << HANDLE_INDEX_BITS,
    HANDLE_LEASES_MAX = (1 << (HANDLE_INDEX_BITS - 1)) - 1, /* more are a leak */
};

/* Private: handle.c. A P's slots that are free. */
struct handle_shard {
    _Alignas(64) uint32_t free, fresh, fresh_end; /* of whoever makes */
    _Alignas(64) _Atomic uint32_t returned;       /* of whoever ends one: any thread */
};

struct handle_table {
    struct handle_slot *slots; /* address space for all of them: they never move */
    uint32_t max;
    _Atomic uint32_t used; /* slots below it have been handed to a shard */
    struct handle_shard shards[STATS_SHARDS_MAX];
};

/* 0 or -ENOMEM. max, from 1 to HANDLE_MAX, costs address space; memory is what is used, and stays. */
MUST_CHECK int handle_table_init(struct handle_table *table, uint32_t max);
/* When nobody knows the table any more. Objects still alive are not finalized. */
void handle_table_fini(struct handle_table *table);

/* What a handle is made of; the struct itself is copied. */
struct handle_object {
    void *object;    /* borrowed until the finalizer, or without one until handle_destroy */
    const void *key; /* who looks it up must know it: its kind, or what it belongs to */
    void (*finalize)(void *object, const void *key); /* may be NULL */
    bool leased;                                     /* the maker has a lease from the start */
};

/* 0 when the table is full. shard: of the P, as for statistics; threads without a P have
 * STATS_SHARD_FOREIGN, which takes a lock. */
MUST_CHECK uint64_t handle_make(struct handle_table *table, unsigned shard,
                                const struct handle_object *object);

/* The same in two steps, for an object that has to be made with its handle in hand: what is reserved opens
 * nothing before handle_open, which must follow. */
MUST_CHECK uint64_t handle_reserve(struct handle_table *table, unsigned shard);
void handle_open(struct handle_table *table, uint64_t handle, const struct handle_object *object);

/* The object, leased until handle_release. NULL when the handle does not stand for an object with this key
 * (any more): ended, never made, forged; also with HANDLE_LEASES_MAX leases out. Who is refused because
 * of handle_destroy sees all that was written before it. */
MUST_CHECK void *handle_lease(struct handle_table *table, uint64_t handle, const void *key);
/* Gives one lease back; one that is not there is our own bug and asserts. */
void handle_release(struct handle_table *table, uint64_t handle);

/* From here on the handle is refused. 0 for one caller, -ESTALE for all others, whatever they race with.
 * Who destroys may hold a lease, and releases it afterwards as any other. */
int handle_destroy(struct handle_table *table, uint64_t handle, const void *key);

/* The slot that a handle is for. */
static inline uint32_t handle_index(uint64_t handle) {
    return (uint32_t)(handle & (HANDLE_MAX - 1));
}
/* The handle that a slot stands for now, 0 for none. */
uint64_t handle_at(const struct handle_table *table, uint32_t index);

/* How many are alive or waiting for their last lease. Looks at all slots: for tests and dumps. */
uint32_t handle_count(const struct handle_table *table);
