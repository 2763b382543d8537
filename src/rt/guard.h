/* guard: pages that no access survives, below each stack.
 *
 * Threads  Any. */
#pragma once
#include <stddef.h>

#include "base/check.h"

/* Makes the page at page_aligned one that faults, for as long as it stays mapped. 0 or -errno. Under
 * the fallback the first call splits the mapping, so it costs two of vm.max_map_count. */
MUST_CHECK int guard_install(char *page_aligned, size_t page_size);
