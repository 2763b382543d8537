/* stream_info: what is known about one exchange, for access logs, formatters and filters.
 *
 * Ownership  Part of the exchange; spans are borrowed from its arena, its connection or the
 *            snapshot, and live as long as the exchange.
 * Threads    The exchange's P. Extensions get a copy of what they ask for. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"

/* Envoy's response flags, in the order Envoy prints them. */
enum response_flag {
    FLAG_NO_HEALTHY_UPSTREAM = 1 << 0,               /* UH */
    FLAG_UPSTREAM_CONNECTION_FAILURE = 1 << 1,       /* UF */
    FLAG_UPSTREAM_OVERFLOW = 1 << 2,                 /* UO */
    FLAG_NO_ROUTE_FOUND = 1 << 3,                    /* NR */
    FLAG_UPSTREAM_RETRY_LIMIT_EXCEEDED = 1 << 4,     /* URX */
    FLAG_NO_CLUSTER_FOUND = 1 << 5,                  /* NC */
    FLAG_DOWNSTREAM_CONNECTION_TERMINATION = 1 << 6, /* DC */
    FLAG_LOCAL_RESET = 1 << 7,                       /* LR */
    FLAG_UPSTREAM_REMOTE_RESET = 1 << 8,             /* UR */
    FLAG_UPSTREAM_CONNECTION_TERMINATION = 1 << 9,   /* UC */
    FLAG_UPSTREAM_REQUEST_TIMEOUT = 1 << 10,         /* UT */
    FLAG_STREAM_IDLE_TIMEOUT = 1 << 11,              /* SI */
    FLAG_DOWNSTREAM_PROTOCOL_ERROR = 1 << 12,        /* DPE */
    FLAG_UPSTREAM_PROTOCOL_ERROR = 1 << 13,          /* UPE */
    FLAG_UPSTREAM_MAX_STREAM_DURATION = 1 << 14,     /* UMSDR */
    FLAG_DURATION_TIMEOUT = 1 << 15,                 /* DT */
    FLAG_DNS_FAILURE = 1 << 16,                      /* DF */
    FLAG_OVERLOAD = 1 << 17,                         /* OM */
};

struct cluster;
struct upstream_tls;

struct stream_info {
    int64_t start_wall_ns;       /* %START_TIME% */
    int64_t start_ns;            /* monotonic, as all below; 0: did not happen */
    int64_t request_received_ns; /* last request byte read */
    int64_t upstream_wanted_ns;  /* the router asked for a connection */
    int64_t upstream_tx_first_ns, upstream_tx_last_ns;
    int64_t upstream_rx_first_ns, upstream_rx_last_ns;
    int64_t downstream_tx_first_ns, end_ns;

    uint8_t protocol;       /* 0 HTTP/1.0, 1 HTTP/1.1 */
    uint32_t flags;         /* enum response_flag */
    uint16_t response_code; /* 0: none was sent */
    struct span
        response_code_details; /* Envoy's words; absent: "via_upstream" unless a local reply */
    struct span connection_termination_details;
    uint64_t bytes_received, bytes_sent; /* bodies, as Envoy counts %BYTES_RECEIVED% and _SENT% */
    uint64_t header_bytes_received, header_bytes_sent;

    /* "ip:port" of the downstream connection; absent until somebody asks: exchange_downstream_local and its
     * like */
    struct span downstream_local, downstream_remote; /* remote: after x-forwarded-for rules */
    struct span downstream_direct_remote;            /* the socket's peer */
    struct span upstream_local, upstream_remote;     /* "ip:port"; absent: none */
    struct span upstream_cluster, upstream_host_name;
    const struct cluster *cluster; /* that one, of the snapshot; NULL: none was chosen */
    struct span upstream_transport_failure;
    const struct upstream_tls *upstream_tls; /* NULL: no TLS there */
    uint32_t upstream_attempts;
    uint64_t connection_id; /* where there is no connection: exchange_connection_id */
    uint64_t stream_id;

    struct span virtual_cluster; /* absent: none, or the one for the rest */
    struct span route_name, virtual_host, filter_chain, listener_name;
    struct span original_path; /* as it came, before rewrites */
};

/* "UF,URX" or "-" into out; returns the length. out holds at least 128 bytes. */
size_t stream_info_flags_text(uint32_t flags, bool long_names, char *out);
