/* intern: one copy of each text, for as long as the process lives. For what is told long after who said
 * it is gone, such as names of a former configuration in a profile, and for foreign code that keeps what
 * it was given.
 *
 * Threads  Any. Takes a mutex and allocates: for configuration, not for a signal handler or a request. */
#pragma once
#include <stddef.h>

#include "base/span.h"

/* The copy, with a 0 behind it and aligned as by malloc: the same pointer for the same bytes. A new one is made only while all
 * copies together stay within max_bytes, because nothing is ever freed: whoever interns what others
 * choose has a limit and says what stands in for the rest. NULL past that, or when memory is short. */
const char *intern(struct span text, size_t max_bytes);
