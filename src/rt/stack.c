/* stack: memory of coroutines, in slabs that are never unmapped.
 *
 *     slab:  | guard | stack ............ g | guard | stack ............ g | ... x 64
 *            low                        ^ top                              high
 *                                       struct g, a little below the top (see colour)
 *
 * One mapping per slab, reserved without swap, so that memory is what coroutines really touched: for
 * most of them the one page that holds their struct g and first frames. The guard page of each
 * stack is installed by MADV_GUARD_INSTALL, which does not split the mapping (a million mprotected
 * guards would be two million mappings, and the kernel's limit is 65,530). Emulators accept any
 * madvise, so the first guard is probed by a write(2) that must fail with EFAULT; else mprotect.
 *
 * Free stacks are kept per P, last in first out, because the last one is still in the caches; a
 * surplus goes to a list of the process under a lock, half a list at a time.
 *
 * Colour: stacks are 64 KiB apart, so all their tops would fall into the same few sets of the L1
 * cache. Each starts a different number of lines below its end.
 *
 * Threads: stack_get and stack_put with the caller's P; the process's list is under slab_lock. The
 * slab list only grows; stack_each reads it with acquire, which pairs with the release in slab_new.
 *
 * LeakSanitizer knows nothing of these stacks, and must not read the guards: each stack is
 * registered as a root by itself. */
#include "rt/rt_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef RT_HAS_ASAN
#include <sanitizer/lsan_interface.h>
#endif

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

enum {
    SLAB_STACKS = 64,
    STACK_CACHE_MAX = 128, /* per P: 8 MiB of address space, and no lock for bursts of this size */
    STACK_COLOURS = 16,
    STACK_COLOUR_BYTES = 128,
};

struct slab {
    struct slab *next;
    char *base;
    struct g *gs[SLAB_STACKS];
};

static pthread_mutex_t slab_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct slab *) slabs;
static struct g *shared_free; /* slab_lock */
static _Atomic uint64_t stack_total;
static size_t stack_size, page_size;
static enum { GUARD_UNKNOWN, GUARD_MADVISE, GUARD_MPROTECT } guard_kind;

/* A write(2) from the page answers EFAULT when reading it would have been a fault. */
static bool is_unreadable(const char *page) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return false;
    bool refused = write(fd, page, 8) < 0 && errno == EFAULT;
    (void)close(fd);
    return refused;
}

static int guard_install(char *page) {
    if (guard_kind != GUARD_MPROTECT && madvise(page, page_size, MADV_GUARD_INSTALL) == 0) {
        if (guard_kind == GUARD_MADVISE)
            return 0;
        if (is_unreadable(page)) {
            guard_kind = GUARD_MADVISE;
            return 0;
        }
    }
    guard_kind = GUARD_MPROTECT;
    return mprotect(page, page_size, PROT_NONE) < 0 ? -errno : 0;
}

int stack_init(size_t size) {
    page_size = (size_t)sysconf(_SC_PAGESIZE);
    stack_size = (size + page_size - 1) / page_size * page_size;
    return 0;
}

static struct g *stack_carve(char *low, unsigned index) {
    char *stack = low + page_size;
    size_t usable = stack_size - page_size - index % STACK_COLOURS * STACK_COLOUR_BYTES;
    size_t size = (usable - sizeof(struct g)) & ~(size_t)63;
    struct g *g = (struct g *)(void *)(stack + size);
    memset(g, 0, sizeof *g); /* stack_each may see it from now on */
    g->stack = stack;
    g->stack_size = size;
#ifdef RT_HAS_ASAN
    __lsan_register_root_region(stack, stack_size - page_size);
#endif
    return g;
}

/* With slab_lock held. NULL when memory is short. */
static struct slab *slab_new_locked(void) {
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
        if (guard_install(slab->base + i * stack_size) < 0)
            goto unmap;
    for (unsigned i = 0; i < SLAB_STACKS; i++)
        slab->gs[i] = stack_carve(slab->base + i * stack_size, i);
    slab->next = atomic_load_explicit(&slabs, memory_order_relaxed);
    atomic_store_explicit(&slabs, slab, memory_order_release);
    atomic_fetch_add_explicit(&stack_total, SLAB_STACKS, memory_order_relaxed);
    return slab;
unmap:
    munmap(slab->base, bytes);
free_slab:
    free(slab);
    return NULL;
}

struct g *stack_get(struct p *p, size_t size) {
    struct g *g;
    if (size > stack_size)
        return NULL;
    if (p && p->free_gs) {
        g = p->free_gs;
        p->free_gs = g->next;
        p->free_g_count--;
        return g;
    }
    pthread_mutex_lock(&slab_lock);
    if (!shared_free) {
        struct slab *slab = slab_new_locked();
        for (unsigned i = SLAB_STACKS; slab && i-- > 0;) {
            slab->gs[i]->next = shared_free;
            shared_free = slab->gs[i];
        }
    }
    g = shared_free;
    if (g)
        shared_free = g->next;
    /* A P that needs one will soon need more: half a slab spares it the lock. */
    for (unsigned i = 0; p && shared_free && i < SLAB_STACKS / 2; i++) {
        struct g *more = shared_free;
        shared_free = more->next;
        more->next = p->free_gs;
        p->free_gs = more;
        p->free_g_count++;
    }
    pthread_mutex_unlock(&slab_lock);
    return g;
}

void stack_put(struct p *p, struct g *g) {
    mem_unpoison(g->stack, g->stack_size); /* frames that never returned */
    g->next = p->free_gs;
    p->free_gs = g;
    if (++p->free_g_count <= STACK_CACHE_MAX)
        return;
    pthread_mutex_lock(&slab_lock);
    while (p->free_g_count > STACK_CACHE_MAX / 2) {
        struct g *surplus = p->free_gs;
        p->free_gs = surplus->next;
        p->free_g_count--;
        surplus->next = shared_free;
        shared_free = surplus;
    }
    pthread_mutex_unlock(&slab_lock);
}

bool stack_is_guard(const struct g *g, uintptr_t addr) {
    uintptr_t stack = (uintptr_t)g->stack;
    return addr < stack && addr >= stack - page_size;
}

void stack_each(void (*fn)(struct g *g, void *arg), void *arg) {
    for (struct slab *slab = atomic_load_explicit(&slabs, memory_order_acquire); slab;
         slab = slab->next)
        for (unsigned i = 0; i < SLAB_STACKS; i++)
            fn(slab->gs[i], arg);
}

uint64_t stack_count(void) {
    return atomic_load_explicit(&stack_total, memory_order_relaxed);
}
