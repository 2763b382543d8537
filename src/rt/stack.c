/* stack: memory of coroutines, in slabs that are never unmapped.
 *
 *     slab:  | guard | stack ............ g | guard | stack ............ g | ... x 64
 *            low                        ^ top                              high
 *                                       struct g, a little below the top (see colour)
 *
 * One mapping per slab, reserved without swap, so that memory is what coroutines really touched: for
 * most of them the one page that holds their struct g and first frames. Slabs lie side by side, and
 * the kernel makes one mapping of them all (see guard.c for what that takes).
 *
 * Where a free stack is:
 *
 *     put                          half of a full cache                    idle
 *    ------> the P's cache (LIFO) ----------------------> warm (the oldest ------> cold (bit in its
 *                 |        ^                               at the end)              slab: no memory)
 *            get  v        +------------ up to STACK_BATCH ----+----------------------------+
 *
 * S1  A bit of slab.cold is set: the stack is in no other list, and nothing in it is needed. Its
 *     memory reads as zero, which is a free struct g, or is as its last coroutine left it when the
 *     kernel refused to take it.
 * S2  A slab is on cold_slabs when cold is not 0, once.
 * S3  While a cache has any, its P's trim timer is armed; while the warm list has any, that of some
 *     P is. Once all are cold nothing ticks.
 * S4  Last in, first out at both levels, so what ages is at the bottom: a trim looks there and stops
 *     at the first that is young. Where halves of caches mix in the warm list some are trimmed later
 *     than they could be; none sooner.
 *
 * Colour: stacks are 64 KiB apart, so all their tops would fall into the same few sets of the L1
 * cache. Each starts a different number of lines below its end.
 *
 * Threads  A cache: the M that holds its P. Everything shared: slab_lock, which is not held over a
 *          system call, nor over the page faults of a new stack. The list of slabs only grows;
 *          stack_each reads it with acquire, which pairs with the release in slab_publish_locked.
 *
 * LeakSanitizer knows nothing of these stacks, and must not read the guards: each stack is registered
 * as a root by itself. Valgrind must be told of them too, or it takes a switch for a huge frame.
 *
 * Rejected  A struct g apart from its stack would survive a trim, but costs a second page and TLB entry
 *           in every switch, and a few hundred bytes for ever. A trim by a coroutine of low priority:
 *           it would itself hold a stack. Counting how low a cache gets per minute instead of a stamp
 *           per stack: an hour-old stack could not be told from one freed just before the count. */
#include "rt/stack.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rt/guard.h"
#include "rt/rt_internal.h"
#include "rt/stack_tools.h"

enum {
    SLAB_STACKS = 64,
    STACK_BATCH = 32, /* a P that needs one will soon need more: this many spare it the lock */
    STACK_COLOURS = 16,
    STACK_COLOUR_BYTES = 128,
};

struct slab {
    struct slab *next;
    struct slab *next_cold; /* slab_lock */
    char *base;
    _Atomic uint64_t cold; /* slab_lock to change; bit i: S1 */
};
_Static_assert(SLAB_STACKS == 64, "slab.cold has a bit for each");

static pthread_mutex_t slab_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct slab *) slabs;
static struct slab *cold_slabs;
static struct list warm = {&warm, &warm}; /* of g->free_node, newest first */
static _Atomic uint64_t slab_count, warm_count, cold_count;
static size_t stack_size, page_size;

void stack_init(size_t size) {
    page_size = (size_t)sysconf(_SC_PAGESIZE);
    stack_size = (size + page_size - 1) / page_size * page_size;
    stack_big_init(page_size, stack_size);
}

/* ---- Slabs ---- */

static char *stack_low(const struct slab *slab, unsigned index) {
    return slab->base + index * stack_size + page_size;
}

static struct g *stack_g(const struct slab *slab, unsigned index) {
    size_t usable = stack_size - page_size - index % STACK_COLOURS * STACK_COLOUR_BYTES;
    size_t size = (usable - sizeof(struct g)) & ~(size_t)63;
    return (struct g *)(void *)(stack_low(slab, index) + size);
}

