#include "proxy/hcm.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "proxy/filter_registry.h"
#include "proxy/route_rollout.h"
#include "proxy/snapshot.h"

static void init_stats(struct hcm_stats *s, struct span prefix) {
    const struct stat_place table[] = {
        /* What each request bumps, in neighbouring slots. */
        {&s->cx_rx_bytes, STAT_COUNTER, "downstream_cx_rx_bytes_total"},
        {&s->cx_tx_bytes, STAT_COUNTER, "downstream_cx_tx_bytes_total"},
        {&s->rq_total, STAT_COUNTER, "downstream_rq_total"},
        {&s->rq_active, STAT_GAUGE, "downstream_rq_active"},
        {&s->rq_http1_total, STAT_COUNTER, "downstream_rq_http1_total"},
        {&s->rq_completed, STAT_COUNTER, "downstream_rq_completed"},
        {&s->rq_class[0], STAT_COUNTER, "downstream_rq_1xx"},
        {&s->rq_class[1], STAT_COUNTER, "downstream_rq_2xx"},
        {&s->rq_class[2], STAT_COUNTER, "downstream_rq_3xx"},
        {&s->rq_class[3], STAT_COUNTER, "downstream_rq_4xx"},
        {&s->rq_class[4], STAT_COUNTER, "downstream_rq_5xx"},
        /* And the rest. */
        {&s->cx_total, STAT_COUNTER, "downstream_cx_total"},
        {&s->cx_active, STAT_GAUGE, "downstream_cx_active"},
        {&s->cx_http1_total, STAT_COUNTER, "downstream_cx_http1_total"},
        {&s->cx_http1_active, STAT_GAUGE, "downstream_cx_http1_active"},
        {&s->cx_destroy, STAT_COUNTER, "downstream_cx_destroy"},
        {&s->cx_destroy_local, STAT_COUNTER, "downstream_cx_destroy_local"},
        {&s->cx_destroy_remote, STAT_COUNTER, "downstream_cx_destroy_remote"},
        {&s->cx_destroy_active_rq, STAT_COUNTER, "downstream_cx_destroy_active_rq"},
        {&s->cx_idle_timeout, STAT_COUNTER, "downstream_cx_idle_timeout"},
        {&s->cx_drain_close, STAT_COUNTER, "downstream_cx_drain_close"},
        {&s->cx_protocol_error, STAT_COUNTER, "downstream_cx_protocol_error"},
        {&s->cx_length_ms, STAT_HISTOGRAM, "downstream_cx_length_ms"},
        {&s->cx_delayed_close_timeout, STAT_COUNTER, "downstream_cx_delayed_close_timeout"},
        {&s->cx_max_requests_reached, STAT_COUNTER, "downstream_cx_max_requests_reached"},
        {&s->cx_overload_disable_keepalive, STAT_COUNTER,
         "downstream_cx_overload_disable_keepalive"},
        {&s->cx_upgrades_total, STAT_COUNTER, "downstream_cx_upgrades_total"},
        {&s->cx_upgrades_active, STAT_GAUGE, "downstream_cx_upgrades_active"},
        {&s->rq_overload_close, STAT_COUNTER, "downstream_rq_overload_close"},
        {&s->rq_time, STAT_HISTOGRAM, "downstream_rq_time"},
        {&s->rq_rx_reset, STAT_COUNTER, "downstream_rq_rx_reset"},
        {&s->rq_tx_reset, STAT_COUNTER, "downstream_rq_tx_reset"},
        {&s->rq_idle_timeout, STAT_COUNTER, "downstream_rq_idle_timeout"},
        {&s->rq_timeout, STAT_COUNTER, "downstream_rq_timeout"},
        {&s->rq_header_timeout, STAT_COUNTER, "downstream_rq_header_timeout"},
        {&s->rq_max_duration_reached, STAT_COUNTER, "downstream_rq_max_duration_reached"},
        {&s->rq_too_large, STAT_COUNTER, "downstream_rq_too_large"},
        {&s->rs_too_large, STAT_COUNTER, "rs_too_large"},
        {&s->rq_non_relative_path, STAT_COUNTER, "downstream_rq_non_relative_path"},
        {&s->rq_response_before_rq_complete, STAT_COUNTER,
         "downstream_rq_response_before_rq_complete"},
        {&s->rq_failed_path_normalization, STAT_COUNTER, "downstream_rq_failed_path_normalization"},
        {&s->rq_ws_on_non_ws_route, STAT_COUNTER, "downstream_rq_ws_on_non_ws_route"},
        {&s->no_route, STAT_COUNTER, "no_route"},
        {&s->no_cluster, STAT_COUNTER, "no_cluster"},
        {&s->rq_direct_response, STAT_COUNTER, "rq_direct_response"},
        {&s->rq_redirect, STAT_COUNTER, "rq_redirect"},
        {&s->router_rq_total, STAT_COUNTER, "rq_total"},
        {&s->rq_reset_after_downstream_response_started, STAT_COUNTER,
         "rq_reset_after_downstream_response_started"},
    };
    stats_get_table(table, sizeof table / sizeof table[0], "http", "envoy.http_conn_manager_prefix",
                    prefix);
}

