/* route_index: the first route of a long list that matches, without trying them all.
 *
 * Envoy's rule is that the first route wins, whatever the others look like, so an index may only leave out
 * routes that cannot match. What it goes by is the literal that a path must begin with: the whole of a
 * prefix or a path, the plain head of a regex, nothing for a regex without one. Equal literals are one
 * entry with the list of their routes; entries are sorted by their bytes, and each knows the longest other
 * one that it begins with:
 *
 *      0  ""              ─► routes 7               (a regex without a head)
 *      1  "/"             ─► routes 0, 9    up: 0
 *      2  "/api/"         ─► routes 3, 4    up: 1
 *      3  "/api/users"    ─► routes 1       up: 2
 *      4  "/img"          ─► routes 2       up: 1
 *
 * X1  Every route is in exactly one list; lists ascend.
 * X2  All literals that a path begins with are the last entry that is not greater than the path, or above that
 *     one. Proof: let q be such a literal and s that entry; q is not greater than the path, so q <= s <= path. If
 *     s did not begin with q, it would differ from it, and so from the path, within q, and be greater there: then
 *     it would be greater than the path. And `up` leaves none out, as what an entry begins with is a chain.
 * X3  The lists of these are merged in ascending order, and each route is asked all that a walk through the
 *     whole list would ask it. A route left out would have failed in its path. So what comes out is the
 *     same: the first that matches.
 *
 * The search is binary. What the lower and the upper bound share with the path is shared by all between them,
 * so each byte of a path is compared about once, however alike the literals are.
 *
 * Without case  Routes that ignore it have an index of their own with lower-case literals; a path is looked up
 *               in both, and the lists of both are merged.
 * Memory        Per route at most one entry, one number and, where a regex or a lower-case copy
 *               asks for it, the literal. O(n log n) to build, immutable afterwards: any thread may look.
 * Limits        When a path begins with more than CHAIN_MAX literals, the list is walked through.
 * Rejected      A hash table per length of literal: as fast for few lengths, but long tables have dozens.
 *               A radix tree: as fast, with a pointer and a cache miss per node and four shapes of
 *               nodes. The whole list of candidates at each entry: a square of memory for nested ones. */
#include <stdlib.h>

#include "proxy/regex.h"
#include "proxy/route_internal.h"

enum { CHAIN_MAX = 16, NO_ENTRY = UINT32_MAX };

struct entry {
    struct span literal;
    uint32_t up;           /* the longest literal that this one begins with; NO_ENTRY: none */
    uint32_t first, count; /* in `routes` */
};
struct literals {
    struct entry *entries;
    uint32_t count;
    bool folded; /* all lower-case, and so is what is compared with them */
    uint32_t *routes;
};
struct route_index {
    struct literals exact, folded;
};

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "the first byte that differs is the lowest");

/* ---- looking up ---- */

static inline unsigned char lower(unsigned char c) {
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c | 0x20) : c;
}

static size_t common_folded(struct span literal, struct span path, size_t i) {
    size_t end = literal.len < path.len ? literal.len : path.len;
    while (i < end && literal.ptr[i] == (char)lower((unsigned char)path.ptr[i]))
        i++;
    return i;
}

/* How many bytes they begin with alike, when the first i are known to be. */
static inline size_t common(struct span literal, struct span path, size_t i) {
    size_t end = literal.len < path.len ? literal.len : path.len;
    while (i + sizeof(uint64_t) <= end) {
        uint64_t a, b;
        memcpy(&a, literal.ptr + i, sizeof(a));
        memcpy(&b, path.ptr + i, sizeof(b));
        if (a != b)
            return i + (size_t)__builtin_ctzll(a ^ b) / 8;
        i += sizeof(a);
    }
    while (i < end && literal.ptr[i] == path.ptr[i])
        i++;
    return i;
}

/* Whether the literal is less than the path or the path begins with it; they begin with `shared` bytes alike. */
static inline bool is_not_greater(struct span literal, struct span path, size_t shared,
                                  bool folded) {
    if (shared == literal.len)
        return true;
    if (shared == path.len)
        return false;
    unsigned char byte = (unsigned char)path.ptr[shared];
    return (unsigned char)literal.ptr[shared] < (folded ? lower(byte) : byte);
}

/* The last entry that is not greater than the path, or NO_ENTRY; and how many bytes they begin with alike.
 * folded is in->folded, as a constant. */
static inline __attribute__((always_inline)) uint32_t
last_not_greater(const struct literals *in, bool folded, struct span path, size_t *shared) {
    uint32_t low = 0, high = in->count;
    size_t shared_low = 0, shared_high = 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct span literal = in->entries[middle].literal;
        size_t known = shared_low < shared_high ? shared_low : shared_high;
        size_t same = folded ? common_folded(literal, path, known) : common(literal, path, known);
        if (is_not_greater(literal, path, same, folded)) {
            low = middle + 1;
            shared_low = same;
        } else {
            high = middle;
            shared_high = same;
        }
    }
    *shared = shared_low;
    return low - 1; /* NO_ENTRY for none */
}

/* What is left of each list that has routes for this path. */
struct candidates {
    struct {
        const uint32_t *next, *end;
    } lists[CHAIN_MAX];
    unsigned count;
};

