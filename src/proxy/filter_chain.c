/* filter_chain: building chains; which one is a connection's: filter_chain_match.c. */
#include "proxy/filter_chain.h"

#include <errno.h>
#include <stdlib.h>

#include "config/discovery_config.h"
#include "config/tls_config.h"
#include "proxy/hcm.h"
#include "proxy/snapshot.h"
#include "proxy/listener.h"

enum { BUFFER_LIMIT = 1024 * 1024 };

/* ---- what a chain is made of ---- */

static struct hcm *build_hcm(const struct cfg_listener *listener, const struct filter_chain *chain,
                             const struct cfg_hcm *config, struct snapshot *snapshot,
                             struct cfg_problems *problems) {
    static const struct cfg_route_configuration none;
    const struct cfg_route_configuration *routes =
        config->rds ? snapshot_use_routes(snapshot, config->rds->route_config_name)
                    : config->route_config;
    uint32_t limit = listener->per_connection_buffer_limit_bytes.set
                         ? listener->per_connection_buffer_limit_bytes.value
                         : BUFFER_LIMIT;
    /* As on Envoy, who waits for routes has none, and answers 404. */
    struct hcm *hcm = hcm_build(config, routes ? routes : &none, snapshot, listener->name,
                                chain->name, limit, problems);
    if (hcm)
        hcm->bypass_overload = listener->bypass_overload_manager;
    return hcm;
}

static bool is_hcm(const struct cfg_filter *config) {
    return config->typed_config.schema == &cfg_schema_hcm;
}

/* One that is no HTTP connection manager. */
static void build_filter(struct filter_chain *chain, const struct cfg_filter *config, bool last,
                         struct snapshot *snapshot, struct cfg_problems *problems) {
    struct network_filter *filter = &chain->filters[chain->filter_count];
    const struct network_filter_kind *kind = network_filter_find(config->typed_config.schema);
    int name_len = (int)config->name.len;
    if (!kind) {
        cfg_problem_add(problems, CFG_PROBLEM_UNSUPPORTED, &config->mark,
                        "network filter '%.*s': its typed_config is of no filter that this "
                        "release has",
                        name_len, config->name.ptr);
        return;
    }
    *filter = (struct network_filter){.kind = kind,
                                      .itab = kind->choose ? kind->choose(&config->typed_config)
                                                           : kind->itab,
                                      .name = config->name,
                                      .index = chain->filter_count};
    bool serves = filter->itab->serve != NULL;
    if (serves != last)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->mark,
                        last ? "the last filter of a chain serves the connection, as "
                               "envoy.filters.network.http_connection_manager and "
                               "envoy.filters.network.tcp_proxy do; '%.*s' does not"
                             : "'%.*s' serves the connection, so it must be the last filter of its "
                               "chain",
                        name_len, config->name.ptr);
    const struct cfg_filter_chain *all = chain->config;
    if (kind->wraps && is_hcm(&all->filters[all->filters_count - 1]))
        cfg_problem_add(problems, CFG_PROBLEM_UNSUPPORTED, &config->mark,
                        "'%.*s' looks at the bytes of the connection, which the HTTP connection "
                        "manager behind it reads by itself: put an HTTP filter in its place",
                        name_len, config->name.ptr);
    if (!kind->build ||
        kind->build(&config->typed_config, snapshot, problems, &filter->config) == 0)
        chain->filter_count++;
}

static void build_filters(struct filter_chain *chain, const struct cfg_listener *listener,
                          struct snapshot *snapshot, struct cfg_problems *problems) {
    const struct cfg_filter_chain *config = chain->config;
    chain->filters = calloc(config->filters_count + 1, sizeof *chain->filters);
    if (!chain->filters) {
        problems->lost = true;
        return;
    }
    if (config->filters_count == 0)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->mark,
                        "filters is empty: a chain needs at least the one that serves, such as "
                        "envoy.filters.network.http_connection_manager");
    for (size_t i = 0; i < config->filters_count; i++) {
        const struct cfg_filter *filter = &config->filters[i];
        bool last = i + 1 == config->filters_count;
        if (!is_hcm(filter))
            build_filter(chain, filter, last, snapshot, problems);
        else if (last)
            chain->hcm =
                build_hcm(listener, chain, filter->typed_config.message, snapshot, problems);
        else
            cfg_problem_add(problems, CFG_PROBLEM_INVALID, &filter->mark,
                            "the HTTP connection manager must be the last filter of its chain");
    }
}

