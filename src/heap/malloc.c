/* malloc: the malloc family of the whole process, over mimalloc, with a look at some objects.
 *
 *     malloc:  left -= size;  left < 0 ?  --> sampler, the range, record      else mi_malloc
 *     free:    in the range ?             --> record, and in any case             mi_free
 *
 *     address space:  ..[ mimalloc's segments ]..[ the range: sampled objects only ]..
 *                                                  32 MiB segments, each a thread's
 *
 * The executable exports these names, so what it loads (libc, libssl, Go libraries) calls them too. They
 * stand before mimalloc's own in the order of look-ups, which libmimalloc exports as well; for that
 * reason C++'s operators are here: else a library's `new` would go past us.
 *
 * The range is address space without memory, an arena of mimalloc's that only heaps made for it take
 * segments from, one per thread, made when the thread first samples. So a free knows by one comparison
 * that an object was not sampled. The opposite is not promised: an object in the range that is in no table
 * (its record was lost for want of memory; mimalloc gave the segment of a thread that has ended to
 * an ordinary heap, as its forced collection does) is freed like any other.
 *
 * What mimalloc does with it (2.0 and 2.1, read in its source):
 *   - A thread that ends abandons its segments, those of the range too. Heaps of the same arena take them
 *     over, and one without live objects goes back to the arena. The thread's heaps are freed by a
 *     destructor of a pthread key; ours of the range is not used any more by then (sampler.c, S4).
 *   - A span that is freed is decommitted (MADV_DONTNEED) after some milliseconds, by the next allocations of
 *     that thread; objects of more than 16 MiB at once.
 *   - There are no locks that a fork could leave taken.
 *
 * Without the range (RLIMIT_AS, no address space), or when it is full, nothing is sampled, and counted
 * as lost.
 * Huge pages are off in it: a few objects per segment would make each cost 2 MiB.
 *
 * Errors  As glibc: NULL with ENOMEM; realloc(p, 0) frees. errno stays as it was otherwise.
 * Rejected  A page for each sampled object, as guarding allocators do: rate 1 would need 100 times the
 *        memory. A header before the object, see samples.c. */
#include <errno.h>
#include <malloc.h>
#include <mimalloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "heap/record.h"
#include "heap/sampler.h"

#define EXPORT __attribute__((visibility("default")))
#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define INLINE static inline __attribute__((always_inline))

/* ---- The range ---- */

#define SEGMENT_BYTES ((size_t)64 << 20) /* a multiple of mimalloc's */
#define RANGE_BYTES_MAX ((size_t)16 << 40)
#define RANGE_BYTES_MIN ((size_t)256 << 20)

/* Both 0 until there is one. Who has an object of it has them from a thread that saw them; for any other
 * pointer a wrong answer only costs a look-up. */
static _Atomic uintptr_t range_low, range_bytes;
static mi_arena_id_t range_arena; /* written once, by range_make */
static pthread_once_t range_once = PTHREAD_ONCE_INIT;

INLINE bool is_in_range(const void *object) {
    return (uintptr_t)object - atomic_load_explicit(&range_low, memory_order_relaxed) <
           atomic_load_explicit(&range_bytes, memory_order_relaxed);
}

/* All that is sampled could be all that the machine has, and not without gaps. */
static size_t range_bytes_wanted(void) {
    size_t wanted = 4 * (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        wanted > limit.rlim_cur / 16)
        wanted = limit.rlim_cur / 16; /* who set it needs the rest */
    wanted = wanted < RANGE_BYTES_MAX ? wanted : RANGE_BYTES_MAX;
    return wanted / SEGMENT_BYTES * SEGMENT_BYTES;
}

static void range_make(void) {
    for (size_t size = range_bytes_wanted(); size >= RANGE_BYTES_MIN;
         size = size / 4 / SEGMENT_BYTES * SEGMENT_BYTES) {
        size_t mapped = size + SEGMENT_BYTES; /* mmap aligns to a page only */
        void *memory =
            mmap(NULL, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED)
            continue;
        uintptr_t low = ((uintptr_t)memory + SEGMENT_BYTES - 1) & ~(SEGMENT_BYTES - 1);
        (void)madvise((void *)low, size,
                      MADV_NOHUGEPAGE); /* a kernel without huge pages knows it not */
        if (!mi_manage_os_memory_ex((void *)low, size, false, false, true, -1, true,
                                    &range_arena)) {
            munmap(memory, mapped);
            return;
        }
        atomic_store_explicit(&range_low, low, memory_order_relaxed);
        atomic_store_explicit(&range_bytes, size, memory_order_relaxed);
        return;
    }
}

/* The calling thread's, made when it is first asked for; NULL: none to be had. */
static mi_heap_t *range_heap(void) {
    struct sampler *self = &sampler_self;
    if (!self->heap) {
        pthread_once(&range_once, range_make);
        if (atomic_load_explicit(&range_bytes, memory_order_relaxed) > 0)
            self->heap = mi_heap_new_in_arena(range_arena);
    }
    return self->heap;
}

/* ---- Allocating ---- */

enum { ANY_ALIGN = 0 };

struct wish {
    size_t size, align;
    bool is_zeroed;
};

