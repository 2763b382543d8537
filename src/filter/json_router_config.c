/* json_router_config: paths are compiled and names lowered once, when a config is loaded. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/config.h"
#include "filter/json_router_internal.h"

enum { NAME_MAX_BYTES = 256 }; /* of a statistic; longer prefixes are cut */

static struct statistic *get(const struct json_router *router, const char *name) {
    char full[NAME_MAX_BYTES];
    struct span prefix = router->config->stat_prefix;
    int len = prefix.len ? snprintf(full, sizeof full, "json_router.%.*s.%s", (int)prefix.len,
                                    prefix.ptr, name)
                         : snprintf(full, sizeof full, "json_router.%s", name);
    if (len >= (int)sizeof full)
        len = (int)sizeof full - 1;
    struct span whole = span_make(full, (size_t)len);
    return stats_get(STAT_COUNTER, whole, whole, NULL, 0);
}

static void get_stats(struct json_router *router) {
    router->stats = (struct json_router_stats){
        .scanned = get(router, "scanned"),
        .not_json = get(router, "not_json"),
        .no_body = get(router, "no_body"),
        .found_all = get(router, "found_all"),
        .invalid = get(router, "invalid"),
        .rejected = get(router, "rejected"),
        .repeated = get(router, "repeated"),
        .too_large = get(router, "too_large"),
        .copied_bytes = get(router, "copied_bytes"),
        .missing = get(router, "missing"),
        .unusable = get(router, "unusable"),
    };
}

/* Headers that say how the message is framed, or where it goes at this hop. */
static bool is_of_the_connection(enum header_id id) {
    switch (id) {
    case HDR_CONNECTION:
    case HDR_KEEP_ALIVE:
    case HDR_PROXY_CONNECTION:
    case HDR_TE:
    case HDR_TRAILER:
    case HDR_TRANSFER_ENCODING:
    case HDR_UPGRADE:
    case HDR_CONTENT_LENGTH:
    case HDR_EXPECT:
    case HDR_HOST:
        return true;
    default:
        return false;
    }
}

/* False: reported. */
static bool build_rule(const struct cfg_json_rule *config, struct json_rule *rule,
                       struct cfg_problems *problems) {
    rule->on_missing = config->on_missing;
    rule->metadata_key = config->metadata_key;
    rule->metadata_namespace = config->metadata_namespace.len
                                   ? config->metadata_namespace
                                   : SPAN_LIT("sluice.filters.http.json_router");
    if (!config->header.len && !config->metadata_key.len) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->mark,
                        "the value goes nowhere: give header, metadata_key or both");
        return false;
    }
    if (!config->header.len) {
        if (config->on_missing.len)
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->mark,
                            "on_missing is the value of a header, and there is no header");
        return config->on_missing.len == 0;
    }
    char *name = malloc(config->header.len);
    if (!name) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->mark, "out of memory");
        return false;
    }
    for (size_t i = 0; i < config->header.len; i++) {
        char c = config->header.ptr[i];
        name[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
    rule->header = span_make(name, config->header.len);
    rule->id = header_id_of(rule->header);
    if (is_of_the_connection(rule->id)) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->mark,
                        "\"%.*s\" says how the message is sent: a client must not set it by a body",
                        (int)config->header.len, config->header.ptr);
        return false;
    }
    return true;
}

/* One by one first, so that every path that is wrong is told of. */
static bool check_paths(const struct cfg_json_router *config, struct cfg_problems *problems) {
    bool ok = true;
    for (size_t i = 0; i < config->rules_count; i++) {
        const struct cfg_json_rule *rule = &config->rules[i];
        const char *problem;
        uint32_t bad;
        struct json_paths *paths = json_paths_new(&rule->path, 1, &problem, &bad);
        if (!paths)
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &rule->mark, "path \"%.*s\": %s",
                            (int)rule->path.len, rule->path.ptr, problem);
        ok = ok && paths;
        json_paths_free(paths);
    }
    return ok;
}

static bool build_paths(struct json_router *router, struct cfg_problems *problems) {
    const struct cfg_json_router *config = router->config;
    struct span texts[JSON_PATHS_MAX];
    const char *problem;
    uint32_t bad;
    if (!check_paths(config, problems))
        return false;
    for (size_t i = 0; i < config->rules_count; i++)
        texts[i] = config->rules[i].path;
    router->paths = json_paths_new(texts, (uint32_t)config->rules_count, &problem, &bad);
    if (!router->paths)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->mark, "%s", problem);
    return router->paths != NULL;
}

int json_router_build(const struct cfg_any *typed_config, struct cfg_problems *problems,
                      void **out) {
    const struct cfg_json_router *config = typed_config->message;
    size_t count = config->rules_count; /* 1 to JSON_PATHS_MAX, by the schema */
    struct json_router *router = calloc(1, sizeof *router + count * sizeof router->rules[0]);
    if (!router) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->mark, "out of memory");
        return -EINVAL;
    }
    router->config = config;
    router->rule_count = (uint32_t)count;
    bool ok = true;
    for (size_t i = 0; i < count; i++)
        ok = build_rule(&config->rules[i], &router->rules[i], problems) && ok;
    ok = build_paths(router, problems) && ok;
    if (!ok) {
        json_router_free(router);
        return -EINVAL;
    }
    get_stats(router);
    *out = router;
    return 0;
}

void json_router_free(void *arg) {
    struct json_router *router = arg;
    if (!router)
        return;
    for (uint32_t i = 0; i < router->rule_count; i++)
        free((void *)(uintptr_t)router->rules[i].header.ptr);
    json_paths_free(router->paths);
    free(router);
}
