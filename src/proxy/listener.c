/* listener: see the header; sockets: listening.c, connections: accept.c, which serves when: listener_manager.c. */
#include "proxy/listener.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/downstream_wait.h"

enum { ACCEPTS_PER_TURN = 16 /* see accept.c */ };

/* listener.ADDRESS.x, or what stat_prefix has instead of the address, as a tag; the admin's is listener.admin.x, without. */
static struct statistic *listener_stat(const struct listener *listener, enum stat_kind kind,
                                       const char *what) {
    if (listener->is_admin) {
        char name[64];
        snprintf(name, sizeof name, "listener.admin.%s", what);
        return stats_get_plain(kind, name);
    }
    struct span prefix = listener->config->config->stat_prefix;
    if (prefix.len)
        return stats_get_tagged(kind, "listener", "envoy.listener_address", prefix, what);
    char label[ADDRESS_TEXT_MAX];
    snprintf(label, sizeof label, "%s", listener->address_text);
    for (char *c = label; *c; c++) /* as Envoy writes an address in a stat's name */
        if (*c == ':')
            *c = '_';
    return stats_get_tagged(kind, "listener", "envoy.listener_address", span_of(label), what);
}

static void init_stats(struct listener *listener) {
    listener->stats = (struct listener_stats){
        .cx_total = listener_stat(listener, STAT_COUNTER, "downstream_cx_total"),
        .cx_active = listener_stat(listener, STAT_GAUGE, "downstream_cx_active"),
        .cx_destroy = listener_stat(listener, STAT_COUNTER, "downstream_cx_destroy"),
        .cx_overflow = listener_stat(listener, STAT_COUNTER, "downstream_cx_overflow"),
        .global_cx_overflow =
            listener_stat(listener, STAT_COUNTER, "downstream_global_cx_overflow"),
        .cx_overload_reject =
            listener_stat(listener, STAT_COUNTER, "downstream_cx_overload_reject"),
        .cx_no_descriptor = listener_stat(listener, STAT_COUNTER, "downstream_cx_no_descriptor"),
        .cx_descriptor_wait =
            listener_stat(listener, STAT_COUNTER, "downstream_cx_descriptor_wait"),
        .cx_descriptor_close =
            listener_stat(listener, STAT_COUNTER, "downstream_cx_descriptor_close"),
        .pre_cx_active = listener_stat(listener, STAT_GAUGE, "downstream_pre_cx_active"),
        .pre_cx_timeout = listener_stat(listener, STAT_COUNTER, "downstream_pre_cx_timeout"),
        .no_filter_chain_match = listener_stat(listener, STAT_COUNTER, "no_filter_chain_match"),
        .cx_transport_connect_timeout =
            listener_stat(listener, STAT_COUNTER, "downstream_cx_transport_socket_connect_timeout"),
        .cx_length_ms = listener_stat(listener, STAT_HISTOGRAM, "downstream_cx_length_ms"),
    };
    if (!listener->config->memory_limit_bytes)
        return;
    struct listener_stats *stats = &listener->stats;
    stats->rq_memory_limit = listener_stat(listener, STAT_COUNTER, "downstream_rq_memory_limit");
    stats->rq_memory_wait = listener_stat(listener, STAT_COUNTER, "downstream_rq_memory_wait");
    stats->rq_memory_evicted =
        listener_stat(listener, STAT_COUNTER, "downstream_rq_memory_evicted");
    stats->cx_memory_limit = listener_stat(listener, STAT_COUNTER, "downstream_cx_memory_limit");
    stats->memory_bytes = listener_stat(listener, STAT_GAUGE, "memory_bytes");
}

static void name_it(struct listener *listener, const struct cfg_listener *cfg) {
    address_text(&listener->addresses[0], listener->address_text);
    if (cfg && cfg->name.len)
        snprintf(listener->name, sizeof listener->name, "%.*s", (int)cfg->name.len, cfg->name.ptr);
    else
        snprintf(listener->name, sizeof listener->name, "%s",
                 cfg ? listener->address_text : "admin");
}

