/* listener_config: see the header; what a listener's chains are: filter_chain.c. */
#include "proxy/listener_config.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "config/runtime_layers.h"
#include "config/scalar.h"
#include "proxy/aside.h"
#include "proxy/downstream_wait.h"
#include "proxy/snapshot.h"

/* What a listener was built with, by name: it is built anew when that is something else, or nothing, by then. */
struct listener_use {
    struct listener_use *next;
    struct span name;                             /* borrowed of the listener's configuration */
    bool is_routes;                               /* else a cluster */
    struct cluster *cluster;                      /* leased; NULL: there was none */
    const struct cfg_route_configuration *routes; /* likewise */
    uint64_t edition;                             /* of the routes; 0: there were none */
    struct config *config;                        /* leased: in which the routes lie */
};

enum { LISTENER_MEMORY_MIN = 1 << 20, LISTENER_WAIT_MAX_S = 3600, LISTENER_FILTERS_TIMEOUT_S = 15 };

/* ---- what is found by name ---- */

/* NULL when memory is short: then whoever builds does without, and is not to serve. */
static struct listener_use *note_use(struct snapshot *snapshot, struct listener_use note) {
    struct listener_use *use = malloc(sizeof *use);
    if (!use) {
        snapshot->lost = true;
        return NULL;
    }
    *use = note;
    use->next = snapshot->building->uses;
    snapshot->building->uses = use;
    return use;
}

struct cluster *snapshot_use_cluster(struct snapshot *snapshot, struct span name) {
    struct cluster *cluster = snapshot_cluster(snapshot, name);
    const struct listener_use *last = snapshot->building->uses;
    bool is_noted =
        last && !last->is_routes && span_eq(last->name, name); /* as in a row of routes */
    if (!is_noted && note_use(snapshot, (struct listener_use){.name = name, .cluster = cluster}) &&
        cluster)
        (void)cluster_ref(cluster);
    return cluster;
}

const struct cfg_route_configuration *snapshot_use_routes(struct snapshot *snapshot,
                                                          struct span name) {
    const struct resource *found = resources_find(snapshot->resources, RESOURCE_ROUTES, name);
    struct listener_use use = {.name = name, .is_routes = true};
    if (found) {
        use.routes = found->message;
        use.edition = found->edition;
        use.config = found->config;
    }
    if (note_use(snapshot, use) && found)
        (void)config_ref(found->config);
    return use.routes;
}

struct config *listener_config_of_routes(const struct listener_config *listener,
                                         const struct cfg_route_configuration *routes) {
    const struct listener_use *use = listener->uses;
    while (use && use->routes != routes)
        use = use->next;
    return use ? use->config : listener->configs[0];
}

static bool has_same_limit(const struct listener_config *listener, const struct snapshot *next) {
    uint64_t limit = UINT64_MAX;
    return cfg_runtime_listener_limit(config_bootstrap(next->config)->layered_runtime,
                                      listener->name, &limit) >= 0 &&
           limit == listener->connections_max;
}

bool listener_config_is_current(const struct listener_config *listener,
                                const struct snapshot *next) {
    if (!has_same_limit(listener, next))
        return false;
    for (const struct listener_use *use = listener->uses; use; use = use->next) {
        const struct resource *routes =
            use->is_routes ? resources_find(next->resources, RESOURCE_ROUTES, use->name) : NULL;
        if (use->is_routes ? use->edition != (routes ? routes->edition : 0)
                           : snapshot_cluster(next, use->name) != use->cluster)
            return false;
    }
    return true;
}

/* ---- building ---- */

/* How many bytes; 0: it is no number of bytes. */
static double bytes_of(const struct cfg_value *value) {
    uint64_t large; /* YAML has integers above 32 bits as text: see config/value.c */
    if (value->kind == CFG_VALUE_STRING && span_to_u64(value->string, &large))
        return (double)large;
    return value->kind == CFG_VALUE_NUMBER ? value->number : 0;
}

/* -1: it is no time to wait. */
static int64_t wait_of(const struct cfg_value *value) {
    int64_t seconds;
    int32_t nanos;
    if (value->kind != CFG_VALUE_STRING || !cfg_parse_duration(value->string, &seconds, &nanos) ||
        seconds < 0 || nanos < 0 || seconds > LISTENER_WAIT_MAX_S)
        return -1;
    return seconds * NS_PER_S + nanos;
}

