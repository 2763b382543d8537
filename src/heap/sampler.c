/* sampler: countdowns of threads.
 *
 *     point                          point
 *     --x------------------------------x--------------->  bytes that a thread allocates
 *          [  ][ ][      ][     ][        ][  ]
 *                                 sampled: left < size
 *
 * An object of size s holds a point with p = 1 - exp(-s / rate), and stands for 1 / p objects. The
 * countdown after it begins behind its end.
 *
 *   S1  Only its thread winds a countdown up, and notes the rate; p is computed from that one.
 *   S2  A change of the rate marks all countdowns as poked and sets them to 0, so that the next allocation
 *       asks. The owner counts down by a load and a store, for an atomic subtraction would cost as much as
 *       malloc does; so it may overwrite that 0. Then its rate stays behind, and sampler_poke, called once
 *       per cycle, does it again.
 *   S3  A countdown that was poked, or wound up when nothing was sampled, says nothing of the object that
 *       asks: it is wound up first, and the object counted against the new one. Any other that asks has
 *       met a point, one of the rate that it was wound up with, and the object gets the weight that goes
 *       with that. So no object is sampled, or left out, because somebody changed the rate.
 *   S4  A thread is known from its first allocation (left is 0 at first, so it asks) until its thread-local
 *       destructors run. These run before the destructors of pthread keys, by one of which mimalloc
 *       takes the thread's heaps from it: later allocations are not sampled, as they would be made
 *       from a heap that is gone.
 *
 * Order  All relaxed: left and rate are a thread's own; what others read of them decides only whether
 *        they poke. */
#include "heap/sampler.h"

#include <math.h>
#include <pthread.h>
#include <time.h>

#include "base/clock.h"

#define FOREVER (1ULL << 62)
/* How far a countdown that is not a thread's runs while nothing is sampled: nobody can shorten it. */
#define REST_BYTES (1LL << 20)

_Thread_local struct sampler sampler_self;

static struct {
    pthread_mutex_t mutex; /* of the list */
    struct list all;
    _Atomic uint64_t rate;
    _Atomic uint64_t seeds;
} threads = {.mutex = PTHREAD_MUTEX_INITIALIZER, .all = {&threads.all, &threads.all}};

static void poke(struct sampler *sampler) {
    atomic_store_explicit(&sampler->is_poked, true, memory_order_relaxed);
    atomic_store_explicit(&sampler->left, 0, memory_order_relaxed);
}

/* ---- Random numbers: splitmix64 ---- */

