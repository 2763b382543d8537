/* tls_stats: what is counted of handshakes, under Envoy's names: listener.ADDRESS.ssl.*, cluster.NAME.ssl.*, with one
 * counter for each cipher, version, curve and signature algorithm that came up.
 *
 * Threads  Built off the Ps. Counting: on a P, under its shard. */
#pragma once
#include <stdatomic.h>

#include "base/stats.h"
#include "io/tls.h"

enum { TLS_NAMES_MAX = 32 }; /* of one kind that are looked up without a lock */

/* Counters by name, found by the name's text. Filled as names come up; never emptied. */
struct tls_name_counts {
    const char *group; /* "ssl.ciphers" */
    _Atomic(const struct tls_name_count *) known[TLS_NAMES_MAX];
};

struct tls_stats {
    char prefix[16], tag[32]; /* "listener", "envoy.listener_address" */
    char *owner;              /* "127.0.0.1_443"; owned */
    const struct statistic *connection_error, *handshake, *session_reused, *no_certificate,
        *fail_verify_no_cert, *fail_verify_error, *fail_verify_san, *fail_verify_cert_hash,
        *truncated;
    const struct statistic *update, *update_failed;
    struct tls_name_counts ciphers, versions, curves, sigalgs;
};

/* owner: "listener.127.0.0.1_80" or "cluster.name", as of transport_socket_kind.build. -ENOMEM. */
MUST_CHECK int tls_stats_init(struct tls_stats *stats, struct span owner);
void tls_stats_fini(struct tls_stats *stats);

void tls_stats_handshake(struct tls_stats *stats, unsigned shard, const struct tls_facts *facts);
void tls_stats_fault(const struct tls_stats *stats, unsigned shard, enum tls_fault_kind kind);
