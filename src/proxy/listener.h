/* listener: what the connections of one listener, under one configuration, have in common.
 *
 *     series ("main") ── current[P] ──► listener, configuration 3 ◄── connections, sockets that listen
 *                                       listener, configuration 2 ◄── connections that cannot follow
 *
 * Another configuration of a listener is another struct listener. Who connects belongs to the newest; a connection that
 * was there follows at its next request, if its filter chain is there as well (downstream_follow.c), and else it serves
 * on with what it has until it is told to go.
 *
 * Ownership  Counted (atomic): of the sockets that listen for it, of each P whose current one it is, and of its
 *            connections. It leases its configuration. A series is for the life of the process, so that what it has
 *            counted holds whichever configuration it was counted under.
 * Threads    Read-only once it was published, but for `superseded`. series->current[p] is P p's. */
#pragma once
#include "base/stats.h"
#include "proxy/connection_info.h"
#include "proxy/connection_limit.h"
#include "proxy/listening.h"
#include "proxy/quota.h"

struct listener_stats { /* listener.<address>.* */
    struct statistic *cx_total, *cx_active, *cx_destroy, *cx_overflow, *cx_length_ms,
        *cx_overload_reject, *global_cx_overflow;
    /* Of connections whose filter chain is not chosen yet, or for which there is none. */
    struct statistic *pre_cx_active, *pre_cx_timeout, *no_filter_chain_match;
    struct statistic *cx_transport_connect_timeout;
    struct statistic *cx_memory_limit;  /* not opened because of the quota */
    struct statistic *cx_no_descriptor; /* turned away for want of a descriptor */
    struct statistic *cx_descriptor_wait, *cx_descriptor_close;
    struct statistic *rq_memory_limit; /* requests answered with 503 because of the quota */
    struct statistic *rq_memory_wait;  /* that waited for it */
    struct statistic *rq_memory_evicted, *memory_bytes;
};

struct listener_series {
    struct listener_series *next;   /* the manager's list */
    struct span name;               /* owned: of the listener, or its first address */
    struct quota *quota;            /* NULL: there never was a limit */
    struct connection_limit *limit; /* likewise */
    struct listener
        *current[]; /* by P, leased; NULL: there is none any more, connections are to end */
};

struct listener {
    char name[128];            /* the configured name, else the address */
    struct address *addresses; /* as bound: a port of 0 is resolved; owned */
    unsigned address_count;
    bool has_one_port;                   /* all of them have the same */
    char address_text[ADDRESS_TEXT_MAX]; /* of the first one */
    struct listener_config *config;      /* leased */
    struct listener_series *series;
    struct connection_info undecided; /* shared by connections whose filter chain is not chosen */
    const struct connection_info *first; /* what is known of a new one: that, or its chain */
    bool is_plain; /* all are served with one chain, an HTTP connection manager and nothing else */
    bool bypass_overload;
    bool is_admin;
    bool counts_globally, ignores_global; /* in `global`; there without being held to it */
    _Atomic bool
        superseded; /* by the next of its series, or by nothing. Relaxed: current[p] says by what */
    int64_t drain_until_ns; /* set before that: when connections that cannot follow end */
    struct listener_stats stats;
    struct quota *quota;             /* of the series; NULL: no limit */
    struct connection_limit *limit;  /* likewise */
    struct connection_limit *global; /* of the process, borrowed; NULL: there is none */
    uint32_t accepts_per_turn;
    _Atomic uint32_t refs __attribute__((aligned(64))); /* connections change it */
};

#define LISTENER_UNLIMITED UINT64_MAX

struct listener_options {
    struct listener_config *config; /* is leased */
    struct listener_series *series;
    const struct address *addresses; /* as bound, as many as the configuration has */
    struct connection_limit *global; /* of the process, borrowed for ever; NULL: there is none */
    bool counts_globally, ignores_global;
};

/* NULL when memory is short. Changes no limit of the series yet. */
struct listener *listener_new(const struct listener_options *options);
/* It is the series' newest from now on: its limits hold. On P 0. */
MUST_CHECK int listener_limit(struct listener *listener);
struct listener *listener_ref(struct listener *listener);
void listener_unref(struct listener *listener);

/* NULL when memory is short. */
struct listener_series *listener_series_new(struct span name);

/* Another one of its series serves, or none. Relaxed: series->current[p] is what says so. */
static inline bool listener_is_superseded(const struct listener *listener) {
    return atomic_load_explicit(&listener->superseded, memory_order_relaxed);
}

/* What a connection counts in. */
enum { LISTENER_COUNTED_HERE = 1, LISTENER_COUNTED_GLOBALLY = 2 };
/* A connection ended, on whichever P, that listener_enter let in (accept.c). */
void listener_leave(const struct listener *listener, uint8_t counted);