/* metadata.filter_metadata["sluice.memory"]: what Envoy has no field for, where it accepts anything. */
static void build_memory_limit(struct listener_config *listener, struct cfg_problems *problems) {
    static const double bytes_max = (double)(UINT64_C(1) << 50);
    const struct cfg_listener *cfg = listener->config;
    const struct cfg_value *ours = NULL;
    for (size_t i = 0; cfg->metadata && i < cfg->metadata->filter_metadata_count; i++)
        if (span_eq(cfg->metadata->filter_metadata[i].key, SPAN_LIT("sluice.memory")))
            ours = cfg->metadata->filter_metadata[i].value;
    listener->memory_wait_ns = DOWNSTREAM_WAIT_MS * NS_PER_MS;
    double bytes = 0;
    for (size_t i = 0; ours && i < ours->fields_count; i++) {
        const struct cfg_value_field *field = &ours->fields[i];
        const char *problem = NULL;
        if (span_eq(field->key, SPAN_LIT("limit_bytes"))) {
            bytes = bytes_of(&field->value);
            if (bytes == 0)
                problem = "sluice.memory: %.*s is not a number of bytes";
        } else if (span_eq(field->key, SPAN_LIT("wait_timeout"))) {
            listener->memory_wait_ns = wait_of(&field->value);
            if (listener->memory_wait_ns < 0)
                problem = "sluice.memory: %.*s is not a time such as \"0.5s\", an hour at most";
        } else {
            problem = "sluice.memory: there is no '%.*s'; there are limit_bytes and wait_timeout";
        }
        if (problem)
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, problem, (int)field->key.len,
                            field->key.ptr);
    }
    if (ours && !(bytes >= LISTENER_MEMORY_MIN && bytes <= bytes_max))
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                        "sluice.memory: limit_bytes is required, from %d, a dozen requests at a "
                        "time, to %.0f",
                        LISTENER_MEMORY_MIN, bytes_max);
    else
        listener->memory_limit_bytes = (uint64_t)bytes;
}

static void build_listener_filters(struct listener_config *listener,
                                   struct cfg_problems *problems) {
    const struct cfg_listener *cfg = listener->config;
    listener->filters_timeout_ns = cfg->listener_filters_timeout.set
                                       ? cfg->listener_filters_timeout.ns
                                       : LISTENER_FILTERS_TIMEOUT_S * NS_PER_S;
    listener->filters = calloc(cfg->listener_filters_count + 1, sizeof *listener->filters);
    if (!listener->filters) {
        problems->lost = true;
        return;
    }
    for (size_t i = 0; i < cfg->listener_filters_count; i++) {
        const struct cfg_listener_filter *entry = &cfg->listener_filters[i];
        const struct listener_filter_kind *kind = listener_filter_find(entry->typed_config.schema);
        if (!kind) {
            cfg_problem_add(problems, CFG_PROBLEM_UNSUPPORTED, &entry->mark,
                            "listener filter '%.*s': its typed_config is of no filter that this "
                            "release has",
                            (int)entry->name.len, entry->name.ptr);
            continue;
        }
        struct listener_filter *filter = &listener->filters[listener->filter_count];
        *filter = (struct listener_filter){
            .kind = kind, .name = entry->name, .disabled = entry->filter_disabled};
        if (!kind->build || kind->build(&entry->typed_config, problems, &filter->config) == 0)
            listener->filter_count++;
    }
}

static void build_logs(struct listener_config *listener, struct cfg_problems *problems) {
    const struct cfg_listener *cfg = listener->config;
    listener->logs = calloc(cfg->access_log_count + 1, sizeof *listener->logs);
    for (size_t i = 0; listener->logs && i < cfg->access_log_count; i++) {
        struct access_log *log = access_log_build(&cfg->access_log[i], problems);
        if (log)
            listener->logs[listener->log_count++] = log;
    }
}

/* The listener, of those before it and itself, that has it already; NULL: it is free. */
static const struct listener_config *owner_of(const struct snapshot *snapshot,
                                              const struct listener_config *last,
                                              const struct address *address) {
    if (address_port(address) == 0)
        return NULL;
    for (uint32_t i = 0; i <= snapshot->listener_count; i++) {
        const struct listener_config *at =
            i < snapshot->listener_count ? snapshot->listeners[i] : last;
        for (uint32_t k = 0; k < at->address_count; k++)
            if (address_eq(&at->addresses[k].address, address))
                return at;
    }
    return NULL;
}

