/* go_seats: how many seats a library has. Settled by its first configuration of either kind; from then on it
 * stays.
 *
 *  - Of workers: HTTP streams, which are served by one worker of the SDK each, its maps having no locks. The SDK is
 *    told the number once, and makes as many maps.
 *  - Of calls: network filters and cluster specifiers, of which the SDK keeps nothing per worker. A call
 *    has a seat for its own time, which bounds how many threads blocked ones can have. They are seats
 *    apart, so that a connection that blocks has no HTTP request wait. */
#pragma once
#include "ext/go/go_library.h"

enum go_seats_kind { GO_SEATS_OF_WORKERS, GO_SEATS_OF_CALLS };

/* What a library is told that is loaded now. wanted 0: the default. */
uint32_t go_seats_announced(uint32_t wanted);

/* Settles the number, or finds it settled; wanted 0: the default. 0, or -ENOMEM. A sentence in why, which
 * is empty otherwise, is a warning. */
MUST_CHECK int go_seats_settle(struct go_library *library, enum go_seats_kind kind, uint32_t wanted,
                               char why[GO_LIBRARY_WHY_MAX]);
/* The same for a configuration: a warning is a problem at mark. NULL when memory is short, which is not told. */
struct seat_set *go_seats_settled(struct go_library *library, enum go_seats_kind kind,
                                  const struct cfg_go_library *cfg, const struct cfg_mark *mark,
                                  struct cfg_problems *problems);

/* NULL before they are settled. Any thread. */
static inline struct seat_set *go_seats_of(const struct go_library *library,
                                           enum go_seats_kind kind) {
    return atomic_load_explicit(kind == GO_SEATS_OF_CALLS ? &library->call_seats : &library->seats,
                                memory_order_acquire); /* go_seats_settle */
}