static void build_transport(struct filter_chain *chain, struct snapshot *snapshot,
                            struct span owner, struct cfg_problems *problems) {
    const struct cfg_transport_socket *config = chain->config->transport_socket;
    if (!config || !config->has_typed_config ||
        config->typed_config.schema == &cfg_schema_raw_buffer)
        return; /* bytes as they are */
    const struct transport_socket_kind *kind = transport_socket_find(config->typed_config.schema);
    if (!kind || !kind->itab->accept) {
        cfg_problem_add(problems, CFG_PROBLEM_UNSUPPORTED, &config->mark,
                        "transport_socket '%.*s': its typed_config is of none that a listener of "
                        "this release has",
                        (int)config->name.len, config->name.ptr);
        return;
    }
    const struct cfg_filter_chain *all = chain->config;
    bool serves_http = all->filters_count && is_hcm(&all->filters[all->filters_count - 1]);
    if (kind->build(&config->typed_config, snapshot->building->configs[1], owner, serves_http,
                    problems, &chain->transport.config) == 0)
        chain->transport.kind = kind;
}

/* 0: there is no memory, and no other is like it. */
static uint64_t hash_of(const struct cfg_schema *schema, const void *config) {
    size_t len;
    char *bytes = cfg_to_wire(schema, config, &len);
    uint64_t hash = bytes ? span_hash(SPAN_HASH, span_make(bytes, len)) : 0;
    free(bytes);
    return hash;
}

static void identify(struct filter_chain *chain) {
    struct cfg_filter_chain entrance = *chain->config;
    entrance.filters_count -= chain->hcm ? 1 : 0;
    chain->definition = hash_of(&cfg_schema_filter_chain, chain->config);
    if (chain->definition && chain->hcm && chain->hcm->config->rds)
        chain->definition ^= hash_of(&cfg_schema_route_configuration, chain->hcm->route_config);
    chain->entrance = hash_of(&cfg_schema_filter_chain, &entrance);
}

static void build_chain(struct filter_chain *chain, const struct cfg_filter_chain *config,
                        const struct cfg_listener *listener, struct snapshot *snapshot,
                        struct span owner, struct cfg_problems *problems) {
    chain->config = config;
    chain->name = config->name;
    chain->transport_timeout_ns = config->transport_socket_connect_timeout.ns;
    chain->labels = doing_labels_of_chain(listener->name, config->name);
    build_filters(chain, listener, snapshot, problems);
    build_transport(chain, snapshot, owner, problems);
    identify(chain);
}

const struct filter_chain *filter_chain_successor(const struct filter_chain_table *later,
                                                  const struct filter_chain *chain) {
    for (uint32_t i = 0; chain->entrance && i < later->count; i++)
        if (later->chains[i].entrance == chain->entrance && later->chains[i].hcm && chain->hcm &&
            chain->filter_count == 0)
            return &later->chains[i];
    return NULL;
}

bool filter_chain_remains(const struct filter_chain_table *later,
                          const struct filter_chain *chain) {
    for (uint32_t i = 0; chain->definition && i < later->count; i++)
        if (later->chains[i].definition == chain->definition)
            return true;
    return false;
}

static void chain_free(struct filter_chain *chain) {
    for (uint32_t i = 0; i < chain->filter_count; i++)
        if (chain->filters[i].kind->free_config)
            chain->filters[i].kind->free_config(chain->filters[i].config);
    free(chain->filters);
    if (chain->transport.kind && chain->transport.kind->free_config)
        chain->transport.kind->free_config(chain->transport.config);
    hcm_free(chain->hcm);
}

