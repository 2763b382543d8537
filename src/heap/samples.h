/* samples: the objects that were sampled and live.
 *
 * Ownership  samples_add gives a sample to who keeps the object, until samples_gone or samples_take.
 * Threads    Any. */
#pragma once
#include <stdint.h>

#include "heap/sites.h"

struct sample;

/* NULL when memory is short. An address of NULL is one that samples_take does not find: who keeps the
 * object keeps the sample beside it. Counts the object at its site. */
MUST_CHECK struct sample *samples_add(struct site *site, const void *address,
                                      const struct site_count *object);
/* The object is freed, and counted so. */
void samples_gone(struct sample *sample);
/* The same of the one at this address, if there is one. */
void samples_take(const void *address);

/* An estimate of what lives of all that has addresses, as of now. */
int64_t samples_live_bytes(void);

/* Adds up in site->aged what was allocated at or before born_ns (clock_mono_ns) and lives now. */
void samples_sum_aged(int64_t born_ns);

void samples_lock(void);   /* for a fork, see own.h */
void samples_unlock(void); /* by the parent and by the child */
