/* query: the parameters behind a path, decoded.
 *
 * Ownership  query_parse copies; query_fini frees. Spans borrow from the query.
 * Limits     QUERY_PARAMS_MAX; what lies beyond is not seen. */
#pragma once
#include "admin/text.h"

enum { QUERY_PARAMS_MAX = 16 }; /* no page takes more than six */

struct query_param {
    struct span name, value;
};
struct query {
    struct query_param params[QUERY_PARAMS_MAX];
    size_t count;
    char *storage;
};

/* raw is what follows the '?', the absent span when there is none. False when memory is short. */
MUST_CHECK bool query_parse(struct query *query, struct span raw);
void query_fini(struct query *query);

/* The first one of that name; the absent span when there is none. */
struct span query_find(const struct query *query, const char *name);
static inline bool query_has(const struct query *query, const char *name) {
    return !span_is_none(query_find(query, name));
}
