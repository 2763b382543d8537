/* own: memory for the profile itself, from the OS: what counts malloc's calls makes none.
 *
 * Threads  Any. */
#pragma once
#include <stddef.h>

#include "base/check.h"

/* Zeroed, aligned to 16 bytes, for ever. NULL when memory is short. */
MUST_CHECK void *own_memory(size_t size);
/* Zeroed whole pages, until own_unmap with the same size. */
MUST_CHECK void *own_map(size_t size);
void own_unmap(void *memory, size_t size);

/* Before, and in both after, a fork: no other thread is in here meanwhile. */
void own_lock(void);
void own_unlock(void);