/* ---- tables ---- */

static struct filter_chain_table *table_new(size_t count) {
    struct filter_chain_table *table = calloc(1, sizeof *table);
    if (!table)
        return NULL;
    table->chains = calloc(count, sizeof *table->chains);
    if (!table->chains) {
        free(table);
        return NULL;
    }
    table->count = (uint32_t)count;
    return table;
}

void filter_chain_table_free(struct filter_chain_table *table) {
    if (!table)
        return;
    for (uint32_t i = 0; i < table->count; i++)
        chain_free(&table->chains[i]);
    filter_chain_index_free(table->root);
    free(table->chains);
    free(table);
}

static bool has_conditions(const struct cfg_filter_chain_match *match) {
    return match &&
           (match->destination_port.set || match->prefix_ranges_count ||
            match->server_names_count || match->transport_protocol.len ||
            match->application_protocols_count || match->direct_source_prefix_ranges_count ||
            match->source_type != CFG_SOURCE_ANY || match->source_prefix_ranges_count ||
            match->source_ports_count);
}

/* Envoy takes it as well, and says nothing. */
static void warn_if_blind(const struct cfg_listener *config, const struct cfg_filter_chain *chain,
                          struct cfg_problems *problems) {
    const struct cfg_filter_chain_match *match = chain->filter_chain_match;
    bool asks = match && (match->server_names_count || match->application_protocols_count ||
                          span_eq(match->transport_protocol, SPAN_LIT("tls")));
    if (asks && config->listener_filters_count == 0)
        cfg_problem_add(problems, CFG_PROBLEM_WARNING, &match->mark,
                        "no connection will match: what a client asks for is known only if the "
                        "listener's listener_filters have one that looks, such as "
                        "envoy.filters.listener.tls_inspector");
}

struct filter_chain_table *filter_chain_table_build(const struct cfg_listener *config,
                                                    struct snapshot *snapshot, struct span owner,
                                                    struct cfg_problems *problems) {
    size_t before = problems->count;
    size_t count = config->filter_chains_count + (config->default_filter_chain ? 1 : 0);
    if (count == 0) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->mark,
                        "the listener has no filter chain: filter_chains needs one");
        return NULL;
    }
    struct filter_chain_table *table = table_new(count);
    if (!table) {
        problems->lost = true;
        return NULL;
    }
    for (uint32_t i = 0; i < table->count; i++) {
        bool is_default = i == config->filter_chains_count;
        if (is_default)
            table->fallback = &table->chains[i];
        const struct cfg_filter_chain *chain =
            is_default ? config->default_filter_chain : &config->filter_chains[i];
        build_chain(&table->chains[i], chain, config, snapshot, owner, problems);
        if (!is_default)
            warn_if_blind(config, chain, problems);
    }
    if (config->filter_chains_count == 0)
        table->only = table->fallback;
    else if (config->filter_chains_count == 1 &&
             !has_conditions(config->filter_chains[0].filter_chain_match))
        table->only = &table->chains[0];
    filter_chain_index(table, problems);
    for (size_t i = before; i < problems->count; i++) {
        if (problems->items[i].kind != CFG_PROBLEM_WARNING) {
            filter_chain_table_free(table);
            return NULL;
        }
    }
    return table;
}

struct filter_chain_table *filter_chain_table_of_hcm(struct hcm *hcm) {
    struct filter_chain_table *table = table_new(1);
    if (!table)
        return NULL;
    table->chains[0].hcm = hcm;
    table->chains[0].labels = hcm->labels;
    table->only = &table->chains[0];
    return table;
}

void filter_chain_table_attach(struct filter_chain_table *table, struct listener *listener) {
    for (uint32_t i = 0; i < table->count; i++)
        table->chains[i].info = (struct connection_info){
            .chain = &table->chains[i], .listener = listener, .shared = true};
}
