/* cluster_specifier: plugins that choose the cluster of a request, by code that is not ours.
 *
 * Asked once each time that a route with one is chosen (exchange_route), so what filters change of the headers
 * later counts only after the route was cleared, as on Envoy.
 *
 * Ownership  Part of a route table.
 * Threads    build and free off the Ps; choose on the exchange's coroutine. */
#pragma once
#include "config/config.h"
#include "mem/arena.h"
#include "proxy/doing.h"

struct header_map;

struct cluster_choice {
    /* In the arena or as the config has it; absent: memory is short. There need be no cluster of that name. */
    struct span name;
    /* Static; absent: none. Else there is no name, and the request is answered with 503 and these details. */
    struct span failure;
};

struct cluster_specifier_kind {
    const struct cfg_schema *schema;
    /* 0, or -EINVAL with the problems reported. */
    int (*build)(const struct cfg_any *typed_config, struct cfg_problems *problems, void **config);
    void (*free_config)(void *config);
    /* What profiles say of it. May be NULL. */
    void (*label)(const void *config, struct doing_labels *labels);
    /* Borrows the headers, which nobody changes meanwhile. Parks. */
    struct cluster_choice (*choose)(void *config, const struct header_map *headers,
                                    struct arena *arena, unsigned shard);
};

struct cluster_specifier {
    const struct cluster_specifier_kind *kind;
    struct span name;
    struct doing_labels labels;
    void *config; /* owned */
};

enum { CLUSTER_SPECIFIER_KINDS_MAX = 8 };
/* main registers them at start, before the first config is built. */
void cluster_specifier_register(const struct cluster_specifier_kind *kind BORROWED_BY(program));
/* NULL: there is none that takes that configuration. */
const struct cluster_specifier_kind *cluster_specifier_find(const struct cfg_schema *schema);