/* What a new connection begins with. */
static void init_chains(struct listener *listener) {
    struct filter_chain_table *chains = listener->config->chains;
    const struct filter_chain *only = listener->config->filter_count ? NULL : chains->only;
    filter_chain_table_attach(chains, listener);
    listener->undecided = (struct connection_info){.listener = listener, .shared = true};
    listener->first = only ? &only->info : &listener->undecided;
    listener->is_plain = only && filter_chain_is_plain(only);
}

static bool have_one_port(const struct listener *listener) {
    for (unsigned i = 1; i < listener->address_count; i++)
        if (address_port(&listener->addresses[i]) != address_port(&listener->addresses[0]))
            return false;
    return true;
}

struct listener *listener_new(const struct listener_options *options) {
    const struct cfg_listener *cfg = options->config->config;
    unsigned count = options->config->address_count;
    struct listener *listener = aligned_alloc(_Alignof(struct listener), sizeof *listener);
    struct address *addresses = calloc(count, sizeof *addresses);
    if (!listener || !addresses) {
        free(listener);
        free(addresses);
        return NULL;
    }
    *listener = (struct listener){.refs = 1,
                                  .config = listener_config_ref(options->config),
                                  .series = options->series,
                                  .addresses = addresses,
                                  .address_count = count,
                                  .global = options->global,
                                  .counts_globally = options->global && options->counts_globally,
                                  .ignores_global = options->ignores_global,
                                  .is_admin = !cfg,
                                  .bypass_overload = !cfg || cfg->bypass_overload_manager,
                                  .accepts_per_turn = ACCEPTS_PER_TURN};
    memcpy(addresses, options->addresses, count * sizeof *addresses);
    if (cfg && cfg->max_connections_to_accept_per_socket_event.set)
        listener->accepts_per_turn = cfg->max_connections_to_accept_per_socket_event.value;
    listener->has_one_port = have_one_port(listener);
    name_it(listener, cfg);
    init_chains(listener);
    init_stats(listener);
    return listener;
}

int listener_limit(struct listener *listener) {
    const struct listener_config *config = listener->config;
    struct listener_series *series = listener->series;
    if (config->memory_limit_bytes && !series->quota)
        series->quota =
            quota_new((int64_t)config->memory_limit_bytes, rt_p_count(), downstream_quota_room);
    else if (config->memory_limit_bytes)
        quota_set_limit(series->quota, (int64_t)config->memory_limit_bytes);
    if (config->connections_max != LISTENER_UNLIMITED && !series->limit)
        series->limit = connection_limit_new(config->connections_max);
    else if (series->limit)
        connection_limit_set_max(series->limit, config->connections_max);
    listener->quota = config->memory_limit_bytes ? series->quota : NULL;
    listener->limit = series->limit; /* without a limit it still counts: there may be one again */
    return (config->memory_limit_bytes && !series->quota) ||
                   (config->connections_max != LISTENER_UNLIMITED && !series->limit)
               ? -ENOMEM
               : 0;
}

struct listener *listener_ref(struct listener *listener) {
    atomic_fetch_add_explicit(&listener->refs, 1, memory_order_relaxed);
    return listener;
}

void listener_unref(struct listener *listener) {
    if (atomic_fetch_sub_explicit(&listener->refs, 1, memory_order_acq_rel) != 1)
        return;
    listener_config_unref(listener->config);
    free(listener->addresses);
    free(listener);
}

struct listener_series *listener_series_new(struct span name) {
    struct listener_series *series =
        calloc(1, sizeof *series + rt_p_count() * sizeof series->current[0]);
    char *copy = strndup(name.ptr, name.len);
    if (!series || !copy) {
        free(series);
        free(copy);
        return NULL;
    }
    series->name = span_of(copy);
    return series;
}
