/* router_internal: one request on its way through the router, as the files of the router share it.
 *
 *     router.c          the filter: which cluster, which endpoint, in which order
 *     router_reply.c    answers of the router's own: redirects, failures, timeouts
 *     router_send.c     request head and body out
 *     router_receive.c  response head and body in
 *
 * Threads  The exchange's P. Parks: where it says so. */
#pragma once
#include "filter/router.h"
#include "proxy/body_out.h"
#include "proxy/downstream.h"
#include "proxy/route.h"
#include "proxy/upstream.h"
#include "proxy/virtual_cluster.h"

struct router {
    struct exchange *x;
    const struct cfg_router *config;         /* NULL: all defaults */
    struct cluster *cluster;                 /* borrowed of the exchange */
    struct virtual_cluster *virtual_cluster; /* likewise; NULL: none */
    struct host *host;                       /* served's; leased when there is none */
    struct upstream *upstream;               /* owned while not NULL */
    struct upstream *served; /* leased: what was used, whether it is ours still or not */
    struct body_out *out;    /* the request on its way; in the arena */
    int64_t timeout_ns;
    bool admitted, head_seen;
    bool replied;      /* the local reply, if there is one, is the router's */
    bool request_sent; /* whole */
    bool upgrades;     /* asked the upstream to */
    bool timeout_runs;
    bool keep_alive;       /* the upstream's wish */
    struct wire_body body; /* once head_seen */
};

static inline struct host_counters *router_host_counters(struct router *r) {
    return &r->host->pools[r->x->shard].counters;
}

/* For counters with one writer. */
static inline void router_bump(_Atomic uint64_t *counter, int64_t n) {
    atomic_store_explicit(counter,
                          atomic_load_explicit(counter, memory_order_relaxed) + (uint64_t)n,
                          memory_order_relaxed);
}

/* A response, or what stands for it, in the statistics of who is asked. */
static inline void router_count_response(struct router *r, unsigned status) {
    cluster_count_response(r->cluster, r->x->shard, status);
    if (__builtin_expect(r->virtual_cluster != NULL, false))
        virtual_cluster_count_response(r->virtual_cluster, r->x->shard, status);
}

/* router_reply.c. All end the request side with a local reply, unless the exchange is over. details
 * are borrowed for as long as the exchange lives. */
void router_reply_simple(struct router *r, unsigned status, struct span body, struct span details,
                         uint32_t flags);
void router_redirect(struct router *r, const struct route_entry *route);
void router_direct_response(struct router *r, const struct route_entry *route);
/* trouble: of UPSTREAM_CONNECT_FAILED. */
void router_connect_failure(struct router *r, enum upstream_failure failure,
                            const struct upstream_trouble *trouble);
/* rc: why there is no response head, as router_read_head or router_send_request said it. */
void router_response_failure(struct router *r, int rc);
/* The route's timeout, counted from now unless it runs already. */
void router_start_timeout(struct router *r);
void router_stop_timeout(struct router *r);

/* router_send.c. Parks. Head and what of the body is at hand; the pump sends the rest. 0 or -errno. */
MUST_CHECK int router_send_request(struct router *r);

/* After 101: a pump sends the client's bytes, and then ends that direction. 0 or -ENOMEM. */
MUST_CHECK int router_open_tunnel(struct router *r);

/* router_receive.c. Parks. 0 with head filled; -EPROTO for bytes that are no response, -ENOMEM,
 * -ECANCELED, -ECONNRESET. */
MUST_CHECK int router_read_head(struct router *r, struct http1_head *head);
/* Makes the head and the body behind it the exchange's response. */
void router_take_response(struct router *r, const struct http1_head *head);
/* Private: there is one. */
void router_release_slowly(struct router *r, bool reusable);
/* Lets go of the connection, if it is ours still: to the pool when both messages went through it whole. */
static inline void router_release(struct router *r, bool reusable) {
    if (r->upstream)
        router_release_slowly(r, reusable);
}
