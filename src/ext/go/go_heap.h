/* go_heap: what the Go runtimes in this process hold. Each library brings its own, with a heap that malloc
 * knows nothing of.
 *
 * A library that exports this function tells by itself who holds what (docs/memory.md has the ten lines
 * of Go for it):
 *
 *     int32_t SluiceHeapProfile(int32_t fd, int32_t gc)
 *
 * It writes its heap profile in pprof's format into fd, which is transferred to it, after a garbage
 * collection if gc is not 0, and returns 0; anything else: it has none. It is called on a thread without
 * a P, one call at a time, and may take its time.
 *
 * Of every library there is the size of its heap: the pages of its arenas that are in memory, garbage and
 * goroutines' stacks included. It is more than what its profile says is in use. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

enum { GO_HEAP_PROFILE_MAX = 64 << 20 }; /* bytes; a larger one is not read */

/* All is borrowed for the call that passes it. */
struct go_heap {
    const char *library; /* its library_id; of an old copy LIBRARY#VERSION */
    uint64_t resident;   /* bytes of its arenas; 0: they could not be found */
    const char *profile; /* as it wrote it; NULL: it has none to tell */
    size_t profile_len;
};
typedef void (*go_heap_fn)(void *arg, const struct go_heap *heap);

/* What a copy of a library has for itself, in bytes: its copied file, those of its pages that were written to, and its
 * arenas as above. What its runtime and C have besides is not known. fn is told of each copy. Errors and threads as
 * below. */
struct go_library;
typedef void (*go_heap_size_fn)(void *arg, const struct go_library *library, uint64_t bytes);
MUST_CHECK int go_heaps_measure(go_heap_size_fn fn, void *arg);

/* Tells fn of each library that was loaded. 0 or -ENOMEM, or what hindered it to read /proc, and then
 * fn was not called. Any thread that holds no P and stands on a real stack (blocking_call). */
MUST_CHECK int go_heaps_read(bool collect, go_heap_fn fn, void *arg);
