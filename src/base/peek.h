/* peek: reads memory of this process that may not be there, as what a pointer names that something may have overwritten.
 *
 * Threads  Any. Async-signal-safe: one system call. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/check.h"

/* False when not all of it can be read; out may have a part of it then. Where the system call is forbidden nothing can. */
MUST_CHECK bool peek(void *out, const void *from, size_t size);