/* False: there is a problem that makes it useless to look further. */
static bool build_addresses(const struct snapshot *snapshot, struct listener_config *listener,
                            struct cfg_problems *problems) {
    const struct cfg_listener *cfg = listener->config;
    listener->addresses = calloc(cfg->additional_addresses_count + 1, sizeof *listener->addresses);
    if (!listener->addresses) {
        problems->lost = true;
        return false;
    }
    for (size_t i = 0; i <= cfg->additional_addresses_count; i++) {
        const struct cfg_additional_address *more = i ? &cfg->additional_addresses[i - 1] : NULL;
        const struct cfg_address *from = more ? more->address : cfg->address;
        struct listener_address address = {
            .ipv4_compat = from->ipv4_compat,
            .socket_options = cfg->socket_options,
            .socket_option_count = cfg->socket_options_count,
        };
        if (more && more->socket_options) {
            address.socket_options = more->socket_options->socket_options;
            address.socket_option_count = more->socket_options->socket_options_count;
        }
        if (!address_parse(from->host, (uint16_t)from->port_value, &address.address)) {
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &from->mark,
                            "'%.*s' is no IP address; a listener takes one, such as 0.0.0.0",
                            (int)from->host.len, from->host.ptr);
            return false;
        }
        const struct listener_config *owner = owner_of(snapshot, listener, &address.address);
        if (owner)
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, more ? &more->mark : &cfg->mark,
                            "the address is taken by the listener of line %u",
                            owner->config->mark.line);
        listener->addresses[listener->address_count++] = address;
    }
    return true;
}

/* "listener.127.0.0.1_80", malloc'ed: as on Envoy, where the address is a part of the name. NULL: no memory. */
static char *stats_owner(const struct listener_config *listener) {
    struct span prefix = listener->config->stat_prefix;
    char text[ADDRESS_TEXT_MAX], *owner = NULL;
    if (prefix.len)
        return asprintf(&owner, "listener.%.*s", (int)prefix.len, prefix.ptr) < 0 ? NULL : owner;
    address_text(&listener->addresses[0].address, text);
    if (asprintf(&owner, "listener.%s", text) < 0)
        return NULL;
    for (char *c = owner; *c; c++)
        if (*c == ':')
            *c = '_';
    return owner;
}

static void free_listener(void *arg) {
    struct listener_config *listener = arg;
    filter_chain_table_free(listener->chains);
    for (uint32_t i = 0; i < listener->filter_count; i++) {
        struct listener_filter *filter = &listener->filters[i];
        if (filter->kind->free_config)
            filter->kind->free_config(filter->config);
    }
    free(listener->filters);
    for (uint32_t i = 0; i < listener->log_count; i++)
        access_log_free(listener->logs[i]);
    free(listener->logs);
    free(listener->addresses);
    for (struct listener_use *next, *use = listener->uses; use; use = next) {
        next = use->next;
        cluster_unref(use->cluster);
        config_unref(use->config);
        free(use);
    }
    for (size_t i = 0; i < sizeof listener->configs / sizeof listener->configs[0]; i++)
        config_unref(listener->configs[i]);
    free(listener);
}

struct listener_config *listener_config_build(struct snapshot *snapshot,
                                              const struct resource *resource,
                                              struct cfg_problems *problems) {
    const struct cfg_listener *cfg = resource->message;
    struct listener_config *listener = calloc(1, sizeof *listener);
    if (!listener) {
        problems->lost = true;
        return NULL;
    }
    listener->refs = 1;
    listener->config = cfg;
    listener->edition = resource->edition;
    listener->name = cfg->name;
    listener->configs[0] = config_ref(resource->config);
    listener->configs[1] = config_beside(snapshot->config, resource->config);
    listener->connections_max = UINT64_MAX;
    if (!listener->configs[1]) {
        problems->lost = true;
        free_listener(listener);
        return NULL;
    }
    if (!cfg->address)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "the listener has no address");
    if (!cfg->address || !build_addresses(snapshot, listener, problems)) {
        free_listener(listener);
        return NULL;
    }
    snapshot->building = listener;
    build_memory_limit(listener, problems);
    if (cfg_runtime_listener_limit(config_bootstrap(snapshot->config)->layered_runtime, cfg->name,
                                   &listener->connections_max) < 0)
        problems->lost = true;
    char *owner = stats_owner(listener);
    if (owner)
        listener->chains = filter_chain_table_build(cfg, snapshot, span_of(owner), problems);
    else
        problems->lost = true;
    free(owner);
    build_listener_filters(listener, problems);
    build_logs(listener, problems);
    return listener;
}

/* ---- the end ---- */

struct listener_config *listener_config_ref(struct listener_config *config) {
    atomic_fetch_add_explicit(&config->refs, 1, memory_order_relaxed);
    return config;
}

static bool is_last(struct listener_config *config) {
    return atomic_fetch_sub_explicit(&config->refs, 1, memory_order_acq_rel) == 1;
}

void listener_config_unref(struct listener_config *config) {
    if (is_last(config))
        aside_later(free_listener, config);
}

void listener_config_drop(struct listener_config *config) {
    if (is_last(config))
        free_listener(config);
}
