/* connection_info: what is known of a client's connection besides its bytes: which chain of filters has it, and
 * what listener filters and the transport found out.
 *
 *     accept ──► listener filters ──► filter chain ──► transport socket ──► network filters ──► the last of them
 *                server_name, ...     chain                                 metadata, ...
 *
 * Most connections of plain HTTP share the one that is part of their filter chain, and nothing is allocated for
 * them. Whoever has something to write asks for one of the connection's own first.
 *
 * Ownership  A shared one is its chain's. An owned one is the connection's, with all that its spans point to.
 * Threads    The connection's P. */
#pragma once
#include <stdint.h>

#include "base/check.h"
#include "base/list.h"
#include "base/span.h"
#include "io/address.h"

struct downstream;
struct filter_chain;
struct listener;
struct network_stream;

enum { CONNECTION_PROTOCOLS_MAX = 16 };

struct connection_info {
    const struct filter_chain *chain; /* NULL: not chosen yet, or none matched */
    struct listener *listener;        /* leased by the connection */
    bool shared; /* then nothing of what follows is set, and nobody writes to it */

    /* Of listener filters. Absent or 0: nobody looked, or there is none. */
    bool is_tls;             /* transport_protocol "tls", else "raw_buffer" */
    struct span server_name; /* as the client asked for it, in lower case */
    struct span application_protocols[CONNECTION_PROTOCOLS_MAX];
    uint32_t application_protocol_count;
    struct address *local,
        *remote; /* instead of the socket's own, by PROXY header or original destination */
    struct span
        tlvs; /* of a PROXY header, those that are to be passed on, as they stood there: proxy_tlv_next */

    /* Of the transport socket, if it came to nothing: %DOWNSTREAM_TRANSPORT_FAILURE_REASON%. */
    struct span transport_failure;

    /* Of the sniffer. flow_id 0: it did not look. */
    uint64_t flow_id;     /* distinct in the process, in the order of arrival on a P */
    int64_t timestamp_ns; /* wall clock, when the connection was accepted */
    struct span protocol; /* "http/1.1", "h2c", "redis", "tls", "unknown"; static */

    struct metadata *metadata; /* owned: dynamic, of the connection; NULL: none */
    struct filter_state
        *filter_state;                /* owned: what exchanges left for later ones; NULL: nothing */
    struct network_stream *stream;    /* while network filters have it; else NULL */
    struct connection_memory *memory; /* private: what the spans point to */
    struct list
        upstreams; /* pooled ones that speak of this client (PROXY header): they end with him; unused until then */
    struct listener
        *opened_with; /* leased: whose transport it has, if it has followed since; else NULL */
    uint32_t looked;  /* private to downstream_pending.c: listener filters that are done */
};

/* The connection's own, which it gets now if it shares its chain's. NULL when memory is short. */
struct connection_info *connection_info_own(struct downstream *d);
/* Memory that lives as long as info, which is owned: aligned to 16 bytes, not zeroed. NULL when memory is short. */
MUST_CHECK void *connection_info_alloc(struct connection_info *info, size_t size);
/* A copy in such memory, behind which is a NUL that is not counted. The absent span when memory is short. */
MUST_CHECK struct span connection_info_keep(struct connection_info *info, struct span bytes);
/* Of one that is owned, with all that hangs on it. */
void connection_info_free(struct connection_info *info);