static void note_slots(struct hcm *hcm) {
    const struct hcm_stats *s = &hcm->stats;
    hcm->slots = (struct hcm_request_slots){.rq_total = s->rq_total->slot,
                                            .rq_http1_total = s->rq_http1_total->slot,
                                            .rq_active = s->rq_active->slot,
                                            .rq_completed = s->rq_completed->slot,
                                            .cx_rx_bytes = s->cx_rx_bytes->slot,
                                            .cx_tx_bytes = s->cx_tx_bytes->slot};
    for (unsigned i = 0; i < 5; i++)
        hcm->slots.rq_class[i] = s->rq_class[i]->slot;
}

static int64_t duration_or(struct cfg_duration duration, int64_t fallback_ns) {
    return duration.set ? duration.ns : fallback_ns;
}

static bool bool_or(struct cfg_bool value, bool fallback) {
    return value.set ? value.value : fallback;
}

static void read_log_options(struct hcm *hcm) {
    const struct cfg_hcm *cfg = hcm->config;
    const struct cfg_log_options *log = cfg->access_log_options;
    hcm->log_interval_ns =
        log ? log->access_log_flush_interval.ns : cfg->access_log_flush_interval.ns;
    hcm->logs_start =
        log ? log->flush_access_log_on_new_request : cfg->flush_access_log_on_new_request;
    hcm->logs_tunnel = log && log->flush_log_on_tunnel_successfully_established;
}

static void read_options(struct hcm *hcm) {
    const struct cfg_hcm *cfg = hcm->config;
    const struct cfg_http_options *http = cfg->common_http_protocol_options;
    const struct cfg_http1_options *http1 = cfg->http_protocol_options;
    uint32_t head_kb = cfg->max_request_headers_kb.set ? cfg->max_request_headers_kb.value : 60;
    uint32_t headers = http && http->max_headers_count.set ? http->max_headers_count.value : 100;
    hcm->limits =
        (struct http1_limits){.head_bytes = head_kb * 1024,
                              .header_count = headers,
                              .allow_chunked_length = http1 && http1->allow_chunked_length};
    hcm->idle_timeout_ns =
        http ? duration_or(http->idle_timeout, 3600 * NS_PER_S) : 3600 * NS_PER_S;
    hcm->max_connection_duration_ns = http ? duration_or(http->max_connection_duration, 0) : 0;
    hcm->max_stream_duration_ns = http ? duration_or(http->max_stream_duration, 0) : 0;
    hcm->max_requests_per_connection =
        http && http->max_requests_per_connection.set ? http->max_requests_per_connection.value : 0;
    hcm->stream_idle_timeout_ns = duration_or(cfg->stream_idle_timeout, 300 * NS_PER_S);
    hcm->request_timeout_ns = duration_or(cfg->request_timeout, 0);
    hcm->request_headers_timeout_ns = duration_or(cfg->request_headers_timeout, 0);
    hcm->delayed_close_ns = duration_or(cfg->delayed_close_timeout, NS_PER_S);
    hcm->use_remote_address = bool_or(cfg->use_remote_address, false);
    hcm->generate_request_id = bool_or(cfg->generate_request_id, true);
    hcm->normalize_path = bool_or(cfg->normalize_path, false);
    hcm->allow_absolute_url = !http1 || bool_or(http1->allow_absolute_url, true);
    hcm->accept_http_10 = http1 && http1->accept_http_10;
    hcm->enable_trailers = http1 && http1->enable_trailers;
    address_of_machine(&hcm->machine);
    hcm->server_name = cfg->server_name.len ? cfg->server_name : SPAN_LIT("envoy");
    read_log_options(hcm);
}

