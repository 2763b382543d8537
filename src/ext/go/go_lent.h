/* go_lent: what a Go library holds the address of, because its interface passes addresses: the structs of
 * a request, and of a configuration. Loans (mem/loan.h): checked at every call, held until Go's
 * garbage collector gives them back, which may be at once, minutes later, never, or while a call of
 * Go is still at work with them.
 *
 *     Go ──address──► struct go_lent ──handle──► struct go_block ──► the stream, while there is an exchange
 *                     until Finalize              until the exchange ended
 *
 * Ownership  As in loan.h. The exchange has a lease of its own until it ended; what Go was lent of a
 *            request (kept strings, the last value) hangs on the loan and ends with it.
 *            golang.unfinalized_requests counts loans of requests.
 * Threads    request and states are Go's to read at any time. handle: written before Go knows the address.
 *            kept and value: the stream's lock. The finalizer runs on whichever thread is last. */
#pragma once
#include "base/span.h"
#include "ext/go/go_abi.h"
#include "ext/go/go_metric.h"
#include "mem/loan.h"

struct go_kept; /* a string lent to Go */

struct go_lent {
    struct go_request request; /* first: Go's address of it is the loan's */
    struct go_process_state states[2];
    uint64_t block; /* handle in ext_handles */
    /* What is left to know of a stream that ended: it had a reply on this side. Written before its
     * handle is destroyed, read by those who find it so. */
    bool replied[2];
    bool lenient;                     /* to calls that come after the stream's end */
    bool counts;                      /* in the gauges of what is not finalized */
    uint32_t unfinalized;             /* slot of the plugin's one */
    _Atomic int64_t *unfinalized_far; /* go_plugin's; NULL: none */
    struct go_kept *kept;
    size_t kept_bytes;
    char *value; /* of the last GetStringValue; the SDK allows one at a time */
    size_t value_room;
};
static_assert(offsetof(struct go_lent, request) == 0, "Finalize is given the request's address");

struct go_lent_config {
    struct go_http_config config; /* first, likewise */
    struct go_metrics metrics;
    uint64_t far_id; /* in a host process: the proxy's of it; else 0 */
};
static_assert(offsetof(struct go_lent_config, config) == 0,
              "Finalize is given the config's address");

enum {
    /* What GetHeader may lend per request: Go never copies these, so they pile up until Finalize. */
    GO_KEPT_BYTES_MAX = 4 << 20,
    /* Requests that wait for Finalize, or are being served. Go's own part of one is some KiB, so a plugin
     * that leaks them is out of memory before. */
    GO_REQUESTS_MAX = 1 << 21,
    GO_CONFIGS_MAX = 1 << 16,
};

/* Set for good by the first configuration that is strict about late calls: of an address that is nobody's
 * (any more) nobody can tell whose configuration counts. */
extern _Atomic bool go_lent_strict;

extern struct loan_pool go_lent_requests; /* of struct go_lent */
extern struct loan_pool go_lent_configs;  /* of struct go_lent_config */

/* The pools, ext_handles and go_stats. Idempotent; before the first configuration. Any thread. 0 or
 * -ENOMEM. */
MUST_CHECK int go_lent_init(void);

/* envoyGoFilterHttpFinalize and envoyGoConfigHttpFinalize: Go gives one back. What it does not have
 * (any more) is counted. */
void go_lent_finalize(struct loan_pool *pool, const void *address);

/* A copy that lives until Finalize; an equal one is used again. The absent span past the limit or
 * without memory. With the lock, and a lease. */
struct span go_lent_keep_locked(struct go_lent *lent, struct span bytes);
/* A copy that lives until the next one. With the lock, and a lease. */
struct span go_lent_value_locked(struct go_lent *lent, struct span bytes);
