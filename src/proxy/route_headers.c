/* route_headers: request_headers_to_add and _remove, and those of the response, of four levels.
 *
 * One level works in Envoy's order: fields are removed; then every value is formatted and every
 * "if absent" and "if exists" decided, all on what the request brought; then overwrites are done, then
 * additions. A value that comes out empty is dropped unless keep_empty_value asks for it. */
#include <errno.h>
#include <stdlib.h>

#include "proxy/exchange.h"
#include "proxy/format.h"
#include "proxy/route_internal.h"

struct header_addition {
    struct span name; /* lower-case */
    enum header_id id;
    struct format *format;
    struct span literal; /* of a format without operators; else absent */
    int action;          /* enum cfg_append_action */
    bool keep_empty;
    bool joins; /* with a value that is there */
};
struct header_removal {
    struct span name;
    enum header_id id;
};
struct header_mutations {
    struct header_removal *removals;
    size_t removal_count;
    struct header_addition *additions;
    size_t addition_count;
};
enum { VALUES_ON_STACK = 16 };

/* Fields that Envoy keeps one entry of: adding to one that is there joins the values with ",".
 * Everything else becomes one more entry. Taken from Envoy by experiment. */
static const char *const joined_in_both[] = {
    "cache-control",
    "content-encoding",
    "content-length",
    "content-type",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-status",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-request-id",
};
static const char *const joined_in_requests[] = {
    "accept",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "access-control-request-private-network",
    "authorization",
    "expect",
    "grpc-accept-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "origin",
    "pragma",
    "referer",
    "te",
    "user-agent",
    "x-client-trace-id",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-external-address",
    "x-envoy-force-trace",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-is-timeout-retry",
    "x-envoy-original-host",
    "x-envoy-original-path",
    "x-envoy-original-url",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-timeout-ms",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
};
static const char *const joined_in_responses[] = {
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-allow-private-network",
    "access-control-expose-headers",
    "access-control-max-age",
    "age",
    "date",
    "etag",
    "expires",
    "grpc-message",
    "grpc-status",
    "last-modified",
    "location",
    "server",
    "vary",
    "x-envoy-degraded",
    "x-envoy-immediate-health-check-fail",
    "x-envoy-ratelimited",
    "x-envoy-upstream-canary",
    "x-envoy-upstream-healthchecked-cluster",
    "x-envoy-upstream-service-time",
};
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static bool is_one_of(struct span name, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (span_eq(name, span_of(names[i])))
            return true;
    }
    return false;
}

static bool joins_when_added(struct span name, bool request) {
    if (is_one_of(name, joined_in_both, COUNT_OF(joined_in_both)))
        return true;
    return request ? is_one_of(name, joined_in_requests, COUNT_OF(joined_in_requests))
                   : is_one_of(name, joined_in_responses, COUNT_OF(joined_in_responses));
}

/* ---- building ---- */

/* That names are fields and no pseudo ones or host, and that append and append_action are not both
 * set, the schema tables have checked. */

static void free_format(void *format) {
    format_free(format);
}

static void build_addition(struct route_builder *builder,
                           const struct cfg_header_value_option *option, bool request,
                           struct header_addition *out) {
    struct span name = route_lower(builder, option->header.key);
    if (!name.ptr)
        return;
    out->name = name;
    out->id = header_id_of(name);
    out->joins = joins_when_added(name, request);
    out->action = option->append_action;
    if (option->append.set)
        out->action =
            option->append.value ? CFG_APPEND_IF_EXISTS_OR_ADD : CFG_OVERWRITE_IF_EXISTS_OR_ADD;
    out->keep_empty = option->keep_empty_value;
    out->format = format_compile(option->header.value, &option->mark, builder->problems);
    if (!out->format || !route_own(builder, free_format, out->format))
        return;
    if (!format_is_literal(out->format, &out->literal))
        out->literal = span_none();
    else if (!header_value_is_valid(out->literal))
        route_problem(builder, &option->mark, "the value of '%.*s' holds control bytes",
                      (int)name.len, name.ptr);
}

const struct header_mutations *route_mutations_build(struct route_builder *builder,
                                                     const struct route_mutation_lists *lists,
                                                     bool request) {
    if (lists->add_count == 0 && lists->remove_count == 0)
        return NULL;
    struct header_mutations *mutations = route_alloc(builder, 1, sizeof(*mutations));
    if (!mutations)
        return NULL;
    mutations->removals = route_alloc(builder, lists->remove_count, sizeof(struct header_removal));
    mutations->additions = route_alloc(builder, lists->add_count, sizeof(struct header_addition));
    if (!mutations->removals || !mutations->additions)
        return NULL;
    for (size_t i = 0; i < lists->remove_count; i++) {
        struct span name = route_lower(builder, lists->remove[i]);
        mutations->removals[i] = (struct header_removal){name, header_id_of(name)};
    }
    for (size_t i = 0; i < lists->add_count; i++)
        build_addition(builder, &lists->add[i], request, &mutations->additions[i]);
    mutations->removal_count = lists->remove_count;
    mutations->addition_count = lists->add_count;
    return mutations;
}

