/* server_pages: what the process says of itself: /ready, /server_info, /memory and the like. */
#include <inttypes.h>

#include "admin/json.h"
#include "admin/page.h"
#include "admin/server_stats.h"
#include "base/clock.h"
#include "ext/ext_handles.h"
#include "ext/go/go_lent.h"
#include "ext/remote/supervisor.h"
#include "mem/pool.h"
#include "mem/recycler.h"
#include "proxy/worker.h"
#include "rt/rt.h"

static const char *state_name(enum admin_state state) {
    switch (state) {
    case ADMIN_LIVE:
        return "LIVE";
    case ADMIN_DRAINING:
        return "DRAINING";
    case ADMIN_PRE_INITIALIZING:
        return "PRE_INITIALIZING";
    case ADMIN_INITIALIZING:
        return "INITIALIZING";
    }
    return "LIVE";
}

/* A line for each isolated library that is not up. */
static void put_isolated(void *arg, const struct supervisor_status *status) {
    struct text *body = arg;
    if (status->state == SUPERVISOR_UP || status->state == SUPERVISOR_STOPPING)
        return;
    text_printf(body, "%s: %s", status->library, supervisor_state_name(status->state));
    if (*status->last_cause)
        text_printf(body, ", its process %s", status->last_cause);
    int64_t left_ns = status->next_try_ns - clock_mono_ns();
    if (status->next_try_ns && left_ns > 0)
        text_printf(body, "; next try in %.1f s", (double)left_ns / NS_PER_S);
    text_printf(body, "\n");
}

/* An isolated library that is down makes its own routes fail. It does not make the proxy unready: all proxies have the same
 * library, and would leave the load balancer together. */
void page_ready(const struct query *query, struct page *page) {
    enum admin_state state = admin_hooks()->state();
    page->status = state == ADMIN_LIVE ? 200 : 503;
    text_printf(&page->body, "%s\n", state_name(state));
    supervisor_each(put_isolated, &page->body);
}

static void put_node(struct json *json) {
    int64_t since;
    struct config *config = admin_hooks()->config(&since);
    const struct cfg_node *node = config ? config_bootstrap(config)->node : NULL;
    json_key(json, "node");
    json_open(json, '{');
    json_field(json, "id", node ? node->id : span_none());
    json_field(json, "cluster", node ? node->cluster : span_none());
    json_key(json, "locality");
    json_open(json, '{');
    json_field(json, "region", node ? node->region : span_none());
    json_field(json, "zone", node ? node->zone : span_none());
    json_field(json, "sub_zone", node ? node->sub_zone : span_none());
    json_close(json, '}');
    json_field(json, "user_agent_name", SPAN_LIT("sluice"));
    json_field(json, "user_agent_version", SPAN_LIT(SLUICE_VERSION));
    json_close(json, '}');
    if (config)
        config_unref(config);
}

static void put_command_line(struct json *json, const struct admin_command_line *line) {
    char drain_time[32];
    snprintf(drain_time, sizeof drain_time, "%" PRId64 "s", line->drain_time_s);
    json_key(json, "command_line_options");
    json_open(json, '{');
    json_key(json, "concurrency");
    json_u64(json, line->concurrency);
    json_field(json, "config_path", line->config_path);
    json_field(json, "config_yaml", line->config_yaml);
    json_key(json, "allow_unknown_static_fields");
    json_bool(json, line->allow_unknown_static_fields);
    json_field(json, "log_level", line->log_level);
    json_field(json, "component_log_level", line->component_log_level);
    json_field(json, "log_path", line->log_path);
    json_field(json, "service_cluster", line->service_cluster);
    json_field(json, "service_node", line->service_node);
    json_field(json, "service_zone", line->service_zone);
    json_field(json, "drain_time", span_of(drain_time));
    json_field(json, "mode", SPAN_LIT("Serve"));
    json_key(json, "disable_hot_restart");
    json_bool(json, !line->is_supervised);
    json_key(json, "restart_epoch");
    json_u64(json, line->restart_epoch);
    json_close(json, '}');
}

/* Of what a supervisor and its processes say to each other; without one as Envoy with --disable-hot-restart. */
static struct span hot_restart_version(void) {
    return admin_hooks()->command_line->is_supervised ? SPAN_LIT("sluice.1") : SPAN_LIT("disabled");
}

void page_server_info(const struct query *query, struct page *page) {
    const struct admin_hooks *hooks = admin_hooks();
    char uptime[32];
    snprintf(uptime, sizeof uptime, "%llds", (clock_mono_ns() - hooks->started_ns) / NS_PER_S);
    page->content_type = content_type_json;
    struct json json = {.out = &page->body, .style = JSON_PRETTY};
    json_open(&json, '{');
    json_field(&json, "version", SPAN_LIT("sluice/" SLUICE_VERSION));
    json_field(&json, "state", span_of(state_name(hooks->state())));
    json_field(&json, "uptime_current_epoch", span_of(uptime));
    json_field(&json, "uptime_all_epochs", span_of(uptime));
    json_field(&json, "hot_restart_version", hot_restart_version());
    put_command_line(&json, hooks->command_line);
    put_node(&json);
    json_close(&json, '}');
}

