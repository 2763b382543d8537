/* doing: a few words that the coroutine stores, and a function that is asked what they mean.
 *
 * The words are not of one moment: a sample between two stores may see the next route with the former
 * filter, as if it had come an instruction earlier or later. Each alone is a pointer into a snapshot that is leased from
 * before it is stored until after it is replaced, or to what stays for ever, so there is nothing to order.
 *
 * Request   What names it is not copied for each one, as there are a hundred thousand a second and hardly ever a crash: the
 *           exchange has spans of its head, whose bytes stay until it ends, however often fields of the head are
 *           replaced. The map of fields is not looked at, as it may be in the middle of a change. All of it may lie beside
 *           what a fault has overwritten, so it is peeked at: a pointer to nowhere costs that line, and not the report.
 * Secrets   People put keys into queries and session ids behind a ';', so a path is told up to these. Names of fields
 *           and other values are not told at all. */
#include "proxy/doing.h"

#include <assert.h>
#include <string.h>

#include "base/intern.h"
#include "base/peek.h"

enum {
    /* Of all names that were ever in a configuration. A control plane that makes up new ones all day long
     * must not fill the memory with them. */
    NAMES_BYTES_MAX = 8 * 1024 * 1024,
    /* Of what is told, bytes; the rest is cut. */
    METHOD_TOLD_MAX = 16,
    PATH_TOLD_MAX = 256,
    ID_TOLD_MAX = 128, /* ours has 36; who makes others has more at times */
};

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

/* ---- which request ---- */

struct teller {
    char *out;
    size_t len, max;
};

static void put(struct teller *teller, struct span text) {
    for (size_t i = 0; i < text.len && teller->len < teller->max; i++)
        teller->out[teller->len++] = text.ptr[i];
}

static void put_u64(struct teller *teller, uint64_t value) {
    char digits[SPAN_U64_DIGITS_MAX];
    put(teller, span_make(digits, span_put_u64(digits, value)));
}

/* What a terminal would obey is not passed on, and a byte that is no ASCII may be a half of something. Ends before one
 * of stops. */
static void put_peeked(struct teller *teller, struct span text, size_t max, const char *stops) {
    char bytes[PATH_TOLD_MAX];
    size_t len = text.len < max ? text.len : max;
    if (len == 0 || !peek(bytes, text.ptr, len))
        return;
    for (size_t i = 0; i < len; i++) {
        char c = bytes[i];
        if (c && strchr(stops, c))
            return;
        put(teller, c > ' ' && c < 0x7f ? span_make(&c, 1) : SPAN_LIT("?"));
    }
    if (len < text.len)
        put(teller, SPAN_LIT("..."));
}

/* Nothing where no byte of it can be read. */
static void put_line(struct teller *teller, struct span key, struct span text, size_t max) {
    size_t before = teller->len;
    put(teller, key);
    size_t begin = teller->len;
    put_peeked(teller, text, max, "");
    if (teller->len == begin)
        teller->len = before;
    else
        put(teller, SPAN_LIT("\n"));
}

static void put_request(struct teller *teller, const struct doing_request *from) {
    struct doing_request request;
    if (!peek(&request, from, sizeof request))
        return;
    if (request.method.len) {
        put(teller, SPAN_LIT("request "));
        put_peeked(teller, request.method, METHOD_TOLD_MAX, "");
        put(teller, SPAN_LIT(" "));
        put_peeked(teller, request.path, PATH_TOLD_MAX, "?#;");
        put(teller, SPAN_LIT("\n"));
    }
    put_line(teller, SPAN_LIT("request_id "), request.id, ID_TOLD_MAX);
    put(teller, SPAN_LIT("began_ns "));
    put_u64(teller, (uint64_t)request.start_wall_ns);
    put(teller, SPAN_LIT("\n"));
}

static_assert(LABELS_TOLD_MAX >= METHOD_TOLD_MAX + PATH_TOLD_MAX + ID_TOLD_MAX + 100,
              "these, two numbers, their keys and what says that something is cut");

static size_t tell(const struct labels_describer *self, char *out, size_t max) {
    struct doing *doing = container_of((void *)(uintptr_t)self, struct doing, describer);
    struct teller teller = {.out = out, .max = max};
    uint64_t connection = atomic_load_explicit(&doing->connection_id, memory_order_relaxed);
    const struct doing_request *request =
        atomic_load_explicit(&doing->request, memory_order_acquire);
    if (connection) {
        put(&teller, SPAN_LIT("connection "));
        put_u64(&teller, connection);
        put(&teller, SPAN_LIT("\n"));
    }
    if (request)
        put_request(&teller, request);
    return teller.len;
}

/* ---- a doing ---- */

void doing_init(struct doing *doing, const struct doing_labels *listener) {
    doing->describer.describe = describe;
    doing->describer.tell = tell;
    doing->listener = listener;
    doing_route(doing, NULL);
    doing_filter(doing, NULL);
    doing_request(doing, NULL);
    doing_connection(doing, 0);
}

void doing_init_like(struct doing *doing, const struct doing *other) {
    doing_init(doing, other->listener);
    doing_route(doing, atomic_load_explicit(&other->route, memory_order_relaxed));
    doing_filter(doing, atomic_load_explicit(&other->filter, memory_order_relaxed));
    doing_request(doing, atomic_load_explicit(&other->request, memory_order_relaxed));
    doing_connection(doing, atomic_load_explicit(&other->connection_id, memory_order_relaxed));
}