/* False: there are too many. */
static bool collect(const struct literals *in, struct span path, struct candidates *out) {
    size_t shared;
    uint32_t i = in->folded ? last_not_greater(in, true, path, &shared)
                            : last_not_greater(in, false, path, &shared);
    for (; i != NO_ENTRY; i = in->entries[i].up) {
        const struct entry *entry = &in->entries[i];
        if (entry->literal.len > shared)
            continue;
        if (out->count == CHAIN_MAX)
            return false;
        out->lists[out->count].next = in->routes + entry->first;
        out->lists[out->count].end = in->routes + entry->first + entry->count;
        out->count++;
    }
    return true;
}

/* The lowest number of those that are left, which is not left any more; NO_ENTRY: none is. */
static uint32_t take_lowest(struct candidates *from) {
    unsigned best = 0;
    if (from->count == 0)
        return NO_ENTRY;
    for (unsigned i = 1; i < from->count; i++) {
        if (*from->lists[i].next < *from->lists[best].next)
            best = i;
    }
    uint32_t route = *from->lists[best].next++;
    if (from->lists[best].next == from->lists[best].end)
        from->lists[best] = from->lists[--from->count];
    return route;
}

const struct route *route_index_find(const struct route_index *index,
                                     const struct route_vhost *vhost,
                                     const struct route_request *request) {
    struct candidates candidates;
    candidates.count = 0;
    if (!collect(&index->exact, request->just_path, &candidates) ||
        (index->folded.count > 0 && !collect(&index->folded, request->just_path, &candidates)))
        return route_first_of_all(vhost, request);
    for (;;) {
        uint32_t i = take_lowest(&candidates);
        if (i == NO_ENTRY)
            return NULL;
        if (route_matches(&vhost->routes[i], request))
            return &vhost->routes[i];
    }
}

/* ---- building ---- */

struct item { /* of a route, while they are sorted */
    struct span literal;
    uint32_t route;
};

static int compare_items(const void *left, const void *right) {
    const struct item *a = left, *b = right;
    size_t shared = common(a->literal, b->literal, 0);
    if (shared < a->literal.len && shared < b->literal.len)
        return (unsigned char)a->literal.ptr[shared] < (unsigned char)b->literal.ptr[shared] ? -1
                                                                                             : 1;
    if (a->literal.len != b->literal.len)
        return a->literal.len < b->literal.len ? -1 : 1;
    return a->route < b->route ? -1 : a->route > b->route;
}

static bool is_folded(const struct route *route) {
    return route->ignore_case &&
           route->path_kind != CFG_PATH_REGEX; /* which has its own say in that */
}

/* Of a route that has a path; others are a problem of the config, which is reported. */
static struct span literal_of(struct route_builder *builder, const struct route *route) {
    if (is_folded(route))
        return route_lower(builder, route->path);
    if (route->path_kind != CFG_PATH_REGEX || !route->config->match)
        return route->path;
    struct span pattern = route->config->match->safe_regex->regex;
    char *text = route_alloc(builder, pattern.len, 1);
    return text ? span_make(text, regex_literal(pattern, text)) : span_none();
}

/* Whether b begins with a. */
static bool begins_with(struct span b, struct span a) {
    return common(a, b, 0) == a.len;
}

/* items are sorted; there is room in `out` for as many. */
static void fill(struct literals *out, const struct item *items, uint32_t count) {
    uint32_t above = NO_ENTRY;
    for (uint32_t i = 0; i < count; i++) {
        struct entry *last = out->count ? &out->entries[out->count - 1] : NULL;
        out->routes[i] = items[i].route;
        if (last && last->literal.len == items[i].literal.len &&
            begins_with(items[i].literal, last->literal)) {
            last->count++;
            continue;
        }
        /* Those above the last one are the only ones that can be above this one. */
        above = out->count ? out->count - 1 : NO_ENTRY;
        while (above != NO_ENTRY && !begins_with(items[i].literal, out->entries[above].literal))
            above = out->entries[above].up;
        out->entries[out->count++] = (struct entry){items[i].literal, above, i, 1};
    }
}

static bool build_literals(struct route_builder *builder, const struct route_vhost *vhost,
                           struct item *items, bool folded, struct literals *out) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < vhost->route_count; i++) {
        if (is_folded(&vhost->routes[i]) == folded)
            items[count++] = (struct item){literal_of(builder, &vhost->routes[i]), i};
    }
    *out = (struct literals){.folded = folded};
    if (count == 0)
        return true;
    out->entries = route_alloc(builder, count, sizeof(*out->entries));
    out->routes = route_alloc(builder, count, sizeof(*out->routes));
    if (!out->entries || !out->routes)
        return false;
    qsort(items, count, sizeof(*items), compare_items);
    fill(out, items, count);
    return true;
}

const struct route_index *route_index_build(struct route_builder *builder,
                                            const struct route_vhost *vhost) {
    struct route_index *index = route_alloc(builder, 1, sizeof(*index));
    struct item *items = calloc(vhost->route_count, sizeof(*items));
    bool done = index && items && build_literals(builder, vhost, items, false, &index->exact) &&
                build_literals(builder, vhost, items, true, &index->folded);
    free(items);
    if (!done)
        builder->table->memory_short = true;
    return done ? index : NULL;
}
