/* local: an array of LOCAL_MAX pointers in each struct g.
 *
 *   L1  A free G's pointers are all NULL (new memory is zero, g_exit empties what was set), so a
 *       coroutine that uses none pays one look at locals_set when it starts and when it ends.
 *   L2  Only the coroutine itself writes its values; before it first runs, its starter does.
 *   L3  A value with an inherit may be leased by any thread, which must not find it destroyed in between:
 *       the lease is taken, and such a value is exchanged, under locals_lock. The former value is
 *       destroyed after that. The memory of a struct g stays one for ever, so the lock is always there.
 *
 * Order  A key's slot is stored with release after the key is in the table and loaded with acquire. So is
 *        a value: the first one of a key is stored without the lock, there is nothing to destroy. */
#include "rt/local.h"

#include "rt/rt_internal.h"

static struct spin keys_lock;
static struct local_key *_Atomic keys[LOCAL_MAX];

static NOINLINE uint32_t register_key(struct local_key *key) {
    spin_lock(&keys_lock);
    uint32_t slot = atomic_load_explicit(&key->slot, memory_order_relaxed);
    if (slot == 0) {
        while (slot < LOCAL_MAX && atomic_load_explicit(&keys[slot], memory_order_relaxed))
            slot++;
        if (slot == LOCAL_MAX)
            LOG(log_rt, LOG_ERROR, "no room for the coroutine-local key %s", key->name);
        ASSERT(slot < LOCAL_MAX);
        atomic_store_explicit(&keys[slot], key, memory_order_relaxed);
        atomic_store_explicit(&key->slot, ++slot, memory_order_release);
    }
    spin_unlock(&keys_lock);
    return slot;
}

static struct local_key *key_at(uint32_t index) {
    return atomic_load_explicit(&keys[index], memory_order_relaxed);
}

static void *exchange(struct g *g, struct local_key *key, uint32_t index, void *value) {
    void *former = atomic_load_explicit(&g->locals[index], memory_order_relaxed); /* L2 */
    bool may_be_leased = former && key->inherit;
    if (may_be_leased)
        spin_lock(&g->locals_lock); /* L3 */
    atomic_store_explicit(&g->locals[index], value, memory_order_release);
    if (may_be_leased)
        spin_unlock(&g->locals_lock);
    uint32_t bit = 1U << index;
    g->locals_set = value ? g->locals_set | bit : g->locals_set & ~bit;
    return former;
}

void *local_of(const struct g *g, struct local_key *key) {
    uint32_t slot = atomic_load_explicit(&key->slot, memory_order_acquire);
    return slot ? atomic_load_explicit(&g->locals[slot - 1], memory_order_relaxed) : NULL;
}

void *local_get(struct local_key *key) {
    struct g *g = rt_self();
    ASSERT(g);
    return local_of(g, key);
}

void *local_swap(struct local_key *key, void *value) {
    struct g *g = rt_self();
    ASSERT(g);
    uint32_t slot = atomic_load_explicit(&key->slot, memory_order_acquire);
    if (slot == 0)
        slot = register_key(key);
    return exchange(g, key, slot - 1, value);
}

void local_set(struct local_key *key, void *value) {
    void *former = local_swap(key, value);
    if (former && key->destroy)
        key->destroy(former);
}

void *local_lease(struct g *g, struct local_key *key) {
    ASSERT(key->inherit);
    uint32_t slot = atomic_load_explicit(&key->slot, memory_order_acquire);
    if (slot == 0)
        return NULL;
    spin_lock(&g->locals_lock);
    void *value = atomic_load_explicit(&g->locals[slot - 1], memory_order_acquire);
    void *leased = value ? key->inherit(value) : NULL;
    spin_unlock(&g->locals_lock);
    return leased;
}

void local_inherit(struct g *g, const struct g *starter) {
    for (uint32_t index = 0; index < LOCAL_MAX; index++) {
        if (!(starter->locals_set & 1U << index) || !key_at(index)->inherit)
            continue;
        void *theirs = atomic_load_explicit(&starter->locals[index], memory_order_relaxed);
        void *value = key_at(index)->inherit(theirs);
        if (value)
            (void)!exchange(g, key_at(index), index, value);
    }
}

void local_end(struct g *g) {
    while (g->locals_set) { /* destroy may set others, or its own again */
        uint32_t index = (uint32_t)__builtin_ctz(g->locals_set);
        struct local_key *key = key_at(index);
        void *value = exchange(g, key, index, NULL);
        if (key->destroy)
            key->destroy(value);
    }
}
