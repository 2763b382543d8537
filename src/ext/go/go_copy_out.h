/* go_copy_out: writes into memory that Go made room in. ThreadSanitizer does not see how Go's runtime hands memory on from
 * one goroutine to another, and would call two such writes a race: it is told to pass them over. What is read it sees. */
#pragma once
#include <stddef.h>
#include <string.h>

#ifdef __SANITIZE_THREAD__
void AnnotateIgnoreWritesBegin(const char *file, int line); /* libtsan's */
void AnnotateIgnoreWritesEnd(const char *file, int line);
static inline void go_copy_out(void *out, const void *from, size_t len) {
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    memcpy(out, from, len);
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
}
#else
static inline void go_copy_out(void *out, const void *from, size_t len) {
    memcpy(out, from, len);
}
#endif
