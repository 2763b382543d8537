/* doing: what a coroutine of an exchange does at this moment, for profiles and dumps to say as labels:
 * listener; virtual_host and route of the request; filter, and library and plugin of one that runs others'
 * code.
 *
 * A step stores a pointer to labels that were made with the configuration; they are read when somebody
 * takes a sample (rt/labels.h).
 *
 * Ownership  A doing belongs to what the coroutine works on: a coroutine that is started with its describer
 *            (go_options) borrows it. Labels of a route and of a filter are part of a snapshot, which is leased all
 *            the while. Those of a listener live as long as the process, as their texts do: a connection goes from
 *            one configuration to the next, and one that ends may be the last to lease its own.
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

struct doing {
    struct labels_describer describer;
    const struct doing_labels *listener;
    _Atomic(const struct doing_labels *) route, filter; /* NULL: none */
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

/* For a filter that is called by another one, or by the writer of a body: what it finds is put back. */
static inline const struct doing_labels *doing_swap_filter(struct doing *doing,
                                                           const struct doing_labels *filter) {
    const struct doing_labels *former = atomic_load_explicit(&doing->filter, memory_order_relaxed);
    doing_filter(doing, filter);
    return former;
}
