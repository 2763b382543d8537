/* upstream: connections to endpoints, and the pool that keeps them, one per host and P.
 *
 *     upstream_get    of the pool, where requests share connections one after the other
 *     upstream_open   of nobody but the caller, from its beginning to its end
 *
 * Ownership  Both hand out one owned connection; upstream_put (what came of the pool) or upstream_close takes
 *            it back. The struct itself is leased until upstream_unref, so that its host and its address can
 *            be read by whoever used it, also after the connection has ended. It leases its host and,
 *            while it is open, its cluster.
 * Threads    One P for life.
 * Parks      Both: while connecting, with what the cluster's transport has to say first. upstream_get: while
 *            the circuit breaker is at its limit.
 * Idle       A pooled connection owns no coroutine and no block. Whatever arrives on it ends it. */
#pragma once
#include "io/inbuf.h"
#include "io/socket.h"
#include "proxy/cluster.h"
#include "proxy/transport_socket.h"

struct upstream {
    struct socket socket;
    struct inbuf in;
    struct list node;      /* of the pool while idle */
    struct list of_client; /* of connection_info.upstreams, if it is one client's */
    struct host *host;
    struct cluster *cluster;
    uint32_t leases;   /* of the connection while it is open, and of who used it */
    uint32_t requests; /* served, the current one included */
    union {
        int64_t idle_until_ns; /* of the pool's, while idle */
        void *owner;           /* upstream_open's: whoever opened it may set it */
    };
    int64_t opened_ns;
    uint16_t p_index;
    uint16_t local_len;
    char local_text[ADDRESS_TEXT_MAX]; /* "ip:port" */
    char *server_name;                 /* owned: of the wishes it was opened with; NULL: none */
    uint64_t client_id;                /* of the client whose it is alone; 0: everybody's */
};

enum upstream_failure {
    UPSTREAM_OK,
    UPSTREAM_NO_HOST,        /* no healthy endpoint */
    UPSTREAM_OVERFLOW,       /* circuit breaker */
    UPSTREAM_CONNECT_FAILED, /* rc says why */
    UPSTREAM_CONNECT_TIMEOUT,
    UPSTREAM_CANCELLED, /* the exchange is over */
    UPSTREAM_DEADLINE,  /* the request's own deadline passed first */
};

/* How a connection is to be. */
struct upstream_wants {
    socket_event_fn
        on_event; /* it may be called before upstream_open returns; not upstream_get's */
    /* Borrowed until it returns; NULL: none. A pooled connection was opened for the same server_name,
     * and, where the cluster's transport is_of_client, the same downstream. */
    const struct transport_wishes *wishes;
    int64_t deadline_ns; /* of the whole; the cluster's connect_timeout holds too */
    bool without_local;  /* nobody asks for local_text */
};
struct upstream_trouble { /* of UPSTREAM_CONNECT_FAILED */
    int rc;
    char failure[256]; /* its transport's words, if it was that which failed; else empty */
};
/* *host must be NULL; it is set as soon as one was chosen, also on failure. After UPSTREAM_OK it is *out's, which
 * the caller leases; else it is leased, for host_unref. */
MUST_CHECK enum upstream_failure upstream_get(struct cluster *cluster, unsigned p_index,
                                              const struct upstream_wants *wants,
                                              struct host **host, struct upstream **out,
                                              struct upstream_trouble *trouble);
/* The client whose they are is gone: nobody else may have them. */
void upstream_client_gone(struct list *upstreams);
/* What became of it. */
struct upstream_opened {
    struct upstream *upstream; /* UPSTREAM_OK, else NULL. Owned, and leased */
    struct host *
        host; /* chosen; NULL: none was. With UPSTREAM_OK the upstream's, else leased: host_unref */
    int rc;   /* of UPSTREAM_CONNECT_FAILED: why */
    char failure[256]; /* its transport's words, if it was that which failed; else empty */
};
/* A connection to the next host in rotation that is in no pool. It counts against max_connections of all Ps,
 * which is exact: UPSTREAM_OVERFLOW. No other failure waits for anything but the host. */
MUST_CHECK enum upstream_failure upstream_open(struct cluster *cluster, unsigned p_index,
                                               const struct upstream_wants *wants,
                                               struct upstream_opened *out);
/* Back to the pool: the response is complete and the connection may be used again. */
void upstream_put(struct upstream *upstream);
/* Gives the lease back. The connection is not the caller's any more. */
void upstream_unref(struct upstream *upstream);
/* local: we end it, else the peer did. */
void upstream_close(struct upstream *upstream, bool local);
/* Adds what moved since the last call to the cluster's byte counters. */
void upstream_count_bytes(struct upstream *upstream);
/* Memory or descriptors are short: closes up to max that have been idle since then or longer, those not used
 * for longest first, but for the `keep` used last of each host. How many it closed. On that P. */
uint32_t upstream_close_idle(struct cluster *cluster, unsigned p_index, uint32_t keep, uint32_t max,
                             int64_t idle_since_ns);
/* The host left the cluster: closes what idles in its pool on this P, and later what comes back. */
void upstream_retire_pool(struct host *host, unsigned p_index);
