/* handle: a table of slots, each with one word that says all: which object, whether it is over, and how
 * many are at it.
 *
 *     make ──► {g, leases 0} ──lease──► {g, leases n} ──destroy──► {g, over, leases n}
 *               │        ▲                │                          │ release
 *               │        └────release─────┘                          ▼
 *               └──────────────destroy──────────────► {g, over, 0}: whoever made it so finalizes,
 *                                                     then {g + 1, over, 0} and back to its shard
 *
 * I1  key, object and finalize are written while the slot is over and without a lease, by the one that has
 *     it from its shard, and read by those only that hold a lease, or have made it {over, 0}. A destroy
 *     alone looks at the key without: it is the right one if the step that follows finds the generation.
 * I2  The word becomes {over, 0} in one step, by a destroy or a release, and nobody but the thread that
 *     made that step writes it before the slot was made again. So there is one finalizer's call.
 * I3  A slot is in at most one place: alive, a shard's free list or its returned stack.
 *
 * Order  handle_open's store releases the slot's fields to the lease's acquire. A release gives what the user has
 *        done to the object to the finalizer (release and acquire of one word; read-modify-writes in
 *        between carry it on). destroy's step releases what was written before to the look-up that it
 *        refuses, hence the acquire there, also when the slot has been finished since. A returned slot goes with its push's release to the
 *        exchange's acquire in make.
 * Free   Each shard has what its maker uses alone, so making takes no locked instruction, and a stack
 *        that any thread pushes to. The maker only ever takes the whole stack: no ABA. It is turned
 *        round, and when there is no more than a RUN of it, fresh slots come first: so an index, and with it
 *        the memory of a loan, comes back after RUN others at the soonest, until the table is full.
 * Cost   Look-up and release are one compare-and-swap and one subtraction on a line that nobody else is
 *        at: see bench/native/memory_handles.c.
 * Rejected  A reader-writer lock or epochs: foreign threads come and go, and the SDK's calls are short and
 *        many. A growing array of chunks: reserved address space gives the same, and one load less per
 *        look-up. Handles with a salt against guessing: foreign code is in this process and could read
 *        it; a handle is there to make mistakes harmless, not attacks. */
#include "mem/handle.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "mem/handle_slot.h"

enum { RUN = 64 }; /* slots that a shard takes at once: a page of them */

static_assert(sizeof(struct handle_slot) == 64, "one cache line");
static const uint64_t LEASES = HANDLE_LEASES_MAX; /* the bits of the count */

static pthread_mutex_t foreign_lock = PTHREAD_MUTEX_INITIALIZER; /* of the shards without a P */

static uint64_t generation_of(uint64_t word_or_handle) {
    return word_or_handle >> HANDLE_INDEX_BITS;
}