/* A struct g in cold memory: what stays the same while it has memory. */
static struct g *stack_carve(struct slab *slab, unsigned index) {
    struct g *g = stack_g(slab, index);
    g->slab = slab;
    g->stack = stack_low(slab, index);
    g->stack_size = (size_t)((char *)g - g->stack);
    return g;
}

/* NULL when memory is short. */
static struct slab *slab_new(void) {
    struct slab *slab = calloc(1, sizeof *slab);
    if (!slab)
        return NULL;
    size_t bytes = stack_size * SLAB_STACKS;
    slab->base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (slab->base == MAP_FAILED)
        goto free_slab;
    (void)madvise(slab->base, bytes, MADV_NOHUGEPAGE); /* else a touched page costs 2 MiB */
    for (unsigned i = 0; i < SLAB_STACKS; i++)
        if (guard_install(slab->base + i * stack_size, page_size) < 0)
            goto unmap;
    for (unsigned i = 0; i < SLAB_STACKS; i++)
        stack_tools_learn(stack_low(slab, i), stack_size - page_size);
    return slab;
unmap:
    (void)munmap(slab->base,
                 bytes); /* with too many mappings it may be refused: it stays, unused */
free_slab:
    free(slab);
    return NULL;
}

static unsigned bit_count(uint64_t bits) {
    return (unsigned)__builtin_popcountll(bits);
}

static void slab_add_cold_locked(struct slab *slab, uint64_t bits) {
    uint64_t cold = atomic_load_explicit(&slab->cold, memory_order_relaxed);
    if (!cold) { /* S2 */
        slab->next_cold = cold_slabs;
        cold_slabs = slab;
    }
    atomic_store_explicit(&slab->cold, cold | bits, memory_order_relaxed);
    atomic_fetch_add_explicit(&cold_count, bit_count(bits), memory_order_relaxed);
}

static void slab_publish_locked(struct slab *slab) {
    slab->next = atomic_load_explicit(&slabs, memory_order_relaxed);
    atomic_store_explicit(&slabs, slab, memory_order_release);
    atomic_fetch_add_explicit(&slab_count, 1, memory_order_relaxed);
    slab_add_cold_locked(slab, UINT64_MAX);
}

/* Up to max cold stacks of one slab, as bits; 0 when there is none. */
static uint64_t take_cold_locked(unsigned max, struct slab **slab_out) {
    struct slab *slab = cold_slabs;
    if (!slab)
        return 0;
    uint64_t cold = atomic_load_explicit(&slab->cold, memory_order_relaxed), taken = 0;
    for (; cold && max > 0; max--) {
        taken |= cold & -cold;
        cold &= cold - 1;
    }
    atomic_store_explicit(&slab->cold, cold, memory_order_relaxed);
    atomic_fetch_sub_explicit(&cold_count, bit_count(taken), memory_order_relaxed);
    if (!cold)
        cold_slabs = slab->next_cold;
    *slab_out = slab;
    return taken;
}

/* ---- The warm list ---- */

static struct g *g_of(struct list *node) {
    return container_of(node, struct g, free_node);
}

static void warm_push_locked(struct g *g) {
    list_push_front(&warm, &g->free_node);
    atomic_fetch_add_explicit(&warm_count, 1, memory_order_relaxed);
}

static struct g *warm_take_locked(struct list *node) {
    list_remove(node);
    atomic_fetch_sub_explicit(&warm_count, 1, memory_order_relaxed);
    return g_of(node);
}

/* ---- Get and put ---- */

static uint32_t cache_count(const struct stack_cache *cache) {
    return atomic_load_explicit(&cache->count, memory_order_relaxed);
}

static void cache_set_count(struct stack_cache *cache, uint32_t count) {
    atomic_store_explicit(&cache->count, count, memory_order_relaxed);
}

