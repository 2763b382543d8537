/* route_internal: how a route table looks inside; shared by the route_*.c files only.
 *
 *   route_table ─ host_index ─► vhost ─► routes[] ─► choices[]      one, or one per weighted cluster
 *        │                        │         │           │
 *      level                    level     level       level         header mutations, filter configs
 *
 * What callers see is a choice's `entry`. Everything is made at build time, is owned by the table and
 * never changes; matching allocates nothing. */
#pragma once
#include "proxy/route.h"

struct regex;
struct route;
struct route_table;

/* ---- building ---- */

struct route_builder {
    struct route_table *table;
    const struct route_build *build;
    struct cfg_problems *problems;
};

/* Zeroed memory that lives as long as the table. NULL, and a problem reported once, when memory is
 * short: the table is then not handed out, so callers only need to avoid using it. */
void *route_alloc(struct route_builder *builder, size_t count, size_t size);
/* Calls fn(object) when the table is freed; at once when memory is short. False then. */
bool route_own(struct route_builder *builder, void (*fn)(void *object), void *object);
/* Lower-case copy. */
struct span route_lower(struct route_builder *builder, struct span text);
void route_problem(struct route_builder *builder, const struct cfg_mark *mark, const char *format,
                   ...) PRINTF_LIKE(3, 4);

/* ---- one level of configuration ---- */

struct route_level {
    const struct header_mutations *request, *response; /* NULL: none */
    const void **filters; /* by filter index, NULL entries: none; NULL: none at all */
};

/* The lists as the config has them at each of the four levels. */
struct route_mutation_lists {
    const struct cfg_header_value_option *add;
    size_t add_count;
    const struct span *remove;
    size_t remove_count;
};
const struct header_mutations *route_mutations_build(struct route_builder *builder,
                                                     const struct route_mutation_lists *lists,
                                                     bool request);
/* Array for route_level.filters; NULL when entries name none. */
const void **route_filters_build(struct route_builder *builder,
                                 const struct cfg_per_filter *entries, size_t count);

/* The config messages that are levels have these fields under the same names and no type in common,
 * hence macros. */
#define ROUTE_LISTS(config, side)                                                                  \
    &(struct route_mutation_lists) {                                                               \
        (config)->side##_headers_to_add, (config)->side##_headers_to_add_count,                    \
            (config)->side##_headers_to_remove, (config)->side##_headers_to_remove_count           \
    }
#define ROUTE_LEVEL_BUILD(builder, config)                                                         \
    ((struct route_level){                                                                         \
        route_mutations_build((builder), ROUTE_LISTS((config), request), true),                    \
        route_mutations_build((builder), ROUTE_LISTS((config), response), false),                  \
        route_filters_build((builder), (config)->typed_per_filter_config,                          \
                            (config)->typed_per_filter_config_count),                              \
    })

/* ---- plugins that choose clusters ---- */

struct cluster_specifier;
/* NULL, and a problem reported. */
struct cluster_specifier *route_specifier_build(struct route_builder *builder,
                                                const struct cfg_cluster_specifier_plugin *config);
/* Those that routes refer to by name: before the routes. */
void route_specifiers_build(struct route_builder *builder);
const struct cluster_specifier *route_specifier_find(const struct route_table *table,
                                                     struct span name);

/* ---- virtual hosts by domain ---- */

struct route_index;
struct route_vhost {
    const struct cfg_virtual_host *config;
    struct route_level level;
    struct route *routes;
    size_t route_count;
    const struct route_index
        *index; /* NULL: so few routes that they are tried one after the other */
    const struct virtual_clusters *virtual_clusters; /* NULL: none */
    struct route *tls_redirect; /* what require_tls answers with; NULL: not asked for */
};

struct host_slot {
    struct span key; /* lower-case; NULL: free */
    struct route_vhost *vhost;
};
/* Open addressing; at most half full. */
struct host_set {
    struct host_slot *slots;
    uint32_t mask;
    uint32_t count;
    uint32_t *lengths; /* of the keys, longest first, each once: for wildcards */
    uint32_t length_count;
};
struct host_index {
    struct host_set exact, suffixes, prefixes; /* wildcards without their "*" */
    struct route_vhost *any;                   /* "*" */
};
/* Room for the domains of all virtual hosts. */
bool host_index_init(struct route_builder *builder, struct host_index *index);
/* Reports a duplicate at the virtual host's mark. */
void host_index_add(struct route_builder *builder, struct host_index *index, struct span domain,
                    struct route_vhost *vhost);
void host_index_finish(struct host_index *index);
struct route_vhost *host_index_find(const struct host_index *index, struct span host);
/* Where ":port" starts, or host.len. */
size_t route_port_start(struct span host);

/* ---- matchers ---- */

struct string_matcher {
    int kind; /* enum cfg_string_match_case */
    bool ignore_case;
    struct span text;
    struct regex *regex;
};
bool string_matcher_build(struct route_builder *builder, const struct cfg_string_matcher *config,
                          const struct cfg_mark *mark, struct string_matcher *out);
