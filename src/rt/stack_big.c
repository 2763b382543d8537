/* stack_big: stacks of more than the usual size, each in a mapping of its own.
 *
 *     struct big | g, all_next |      mapping | guard | stack ................ |
 *                    \____ g.stack, g.stack_size _____^ low              top ___/
 *
 * They are few, so each is its own mapping with its struct g beside it. Sizes are powers of two: a free
 * one serves the next coroutine of about that size. What lies deeper than a usual stack goes back to
 * the kernel as soon as the coroutine ends, the rest when it has been idle, as in stack.c.
 *
 *     get: warm[class], else cold[class], else mmap
 *     put: to warm[class]; the trim moves what is idle to cold[class]
 *
 * B1  A struct big is in use or in one list. In cold its stack has no memory.
 * B2  all_bigs only grows. stack_big_each reads it with acquire, big_new releases.
 *
 * Threads  big_lock guards the lists. System calls are made outside it, by whoever took the struct big
 *          out or has not put it in yet.
 * Rejected munmap: a dump that looks at a coroutine while it ends would fault, and what is saved is
 *          address space only, of which there are 128 TiB: two million of the largest stacks. */
#include <stdlib.h>
#include <sys/mman.h>

#include "rt/guard.h"
#include "rt/rt_internal.h"
#include "rt/stack_tools.h"

enum { CLASSES = 8 * sizeof(size_t) }; /* by the logarithm of the size */

struct big {
    struct g g;
    struct big *all_next;
};

static pthread_mutex_t big_lock = PTHREAD_MUTEX_INITIALIZER;
static struct list warm[CLASSES], cold[CLASSES]; /* of g.free_node, newest first */
static _Atomic(struct big *) all_bigs;
static _Atomic uint64_t mapped_count, warm_count, cold_count;
static size_t page_size, keep_size;

void stack_big_init(size_t page, size_t keep) {
    page_size = page;
    keep_size = keep;
    for (unsigned i = 0; i < CLASSES; i++) {
        list_init(&warm[i]);
        list_init(&cold[i]);
    }
}

static unsigned class_of(size_t size) {
    return CLASSES - (unsigned)__builtin_clzl(size - 1);
}

static struct g *g_of(struct list *node) {
    return container_of(node, struct g, free_node);
}

static void push_locked(struct list *to, struct g *g, _Atomic uint64_t *count) {
    list_push_front(to, &g->free_node);
    atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
}

/* NULL when it is empty. */
static struct g *pop_locked(struct list *from, _Atomic uint64_t *count) {
    struct list *node = list_pop_front(from);
    if (!node)
        return NULL;
    atomic_fetch_sub_explicit(count, 1, memory_order_relaxed);
    return g_of(node);
}

/* NULL when memory is short. */
static struct g *big_new(size_t size) {
    struct big *big = aligned_alloc(64, (sizeof *big + 63) & ~(size_t)63);
    if (!big)
        return NULL;
    *big = (struct big){0};
    char *base = mmap(NULL, page_size + size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (base == MAP_FAILED)
        goto free_big;
    (void)madvise(base, page_size + size, MADV_NOHUGEPAGE); /* as in stack.c */
    if (guard_install(base, page_size) < 0)
        goto unmap;
    big->g.stack = base + page_size;
    big->g.stack_size = size;
    stack_tools_learn(big->g.stack, size);
    pthread_mutex_lock(&big_lock);
    big->all_next = atomic_load_explicit(&all_bigs, memory_order_relaxed);
    atomic_store_explicit(&all_bigs, big, memory_order_release); /* B2 */
    pthread_mutex_unlock(&big_lock);
    atomic_fetch_add_explicit(&mapped_count, 1, memory_order_relaxed);
    return &big->g;
unmap:
    (void)munmap(base, page_size + size); /* as in stack.c */
free_big:
    free(big);
    return NULL;
}

struct g *stack_big_get(size_t size) {
    unsigned class = class_of(size);
    pthread_mutex_lock(&big_lock);
    struct g *g = pop_locked(&warm[class], &warm_count);
    if (!g)
        g = pop_locked(&cold[class], &cold_count);
    pthread_mutex_unlock(&big_lock);
    if (!g)
        return big_new((size_t)1 << class);
    stack_tools_open(g->stack, g->stack_size);
    return g;
}

void stack_big_put(struct g *g, int64_t now_ns) {
    g->free_since_ns = now_ns;
    /* The next one starts at the top as well; what lies deeper was this one's alone. */
    (void)madvise(g->stack, g->stack_size - keep_size, MADV_DONTNEED);
    pthread_mutex_lock(&big_lock);
    push_locked(&warm[class_of(g->stack_size)], g, &warm_count);
    pthread_mutex_unlock(&big_lock);
}

/* One that is idle, out of its list. Else NULL, and in next_ns when there may be one. */
static struct g *take_idle(int64_t now_ns, int64_t *next_ns) {
    struct g *found = NULL;
    *next_ns = RT_FOREVER;
    pthread_mutex_lock(&big_lock);
    for (unsigned class = 0; class < CLASSES && !found; class ++) {
        if (list_is_empty(&warm[class]))
            continue;
        struct g *oldest = g_of(warm[class].prev);
        int64_t idle_ns = oldest->free_since_ns + STACK_IDLE_NS;
        if (idle_ns <= now_ns) {
            found = oldest;
            list_remove(&oldest->free_node);
            atomic_fetch_sub_explicit(&warm_count, 1, memory_order_relaxed);
        } else if (idle_ns < *next_ns) {
            *next_ns = idle_ns;
        }
    }
    pthread_mutex_unlock(&big_lock);
    return found;
}

int64_t stack_big_trim(int64_t now_ns) {
    int64_t next_ns;
    struct g *g;
    for (unsigned i = 0; (g = take_idle(now_ns, &next_ns)); i++) {
        (void)madvise(g->stack, g->stack_size, MADV_DONTNEED); /* refused if locked */
        pthread_mutex_lock(&big_lock);
        push_locked(&cold[class_of(g->stack_size)], g, &cold_count);
        pthread_mutex_unlock(&big_lock);
        if (i == STACK_TRIM_STEP)
            return now_ns + STACK_TRIM_PAUSE_NS;
    }
    return next_ns;
}

void stack_big_each(void (*fn)(struct g *g, void *arg), void *arg) {
    for (struct big *big = atomic_load_explicit(&all_bigs, memory_order_acquire); big;
         big = big->all_next)
        fn(&big->g, arg);
}

void stack_big_stats(struct stack_stats *add_to) {
    uint64_t cold_now = atomic_load_explicit(&cold_count, memory_order_relaxed);
    add_to->stacks += atomic_load_explicit(&mapped_count, memory_order_relaxed);
    add_to->free += cold_now + atomic_load_explicit(&warm_count, memory_order_relaxed);
    add_to->free_cold += cold_now;
}
