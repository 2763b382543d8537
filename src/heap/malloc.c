/* malloc: the malloc family of the whole process, over mimalloc, with a look at some objects.
 *
 *     malloc:  left -= size;  less than 0 ?  --> sampler, the range, record      else mi_malloc
 *     free:    in the range ?                --> record, and in any case              mi_free
 *
 *     address space:  ..[ mimalloc's segments ]..[ the range: sampled objects only ]..
 *                                                  32 MiB segments, each a thread's
 *
 * The executable exports these names, so what it loads (libc, libssl, Go libraries) calls them too. They
 * stand before mimalloc's own in the order of look-ups, which libmimalloc exports as well; for that
 * reason C++'s operators are here (new_delete.c): else a library's `new` would go past us.
 *
 * The range is a TiB of address space without memory, an arena of mimalloc's that only heaps made for it take
 * segments from, one per thread, made when the thread first samples. So a free knows by one comparison
 * of the upper bits that an object was not sampled. The opposite is not promised: an object in the range that is in no table
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
#include <unistd.h>

#include "heap/record.h"
#include "heap/sampler.h"

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#if defined(__x86_64__) && !defined(__clang__)
#define NO_PLT __attribute__((noplt)) /* one jump less */
extern __typeof__(mi_malloc) mi_malloc NO_PLT;
extern __typeof__(mi_zalloc) mi_zalloc NO_PLT;
extern __typeof__(mi_free) mi_free NO_PLT;
#endif

/* ---- The range ---- */

enum { RANGE_BITS = 40 };
#define RANGE_BYTES ((size_t)1 << RANGE_BITS) /* and aligned so */

enum { NO_RANGE = -1 };
/* The upper bits of its addresses; those of no address, NULL among them, until there is one. Who has an object of it has it from a thread that saw
 * this; nothing else is there, so for any other pointer it does not matter. */
static _Atomic uintptr_t range_number = (uintptr_t)NO_RANGE;
static mi_arena_id_t range_arena; /* written once, by range_make */
static pthread_once_t range_once = PTHREAD_ONCE_INIT;

INLINE bool is_in_range(const void *object) {
    uintptr_t number = (uintptr_t)object >> RANGE_BITS;
    return number == atomic_load_explicit(&range_number, memory_order_relaxed);
}

