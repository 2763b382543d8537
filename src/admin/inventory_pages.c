/* inventory_pages: /listeners and /clusters: what there is, as text or as JSON. */
#include <inttypes.h>
#include <stdlib.h>

#include "admin/json.h"
#include "admin/stat_selection.h"

static bool wants_json(const struct query *query) {
    return span_eq(query_find(query, "format"), SPAN_LIT("json"));
}

static void put_address(struct text *out, const struct address *address) {
    char text[ADDRESS_TEXT_MAX];
    text_put(out, span_make(text, address_text(address, text)));
}

static void json_address_value(struct json *json, const struct address *address) {
    char host[ADDRESS_TEXT_MAX];
    size_t len = address_host_text(address, host);
    json_open(json, '{');
    json_key(json, "socket_address");
    json_open(json, '{');
    json_field(json, "address", span_make(host, len));
    json_key(json, "port_value");
    json_u64(json, address_port(address));
    json_close(json, '}');
    json_close(json, '}');
}

static void json_address(struct json *json, const char *key, const struct address *address) {
    json_key(json, key);
    json_address_value(json, address);
}

/* ---- listeners ---- */

static void put_listener(const struct admin_listener *listener, void *arg) {
    struct text *out = arg;
    for (size_t i = 0; i < listener->address_count; i++) {
        text_put(out, listener->name);
        text_puts(out, "::");
        put_address(out, &listener->addresses[i]);
        text_putc(out, '\n');
    }
}

static void json_listener(const struct admin_listener *listener, void *arg) {
    struct json *json = arg;
    json_open(json, '{');
    json_field(json, "name", listener->name);
    json_address(json, "local_address", &listener->addresses[0]);
    if (listener->address_count > 1) {
        json_key(json, "additional_local_addresses");
        json_open(json, '[');
        for (size_t i = 1; i < listener->address_count; i++)
            json_address_value(json, &listener->addresses[i]);
        json_close(json, ']');
    }
    json_close(json, '}');
}

void page_listeners(const struct query *query, struct page *page) {
    if (!wants_json(query)) {
        admin_hooks()->each_listener(put_listener, &page->body);
        return;
    }
    page->content_type = content_type_json;
    struct json json = {.out = &page->body, .style = JSON_PRETTY};
    json_open(&json, '{');
    json_key(&json, "listener_statuses");
    json_open(&json, '[');
    admin_hooks()->each_listener(json_listener, &json);
    json_close(&json, ']');
    json_close(&json, '}');
}

/* ---- clusters ---- */

struct cluster_printer {
    struct text *out;
    struct json json;
    const struct regex *filter; /* NULL: all names */
};

static bool is_wanted(const struct cluster_printer *printer, const struct admin_cluster *cluster) {
    return !printer->filter || regex_matches(printer->filter, cluster->name);
}

static void put_thresholds(struct text *out, struct span cluster, const char *priority,
                           const struct admin_thresholds *thresholds) {
    const struct {
        const char *name;
        uint32_t value;
    } lines[] = {{"max_connections", thresholds->max_connections},
                 {"max_pending_requests", thresholds->max_pending_requests},
                 {"max_requests", thresholds->max_requests},
                 {"max_retries", thresholds->max_retries}};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        text_put(out, cluster);
        text_printf(out, "::%s_priority::%s::%" PRIu32 "\n", priority, lines[i].name,
                    lines[i].value);
    }
}

/* The order of Envoy: gauges and counters of a host by name. */
struct host_stat {
    const char *name;
    bool is_gauge;
    uint64_t value;
};
enum { HOST_STATS = 9 };
static void host_stats(const struct admin_host *host, struct host_stat out[HOST_STATS]) {
    const struct host_stat stats[HOST_STATS] = {
        {"cx_active", true, host->cx_active},
        {"cx_connect_fail", false, host->cx_connect_fail},
        {"cx_total", false, host->cx_total},
        {"rq_active", true, host->rq_active},
        {"rq_error", false, host->rq_error},
        {"rq_pending_active", true, host->rq_pending_active},
        {"rq_success", false, host->rq_success},
        {"rq_timeout", false, host->rq_timeout},
        {"rq_total", false, host->rq_total},
    };
    memcpy(out, stats, sizeof stats);
}

static void put_host(struct text *out, struct span cluster, const struct admin_host *host) {
    struct text start = {0}; /* "cluster::ip:port::" begins each line */
    text_put(&start, cluster);
    text_puts(&start, "::");
    put_address(&start, &host->address);
    text_puts(&start, "::");

    struct host_stat stats[HOST_STATS];
    host_stats(host, stats);
    for (unsigned i = 0; i < HOST_STATS; i++) {
        text_put(out, text_span(&start));
        text_printf(out, "%s::%" PRIu64 "\n", stats[i].name, stats[i].value);
    }
    text_put(out, text_span(&start));
    text_puts(out, "hostname::");
    text_put(out, host->hostname);
    text_putc(out, '\n');
    text_put(out, text_span(&start));
    text_printf(out, "health_flags::%s\n", host->healthy ? "healthy" : "/failed_eds_health");
    text_put(out, text_span(&start));
    text_printf(out, "weight::%" PRIu32 "\n", host->weight);
    /* Localities, canaries, priorities and outlier detection are not there yet: Envoy's values for
     * a host without them. */
    static const char *const rest[] = {"region::",
                                       "zone::",
                                       "sub_zone::",
                                       "canary::false",
                                       "priority::0",
                                       "success_rate::-1",
                                       "local_origin_success_rate::-1"};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) {
        text_put(out, text_span(&start));
        text_puts(out, rest[i]);
        text_putc(out, '\n');
    }
    out->failed |= start.failed;
    text_fini(&start);
}