static struct filter_factory *factory_build(const struct cfg_http_filter *cfg, uint32_t index,
                                            struct cfg_problems *problems) {
    const struct filter_kind *kind =
        cfg->has_typed_config ? filter_find(cfg->typed_config.schema) : NULL;
    if (!kind) {
        if (!cfg->is_optional)
            cfg_problem_add(problems, CFG_PROBLEM_UNSUPPORTED, &cfg->mark,
                            cfg->has_typed_config
                                ? "http filter '%.*s': its typed_config is of no filter that this "
                                  "release has"
                                : "http filter '%.*s' needs a typed_config",
                            (int)cfg->name.len, cfg->name.ptr);
        return NULL;
    }
    struct filter_factory *factory = calloc(1, sizeof *factory);
    if (!factory)
        return NULL;
    *factory = (struct filter_factory){.itab = kind->itab,
                                       .name = cfg->name,
                                       .index = index,
                                       .disabled = cfg->disabled,
                                       .kind = kind};
    if (kind->build && kind->build(&cfg->typed_config, problems, &factory->config) != 0) {
        free(factory);
        return NULL;
    }
    doing_labels_add(&factory->labels, "filter", factory->name);
    if (kind->label)
        kind->label(factory->config, &factory->labels);
    return factory;
}

static void build_filters(struct hcm *hcm, struct cfg_problems *problems) {
    const struct cfg_hcm *cfg = hcm->config;
    hcm->filters = calloc(cfg->http_filters_count + 1, sizeof(struct filter_factory *));
    if (!hcm->filters)
        return;
    for (size_t i = 0; i < cfg->http_filters_count; i++) {
        const struct cfg_http_filter *entry = &cfg->http_filters[i];
        struct filter_factory *factory = factory_build(entry, hcm->filter_count, problems);
        if (!factory)
            continue;
        hcm->filters[hcm->filter_count++] = factory;
        bool last = i + 1 == cfg->http_filters_count;
        if (factory->kind->terminal != last)
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &entry->mark,
                            last ? "the last http filter must be a terminal one such as "
                                   "envoy.filters.http.router, '%.*s' is not"
                                 : "'%.*s' is a terminal filter and must be the last one",
                            (int)entry->name.len, entry->name.ptr);
        if (factory->kind->terminal && factory->disabled)
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &entry->mark,
                            "a terminal filter cannot be disabled");
    }
    if (cfg->http_filters_count == 0)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                        "http_filters is empty: the last one must be envoy.filters.http.router");
}

static void build_logs(struct hcm *hcm, const struct cfg_access_log *logs, size_t count,
                       struct cfg_problems *problems) {
    hcm->logs = calloc(count + 1, sizeof(struct access_log *));
    for (size_t i = 0; hcm->logs && i < count; i++) {
        struct access_log *log = access_log_build(&logs[i], problems);
        if (log)
            hcm->logs[hcm->log_count++] = log;
    }
}

static struct cluster *find_cluster(void *arg, struct span name) {
    return snapshot_use_cluster(arg, name);
}

/* What served before goes on beside it, with the clusters and filters that there are now. */
static void build_former(struct hcm *hcm, const struct route_build *build,
                         struct cfg_problems *problems) {
    const struct cfg_route_configuration *config = hcm->route_config;
    hcm->trial = route_trial_plan(build->arg, hcm, problems);
    if (!hcm->trial)
        return;
    struct config *config_of_former;
    const struct cfg_route_configuration *routes =
        route_trial_former(hcm->trial, &config_of_former);
    if (!routes)
        return;
    struct cfg_problems found = {0};
    struct route_build former = *build;
    former.clusters_may_come = false; /* what it names was there, and is to stay */
    struct route_table *table = route_table_build(routes, &former, &found);
    if (table)
        hcm->former_routes = route_trial_keep(hcm->trial, table, config_of_former);
    if (table && !hcm->former_routes)
        found.lost = true;
    config_unref(config_of_former);
    for (size_t i = 0; i < found.count; i++)
        if (found.items[i].kind != CFG_PROBLEM_WARNING)
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->mark,
                            "rollout: '%.*s' as it served before has to serve beside it, and "
                            "cannot: %s: put that back until the rollout is done, or leave "
                            "out `rollout` so that this one serves all at once",
                            (int)config->name.len, config->name.ptr, found.items[i].text);
    problems->lost |= found.lost;
    cfg_problems_fini(&found);
}

