/* record: what becomes of an object that is to be sampled.
 *
 * Threads  Any, also in the middle of malloc. Keeps errno. */
#pragma once
#include <stddef.h>

#include "heap/samples.h"

/* An object of size bytes that stands for weight of its kind, for the function that returns to `caller`.
 * The address as in samples_add. NULL: it was lost, for want of memory. */
struct sample *record_sample(const void *address, size_t size, double weight, const void *caller);
/* One that was to be sampled could not be. */
void record_lost(void);
void record_freed(const void *address);