static void put_pressure(const struct overload_reading *reading, void *arg) {
    struct json *json = arg;
    json_open(json, '{');
    json_field(json, "monitor", span_of(reading->monitor));
    json_key(json, "pressure_percent");
    json_u64(json, reading->pressure_percent);
    if (reading->max_bytes)
        json_field_u64_string(json, "max_bytes", reading->max_bytes);
    json_close(json, '}');
}

static void put_listener_memory(const struct admin_listener *listener, void *arg) {
    struct json *json = arg;
    if (listener->memory_limit_bytes == 0)
        return;
    json_open(json, '{');
    json_field(json, "listener", listener->name);
    json_field_u64_string(json, "limit_bytes", listener->memory_limit_bytes);
    json_field_u64_string(json, "bytes", listener->memory_bytes);
    json_close(json, '}');
}

static void put_limits(struct json *json) {
    json_key(json, "pressures");
    json_open(json, '[');
    admin_hooks()->each_pressure(put_pressure, json);
    json_close(json, ']');
    json_key(json, "listeners");
    json_open(json, '[');
    admin_hooks()->each_listener(put_listener_memory, json);
    json_close(json, ']');
}

/* Heads of requests of which a part has come, and the memory that they are kept in. */
static void put_heads(struct json *json) {
    uint64_t count = 0, bytes = 0;
    for (unsigned p = 0; p < rt_p_count(); p++) {
        const struct worker *worker = worker_at(p);
        count += atomic_load_explicit(&worker->head_count, memory_order_relaxed);
        bytes += atomic_load_explicit(&worker->head_bytes, memory_order_relaxed);
    }
    json_key(json, "partial_heads");
    json_open(json, '{');
    json_field_u64_string(json, "count", count);
    json_field_u64_string(json, "bytes", bytes);
    json_close(json, '}');
}

/* Objects of one type: what is in use, and the memory that all are in. */
static void put_pools(struct json *json) {
    struct pool_stats stats;
    json_key(json, "pools");
    json_open(json, '[');
    for (unsigned i = 0; pool_stats(i, &stats); i++) {
        json_open(json, '{');
        json_field(json, "name", span_of(stats.name));
        json_key(json, "object_size");
        json_u64(json, stats.object_size);
        json_key(json, "in_use");
        json_u64(json, stats.in_use);
        json_field_u64_string(json, "heap_alloc", stats.heap_alloc);
        json_close(json, '}');
    }
    json_close(json, ']');
}

/* Envoy's fields, then the blocks that exchanges and connections hold, by P, what is behind them (the
 * fields of struct recycler_stats), the pools, how much extensions hold, and what is limited. */
void page_memory(const struct query *query, struct page *page) {
    struct memory_use memory = server_memory();
    page->content_type = content_type_json;
    struct json json = {.out = &page->body, .style = JSON_PRETTY};
    json_open(&json, '{');
    json_field_u64_string(&json, "allocated", memory.allocated);
    json_field_u64_string(&json, "heap_size", memory.heap_size);
    json_field_u64_string(&json, "pageheap_unmapped", memory.unmapped);
    json_field_u64_string(&json, "pageheap_free", memory.free);
    json_field_u64_string(&json, "total_thread_cache", 0);
    json_field_u64_string(&json, "total_physical_bytes", memory.physical);
    json_key(&json, "blocks_in_use");
    json_open(&json, '[');
    for (unsigned p = 0; p < rt_p_count(); p++) {
        struct rt_p_stats stats;
        rt_p_stats(p, &stats);
        json_u64(&json, stats.blocks_in_use);
    }
    json_close(&json, ']');
    struct recycler_stats stats;
    recycler_stats(&stats);
    json_key(&json, "recycler");
    json_open(&json, '{');
    json_field_u64_string(&json, "heap_sys", stats.heap_sys);
    json_field_u64_string(&json, "bytes", stats.bytes);
    json_field_u64_string(&json, "heap_alloc", stats.heap_alloc);
    json_field_u64_string(&json, "heap_idle", stats.heap_idle);
    json_field_u64_string(&json, "heap_released", stats.heap_released);
    json_field_u64_string(&json, "makes", stats.makes);
    json_field_u64_string(&json, "frees", stats.frees);
    json_field_u64_string(&json, "grows", stats.grows);
    json_field_u64_string(&json, "shrinks", stats.shrinks);
    json_close(&json, '}');
    put_pools(&json);
    json_key(&json, "lent");
    json_open(&json, '{');
    json_field_u64_string(&json, "requests_count", loan_count(&go_lent_requests));
    json_field_u64_string(&json, "configurations_count", loan_count(&go_lent_configs));
    json_field_u64_string(&json, "handles_count", handle_count(&ext_handles));
    json_close(&json, '}');
    put_heads(&json);
    put_limits(&json);
    json_close(&json, '}');
}

void page_hot_restart_version(const struct query *query, struct page *page) {
    text_put(&page->body, hot_restart_version());
}