static uint64_t next_random(struct sampler *self) {
    uint64_t z = self->random += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

/* In (0, 1]. */
static double next_unit(struct sampler *self) {
    return (double)((next_random(self) >> 11) + 1) * 0x1p-53;
}

void sampler_seed(uint64_t seed) {
    sampler_self.random = seed;
    poke(&sampler_self);
}

int64_t sampler_round(double value) {
    double below = floor(value);
    return (int64_t)below + (next_unit(&sampler_self) <= value - below);
}

/* ---- Threads ---- */

extern int __cxa_thread_atexit_impl(void (*fn)(void *), void *arg, void *dso);
extern void *__dso_handle;

static void end_thread(void *arg) {
    struct sampler *self = arg;
    self->has_ended = true;
    sampler_lock();
    list_remove(&self->node);
    sampler_unlock();
}

static NOINLINE void begin_thread(struct sampler *self) {
    self->is_known = true;
    bool was_busy = self->is_busy;
    self->is_busy = true; /* libc allocates for what follows */
    uint64_t count = atomic_fetch_add_explicit(&threads.seeds, 1, memory_order_relaxed);
    if (self->random == 0)
        self->random = (uint64_t)clock_mono_ns() ^ (count << 48) ^ (uintptr_t)self;
    sampler_lock();
    list_push_back(&threads.all, &self->node);
    sampler_unlock();
    __cxa_thread_atexit_impl(end_thread, self, &__dso_handle);
    self->is_busy = was_busy;
}

/* ---- Countdowns ---- */

/* Bytes to the next point: of these, whole ones lie before it. */
static uint64_t distance(struct sampler *self, uint64_t rate) {
    if (rate <= 1)
        return rate == 1 ? 0 : FOREVER;
    double bytes = floor(-log(next_unit(self)) * (double)rate);
    return bytes < (double)FOREVER ? (uint64_t)bytes : FOREVER;
}

static double weight_of(size_t size, uint64_t rate) {
    return rate == 1 ? 1 : -1 / expm1(-(double)size / (double)rate);
}

/* The weight of an object of size bytes, whose countdown asks. rate_met: of the point that it has met; 0: it
 * does not know of one. Winds the countdown up with rate. */
static double pick(struct sampler *self, size_t size, uint64_t rate_met, uint64_t rate,
                   uint64_t *left) {
    if (rate_met == 0 && rate == 0) {
        *left = FOREVER;
        return 0;
    }
    if (rate_met == 0) { /* S3 */
        uint64_t next = distance(self, rate);
        if (next >= size) {
            *left = next - size;
            return 0;
        }
        rate_met = rate;
    }
    *left = distance(self, rate);
    return weight_of(size, rate_met);
}

double sampler_pick(size_t size) {
    struct sampler *self = &sampler_self;
    if (self->has_ended) {
        atomic_store_explicit(&self->left, FOREVER, memory_order_relaxed);
        return 0;
    }
    if (self->is_busy || self->is_forking) {
        sampler_rewind();
        return 0;
    }
    if (!self->is_known)
        begin_thread(self);
    uint64_t rate = sampler_rate(), left;
    bool is_poked = atomic_exchange_explicit(&self->is_poked, false, memory_order_relaxed);
    uint64_t wound = atomic_load_explicit(&self->rate, memory_order_relaxed);
    double weight = pick(self, size, is_poked ? 0 : wound, rate, &left);
    atomic_store_explicit(&self->rate, rate, memory_order_relaxed);
    atomic_store_explicit(&self->left, left, memory_order_relaxed);
    return weight;
}

/* Blocks go round: a request has three of them for a moment, which at the full rate would be a sample, some
 * 2 us, for every eleventh request, and a hundredth of all that it costs. */
static uint64_t rate_for_caches(void) {
    uint64_t rate = sampler_rate();
    return rate > 1 && rate <= UINT64_MAX / CACHE_RATE_FACTOR ? rate * CACHE_RATE_FACTOR : rate;
}

double sampler_pick_for(struct mem_countdown *countdown, size_t size) {
    struct sampler *self = &sampler_self;
    if (self->is_forking) {
        *countdown = (struct mem_countdown){0};
        return 0;
    }
    if (!self->is_known && !self->has_ended)
        begin_thread(self);
    uint64_t rate = rate_for_caches(), left;
    double weight = pick(self, size, countdown->rate, rate, &left);
    countdown->rate = rate;
    countdown->left = rate > 0 ? (int64_t)left : REST_BYTES;
    return weight;
}

void sampler_rewind(void) {
    struct sampler *self = &sampler_self;
    uint64_t left = distance(self, atomic_load_explicit(&self->rate, memory_order_relaxed));
    atomic_store_explicit(&self->left, left, memory_order_relaxed);
}

/* ---- The rate ---- */

uint64_t sampler_rate(void) {
    return atomic_load_explicit(&threads.rate, memory_order_relaxed);
}

void sampler_set_rate(uint64_t rate) {
    atomic_store_explicit(&threads.rate, rate, memory_order_relaxed);
    (void)sampler_poke();
}

bool sampler_poke(void) {
    bool have_all = true;
    uint64_t rate = sampler_rate();
    sampler_lock();
    for (struct list *node = threads.all.next; node != &threads.all; node = node->next) {
        struct sampler *other = container_of(node, struct sampler, node);
        if (atomic_load_explicit(&other->rate, memory_order_relaxed) != rate) {
            poke(other);
            have_all = false;
        }
    }
    sampler_unlock();
    return have_all;
}

/* ---- Forks ---- */

void sampler_lock(void) {
    pthread_mutex_lock(&threads.mutex);
}

void sampler_unlock(void) {
    pthread_mutex_unlock(&threads.mutex);
}

void sampler_forked(void) {
    list_init(&threads.all);
    if (sampler_self.is_known && !sampler_self.has_ended)
        list_push_back(&threads.all, &sampler_self.node);
    sampler_unlock();
}
