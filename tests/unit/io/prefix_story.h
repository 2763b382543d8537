/* prefix_story: what holds for everything that judges a growing prefix of a stream: once it has decided, more bytes
 * do not change its mind, so it does not matter how they were cut. Every prefix ends at an unreadable page. */
#pragma once
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/span.h"

enum { PREFIX_MAP = 1 << 18 };

/* A copy of bytes that ends at the page. Valid until the next call. */
static inline struct span at_guard_page(struct span bytes) {
    static char *end;
    if (!end) {
        char *map = mmap(NULL, PREFIX_MAP + 4096, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED || mprotect(map + PREFIX_MAP, 4096, PROT_NONE) != 0)
            abort();
        end = map + PREFIX_MAP;
    }
    if (bytes.len > PREFIX_MAP)
        abort();
    if (bytes.len)
        memcpy(end - bytes.len, bytes.ptr, bytes.len);
    return span_make(end - bytes.len, bytes.len);
}

/* The verdict as whoever gets the bytes one by one has it first; `more` if never. *decided: with how many.
 * -1: a longer prefix has another one. */
static inline int verdict_bytewise(int (*judge)(struct span prefix), int more, struct span bytes,
                                   size_t *decided) {
    int first = more;
    *decided = bytes.len + 1;
    for (size_t len = 0; len <= bytes.len; len++) {
        int verdict = judge(at_guard_page(span_make(bytes.ptr, len)));
        if (first == more && verdict != more) {
            first = verdict;
            *decided = len;
        } else if (verdict != first) {
            return -1;
        }
    }
    return first;
}
