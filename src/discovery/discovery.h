/* discovery: the one way in which what runs is changed by resources that somebody names from outside: the files of
 * file_sources.h, or a stream of a control plane.
 *
 *     source ──update──► discovery_offer ──candidate, a whole set──► apply ──► what runs     0: ACK
 *        ▲                                                             └─ refused: nothing changed, NACK and why
 *        └──────────────────────────────────────────────────────────────┘
 *
 * Threads  Coroutines of P 0. Offers are taken one after the other.
 * Parks    discovery_offer does, for as long as it takes to build what the candidate says. */
#pragma once
#include "config/resources.h"

struct discovery_hooks {
    /* What runs, leased to the caller. */
    struct resources *(*running)(void);
    /* Makes the candidate, which it borrows, what runs: 0, or -EINVAL or -ENOMEM with problems, and nothing changed.
     * Problems may be there before. -EAGAIN: what runs is of another bootstrap by now; a new candidate is offered. */
    int (*apply)(struct resources *candidate, struct cfg_problems *problems);
};
/* Before all else. */
void discovery_set_hooks(const struct discovery_hooks *hooks BORROWED_BY(program));
struct resources *discovery_running(void);

/* All of the updates or none of them: 0, or -EINVAL, -ENOMEM or -ECANCELED with problems, if there are any to tell. Route
 * configurations that no listener asks for any more go with the update that made it so. */
MUST_CHECK int discovery_offer(const struct resource_update *updates, size_t count,
                               struct cfg_problems *problems);