/* ---- applying ---- */

static int format_value(const struct header_addition *addition, struct exchange *x,
                        struct span *value) {
    struct format_out out = {0};
    const struct format_subject of = format_of_exchange(x);
    format_write(addition->format, &of, SPAN_LIT(""), &out, NULL);
    struct span text = span_make(out.data ? out.data : "", out.len);
    int rc = 0;
    if (out.failed)
        rc = -ENOMEM;
    else if (!header_value_is_valid(text))
        rc = -EINVAL;
    else if (text.len > 0)
        *value = arena_copy(&x->arena, text);
    else
        *value = SPAN_LIT("");
    free(out.data);
    return rc == 0 && span_is_none(*value) ? -ENOMEM : rc;
}

/* values[i] is set absent when the addition is not to be done. */
static int evaluate(const struct header_mutations *mutations, const struct header_map *headers,
                    struct exchange *x, struct span *values) {
    for (size_t i = 0; i < mutations->addition_count; i++) {
        const struct header_addition *addition = &mutations->additions[i];
        values[i] = addition->literal;
        if (span_is_none(addition->literal)) {
            int rc = format_value(addition, x, &values[i]);
            if (rc < 0)
                return rc;
        }
        bool wanted = values[i].len > 0 || addition->keep_empty;
        if (wanted && (addition->action == CFG_ADD_IF_ABSENT ||
                       addition->action == CFG_OVERWRITE_IF_EXISTS)) {
            bool exists = header_find(headers, addition->id, addition->name, 0) >= 0;
            wanted = exists == (addition->action == CFG_OVERWRITE_IF_EXISTS);
        }
        if (!wanted)
            values[i] = span_none();
    }
    return 0;
}

static bool overwrites(const struct header_addition *addition) {
    return addition->action == CFG_OVERWRITE_IF_EXISTS_OR_ADD ||
           addition->action == CFG_OVERWRITE_IF_EXISTS;
}

static int add(const struct header_addition *addition, struct header_map *headers,
               struct span value) {
    enum header_id id = addition->id;
    if (addition->joins)
        return overwrites(addition) ? header_set(headers, id, addition->name, value)
                                    : header_append(headers, id, addition->name, value);
    if (overwrites(addition))
        (void)header_remove(headers, id, addition->name); /* the new one stands last, as on Envoy */
    return header_add(headers, id, addition->name, value);
}

static int apply(const struct header_mutations *mutations, struct header_map *headers,
                 struct exchange *x) {
    if (!mutations)
        return 0;
    for (size_t i = 0; i < mutations->removal_count; i++)
        (void)header_remove(headers, mutations->removals[i].id, mutations->removals[i].name);
    size_t count = mutations->addition_count;
    struct span stack[VALUES_ON_STACK];
    struct span *values = stack;
    if (count > VALUES_ON_STACK) {
        values = arena_alloc(&x->arena, count * sizeof(*values));
        if (!values)
            return -ENOMEM;
    }
    int rc = evaluate(mutations, headers, x, values);
    for (int pass = 0; pass < 2 && rc == 0; pass++) { /* first what overwrites, then what adds */
        for (size_t i = 0; i < count && rc == 0; i++) {
            const struct header_addition *addition = &mutations->additions[i];
            if (!span_is_none(values[i]) && overwrites(addition) == (pass == 0))
                rc = add(addition, headers, values[i]);
        }
    }
    return rc;
}

static const struct header_mutations *of_level(const struct route_level *level, bool request) {
    return request ? level->request : level->response;
}

int route_mutate(const struct route_entry *entry, struct exchange *x, bool request) {
    const struct route_choice *choice = route_choice_of(entry);
    const struct route *route = choice->route;
    const struct route_level *levels[3] = {&route->level, &route->vhost->level,
                                           &entry->table->level};
    bool ascending = entry->table->config->most_specific_header_mutations_wins;
    struct header_map *headers = request ? &x->request.headers : &x->response.headers;
    /* Later ones win where they overwrite. The weighted cluster is first either way, as on Envoy. */
    int rc = apply(of_level(&choice->level, request), headers, x);
    for (unsigned i = 0; i < 3 && rc == 0; i++)
        rc = apply(of_level(levels[ascending ? 2 - i : i], request), headers, x);
    return rc;
}