/* Returns how many, 0 when memory is short; what should be used first comes first. */
static unsigned get_shared(struct g **gs, unsigned max) {
    unsigned count = 0;
    struct slab *slab = NULL;
    uint64_t cold = 0;
    pthread_mutex_lock(&slab_lock);
    while (count < max && !list_is_empty(&warm))
        gs[count++] = warm_take_locked(warm.next);
    if (count == 0)
        cold = take_cold_locked(max, &slab);
    pthread_mutex_unlock(&slab_lock);
    if (count > 0)
        return count;
    if (!cold) {
        struct slab *fresh = slab_new();
        if (!fresh)
            return 0;
        pthread_mutex_lock(&slab_lock);
        slab_publish_locked(fresh);
        cold = take_cold_locked(max, &slab);
        pthread_mutex_unlock(&slab_lock);
    }
    for (; cold; cold &= cold - 1)
        gs[count++] = stack_carve(slab, (unsigned)__builtin_ctzll(cold));
    return count;
}

static void trim_fired(struct timer *timer);

static void arm_trim(struct p *p, int64_t deadline_ns) {
    struct timer *timer = &p->stacks.trim;
    if (timer_is_armed(timer) || deadline_ns == RT_FOREVER)
        return;
    timer->fn = trim_fired;
    timer->deadline_ns = deadline_ns;
    wheel_add(&p->wheel, timer);
}

static struct g *get_slowly(struct p *p) {
    struct g *gs[STACK_BATCH];
    unsigned count = get_shared(gs, p ? STACK_BATCH : 1);
    if (count == 0)
        return NULL;
    for (unsigned i = 1; i < count; i++) {
        gs[i]->free_since_ns = p->now_ns;
        p->stacks.gs[count - 1 - i] = gs[i];
    }
    if (count > 1) {
        cache_set_count(&p->stacks, count - 1);
        arm_trim(p, p->now_ns + STACK_IDLE_NS); /* S3 */
    }
    return gs[0];
}

struct g *stack_get(struct p *p, size_t size) {
    if (size > stack_size / STACK_TOOLS_FACTOR)
        return stack_big_get(size * STACK_TOOLS_FACTOR);
    struct g *g;
    uint32_t count = p ? cache_count(&p->stacks) : 0;
    if (count > 0) {
        g = p->stacks.gs[count - 1];
        cache_set_count(&p->stacks, count - 1);
    } else {
        g = get_slowly(p);
        if (!g)
            return NULL;
    }
    stack_tools_open(g->stack, g->stack_size);
    return g;
}

/* The older half becomes everybody's. */
static void spill(struct stack_cache *cache) {
    enum { HALF = STACK_CACHE_MAX / 2 };
    pthread_mutex_lock(&slab_lock);
    for (unsigned i = 0; i < HALF; i++)
        warm_push_locked(cache->gs[i]);
    pthread_mutex_unlock(&slab_lock);
    for (unsigned i = 0; i < HALF; i++)
        cache->gs[i] = cache->gs[HALF + i];
    cache_set_count(cache, HALF);
}

void stack_put(struct p *p, struct g *g) {
    stack_tools_close(g->stack, g->stack_size, g->sp);
    int64_t now_ns = p->now_ns; /* of this round or one before: near enough to a minute */
    if (!g->slab) {
        stack_big_put(g, now_ns);
    } else {
        if (cache_count(&p->stacks) == STACK_CACHE_MAX)
            spill(&p->stacks);
        uint32_t count = cache_count(&p->stacks);
        g->free_since_ns = now_ns;
        p->stacks.gs[count] = g;
        cache_set_count(&p->stacks, count + 1);
    }
    arm_trim(p, now_ns + STACK_IDLE_NS); /* S3 */
}

/* ---- Trim ---- */

static bool is_idle(const struct g *g, int64_t now_ns) {
    return now_ns - g->free_since_ns >= STACK_IDLE_NS;
}