INLINE void *from_mimalloc(struct wish wish) {
    if (wish.align != ANY_ALIGN)
        return mi_malloc_aligned(wish.size, wish.align);
    return wish.is_zeroed ? mi_zalloc(wish.size) : mi_malloc(wish.size);
}

static void *from_range(mi_heap_t *heap, struct wish wish) {
    if (wish.align != ANY_ALIGN)
        return mi_heap_malloc_aligned(heap, wish.size, wish.align);
    return wish.is_zeroed ? mi_heap_zalloc(heap, wish.size) : mi_heap_malloc(heap, wish.size);
}

/* NULL: it is not sampled. */
static NOINLINE void *allocate_sampled(struct wish wish, const void *caller) {
    double weight = sampler_pick(wish.size);
    if (weight == 0)
        return NULL;
    int error = errno;
    mi_heap_t *heap = range_heap();
    void *object = heap ? from_range(heap, wish) : NULL;
    if (!object)
        record_lost();
    else
        (void)record_sample(object, wish.size, weight, caller); /* lost ones are counted there */
    errno = error;
    return object;
}

static NOINLINE void *out_of_memory(void) {
    sampler_rewind();
    errno = ENOMEM;
    return NULL;
}

INLINE void *allocate(struct wish wish) {
    if (sampler_due(&sampler_self, wish.size)) {
        void *object = allocate_sampled(wish, __builtin_return_address(0));
        if (object)
            return object;
    }
    void *object = from_mimalloc(wish);
    return LIKELY(object) ? object : out_of_memory();
}

EXPORT void *malloc(size_t size) {
    return allocate((struct wish){.size = size});
}

EXPORT void *calloc(size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return out_of_memory();
    return allocate((struct wish){.size = bytes, .is_zeroed = true});
}

EXPORT void free(void *object) {
    if (__builtin_expect(is_in_range(object), 0))
        record_freed(object); /* before its address can come again */
    mi_free(object);
}

/* ---- Changing size: a new object of the new size, as far as sampling goes ---- */

static NOINLINE void *move(void *former, struct wish wish, const void *caller, bool is_due) {
    void *object = is_due ? allocate_sampled(wish, caller) : NULL;
    if (!object && !is_in_range(former))
        object = mi_realloc(former, wish.size);
    else {
        if (!object)
            object = from_mimalloc(wish);
        if (object) {
            size_t room = mi_usable_size(former);
            memcpy(object, former, room < wish.size ? room : wish.size);
            free(former);
        }
    }
    return object ? object : out_of_memory();
}

EXPORT void *realloc(void *former, size_t size) {
    if (!former)
        return allocate((struct wish){.size = size});
    if (size == 0) {
        free(former);
        return NULL;
    }
    bool is_due = sampler_due(&sampler_self, size);
    if (__builtin_expect(is_due || is_in_range(former), 0))
        return move(former, (struct wish){.size = size}, __builtin_return_address(0), is_due);
    void *object = mi_realloc(former, size);
    return LIKELY(object) ? object : out_of_memory();
}

EXPORT void *reallocarray(void *former, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return out_of_memory();
    return realloc(former, bytes);
}

/* ---- Aligned ---- */

static bool is_power_of_2(size_t value) {
    return value != 0 && (value & (value - 1)) == 0;
}

EXPORT int posix_memalign(void **out, size_t align, size_t size) {
    if (!is_power_of_2(align) || align % sizeof(void *) != 0)
        return EINVAL;
    int error = errno; /* is not to be touched */
    void *object = allocate((struct wish){.size = size, .align = align});
    errno = error;
    if (!object)
        return ENOMEM;
    *out = object;
    return 0;
}

EXPORT void *aligned_alloc(size_t align, size_t size) {
    if (!is_power_of_2(align)) {
        errno = EINVAL;
        return NULL;
    }
    return allocate((struct wish){.size = size, .align = align});
}

EXPORT void *memalign(size_t align, size_t size) {
    if (align > SIZE_MAX / 2 + 1) {
        errno = EINVAL;
        return NULL;
    }
    size_t power = 1; /* glibc takes the next one, too */
    while (power < align)
        power *= 2;
    return allocate((struct wish){.size = size, .align = power});
}

EXPORT void *valloc(size_t size) {
    return allocate((struct wish){.size = size, .align = (size_t)sysconf(_SC_PAGESIZE)});
}

EXPORT void *pvalloc(size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (size > SIZE_MAX - page)
        return out_of_memory();
    return allocate((struct wish){.size = (size + page - 1) / page * page, .align = page});
}

/* ---- About it ---- */

EXPORT size_t malloc_usable_size(void *object) {
    return mi_usable_size(object);
}

/* What mimalloc keeps no account of is estimated from the sample: what is allocated of what it has. */
EXPORT struct mallinfo2 mallinfo2(void) {
    size_t unused, committed;
    mi_process_info(&unused, &unused, &unused, &unused, &unused, &committed, &unused, &unused);
    int64_t live = samples_live_bytes();
    size_t allocated = live > 0 && (size_t)live < committed ? (size_t)live : committed;
    return (struct mallinfo2){
        .arena = committed,
        .uordblks = allocated,
        .fordblks = committed - allocated,
    };
}

EXPORT int malloc_trim(size_t pad) {
    mi_collect(true);
    return 1;
}