int handle_table_init(struct handle_table *table, uint32_t max) {
    ASSERT(max >= 1);
    ASSERT(max <= HANDLE_MAX);
    memset(table, 0, sizeof(*table));
    table->max = max;
    void *slots = mmap(NULL, max * sizeof(struct handle_slot), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (slots == MAP_FAILED)
        return -ENOMEM;
    table->slots = slots;
    return 0;
}

void handle_table_fini(struct handle_table *table) {
    (void)munmap(table->slots, table->max * sizeof(struct handle_slot)); /* it was mapped so */
    table->slots = NULL;
}

/* ---- free slots ---- */

static bool take_run(struct handle_table *table, struct handle_shard *shard) {
    uint32_t first = atomic_load_explicit(&table->used, memory_order_relaxed), n;
    do {
        n = table->max - first < RUN ? table->max - first : RUN;
        if (n == 0)
            return false;
        /* Relaxed: whoever has a handle has it from its maker, and that brings all with it. */
    } while (!atomic_compare_exchange_weak_explicit(&table->used, &first, first + n,
                                                    memory_order_relaxed, memory_order_relaxed));
    shard->fresh = first;
    shard->fresh_end = first + n;
    return true;
}

/* What was returned, oldest first; how many. */
static uint32_t take_returned(struct handle_table *table, struct handle_shard *shard) {
    uint32_t count = 0;
    if (atomic_load_explicit(&shard->returned, memory_order_relaxed) == 0)
        return 0;
    uint32_t newest = atomic_exchange_explicit(&shard->returned, 0, memory_order_acquire);
    while (newest) {
        struct handle_slot *slot = &table->slots[newest - 1];
        uint32_t older = slot->next;
        slot->next = shard->free;
        shard->free = newest;
        newest = older;
        count++;
    }
    return count;
}

/* Index + 1, or 0. */
static uint32_t take_slot(struct handle_table *table, unsigned shard_index) {
    struct handle_shard *shard = &table->shards[shard_index];
    bool is_out = !shard->free && shard->fresh == shard->fresh_end;
    if (is_out && take_returned(table, shard) <= RUN && !take_run(table, shard) && !shard->free)
        return 0;
    uint32_t taken;
    if (shard->fresh == shard->fresh_end) {
        taken = shard->free;
        shard->free = table->slots[taken - 1].next;
        if (shard->free) /* for the next make: it was used long ago, or ended by another thread */
            __builtin_prefetch(&table->slots[shard->free - 1], 1);
        return taken;
    }
    taken = ++shard->fresh;
    struct handle_slot *slot = &table->slots[taken - 1];
    slot->shard = shard_index;
    /* Its first; nobody can have a handle of it. */
    atomic_store_explicit(&slot->word, (uint64_t)1 << HANDLE_INDEX_BITS | HANDLE_OVER,
                          memory_order_relaxed);
    return taken;
}

static void give_slot(struct handle_table *table, struct handle_slot *slot) {
    _Atomic uint32_t *returned = &table->shards[slot->shard].returned;
    uint32_t index = (uint32_t)(slot - table->slots);
    uint32_t head = atomic_load_explicit(returned, memory_order_relaxed);
    do {
        slot->next = head;
    } while (!atomic_compare_exchange_weak_explicit(returned, &head, index + 1,
                                                    memory_order_release, memory_order_relaxed));
}

/* ---- handles ---- */

/* The slot of an index that foreign code may have made up; NULL when there is none yet. */
static struct handle_slot *slot_at(const struct handle_table *table, uint32_t index) {
    if (index >= atomic_load_explicit(&table->used, memory_order_relaxed))
        return NULL;
    return &table->slots[index];
}

uint64_t handle_reserve(struct handle_table *table, unsigned shard) {
    bool is_foreign = shard == STATS_SHARD_FOREIGN;
    if (is_foreign)
        pthread_mutex_lock(&foreign_lock);
    uint32_t taken = take_slot(table, shard);
    if (is_foreign)
        pthread_mutex_unlock(&foreign_lock);
    if (!taken)
        return 0;
    /* Ours alone (I2). */
    uint64_t word = atomic_load_explicit(&table->slots[taken - 1].word, memory_order_relaxed);
    ASSERT((word & (HANDLE_MAX - 1)) == HANDLE_OVER);
    return generation_of(word) << HANDLE_INDEX_BITS | (taken - 1);
}

void handle_open(struct handle_table *table, uint64_t handle, const struct handle_object *object) {
    struct handle_slot *slot = &table->slots[handle_index(handle)];
    atomic_store_explicit(&slot->key, object->key, memory_order_relaxed);
    slot->object = object->object;
    slot->finalize = object->finalize;
    atomic_store_explicit(&slot->word, generation_of(handle) << HANDLE_INDEX_BITS | object->leased,
                          memory_order_release);
}

uint64_t handle_make(struct handle_table *table, unsigned shard,
                     const struct handle_object *object) {
    uint64_t handle = handle_reserve(table, shard);
    if (handle)
        handle_open(table, handle, object);
    return handle;
}

/* The slot of a handle that foreign code may have made up. */
static struct handle_slot *slot_of(const struct handle_table *table, uint64_t handle) {
    /* A slot of a run that was taken and not yet used is all zero. */
    return generation_of(handle) == 0 ? NULL : slot_at(table, handle_index(handle));
}

static bool is_alive(uint64_t word, uint64_t handle) {
    return generation_of(word) == generation_of(handle) && !(word & HANDLE_OVER);
}

/* The word has become {over, 0} by the caller's hand. */
static void finish(struct handle_table *table, struct handle_slot *slot, uint64_t generation) {
    if (slot->finalize)
        slot->finalize(slot->object, atomic_load_explicit(&slot->key, memory_order_relaxed));
    if (generation == HANDLE_GENERATION_MAX)
        return; /* used up: it stays as it is, refusing all */
    atomic_store_explicit(&slot->word, (generation + 1) << HANDLE_INDEX_BITS | HANDLE_OVER,
                          memory_order_release);
    give_slot(table, slot);
}

static void release_slot(struct handle_table *table, struct handle_slot *slot, uint64_t handle) {
    uint64_t before = atomic_fetch_sub_explicit(&slot->word, 1, memory_order_acq_rel);
    ASSERT(generation_of(before) == generation_of(handle));
    ASSERT((before & LEASES) > 0);
    if ((before & (HANDLE_OVER | LEASES)) == (HANDLE_OVER | 1))
        finish(table, slot, generation_of(handle));
}

void *handle_lease(struct handle_table *table, uint64_t handle, const void *key) {
    struct handle_slot *slot = slot_of(table, handle);
    if (!slot)
        return NULL;
    uint64_t word = atomic_load_explicit(&slot->word, memory_order_acquire);
    do {
        if (!is_alive(word, handle) || (word & LEASES) == LEASES)
            return NULL;
    } while (!atomic_compare_exchange_weak_explicit(&slot->word, &word, word + 1,
                                                    memory_order_acquire, memory_order_acquire));
    if (atomic_load_explicit(&slot->key, memory_order_relaxed) == key)
        return slot->object;
    release_slot(table, slot, handle);
    return NULL;
}

void handle_release(struct handle_table *table, uint64_t handle) {
    struct handle_slot *slot = slot_at(table, handle_index(handle));
    ASSERT(slot);
    release_slot(table, slot, handle);
}

int handle_destroy(struct handle_table *table, uint64_t handle, const void *key) {
    struct handle_slot *slot = slot_of(table, handle);
    if (!slot)
        return -ESTALE;
    uint64_t word = atomic_load_explicit(&slot->word, memory_order_acquire);
    do {
        if (!is_alive(word, handle))
            return -ESTALE;
        /* Without a lease the slot may become another's meanwhile, and the key with it; but not if the
         * word is still of this generation in the next step. */
        if (atomic_load_explicit(&slot->key, memory_order_relaxed) != key)
            return -ESTALE;
    } while (!atomic_compare_exchange_weak_explicit(&slot->word, &word, word | HANDLE_OVER,
                                                    memory_order_acq_rel, memory_order_acquire));
    if ((word & LEASES) == 0)
        finish(table, slot, generation_of(handle));
    return 0;
}

uint64_t handle_at(const struct handle_table *table, uint32_t index) {
    struct handle_slot *slot = slot_at(table, index);
    if (!slot)
        return 0;
    uint64_t word = atomic_load_explicit(&slot->word, memory_order_relaxed);
    if (generation_of(word) == 0 || (word & HANDLE_OVER))
        return 0;
    return generation_of(word) << HANDLE_INDEX_BITS | index;
}

uint32_t handle_count(const struct handle_table *table) {
    uint32_t count = 0, used = atomic_load_explicit(&table->used, memory_order_relaxed);
    for (uint32_t i = 0; i < used; i++) {
        uint64_t word = atomic_load_explicit(&table->slots[i].word, memory_order_relaxed);
        count += word != 0 && (word & (HANDLE_MAX - 1)) != HANDLE_OVER;
    }
    return count;
}
