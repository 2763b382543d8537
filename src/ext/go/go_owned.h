/* go_owned: memory that Go holds the only pointer to. LeakSanitizer does not look into Go's heap and
 * would call it leaked at exit; golang.unfinalized_requests is the count that tells real leaks. */
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define GO_OWNED_LSAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GO_OWNED_LSAN 1
#endif
#endif

#ifdef GO_OWNED_LSAN
#include <sanitizer/lsan_interface.h>
static inline void go_owned(const void *object) {
    __lsan_ignore_object(object);
}
#else
static inline void go_owned(const void *object) {}
#endif
