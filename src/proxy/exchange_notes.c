/* exchange_notes: what is noted of an exchange: made by whoever is first, its coroutine or a foreign thread that was
 * lent a side of it. Both pointers go from NULL to what they are then, once: a release by who made it, an acquire by who
 * finds it. What loses the race to be first is freed unseen. */
#include "proxy/exchange.h"
#include "proxy/filter_state.h"
#include "proxy/metadata.h"

struct metadata *exchange_metadata(struct exchange *x) {
    struct metadata *metadata = exchange_metadata_if(x);
    if (metadata)
        return metadata;
    struct metadata *made = metadata_new();
    if (made && !atomic_compare_exchange_strong_explicit(
                    &x->metadata, &metadata, made, memory_order_acq_rel, memory_order_acquire)) {
        metadata_unref(made);
        made = metadata;
    }
    return made;
}

struct filter_state *exchange_filter_state(struct exchange *x) {
    struct filter_state *state = exchange_filter_state_if(x);
    if (state)
        return state;
    struct filter_state *made = filter_state_new();
    if (made && !atomic_compare_exchange_strong_explicit(
                    &x->filter_state, &state, made, memory_order_acq_rel, memory_order_acquire)) {
        filter_state_unref(made);
        made = state;
    }
    return made;
}