static unsigned take_idle(struct stack_cache *cache, int64_t now_ns, struct g **gs) {
    uint32_t count = cache_count(cache), taken = 0;
    while (taken < count && taken < STACK_TRIM_STEP && is_idle(cache->gs[taken], now_ns)) {
        gs[taken] = cache->gs[taken];
        taken++;
    }
    for (uint32_t i = taken; i < count; i++)
        cache->gs[i - taken] = cache->gs[i];
    cache_set_count(cache, count - taken);
    pthread_mutex_lock(&slab_lock);
    while (taken < STACK_TRIM_STEP && !list_is_empty(&warm) && is_idle(g_of(warm.prev), now_ns))
        gs[taken++] = warm_take_locked(warm.prev);
    pthread_mutex_unlock(&slab_lock);
    return taken;
}

static int64_t next_idle_ns(const struct stack_cache *cache) {
    int64_t oldest_ns = RT_FOREVER - STACK_IDLE_NS;
    if (cache_count(cache) > 0)
        oldest_ns = cache->gs[0]->free_since_ns;
    pthread_mutex_lock(&slab_lock);
    if (!list_is_empty(&warm) && g_of(warm.prev)->free_since_ns < oldest_ns)
        oldest_ns = g_of(warm.prev)->free_since_ns;
    pthread_mutex_unlock(&slab_lock);
    return oldest_ns + STACK_IDLE_NS;
}

int64_t stack_trim(struct p *p, int64_t now_ns) {
    struct g *gs[STACK_TRIM_STEP];
    struct slab *of[STACK_TRIM_STEP];
    unsigned index[STACK_TRIM_STEP];
    unsigned count = take_idle(&p->stacks, now_ns, gs);
    for (unsigned i = 0; i < count; i++) {
        char *low = gs[i]->stack;
        of[i] = gs[i]->slab; /* now: its memory goes */
        index[i] = (unsigned)((size_t)(low - of[i]->base) / stack_size);
        (void)madvise(low, stack_size - page_size, MADV_DONTNEED); /* refused if locked: S1 */
    }
    pthread_mutex_lock(&slab_lock);
    for (unsigned i = 0; i < count; i++)
        slab_add_cold_locked(of[i], 1ULL << index[i]);
    pthread_mutex_unlock(&slab_lock);
    if (count == STACK_TRIM_STEP)
        return now_ns + STACK_TRIM_PAUSE_NS;
    int64_t big_ns = stack_big_trim(now_ns);
    int64_t small_ns = next_idle_ns(&p->stacks);
    return small_ns < big_ns ? small_ns : big_ns;
}

static void trim_fired(struct timer *timer) {
    struct p *p = container_of(timer, struct p, stacks.trim);
    arm_trim(p, stack_trim(p, p_now_ns(p)));
}

/* ---- Looks ---- */

bool stack_is_guard(const struct g *g, uintptr_t addr) {
    uintptr_t stack = (uintptr_t)g->stack;
    return addr < stack && addr >= stack - page_size;
}

void stack_each(void (*fn)(struct g *g, void *arg), void *arg) {
    for (struct slab *slab = atomic_load_explicit(&slabs, memory_order_acquire); slab;
         slab = slab->next) {
        uint64_t cold = atomic_load_explicit(&slab->cold, memory_order_relaxed);
        for (uint64_t has = ~cold; has; has &= has - 1)
            fn(stack_g(slab, (unsigned)__builtin_ctzll(has)), arg);
    }
    stack_big_each(fn, arg);
}

void stack_stats(struct stack_stats *out) {
    uint64_t cold = atomic_load_explicit(&cold_count, memory_order_relaxed);
    uint64_t free_count = cold + atomic_load_explicit(&warm_count, memory_order_relaxed);
    for (unsigned i = 0; i < rt_sched.p_count; i++)
        free_count += cache_count(&rt_sched.ps[i]->stacks);
    *out = (struct stack_stats){
        .stacks = atomic_load_explicit(&slab_count, memory_order_relaxed) * SLAB_STACKS,
        .free = free_count,
        .free_cold = cold,
    };
    stack_big_stats(out);
}
