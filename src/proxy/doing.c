/* doing: a few words that the coroutine stores, and a function that is asked what they mean.
 *
 * The words are not of one moment: a sample between two stores may see the next route with the former
 * filter, as if it had come an instruction earlier or later. Each alone is a pointer into a snapshot that is leased from
 * before it is stored until after it is replaced, or to what stays for ever, so there is nothing to order. */
#include "proxy/doing.h"

#include <assert.h>
#include <string.h>

#include "base/intern.h"

/* Of all names that were ever in a configuration. A control plane that makes up new ones all day long
 * must not fill the memory with them. */
enum { NAMES_BYTES_MAX = 8 * 1024 * 1024 };

void doing_labels_add(struct doing_labels *labels, const char *key, struct span value) {
    if (value.len == 0)
        return;
    ASSERT(labels->count < DOING_LABELS_MAX);
    if (value.len > DOING_TEXT_MAX)
        value.len = DOING_TEXT_MAX;
    const char *text = intern(value, NAMES_BYTES_MAX);
    labels->items[labels->count++] = (struct label){key, text ? text : "other"};
}

/* Equal ones are equal bytes, so they are kept once, as names are. */
const struct doing_labels *doing_labels_of_chain(struct span listener, struct span filter_chain) {
    static const struct doing_labels other = {1, {{"listener", "other"}}};
    struct doing_labels labels;
    memset(&labels, 0, sizeof labels);
    doing_labels_add(&labels, "listener", listener);
    doing_labels_add(&labels, "filter_chain", filter_chain);
    const char *kept = intern(span_make((const char *)&labels, sizeof labels), NAMES_BYTES_MAX);
    return kept ? (const void *)kept : &other;
}

static unsigned add(const struct doing_labels *labels, struct label *out, unsigned count,
                    unsigned max) {
    for (unsigned i = 0; labels && i < labels->count && count < max; i++)
        out[count++] = labels->items[i];
    return count;
}

static_assert(LABELS_DESCRIBED_MAX >= 2 + 2 + DOING_LABELS_MAX,
              "a listener's, a route's, a filter's");

static unsigned describe(const struct labels_describer *self, struct label *out, unsigned max) {
    struct doing *doing = container_of((void *)(uintptr_t)self, struct doing, describer);
    const struct doing_labels *route = atomic_load_explicit(&doing->route, memory_order_relaxed);
    const struct doing_labels *filter = atomic_load_explicit(&doing->filter, memory_order_relaxed);
    unsigned count = add(doing->listener, out, 0, max);
    count = add(route, out, count, max);
    return add(filter, out, count, max);
}

void doing_init(struct doing *doing, const struct doing_labels *listener) {
    doing->describer.describe = describe;
    doing->listener = listener;
    doing_route(doing, NULL);
    doing_filter(doing, NULL);
}

void doing_init_like(struct doing *doing, const struct doing *other) {
    doing_init(doing, other->listener);
    doing_route(doing, atomic_load_explicit(&other->route, memory_order_relaxed));
    doing_filter(doing, atomic_load_explicit(&other->filter, memory_order_relaxed));
}
