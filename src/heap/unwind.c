#define UNW_LOCAL_ONLY
#include "heap/unwind.h"

#include <libunwind.h>

unsigned unwind_after(const void *after, uintptr_t *pcs, unsigned max) {
    enum { INNER_MAX = 8 };
    void *found[64 + INNER_MAX];
    int count = unw_backtrace(found, (int)(max + INNER_MAX));
    int first = 0;
    while (first < count && found[first] != after)
        first++;
    if (first == count)
        first = 0;
    unsigned depth = 0;
    for (int i = first; i < count && depth < max; i++)
        pcs[depth++] = (uintptr_t)found[i];
    return depth;
}