struct hcm *hcm_build(const struct cfg_hcm *config, const struct cfg_route_configuration *routes,
                      struct snapshot *snapshot, struct span listener_name,
                      struct span filter_chain_name, uint32_t buffer_limit,
                      struct cfg_problems *problems) {
    size_t before = problems->count;
    struct hcm *hcm = calloc(1, sizeof *hcm);
    if (!hcm)
        return NULL;
    hcm->config = config;
    hcm->route_config = routes;
    hcm->listener_name = listener_name;
    hcm->filter_chain_name = filter_chain_name;
    hcm->buffer_limit = buffer_limit;
    read_options(hcm);
    init_stats(&hcm->stats, config->stat_prefix);
    note_slots(hcm);
    hcm->labels = doing_labels_of_chain(listener_name, filter_chain_name);
    build_filters(hcm, problems);
    build_logs(hcm, config->access_log, config->access_log_count, problems);
    if (hcm->filters) {
        struct route_build build = {.filters = hcm->filters,
                                    .filter_count = hcm->filter_count,
                                    .find_cluster = find_cluster,
                                    .clusters_may_come = config->rds != NULL,
                                    .arg = snapshot};
        hcm->routes = route_table_build(routes, &build, problems);
        build_former(hcm, &build, problems);
    }
    for (size_t i = before; i < problems->count; i++) {
        if (problems->items[i].kind != CFG_PROBLEM_WARNING) {
            hcm_free(hcm);
            return NULL;
        }
    }
    return hcm;
}

struct hcm *hcm_build_admin(const struct filter_kind *kind, const struct cfg_admin *config,
                            struct cfg_problems *problems) {
    static const struct cfg_hcm defaults = {.stat_prefix = SPAN_INIT("admin"),
                                            .generate_request_id = {.set = true, .value = false}};
    struct hcm *hcm = calloc(1, sizeof *hcm);
    struct filter_factory *factory = calloc(1, sizeof *factory);
    if (!hcm || !factory) {
        free(hcm);
        free(factory);
        return NULL;
    }
    hcm->config = &defaults;
    hcm->listener_name = SPAN_LIT("admin");
    hcm->bypass_overload = true; /* it is how one watches an overload */
    hcm->buffer_limit = 1024 * 1024;
    read_options(hcm);
    init_stats(&hcm->stats, defaults.stat_prefix);
    note_slots(hcm);
    hcm->labels = doing_labels_of_chain(hcm->listener_name, SPAN_LIT(""));
    *factory = (struct filter_factory){.itab = kind->itab, .name = SPAN_LIT("admin"), .kind = kind};
    doing_labels_add(&factory->labels, "filter", factory->name);
    hcm->filters = calloc(1, sizeof(struct filter_factory *));
    if (!hcm->filters) {
        free(factory);
        hcm_free(hcm);
        return NULL;
    }
    hcm->filters[0] = factory;
    hcm->filter_count = 1;
    build_logs(hcm, config->access_log, config->access_log_count, problems);
    return hcm;
}

void hcm_free(struct hcm *hcm) {
    if (!hcm)
        return;
    route_table_free(hcm->routes); /* before the filters: it holds their per-route configs */
    if (hcm->trial)
        route_trial_leave(hcm->trial, hcm->former_routes);
    for (uint32_t i = 0; i < hcm->filter_count; i++) {
        struct filter_factory *factory = hcm->filters[i];
        if (factory->kind->free_config)
            factory->kind->free_config(factory->config);
        free(factory);
    }
    for (uint32_t i = 0; i < hcm->log_count; i++)
        access_log_free(hcm->logs[i]);
    free(hcm->logs);
    free(hcm->filters);
    free(hcm);
}

int hcm_append_via(const struct hcm *hcm, struct header_map *headers) {
    struct span ours = hcm->config->via;
    if (ours.len == 0)
        return 0;
    struct span before = header_get(headers, HDR_VIA);
    if (before.len) {
        struct span parts[] = {before, SPAN_LIT(", "), ours};
        ours = arena_concat(headers->arena, parts, 3);
    }
    return span_is_none(ours) ? -ENOMEM : header_set_id(headers, HDR_VIA, ours);
}
