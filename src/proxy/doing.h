/* doing: what a coroutine of an exchange does at this moment, for profiles and dumps to say as labels:
 * listener; virtual_host and route of the request; filter, and library and plugin of one that runs others'
 * code. And for the report of a crash, which request that is, and on which connection.
 *
 * A step stores a pointer to labels that were made with the configuration; they are read when somebody
 * takes a sample (rt/labels.h).
 *
 * Ownership  A doing belongs to what the coroutine works on: a coroutine that is started with its describer
 *            (go_options) borrows it. Labels of a route and of a filter are part of a snapshot, which is leased all
 *            the while. Those of a listener live as long as the process, as their texts do: a connection goes from
 *            one configuration to the next, and one that ends may be the last to lease its own. A request is the
 *            exchange's, which takes it back before it ends.
 * Threads    Stores: the P. Reads: who may ask a describer. */
#pragma once
#include <stdatomic.h>

#include "base/span.h"
#include "rt/labels.h"

enum {
    DOING_LABELS_MAX = 3, /* filter, library, plugin; of a route there are two */
    DOING_TEXT_MAX = 128, /* a longer name is cut, as in struct listener */
};

/* Constant once it can be seen by a request. */
struct doing_labels {
    unsigned count;
    struct label items[DOING_LABELS_MAX];
};
/* key is a literal. Copies value; when there is no room for more names, "other" stands for it. Nothing
 * happens when it is empty. */
void doing_labels_add(struct doing_labels *labels, const char *key, struct span value);

/* Of all connections to this filter chain (empty: it has no name) of that listener. It lives as long as the process. */
const struct doing_labels *doing_labels_of_chain(struct span listener, struct span filter_chain);

/* What tells a request from all others: by the access log, and at its client. Constant once it can be seen. */
struct doing_request {
    struct span method, path,
        id; /* of its head, absent: it has none. With all its secrets: who tells leaves them out */
    int64_t start_wall_ns;
};

struct doing {
    struct labels_describer describer;
    const struct doing_labels *listener;
    _Atomic(const struct doing_labels *) route, filter; /* NULL: none */
    _Atomic(const struct doing_request *) request;      /* NULL: none */
    _Atomic uint64_t connection_id;                     /* 0: none */
};

void doing_init(struct doing *doing, const struct doing_labels *listener BORROWED_BY(program));
/* For another coroutine of the exchange: begins with what the first one does now. */
void doing_init_like(struct doing *doing, const struct doing *other);

static inline void doing_route(struct doing *doing, const struct doing_labels *route) {
    atomic_store_explicit(&doing->route, route, memory_order_relaxed);
}

static inline void doing_filter(struct doing *doing, const struct doing_labels *filter) {
    atomic_store_explicit(&doing->filter, filter, memory_order_relaxed);
}

static inline void doing_connection(struct doing *doing, uint64_t id) {
    atomic_store_explicit(&doing->connection_id, id, memory_order_relaxed);
}

/* NULL: none any more. What is behind it is written before, and goes after: a signal's handler on this thread finds
 * it whole. */
static inline void doing_request(struct doing *doing, const struct doing_request *request) {
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&doing->request, request, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
}

/* For a filter that is called by another one, or by the writer of a body: what it finds is put back. */
static inline const struct doing_labels *doing_swap_filter(struct doing *doing,
                                                           const struct doing_labels *filter) {
    const struct doing_labels *former = atomic_load_explicit(&doing->filter, memory_order_relaxed);
    doing_filter(doing, filter);
    return former;
}
