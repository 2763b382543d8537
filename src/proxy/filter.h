/* filter: what an HTTP filter is. Two straight-line functions on the exchange's coroutine, which may
 * park; no callbacks and no state machine.
 *
 *   request side    filters 0, 1, .. n-1; the last one (the router) obtains x->response
 *   response side   filters n-1, .. 1, 0; every response passes it, local replies included
 *
 * A body filter wraps x->request.body or x->response.body with a reader of its own. The wrapped
 * request body is read by the pump, a second coroutine of the same P, while the exchange's own one
 * waits for the response: the two never run at the same moment, but any park lets the other in.
 *
 * Threads  The exchange's P.
 * Errors   A filter that cannot go on calls exchange_reply (or exchange_reset) and returns. */
#pragma once
#include "config/bootstrap.h"
#include "config/config.h"
#include "proxy/doing.h"

struct exchange;
struct filter_factory;

enum filter_log_phase { FILTER_LOG_START, FILTER_LOG_PERIODIC, FILTER_LOG_END };

struct filter_itab {
    const char *name; /* as in http_filters[].name's type, e.g. "envoy.filters.http.golang" */

    /* Makes the instance for one exchange, in its arena or elsewhere. NULL: the exchange gets 500.
     * May be NULL itself when the filter has no state: self is then the factory's config. */
    void *(*create)(struct exchange *x, const struct filter_factory *factory);
    void (*request)(struct exchange *x, void *self);  /* may be NULL */
    void (*response)(struct exchange *x, void *self); /* may be NULL */
    /* Before a line of the access log is written. START: before any request side. PERIODIC: from a coroutine of its own,
     * the others being anywhere; when it has parked, the exchange may be gone and self with it. END: the exchange is
     * over. May be NULL. */
    void (*log)(struct exchange *x, void *self, enum filter_log_phase phase);
    /* Last call, after log; also for an instance whose request side never ran. May be NULL. */
    void (*destroy)(struct exchange *x, void *self);
};

/* One configured entry of http_filters, part of a snapshot. */
struct filter_factory {
    const struct filter_itab *itab;
    struct span name; /* of the entry: the key of typed_per_filter_config */
    uint32_t index;   /* position in the chain */
    bool disabled;
    struct doing_labels labels;
    void *config; /* owned, released by the kind's free_config */
    const struct filter_kind *kind;
};

/* How a filter is configured. The registry (proxy/filter_registry.h) finds it by schema. */
struct filter_kind {
    const struct filter_itab *itab;
    const struct cfg_schema *schema;       /* of typed_config */
    const struct cfg_schema *route_schema; /* of typed_per_filter_config; NULL: none is allowed */
    bool terminal;                         /* the router: must be last, and last must be it */
    /* Runs off the Ps (dlopen and Parse may block). -EINVAL with the problems reported. */
    int (*build)(const struct cfg_any *typed_config, struct cfg_problems *problems, void **config);
    void (*free_config)(void *config);
    /* Adds labels that say whose code runs in it: library, plugin. May be NULL. */
    void (*label)(const void *config, struct doing_labels *labels);
    /* Per-route entry. factory_config is the chain's own entry, built before. */
    int (*build_route)(const struct cfg_any *any, void *factory_config,
                       struct cfg_problems *problems, void **route_config);
    void (*free_route)(void *route_config);
};