bool string_matcher_matches(const struct string_matcher *matcher, struct span value);

struct header_matcher;
struct query_matcher;
struct header_matcher *header_matchers_build(struct route_builder *builder,
                                             const struct cfg_header_matcher *configs,
                                             size_t count);
struct query_matcher *query_matchers_build(struct route_builder *builder,
                                           const struct cfg_query_matcher *configs, size_t count,
                                           const struct cfg_mark *mark);
bool header_matchers_match(const struct header_matcher *matchers, size_t count,
                           const struct header_map *headers);
bool query_matchers_match(const struct query_matcher *matchers, size_t count, struct span path);

/* A regex owned by the table; NULL and a problem on error. */
struct regex *route_regex(struct route_builder *builder, struct span pattern, bool full,
                          const struct cfg_mark *mark, const char *field);

/* ---- routes ---- */

struct route_choice {
    struct route_entry entry;
    const struct route *route;
    struct route_level level; /* of the weighted cluster */
    struct span cluster;      /* fixed name; absent: by header */
    uint64_t weight_end;      /* sum of the weights up to and with this one */
};

struct route_rewrite {         /* of a path; of a route action or a redirect */
    struct span prefix;        /* replaces what matched; empty: not asked for */
    const struct regex *regex; /* NULL: none */
    struct span substitution;
};

struct route {
    const struct cfg_route *config;
    const struct route_vhost *vhost; /* NULL: the redirect of require_tls, which has no levels */
    struct route_level level;

    int path_kind; /* enum cfg_path_case */
    bool ignore_case;
    struct span path; /* prefix or whole */
    const struct regex *path_regex;
    bool grpc;
    uint8_t peer_mask, peer_want; /* of the bits about the client's certificate */
    uint32_t fraction_numerator, fraction_denominator; /* denominator 0: none */
    const struct header_matcher *headers;
    size_t header_count;
    const struct query_matcher *queries;
    size_t query_count;

    struct route_choice *choices;
    size_t choice_count;
    uint64_t total_weight;
    struct route_rewrite rewrite;
    struct span cluster_header, host_header; /* lower-case; absent: none */
    bool redirect_path_has_query;
};

static inline const struct route_choice *route_choice_of(const struct route_entry *entry) {
    return container_of((void *)(uintptr_t)entry, struct route_choice, entry);
}

struct route_table {
    const struct cfg_route_configuration *config;
    struct route_level level;
    struct host_index hosts;
    struct route_vhost *vhosts;
    size_t vhost_count;
    uint32_t filter_count;
    struct cluster_specifier **specifiers; /* those of the table; routes may have their own */
    size_t specifier_count;
    struct route_owned *owned; /* newest first */
    struct route_memory *memory;
    bool memory_short;
};

/* count choices with what they have in common filled in; NULL when memory is short. */
struct route_choice *route_build_choices(struct route_builder *builder, struct route *route,
                                         size_t count);
/* Labels for profiles: the virtual host's name, and the route's or, without one, what it matches. */
void route_label(struct route_entry *entry, struct span name);
void route_build_one(struct route_builder *builder, const struct route_vhost *vhost,
                     const struct cfg_route *config, struct route *route);

/* ---- choosing one ---- */

struct route_request {
    const struct header_map *headers;
    struct span path, just_path; /* with the query, and without */
    uint64_t random;
    unsigned peer;
};
/* Path, fraction, headers, query, certificate: all that is asked of a request. */
bool route_matches(const struct route *route, const struct route_request *request);
/* The first of the list that matches; NULL: none. */
const struct route *route_first_of_all(const struct route_vhost *vhost,
                                       const struct route_request *request);

/* route_index.c: the same, found faster. */
enum { ROUTE_INDEX_MIN = 8 }; /* of fewer routes a walk through the list is as fast */
/* NULL when memory is short. After all routes were built. */
const struct route_index *route_index_build(struct route_builder *builder,
                                            const struct route_vhost *vhost);
const struct route *route_index_find(const struct route_index *index,
                                     const struct route_vhost *vhost,
                                     const struct route_request *request);

/* ---- paths ---- */

/* Without query and fragment. */
static inline struct span route_just_path(struct span path) {
    const char *end = path.len ? memchr(path.ptr, '?', path.len) : NULL;
    size_t len = end ? (size_t)(end - path.ptr) : path.len;
    end = len ? memchr(path.ptr, '#', len) : NULL;
    return span_make(path.ptr, end ? (size_t)(end - path.ptr) : len);
}
bool route_path_matches(const struct route *route, struct span just_path);
/* The whole :path after the rewrite, in the arena; path itself when there is none to do. Absent when
 * memory is short. */
struct span route_rewrite_path(const struct route *route, struct span path BORROWED_BY(result),
                               struct arena *arena);
