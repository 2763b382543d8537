/* route_action: builds one route: what it matches and what it does. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "proxy/cluster_specifier.h"
#include "proxy/regex.h"
#include "proxy/route_internal.h"
#include "proxy/tls_info.h"

enum { DIRECT_BODY_MAX = 4096 }; /* Envoy's default of max_direct_response_body_size_bytes */
#define DEFAULT_TIMEOUT_NS (15 * NS_PER_S)

static void build_match(struct route_builder *builder, const struct cfg_route_match *match,
                        struct route *route) {
    route->path_kind = match->path_specifier_case;
    route->ignore_case = match->case_sensitive.set && !match->case_sensitive.value;
    switch (match->path_specifier_case) {
    case CFG_PATH_PREFIX:
        route->path = match->prefix;
        break;
    case CFG_PATH_EXACT:
        route->path = match->path;
        break;
    case CFG_PATH_SEPARATED_PREFIX:
        route->path = match->path_separated_prefix;
        break;
    case CFG_PATH_REGEX:
        route->path_regex =
            route_regex(builder, match->safe_regex->regex, true, &match->mark, "safe_regex");
        break;
    default:
        route_problem(builder, &match->mark, "a path specifier is required");
    }
    route->grpc = match->grpc;
    if (match->tls_context) {
        const struct cfg_bool *asked[] = {&match->tls_context->presented,
                                          &match->tls_context->validated};
        static const uint8_t bits[] = {PEER_CERTIFICATE_PRESENTED, PEER_CERTIFICATE_VALIDATED};
        for (unsigned i = 0; i < 2; i++) {
            route->peer_mask |= asked[i]->set ? bits[i] : 0;
            route->peer_want |= asked[i]->set && asked[i]->value ? bits[i] : 0;
        }
    }
    if (match->runtime_fraction) {
        static const uint32_t denominators[] = {100, 10000, 1000000};
        int which = match->runtime_fraction->denominator;
        route->fraction_numerator = match->runtime_fraction->numerator;
        route->fraction_denominator = denominators[which >= 0 && which < 3 ? which : 0];
    }
    route->header_count = match->headers_count;
    if (match->headers_count > 0)
        route->headers = header_matchers_build(builder, match->headers, match->headers_count);
    route->query_count = match->query_parameters_count;
    if (match->query_parameters_count > 0)
        route->queries = query_matchers_build(builder, match->query_parameters,
                                              match->query_parameters_count, &match->mark);
}

static void check_cluster(struct route_builder *builder, struct span name,
                          const struct cfg_mark *mark, const char *what,
                          struct route_choice *choice) {
    const struct cfg_bool *validate = &builder->table->config->validate_clusters;
    choice->cluster = name;
    const struct route_build *build = builder->build;
    choice->entry.cluster = build->find_cluster ? build->find_cluster(build->arg, name) : NULL;
    if (!choice->entry.cluster && (validate->set ? validate->value : !build->clusters_may_come))
        route_problem(builder, mark, "route: unknown %s '%.*s'", what, (int)name.len,
                      name.ptr ? name.ptr : "");
}

/* As much of what the route matches as one looks for in the configuration: /api*, /hello, ~^/v[12]/. */
static struct span match_text(const struct cfg_route_match *match, char text[DOING_TEXT_MAX]) {
    const char *before = "", *behind = "";
    struct span path = span_none();
    switch (match->path_specifier_case) {
    case CFG_PATH_PREFIX:
        path = match->prefix;
        behind = "*";
        break;
    case CFG_PATH_EXACT:
        path = match->path;
        break;
    case CFG_PATH_SEPARATED_PREFIX:
        path = match->path_separated_prefix;
        behind = "/*";
        break;
    case CFG_PATH_REGEX:
        path = match->safe_regex->regex;
        before = "~";
        break;
    default:
        break;
    }
    int len = snprintf(text, DOING_TEXT_MAX, "%s%.*s%s", before, (int)path.len, path.ptr, behind);
    return len < 0 ? span_none() : span_make(text, len < DOING_TEXT_MAX ? len : DOING_TEXT_MAX - 1);
}

void route_label(struct route_entry *entry, struct span name) {
    char text[DOING_TEXT_MAX];
    if (name.len == 0 && entry->config->match)
        name = match_text(entry->config->match, text);
    entry->labels.count = 0;
    if (entry->virtual_host)
        doing_labels_add(&entry->labels, "virtual_host", entry->virtual_host->name);
    doing_labels_add(&entry->labels, "route", name);
}

struct route_choice *route_build_choices(struct route_builder *builder, struct route *route,
                                         size_t count) {
    route->choices = route_alloc(builder, count, sizeof(*route->choices));
    route->choice_count = route->choices ? count : 0;
    for (size_t i = 0; i < route->choice_count; i++) {
        struct route_entry *entry = &route->choices[i].entry;
        route->choices[i].route = route;
        entry->config = route->config;
        entry->virtual_host = route->vhost ? route->vhost->config : NULL;
        entry->virtual_clusters = route->vhost ? route->vhost->virtual_clusters : NULL;
        entry->virtual_host_name = entry->virtual_host ? entry->virtual_host->name : span_none();
        entry->action = (uint8_t)route->config->action_case;
        entry->table = builder->table;
        entry->name = route->config->name;
        entry->idle_timeout_ns = -1;
        route_label(entry, entry->name);
    }
    return route->choices;
}

