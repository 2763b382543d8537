/* cycles: when one ends, and who is told. The public part of it is in heap_profile.h.
 *
 * Threads  Any. */
#pragma once
#include "heap/sites.h"

/* Guards what sites_close writes, and `aged`. Taken before all other locks of this layer. */
void cycles_lock(void);
void cycles_unlock(void);

struct cycle {
    struct sites_state sites;
    int64_t began_ns, closed_ns; /* wall clock */
};
/* The last one that closed, or the one before it; NULL: another, or none yet. Locked. */
const struct cycle *cycles_get_locked(uint64_t number);
const struct cycle *cycles_last_locked(void);

/* Closes the cycle of now if its time is over and nobody else sees to it. */
void cycles_close_overdue(void);

/* Something is sampled from now on: cycles are closed in time by a thread. 0 or -errno. */
int cycles_run(void);

void cycles_begin(void);  /* the first one */
void cycles_forked(void); /* by the child: locked before the fork, it is unlocked */
