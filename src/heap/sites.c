/* sites: a hash table that only grows, and two sets of counters per site.
 *
 *     cycle n                    sites_close       cycle n + 1
 *     changes[n & 1] += ...           |            changes[(n + 1) & 1] += ...
 *                                     v
 *     states[n & 1] = states[(n - 1) & 1] + changes[n & 1];  changes[n & 1] = 0
 *
 * Who counts passes a gate of the cycle's parity: it raises the gate's number, looks again whether the
 * cycle is still that, counts, lowers it. Who closes the cycle first begins the next, then waits until the
 * numbers of the old parity are 0: from then on nobody touches those counters before the cycle after
 * the next begins, which only who closes does. So a reading is of one moment: an object whose free is in
 * it was allocated in it. There are several gates, for threads that sample all the time (rate 1).
 *
 *   T1  A site in the table is complete and constant, but for its counters and what is marked.
 *   T2  Sites are added under the lock, found without.
 *
 * Order  A site is published with release (bucket, list) and found with acquire.
 *        Gate and cycle are sequentially consistent: of "raise, then read the cycle" and "begin the next,
 *        then read the gate" one sees the other. Lowering a gate releases the counts to who closes.
 * Rejected  Counters under a lock per site: a thread that is preempted with it would stop others in malloc.
 *        A snapshot taken without gates: a free may be in it and its allocation not, and live
 *        below 0 is what a reader would see. */
#include "heap/sites.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/span.h"
#include "heap/own.h"
#include "rt/labels.h"

enum { BUCKETS = 1 << 13, GATES = 16 };

struct gate {
    _Alignas(64) _Atomic uint64_t inside[2];
    _Atomic uint64_t samples[2], lost[2];
};

static struct {
    pthread_mutex_t mutex; /* of adding */
    struct site *_Atomic buckets[BUCKETS];
    struct site *_Atomic newest;
    unsigned count;
    _Atomic uint64_t cycle; /* the one that is being counted; the first is 1 */
    struct gate gates[GATES];
} sites = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cycle = 1};

/* ---- The table ---- */

static uint64_t mix(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * 0x9e3779b97f4a7c15U;
    return hash ^ (hash >> 32);
}

static uint64_t mix_text(uint64_t hash, const char *text) {
    return mix(span_hash(hash, span_of(text)), 0);
}

static uint64_t hash_of(const uintptr_t *pcs, unsigned depth, const struct labels *labels) {
    uint64_t hash = depth;
    for (unsigned i = 0; i < depth; i++)
        hash = mix(hash, pcs[i]);
    for (unsigned i = 0; labels && i < labels->count; i++)
        hash = mix_text(mix_text(hash, labels->items[i].key), labels->items[i].value);
    return hash;
}

static struct site *look_up(struct site *_Atomic *bucket, const struct site *like,
                            const uintptr_t *pcs) {
    struct site *site = atomic_load_explicit(bucket, memory_order_acquire); /* T1 */
    while (site && !(site->hash == like->hash && site->depth == like->depth &&
                     memcmp(site->pcs, pcs, like->depth * sizeof *pcs) == 0 &&
                     labels_compare(site->labels, like->labels) == 0))
        site = atomic_load_explicit(&site->next_in_bucket, memory_order_acquire);
    return site;
}

static struct site *add_locked(struct site *_Atomic *bucket, const struct site *like,
                               const uintptr_t *pcs) {
    if (sites.count == SITES_MAX)
        return NULL;
    struct site *site = own_memory(sizeof *site + like->depth * sizeof *pcs);
    if (!site)
        return NULL;
    site->hash = like->hash;
    site->depth = like->depth;
    site->labels = like->labels;
    memcpy(site->pcs, pcs, like->depth * sizeof *pcs);
    site->next = atomic_load_explicit(&sites.newest, memory_order_relaxed);
    struct site *first = atomic_load_explicit(bucket, memory_order_relaxed);
    atomic_store_explicit(&site->next_in_bucket, first, memory_order_relaxed);
    atomic_store_explicit(bucket, site, memory_order_release); /* T1 */
    atomic_store_explicit(&sites.newest, site, memory_order_release);
    sites.count++;
    return site;
}

struct site *sites_find(const uintptr_t *pcs, unsigned depth, struct labels *labels) {
    struct site like = {.hash = hash_of(pcs, depth, labels), .depth = depth, .labels = labels};
    struct site *_Atomic *bucket = &sites.buckets[like.hash % BUCKETS];
    struct site *site = look_up(bucket, &like, pcs);
    if (!site) {
        sites_lock();
        site = look_up(bucket, &like, pcs);
        if (!site)
            site = add_locked(bucket, &like, pcs);
        sites_unlock();
        if (site && site->labels == labels)
            return site;
    }
    labels_unref(labels);
    return site;
}