static void build_weighted(struct route_builder *builder, struct route *route,
                           const struct cfg_weighted_clusters *weighted) {
    struct route_choice *choices = route_build_choices(builder, route, weighted->clusters_count);
    uint64_t sum = 0;
    for (size_t i = 0; choices && i < weighted->clusters_count; i++) {
        const struct cfg_cluster_weight *config = &weighted->clusters[i];
        sum += config->weight.set ? config->weight.value : 0;
        choices[i].weight_end = sum;
        check_cluster(builder, config->name, &config->mark, "weighted cluster", &choices[i]);
        choices[i].level = ROUTE_LEVEL_BUILD(builder, config);
    }
    route->total_weight = sum;
}

static void build_regex_rewrite(struct route_builder *builder,
                                const struct cfg_regex_rewrite *config, const struct cfg_mark *mark,
                                struct route_rewrite *out) {
    struct regex *regex =
        route_regex(builder, config->pattern.regex, false, mark, "regex_rewrite.pattern");
    out->substitution = config->substitution;
    /* Envoy takes such a substitution and then never substitutes. */
    int highest = regex_substitution_check(config->substitution);
    if (highest < 0)
        cfg_problem_add(builder->problems, CFG_PROBLEM_WARNING, mark,
                        "regex_rewrite.substitution: a backslash without a digit or a backslash "
                        "behind it: nothing is ever substituted");
    else if (regex && (unsigned)highest > regex_groups(regex))
        cfg_problem_add(builder->problems, CFG_PROBLEM_WARNING, mark,
                        "regex_rewrite.substitution: \\%d is used, but the pattern has %u groups: "
                        "nothing is ever substituted",
                        highest, regex_groups(regex));
    out->regex = regex;
}

static struct span milliseconds(struct route_builder *builder, int64_t ns) {
    char *text = route_alloc(builder, SPAN_U64_DIGITS_MAX, 1);
    return text ? span_make(text, span_put_u64(text, (uint64_t)ns / NS_PER_MS)) : span_none();
}

static void set_specifier(struct route_builder *builder, struct route *route,
                          const struct cluster_specifier *specifier) {
    if (specifier && route_build_choices(builder, route, 1))
        route->choices[0].entry.specifier = specifier;
}

static void build_action(struct route_builder *builder, const struct cfg_route_action *action,
                         struct route *route) {
    switch (action->cluster_specifier_case) {
    case CFG_CLUSTER_WEIGHTED:
        build_weighted(builder, route, action->weighted_clusters);
        break;
    case CFG_CLUSTER_HEADER:
        (void)route_build_choices(builder, route, 1); /* a problem is reported */
        route->cluster_header = route_lower(builder, action->cluster_header);
        if (span_eq(route->cluster_header, SPAN_LIT("host")))
            route->cluster_header = header_name_of(HDR_AUTHORITY);
        break;
    case CFG_CLUSTER_NAME:
        if (route_build_choices(builder, route, 1))
            check_cluster(builder, action->cluster, &action->mark, "cluster", &route->choices[0]);
        break;
    case CFG_CLUSTER_PLUGIN: {
        struct span name = action->cluster_specifier_plugin;
        const struct cluster_specifier *specifier = route_specifier_find(builder->table, name);
        if (!specifier)
            route_problem(builder, &action->mark,
                          "route: unknown cluster_specifier_plugin '%.*s': it must be one of "
                          "cluster_specifier_plugins of the route_config",
                          (int)name.len, name.ptr ? name.ptr : "");
        set_specifier(builder, route, specifier);
        break;
    }
    case CFG_CLUSTER_INLINE_PLUGIN:
        set_specifier(builder, route,
                      route_specifier_build(builder, action->inline_cluster_specifier_plugin));
        break;
    default:
        route_problem(builder, &action->mark, "a cluster specifier is required");
    }
    int64_t timeout_ns = action->timeout.set ? action->timeout.ns : DEFAULT_TIMEOUT_NS;
    struct span timeout_text = timeout_ns ? milliseconds(builder, timeout_ns) : span_none();
    int host_rewrite = action->host_rewrite_specifier_case;
    for (size_t i = 0; i < route->choice_count; i++) {
        struct route_entry *entry = &route->choices[i].entry;
        entry->timeout_ns = timeout_ns;
        entry->timeout_text = timeout_text;
        entry->idle_timeout_ns = action->idle_timeout.set ? action->idle_timeout.ns : -1;
        entry->counts_attempts = entry->virtual_host->include_request_attempt_count;
        entry->rewrites_host_auto =
            host_rewrite == CFG_HOST_REWRITE_AUTO && action->auto_host_rewrite.value;
        entry->rewrites = host_rewrite == CFG_HOST_REWRITE_LITERAL ||
                          host_rewrite == CFG_HOST_REWRITE_HEADER || action->regex_rewrite ||
                          action->prefix_rewrite.len > 0;
    }
    route->rewrite.prefix = action->prefix_rewrite;
    if (action->regex_rewrite)
        build_regex_rewrite(builder, action->regex_rewrite, &action->mark, &route->rewrite);
    if (action->host_rewrite_specifier_case == CFG_HOST_REWRITE_HEADER) {
        route->host_header = route_lower(builder, action->host_rewrite_header);
        if (span_eq(route->host_header, SPAN_LIT("host")))
            route->host_header = header_name_of(HDR_AUTHORITY);
    }
}

