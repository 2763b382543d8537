/* listener_filter: what looks at a new connection's first bytes before its filter chain is chosen.
 *
 *     accept ─► filter 0 ─► filter 1 ─► ... ─► filter chain
 *                 │ wants more bytes: the connection waits, without a coroutine
 *
 * Filters run in order, each until it is done, as on Envoy. What one consumes (a PROXY header) the next one
 * does not see; everything else is there for the filter chain.
 *
 * Threads  The connection's P, as a scheduler callback: look must not park. */
#pragma once
#include "config/config.h"
#include "proxy/connection_info.h"

enum listener_filter_verdict {
    LISTENER_FILTER_DONE,  /* the next one's turn */
    LISTENER_FILTER_MORE,  /* not without more bytes than these */
    LISTENER_FILTER_CLOSE, /* the connection is refused; the filter has counted why */
};

struct listener_filter_itab {
    const char *name; /* "envoy.filters.listener.tls_inspector" */
    /* How many bytes it may ask for. 0: none, it is asked at once, before anything has come. */
    size_t (*max_bytes)(const void *config);
    /* Called with all that has come and was not consumed, whenever there is more, at most max_bytes of it (borrowed
     * until it returns); `ended`: no more will come. MORE with max_bytes there, or after the end, is the last call:
     * it then counts as done. *consume (0 before): how many of the bytes are used up, with DONE only.
     * info: owned, to be written to. */
    enum listener_filter_verdict (*look)(const void *config, struct downstream *d,
                                         struct connection_info *info, struct span bytes,
                                         bool ended, size_t *consume);
};

/* How one is configured: found by the schema of its typed_config. */
struct listener_filter_kind {
    const struct listener_filter_itab *itab;
    const struct cfg_schema *schema;
    /* Off the Ps. -EINVAL with the problems reported. */
    int (*build)(const struct cfg_any *typed_config, struct cfg_problems *problems, void **config);
    void (*free_config)(void *config);
};

/* One entry of a listener's listener_filters, part of a snapshot. */
struct listener_filter {
    const struct listener_filter_kind *kind;
    struct span name;
    void *config;                                  /* owned */
    const struct cfg_listener_predicate *disabled; /* for these connections; NULL: for none */
};

enum { LISTENER_FILTER_KINDS_MAX = 32 };
/* main registers them at start, before the first config is built. */
void listener_filter_register(const struct listener_filter_kind *kind BORROWED_BY(program));
/* NULL: there is none that takes that configuration. */
const struct listener_filter_kind *listener_filter_find(const struct cfg_schema *schema);
