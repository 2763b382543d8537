/* poison: tells AddressSanitizer which bytes of a pool are nobody's. Nothing in other builds.
 *
 * MEM_HARDENED: what is given back is filled, waits a while before it is used again, and is looked at
 * then. So in builds with -Dhardened=true, and under ASan, where a late use is caught only as long as
 * nobody else uses the same memory. */
#pragma once
#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define MEM_HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MEM_HAS_ASAN 1
#endif
#endif

#if defined(SLUICE_HARDENED) || defined(MEM_HAS_ASAN)
enum { MEM_HARDENED = 1 };
#else
enum { MEM_HARDENED = 0 };
#endif
enum { MEM_FILL = 0xdb };

#ifdef MEM_HAS_ASAN
#include <sanitizer/asan_interface.h>
static inline void mem_poison(const void *ptr, size_t size) {
    __asan_poison_memory_region(ptr, size);
}
static inline void mem_unpoison(const void *ptr, size_t size) {
    __asan_unpoison_memory_region(ptr, size);
}
#else
static inline void mem_poison(const void *ptr, size_t size) {
    (void)ptr;
    (void)size;
}
static inline void mem_unpoison(const void *ptr, size_t size) {
    (void)ptr;
    (void)size;
}
#endif