struct site *sites_first(void) {
    return atomic_load_explicit(&sites.newest, memory_order_acquire);
}

/* ---- Counting ---- */

/* Spreads threads; which one is of no consequence. */
static struct gate *own_gate(void) {
    static _Thread_local char here __attribute__((tls_model("initial-exec")));
    return &sites.gates[mix(0, (uintptr_t)&here) % GATES];
}

/* The parity of the cycle, which cannot be closed until leave. */
static unsigned enter(struct gate *gate) {
    for (;;) {
        uint64_t cycle = atomic_load(&sites.cycle);
        unsigned parity = cycle & 1;
        atomic_fetch_add(&gate->inside[parity], 1);
        if (atomic_load(&sites.cycle) == cycle)
            return parity;
        atomic_fetch_sub(&gate->inside[parity], 1);
    }
}

static void leave(struct gate *gate, unsigned parity) {
    atomic_fetch_sub(&gate->inside[parity], 1);
}

static void add(_Atomic int64_t *counter, int64_t value) {
    atomic_fetch_add_explicit(counter, value, memory_order_relaxed); /* leave releases */
}

void sites_count(struct site *site, enum site_event event, const struct site_count *object) {
    struct gate *gate = own_gate();
    unsigned parity = enter(gate);
    struct site_change *change = &site->changes[parity];
    add(event == SITE_FREED ? &change->freed_objects : &change->objects, object->objects);
    add(event == SITE_FREED ? &change->freed_bytes : &change->bytes, object->bytes);
    leave(gate, parity);
}

void sites_note_sample(bool is_lost) {
    struct gate *gate = own_gate();
    unsigned parity = enter(gate);
    atomic_fetch_add_explicit(&gate->samples[parity], 1, memory_order_relaxed);
    if (is_lost)
        atomic_fetch_add_explicit(&gate->lost[parity], 1, memory_order_relaxed);
    leave(gate, parity);
}

/* ---- Closing ---- */

/* A thread is inside for some instructions, unless it has lost its processor there. */
static void await_nobody(_Atomic uint64_t *inside) {
    const struct timespec pause = {.tv_nsec = 50000};
    for (unsigned i = 0; atomic_load(inside) != 0; i++) {
        if (i < 100)
            sched_yield();
        else
            nanosleep(&pause, NULL);
    }
}

static int64_t take(_Atomic int64_t *counter) {
    int64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    if (value != 0)
        atomic_store_explicit(counter, 0, memory_order_relaxed);
    return value;
}

static struct site_count sum(struct site_count one, struct site_count other) {
    return (struct site_count){one.objects + other.objects, one.bytes + other.bytes};
}

static void close_site(struct site *site, unsigned parity) {
    struct site_change *change = &site->changes[parity];
    const struct site_state *before = &site->states[!parity];
    struct site_count made = {take(&change->objects), take(&change->bytes)};
    struct site_count freed = {-take(&change->freed_objects), -take(&change->freed_bytes)};
    site->states[parity] = (struct site_state){
        .live = sum(sum(before->live, made), freed),
        .allocated = sum(before->allocated, made),
        .cycle = made,
    };
}

void sites_close(struct sites_state *state) {
    uint64_t cycle = atomic_fetch_add(&sites.cycle, 1);
    unsigned parity = cycle & 1;
    state->cycle = cycle;
    state->live = state->allocated = state->in_cycle = (struct site_count){0};
    for (unsigned i = 0; i < GATES; i++) {
        struct gate *gate = &sites.gates[i];
        await_nobody(&gate->inside[parity]);
        state->samples += atomic_exchange_explicit(&gate->samples[parity], 0, memory_order_relaxed);
        state->lost += atomic_exchange_explicit(&gate->lost[parity], 0, memory_order_relaxed);
    }
    for (struct site *site = sites_first(); site; site = site->next) {
        close_site(site, parity);
        const struct site_state *now = &site->states[parity];
        state->live = sum(state->live, now->live);
        state->allocated = sum(state->allocated, now->allocated);
        state->in_cycle = sum(state->in_cycle, now->cycle);
    }
}

/* ---- Forks ---- */

void sites_lock(void) {
    pthread_mutex_lock(&sites.mutex);
}

void sites_unlock(void) {
    pthread_mutex_unlock(&sites.mutex);
}

void sites_forked(void) {
    /* Who was inside is not in this process; what it had not yet counted is not counted. */
    for (unsigned i = 0; i < GATES; i++) {
        atomic_store(&sites.gates[i].inside[0], 0);
        atomic_store(&sites.gates[i].inside[1], 0);
    }
    sites_unlock();
}