static void put_cluster(const struct admin_cluster *cluster, void *arg) {
    struct cluster_printer *printer = arg;
    if (!is_wanted(printer, cluster))
        return;
    struct text *out = printer->out;
    text_put(out, cluster->name);
    text_puts(out, "::observability_name::");
    text_put(out, cluster->name);
    text_putc(out, '\n');
    put_thresholds(out, cluster->name, "default", &cluster->default_priority);
    put_thresholds(out, cluster->name, "high", &cluster->high_priority);
    text_put(out, cluster->name);
    text_puts(out, "::added_via_api::false\n");
    for (uint32_t i = 0; i < cluster->host_count; i++)
        put_host(out, cluster->name, &cluster->hosts[i]);
}

static void json_thresholds(struct json *json, const struct admin_thresholds *thresholds,
                            bool is_high) {
    json_open(json, '{');
    if (is_high)
        json_field(json, "priority", SPAN_LIT("HIGH"));
    json_key(json, "max_connections");
    json_u64(json, thresholds->max_connections);
    json_key(json, "max_pending_requests");
    json_u64(json, thresholds->max_pending_requests);
    json_key(json, "max_requests");
    json_u64(json, thresholds->max_requests);
    json_key(json, "max_retries");
    json_u64(json, thresholds->max_retries);
    json_close(json, '}');
}

static void json_host(struct json *json, const struct admin_host *host) {
    json_open(json, '{');
    json_address(json, "address", &host->address);
    json_key(json, "stats");
    json_open(json, '[');
    struct host_stat stats[HOST_STATS];
    host_stats(host, stats);
    for (unsigned gauges = 0; gauges < 2; gauges++) { /* counters first */
        for (unsigned i = 0; i < HOST_STATS; i++) {
            if (stats[i].is_gauge != (gauges == 1))
                continue;
            json_open(json, '{');
            if (stats[i].is_gauge)
                json_field(json, "type", SPAN_LIT("GAUGE"));
            if (stats[i].value != 0) /* protobuf's JSON leaves a zero out */
                json_field_u64_string(json, "value", stats[i].value);
            json_field(json, "name", span_of(stats[i].name));
            json_close(json, '}');
        }
    }
    json_close(json, ']');
    json_key(json, "health_status");
    json_open(json, '{');
    json_field(json, "eds_health_status",
               host->healthy ? SPAN_LIT("HEALTHY") : SPAN_LIT("UNHEALTHY"));
    json_close(json, '}');
    json_key(json, "weight");
    json_u64(json, host->weight);
    if (host->hostname.len > 0)
        json_field(json, "hostname", host->hostname);
    json_key(json, "locality");
    json_open(json, '{');
    json_close(json, '}');
    json_close(json, '}');
}

static void json_cluster(const struct admin_cluster *cluster, void *arg) {
    struct cluster_printer *printer = arg;
    if (!is_wanted(printer, cluster))
        return;
    struct json *json = &printer->json;
    json_open(json, '{');
    json_field(json, "name", cluster->name);
    if (cluster->host_count > 0) {
        json_key(json, "host_statuses");
        json_open(json, '[');
        for (uint32_t i = 0; i < cluster->host_count; i++)
            json_host(json, &cluster->hosts[i]);
        json_close(json, ']');
    }
    json_key(json, "circuit_breakers");
    json_open(json, '{');
    json_key(json, "thresholds");
    json_open(json, '[');
    json_thresholds(json, &cluster->default_priority, false);
    json_thresholds(json, &cluster->high_priority, true);
    json_close(json, ']');
    json_close(json, '}');
    json_field(json, "observability_name", cluster->name);
    json_close(json, '}');
}

void page_clusters(const struct query *query, struct page *page) {
    struct regex *filter = NULL;
    struct span pattern = query_find(query, "filter");
    if (pattern.len > 0) {
        filter = filter_compile(pattern, page);
        if (!filter)
            return;
    }
    struct cluster_printer printer = {
        .out = &page->body, .json = {.out = &page->body, .style = JSON_PRETTY}, .filter = filter};
    if (wants_json(query)) {
        page->content_type = content_type_json;
        json_open(&printer.json, '{');
        json_key(&printer.json, "cluster_statuses");
        json_open(&printer.json, '[');
        admin_hooks()->each_cluster(json_cluster, &printer);
        json_close(&printer.json, ']');
        json_close(&printer.json, '}');
    } else {
        admin_hooks()->each_cluster(put_cluster, &printer);
    }
    regex_free(filter);
}