/* Address space of its size and alignment, or NULL. */
static char *range_reserve(void) {
    char *memory =
        mmap(NULL, 2 * RANGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    size_t before = -(uintptr_t)memory % RANGE_BYTES; /* mmap aligns to a page only */
    if (before > 0)
        munmap(memory, before);
    munmap(memory + before + RANGE_BYTES, RANGE_BYTES - before);
    return memory + before;
}

static void range_make(void) {
    char *low = range_reserve();
    if (!low)
        return;
    (void)madvise(low, RANGE_BYTES, MADV_NOHUGEPAGE); /* a kernel without huge pages knows it not */
    if (mi_manage_os_memory_ex(low, RANGE_BYTES, false, false, true, -1, true, &range_arena))
        atomic_store_explicit(&range_number, (uintptr_t)low >> RANGE_BITS, memory_order_relaxed);
    else
        munmap(low, RANGE_BYTES);
}

/* The calling thread's, made when it is first asked for; NULL: none to be had. */
static mi_heap_t *range_heap(void) {
    struct sampler *self = &sampler_self;
    if (!self->heap) {
        pthread_once(&range_once, range_make);
        if (atomic_load_explicit(&range_number, memory_order_relaxed) != (uintptr_t)NO_RANGE)
            self->heap = mi_heap_new_in_arena(range_arena);
    }
    return self->heap;
}

/* ---- Allocating ---- */

enum { ANY_ALIGN = 0 };
enum contents { ANY_BYTES, ZEROES };

INLINE void *from_mimalloc(size_t size, size_t align, enum contents contents) {
    if (align != ANY_ALIGN)
        return mi_malloc_aligned(size, align);
    return contents == ZEROES ? mi_zalloc(size) : mi_malloc(size);
}

static void *from_range(mi_heap_t *heap, size_t size, size_t align, enum contents contents) {
    if (align != ANY_ALIGN)
        return mi_heap_malloc_aligned(heap, size, align);
    return contents == ZEROES ? mi_heap_zalloc(heap, size) : mi_heap_malloc(heap, size);
}

/* Makes it a sample, if it is to be one; else NULL. */
static void *allocate_sampled(size_t size, size_t align, enum contents contents,
                              const void *caller) {
    double weight = sampler_pick(size);
    if (weight == 0)
        return NULL;
    int error = errno;
    mi_heap_t *heap = range_heap();
    void *object = heap ? from_range(heap, size, align, contents) : NULL;
    if (!object)
        record_lost();
    else
        (void)record_sample(object, size, weight, caller); /* lost ones are counted there */
    errno = error;
    return object;
}

static void *out_of_memory(void) {
    errno = ENOMEM;
    return NULL;
}

static NOINLINE void *allocate_due(size_t size, size_t align, enum contents contents,
                                   const void *caller) {
    void *object = allocate_sampled(size, align, contents, caller);
    if (!object)
        object = from_mimalloc(size, align, contents);
    return object ? object : out_of_memory(); /* mimalloc says nothing of absurd sizes */
}

/* The usual case ends in a jump. Without memory errno is as mmap left it. */
INLINE void *allocate(size_t size, size_t align, enum contents contents) {
    if (sampler_due(&sampler_self, size))
        return allocate_due(size, align, contents, __builtin_return_address(0));
    return from_mimalloc(size, align, contents);
}

EXPORT void *malloc(size_t size) {
    return allocate(size, ANY_ALIGN, ANY_BYTES);
}

EXPORT void *calloc(size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return out_of_memory();
    return allocate(bytes, ANY_ALIGN, ZEROES);
}

EXPORT void free(void *object) {
    if (__builtin_expect(is_in_range(object), 0))
        record_freed(object); /* before its address can come again */
    mi_free(object);
}

/* ---- Changing size: a new object of the new size, as far as sampling goes ---- */

static NOINLINE void *move(void *former, size_t size, const void *caller, bool is_due) {
    void *object = is_due ? allocate_sampled(size, ANY_ALIGN, ANY_BYTES, caller) : NULL;
    if (!object && !is_in_range(former))
        object = mi_realloc(former, size);
    else {
        if (!object)
            object = from_mimalloc(size, ANY_ALIGN, ANY_BYTES);
        if (object) {
            size_t room = mi_usable_size(former);
            memcpy(object, former, room < size ? room : size);
            free(former);
        }
    }
    return object ? object : out_of_memory();
}

EXPORT void *realloc(void *former, size_t size) {
    if (!former)
        return allocate(size, ANY_ALIGN, ANY_BYTES);
    if (size == 0) {
        free(former);
        return NULL;
    }
    bool is_due = sampler_due(&sampler_self, size);
    if (__builtin_expect(is_due || is_in_range(former), 0))
        return move(former, size, __builtin_return_address(0), is_due);
    return mi_realloc(former, size);
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
    void *object = allocate(size, align, ANY_BYTES);
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
    return allocate(size, align, ANY_BYTES);
}

EXPORT void *memalign(size_t align, size_t size) {
    if (align > SIZE_MAX / 2 + 1) {
        errno = EINVAL;
        return NULL;
    }
    size_t power = 1; /* glibc takes the next one, too */
    while (power < align)
        power *= 2;
    return allocate(size, power, ANY_BYTES);
}

EXPORT void *valloc(size_t size) {
    return allocate(size, (size_t)sysconf(_SC_PAGESIZE), ANY_BYTES);
}

EXPORT void *pvalloc(size_t size) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (size > SIZE_MAX - page)
        return out_of_memory();
    return allocate((size + page - 1) / page * page, page, ANY_BYTES);
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