static void build_redirect(struct route_builder *builder,
                           const struct cfg_redirect_action *redirect, struct route *route) {
    (void)route_build_choices(builder, route, 1);
    route->rewrite.prefix = redirect->prefix_rewrite;
    route->redirect_path_has_query = span_find(redirect->path_redirect, '?') >= 0;
    if (redirect->regex_rewrite)
        build_regex_rewrite(builder, redirect->regex_rewrite, &redirect->mark, &route->rewrite);
}

/* Reads a whole small file. */
static NOINLINE struct span read_body(struct route_builder *builder, const struct cfg_mark *mark,
                                      struct span path) {
    int fd = open(path.ptr, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        route_problem(builder, mark, "file %s: %s", path.ptr, strerror(errno));
        if (fd >= 0)
            (void)close(fd); /* only read */
        return span_none();
    }
    struct span body = span_none();
    char *buf = route_alloc(builder, DIRECT_BODY_MAX + 1, 1);
    size_t len = 0;
    ssize_t n = 1;
    while (buf && n > 0 && len <= DIRECT_BODY_MAX) {
        n = read(fd, buf + len, DIRECT_BODY_MAX + 1 - len);
        len += n > 0 ? (size_t)n : 0;
    }
    if (buf && n < 0)
        route_problem(builder, mark, "file %s: %s", path.ptr, strerror(errno));
    else if (buf && len > DIRECT_BODY_MAX)
        route_problem(builder, mark, "file %s size is %lld bytes; maximum is %d", path.ptr,
                      (long long)st.st_size, DIRECT_BODY_MAX);
    else if (buf)
        body = span_make(buf, len);
    (void)close(fd); /* only read */
    return body;
}

static struct span read_variable(struct route_builder *builder, const struct cfg_mark *mark,
                                 struct span name) {
    const char *value = getenv(name.ptr); /* nobody changes the environment */
    if (!value)
        route_problem(builder, mark, "there is no environment variable %s", name.ptr);
    return value ? span_of(value) : span_none();
}

static void build_direct(struct route_builder *builder,
                         const struct cfg_direct_response_action *direct, struct route *route) {
    struct route_choice *choices = route_build_choices(builder, route, 1);
    if (!choices || !direct->body)
        return;
    struct span body = span_none();
    switch (direct->body->specifier_case) {
    case 1:
        body = read_body(builder, &direct->mark, direct->body->filename);
        break;
    case 2:
        body = direct->body->inline_bytes;
        break;
    case 3:
        body = direct->body->inline_string;
        break;
    case CFG_DATA_ENVIRONMENT:
        body = read_variable(builder, &direct->mark, direct->body->environment_variable);
        break;
    default:
        break;
    }
    if (body.len > DIRECT_BODY_MAX)
        route_problem(builder, &direct->mark, "response body size is %zu bytes; maximum is %d",
                      body.len, DIRECT_BODY_MAX);
    choices[0].entry.direct_body = body;
}

/* For most routes none of the four levels has any. */
static void note_mutations(const struct route_table *table, struct route *route) {
    for (size_t i = 0; i < route->choice_count; i++) {
        struct route_choice *choice = &route->choices[i];
        const struct route_level *levels[] = {&choice->level, &route->level, &route->vhost->level,
                                              &table->level};
        for (size_t l = 0; l < sizeof(levels) / sizeof(levels[0]); l++) {
            choice->entry.mutates_request |= levels[l]->request != NULL;
            choice->entry.mutates_response |= levels[l]->response != NULL;
        }
    }
}

void route_build_one(struct route_builder *builder, const struct route_vhost *vhost,
                     const struct cfg_route *config, struct route *route) {
    route->config = config;
    route->vhost = vhost;
    if (config->match)
        build_match(builder, config->match, route);
    else
        route_problem(builder, &config->mark, "match is required");
    route->level = ROUTE_LEVEL_BUILD(builder, config);
    switch (config->action_case) {
    case CFG_ACTION_ROUTE:
        build_action(builder, config->route, route);
        break;
    case CFG_ACTION_REDIRECT:
        build_redirect(builder, config->redirect, route);
        break;
    case CFG_ACTION_DIRECT_RESPONSE:
        build_direct(builder, config->direct_response, route);
        break;
    default:
        route_problem(builder, &config->mark, "an action is required");
    }
    note_mutations(builder->table, route);
}
