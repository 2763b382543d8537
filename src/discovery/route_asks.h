/* route_asks: which route configurations the listeners of a set ask for, and where they look for them: `rds` of their
 * HTTP connection managers.
 *
 * Ownership  The list is the caller's until route_asks_fini; what it names is borrowed of the set.
 * Threads    Reads the set only.
 * Errors     -ENOMEM. */
#pragma once
#include "config/resources.h"

struct cfg_config_source;
struct discovery_file;

struct route_ask {
    struct span name, stat_prefix;
    const struct cfg_config_source *source;
    const struct cfg_mark *mark;
};
struct route_asks {
    struct route_ask *items; /* sorted by name */
    size_t count, capacity;
};

MUST_CHECK int route_asks_of(const struct resources *set, struct route_asks *out);
/* Of one listener, added; then the list is not sorted. */
MUST_CHECK int route_asks_add(struct route_asks *asks, const struct cfg_listener *listener);
void route_asks_fini(struct route_asks *asks);
/* Of what the file of that origin holds those that are asked for, *count: no others count. malloc'ed. What is asked for
 * and not there is a problem. NULL, which is one, too: memory is short. */
struct resource_item *route_asks_select(const struct route_asks *asks, struct span origin,
                                        const struct discovery_file *file, size_t *count,
                                        struct cfg_problems *problems);
/* The first ask for that name of that origin, or NULL. */
const struct route_ask *route_asks_find(const struct route_asks *asks, struct span name,
                                        struct span origin);
