/* schema_listener: envoy.config.listener.v3 and envoy.config.bootstrap.v3. */
#include "config/load.h"
#include "config/discovery_config.h"
#include "config/schema_tables.h"
#include "config/tls_config.h"

/* ---- filter chains ---- */

static const struct cfg_field filter_fields[] = {
    FIELD(struct cfg_filter, 1, name, CFG_STRING, .rules = CFG_REQUIRED, .doc = "Any name."),
    FIELD(struct cfg_filter, 4, typed_config, CFG_ANY, .oneof = "config_type",
          .slot = CFG_SLOT_NETWORK_FILTER, .rules = CFG_ONEOF_REQUIRED,
          .doc = "Which filter it is. The last one of a chain serves the connection."),
};
static const struct cfg_missing filter_missing[] = {{5, "config_discovery"}};
static const struct cfg_schema filter_schema = {
    .name = "envoy.config.listener.v3.Filter",
    .doc = "A network filter.",
    .size = sizeof(struct cfg_filter),
    MARK(struct cfg_filter),
    FIELDS(filter_fields),
    MISSING(filter_missing),
};

static const struct cfg_field filter_chain_fields[] = {
    POINTER(struct cfg_filter_chain, 1, filter_chain_match, struct cfg_filter_chain_match,
            cfg_schema_filter_chain_match,
            .doc =
                "Which connections it is for; without it, for those that no other chain matches."),
    LIST(struct cfg_filter_chain, 3, filters, struct cfg_filter, filter_schema,
         .doc = "In order. The last one serves the connection: the HTTP connection manager or "
                "another that can."),
    WRAPPER(struct cfg_filter_chain, 4, use_proxy_proto, CFG_BOOL, .rules = CFG_ONLY_FALSE,
            .default_text = "false",
            .doc = "Deprecated: use the listener filter envoy.filters.listener.proxy_protocol."),
    POINTER(struct cfg_filter_chain, 6, transport_socket, struct cfg_transport_socket,
            cfg_schema_transport_socket, .default_text = "envoy.transport_sockets.raw_buffer",
            .doc = "TLS: see [tls.md](tls.md)."),
    FIELD(struct cfg_filter_chain, 7, name, CFG_STRING, .doc = "For logs; unique in its listener."),
    FIELD(struct cfg_filter_chain, 9, transport_socket_connect_timeout, CFG_DURATION,
          .default_text = "none", .doc = "How long a handshake of the transport socket may take."),
};
static const struct cfg_missing filter_chain_missing[] = {
    {5, "metadata"},
};
const struct cfg_schema cfg_schema_filter_chain = {
    .name = "envoy.config.listener.v3.FilterChain",
    .doc = "What is done with a connection.",
    .size = sizeof(struct cfg_filter_chain),
    MARK(struct cfg_filter_chain),
    FIELDS(filter_chain_fields),
    MISSING(filter_chain_missing),
};

/* ---- listener filters ---- */

static const struct cfg_field listener_filter_fields[] = {
    FIELD(struct cfg_listener_filter, 1, name, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "Any name."),
    FIELD(struct cfg_listener_filter, 3, typed_config, CFG_ANY, .oneof = "config_type",
          .has_at = CFG_AT(struct cfg_listener_filter, has_typed_config),
          .slot = CFG_SLOT_LISTENER_FILTER, .rules = CFG_ONEOF_REQUIRED,
          .doc = "Which filter it is."),
    POINTER(struct cfg_listener_filter, 4, filter_disabled, struct cfg_listener_predicate,
            cfg_schema_listener_predicate, .doc = "The connections that it does not look at."),
};
static const struct cfg_missing listener_filter_missing[] = {{5, "config_discovery"}};
static const struct cfg_schema listener_filter_schema = {
    .name = "envoy.config.listener.v3.ListenerFilter",
    .doc = "Looks at a connection's first bytes before its filter chain is chosen.",
    .size = sizeof(struct cfg_listener_filter),
    MARK(struct cfg_listener_filter),
    FIELDS(listener_filter_fields),
    MISSING(listener_filter_missing),
};

/* ---- listener ---- */

static const struct cfg_enum_value drain_type_values[] = {
    {0, "DEFAULT", CFG_SUPPORTED},
    {1, "MODIFY_ONLY", CFG_SUPPORTED},
};
static const struct cfg_enum drain_type_enum =
    ENUM_TABLE("envoy.config.listener.v3.Listener.DrainType", drain_type_values);

static const struct cfg_enum_value traffic_direction_values[] = {
    {0, "UNSPECIFIED", CFG_SUPPORTED},
    {1, "INBOUND", CFG_SUPPORTED},
    {2, "OUTBOUND", CFG_SUPPORTED},
};
static const struct cfg_enum traffic_direction_enum =
    ENUM_TABLE("envoy.config.core.v3.TrafficDirection", traffic_direction_values);

static const struct cfg_field socket_options_fields[] = {
    LIST(struct cfg_socket_options, 1, socket_options, struct cfg_socket_option,
         cfg_schema_socket_option, .doc = "All that are set."),
};
static const struct cfg_schema socket_options_schema = {
    .name = "envoy.config.core.v3.SocketOptionsOverride",
    .doc = "Socket options in the place of others.",
    .size = sizeof(struct cfg_socket_options),
    FIELDS(socket_options_fields),
};

static const struct cfg_field additional_address_fields[] = {
    POINTER(struct cfg_additional_address, 1, address, struct cfg_address, cfg_schema_address,
            .rules = CFG_REQUIRED, .doc = "Where to listen, too."),
    POINTER(struct cfg_additional_address, 2, socket_options, struct cfg_socket_options,
            socket_options_schema, .default_text = "the listener's",
            .doc = "Set there instead of the listener's socket_options, even if it has none."),
};
static const struct cfg_schema additional_address_schema = {
    .name = "envoy.config.listener.v3.AdditionalAddress",
    .doc = "One more address of a listener.",
    .size = sizeof(struct cfg_additional_address),
    MARK(struct cfg_additional_address),
    FIELDS(additional_address_fields),
};

static const struct cfg_field listener_fields[] = {
    FIELD(struct cfg_listener, 1, name, CFG_STRING, .default_text = "its address",
          .doc = "For logs, statistics and the admin; unique."),
    POINTER(struct cfg_listener, 2, address, struct cfg_address, cfg_schema_address,
            .rules = CFG_REQUIRED, .doc = "Where to listen."),
    LIST(struct cfg_listener, 3, filter_chains, struct cfg_filter_chain, cfg_schema_filter_chain,
         .doc = "What is done with connections. The one that matches best has a connection; see "
                "[connections.md](connections.md)."),
    WRAPPER(struct cfg_listener, 4, use_original_dst, CFG_BOOL, .default_text = "false",
            .doc = "Only false: connections are not handed to other listeners. The "
                   "listener filter envoy.filters.listener.original_dst makes the original "
                   "destination what filter chains go by."),
    WRAPPER(struct cfg_listener, 5, per_connection_buffer_limit_bytes, CFG_U32,
            .default_text = "1048576", .doc = "How much of a body is held for a slow peer."),
    POINTER(struct cfg_listener, 6, metadata, struct cfg_metadata, cfg_schema_metadata,
            .doc = "`filter_metadata[\"sluice.memory\"]`: `limit_bytes` and `wait_timeout`, see "
                   "[memory.md](memory.md)."),
    ENUM(struct cfg_listener, 8, drain_type, drain_type_enum, .default_text = "DEFAULT",
         .status = CFG_INERT, .doc = "When its connections drain."),
    LIST(struct cfg_listener, 9, listener_filters, struct cfg_listener_filter,
         listener_filter_schema, .doc = "In order, each until it is done."),
    WRAPPER(struct cfg_listener, 10, transparent, CFG_BOOL, .default_text = "false",
            .doc = "IP_TRANSPARENT, which takes CAP_NET_ADMIN."),
    WRAPPER(struct cfg_listener, 11, freebind, CFG_BOOL, .default_text = "false",
            .doc = "IP_FREEBIND: the address need not be this machine's yet."),
    WRAPPER(struct cfg_listener, 12, tcp_fast_open_queue_length, CFG_U32,
            .default_text = "no TCP Fast Open",
            .doc = "TCP Fast Open, and how many may wait in it; 0 turns it off."),
    LIST(struct cfg_listener, 13, socket_options, struct cfg_socket_option,
         cfg_schema_socket_option, .doc = "Set on the listening sockets."),
    FIELD(struct cfg_listener, 15, listener_filters_timeout, CFG_DURATION, .default_text = "15s",
          .doc = "How long all listener filters together may wait for bytes; 0: for ever."),
    ENUM(struct cfg_listener, 16, traffic_direction, traffic_direction_enum,
         .default_text = "UNSPECIFIED", .status = CFG_INERT, .doc = "For control planes."),
    FIELD(struct cfg_listener, 17, continue_on_listener_filters_timeout, CFG_BOOL,
          .doc = "After that time the connection goes on with what is known, instead of being "
                 "closed."),
    LIST(struct cfg_listener, 22, access_log, struct cfg_access_log, cfg_schema_access_log,
         .doc = "A line for each connection, at its end."),
    WRAPPER(struct cfg_listener, 24, tcp_backlog_size, CFG_U32,
            .default_text = "the system's maximum", .doc = "Connections waiting to be accepted."),
    POINTER(struct cfg_listener, 25, default_filter_chain, struct cfg_filter_chain,
            cfg_schema_filter_chain, .doc = "The chain when no other matches."),
    WRAPPER(struct cfg_listener, 26, bind_to_port, CFG_BOOL, .default_text = "true",
            .doc = "false: the listener exists without a socket."),
    FIELD(struct cfg_listener, 28, stat_prefix, CFG_STRING, .default_text = "its address",
          .doc = "Name in the statistics."),
    WRAPPER(struct cfg_listener, 29, enable_reuse_port, CFG_BOOL, .default_text = "true",
            .doc = "One socket per processor, so that the kernel spreads connections."),
    FIELD(struct cfg_listener, 31, ignore_global_conn_limit, CFG_BOOL,
          .doc = "The limit of connections of the whole process does not concern this listener: "
                 "see [connections.md](connections.md)."),
    LIST(struct cfg_listener, 33, additional_addresses, struct cfg_additional_address,
         additional_address_schema,
         .doc = "Where else to listen. All else, statistics included, is the same for all."),
    WRAPPER(struct cfg_listener, 34, max_connections_to_accept_per_socket_event, CFG_U32,
            .default_text = "16", WITHIN(1, UINT32_MAX),
            .doc = "So many are accepted in one go; then everybody else has a turn."),
    FIELD(struct cfg_listener, 35, bypass_overload_manager, CFG_BOOL,
          .doc = "Actions of the overload manager do not concern this listener."),
};
static const struct cfg_missing listener_missing[] = {
    {7, "deprecated_v1"}, {18, "udp_listener_config"},
    {19, "api_listener"}, {20, "connection_balance_config"},
    {21, "reuse_port"},   {27, "internal_listener"},
    {30, "enable_mptcp"}, {32, "filter_chain_matcher"},
};

static void check_listener(struct cfg_loader *loader, const struct cfg_tree *node,
                           const struct cfg_path *path, void *message) {
    const struct cfg_listener *listener = message;
    if (listener->use_original_dst.set && listener->use_original_dst.value)
        cfg_report(loader, CFG_PROBLEM_UNSUPPORTED, node, path,
                   "use_original_dst: connections are not handed to the listener of their original "
                   "destination; have its filter chains here, with prefix_ranges and "
                   "destination_port, and the listener filter envoy.filters.listener.original_dst");
}

const struct cfg_schema cfg_schema_listener = {
    .name = "envoy.config.listener.v3.Listener",
    .doc = "A socket that takes connections.",
    .size = sizeof(struct cfg_listener),
    MARK(struct cfg_listener),
    FIELDS(listener_fields),
    MISSING(listener_missing),
    .check = check_listener,
};

/* ---- bootstrap ---- */

static const struct cfg_field static_resources_fields[] = {
    LIST(struct cfg_static_resources, 1, listeners, struct cfg_listener, cfg_schema_listener,
         .doc = "Listeners. Without any, only the admin runs."),
    LIST(struct cfg_static_resources, 2, clusters, struct cfg_cluster, cfg_schema_cluster,
         .doc = "Clusters."),
    LIST(struct cfg_static_resources, 3, secrets, struct cfg_secret, cfg_schema_secret,
         .doc = "Certificates and what else transport sockets refer to by name."),
};
static const struct cfg_schema static_resources_schema = {
    .name = "envoy.config.bootstrap.v3.Bootstrap.StaticResources",
    .doc = "What is there from the start.",
    .size = sizeof(struct cfg_static_resources),
    FIELDS(static_resources_fields),
};

static const struct cfg_field admin_fields[] = {
    FIELD(struct cfg_admin, 1, access_log_path, CFG_STRING, .status = CFG_INERT,
          .doc = "Deprecated and not heeded; use access_log."),
    FIELD(struct cfg_admin, 2, profile_path, CFG_STRING, .status = CFG_INERT,
          .doc = "Profiles are answers of the admin, not files."),
    POINTER(struct cfg_admin, 3, address, struct cfg_address, cfg_schema_address,
            .doc = "Where the admin listens; without it there is no admin."),
    LIST(struct cfg_admin, 5, access_log, struct cfg_access_log, cfg_schema_access_log,
         .doc = "Where requests to the admin are logged; nowhere by default."),
    FIELD(struct cfg_admin, 6, ignore_global_conn_limit, CFG_BOOL,
          .doc =
              "The runtime key `overload.global_downstream_max_connections` does not concern the "
              "admin. The resource monitor, which replaces it, never does."),
};
static const struct cfg_missing admin_missing[] = {{4, "socket_options"}};
static const struct cfg_schema admin_schema = {
    .name = "envoy.config.bootstrap.v3.Admin",
    .doc = "The admin server.",
    .size = sizeof(struct cfg_admin),
    MARK(struct cfg_admin),
    FIELDS(admin_fields),
    MISSING(admin_missing),
};

static const struct cfg_field bootstrap_fields[] = {
    POINTER(struct cfg_bootstrap, 1, node, struct cfg_node, cfg_schema_node,
            .doc = "Who this process is; --service-node and --service-cluster take precedence."),
    POINTER(struct cfg_bootstrap, 2, static_resources, struct cfg_static_resources,
            static_resources_schema, .doc = "Listeners and clusters."),
    POINTER(struct cfg_bootstrap, 3, dynamic_resources, struct cfg_dynamic_resources,
            cfg_schema_dynamic_resources,
            .doc = "Listeners and clusters of files that may change."),
    FIELD(struct cfg_bootstrap, 7, stats_flush_interval, CFG_DURATION, .status = CFG_INERT,
          .default_text = "5s", WITHIN(1000000, 300000000000 - 1),
          .doc = "There are no sinks that statistics could be flushed to."),
    POINTER(struct cfg_bootstrap, 12, admin, struct cfg_admin, admin_schema,
            .doc = "The admin server."),
    POINTER(struct cfg_bootstrap, 15, overload_manager, struct cfg_overload_manager,
            cfg_schema_overload_manager, .doc = "What is done when memory is short."),
    POINTER(struct cfg_bootstrap, 17, layered_runtime, struct cfg_layered_runtime,
            cfg_schema_layered_runtime, .doc = "Runtime keys: limits of connections."),
};
static const struct cfg_missing bootstrap_missing[] = {
    {4, "cluster_manager"},
    {5, "flags_path"},
    {6, "stats_sinks"},
    {8, "watchdog"},
    {9, "tracing"},
    {13, "stats_config"},
    {14, "hds_config"},
    {16, "enable_dispatcher_stats"},
    {18, "header_prefix"},
    {19, "stats_server_version_override"},
    {20, "use_tcp_for_dns_lookups"},
    {21, "bootstrap_extensions"},
    {22, "config_sources"},
    {23, "default_config_source"},
    {24, "default_socket_interface"},
    {25, "certificate_provider_instances"},
    {26, "node_context_params"},
    {27, "watchdogs"},
    {28, "fatal_actions"},
    {29, "stats_flush_on_admin"},
    {30, "dns_resolution_config"},
    {31, "typed_dns_resolver_config"},
    {32, "inline_headers"},
    {33, "perf_tracing_file_path"},
    {34, "default_regex_engine"},
    {35, "xds_delegate_extension"},
    {36, "xds_config_tracker_extension"},
    {37, "listener_manager"},
    {38, "application_log_config"},
    {39, "deferred_stat_options"},
    {40, "grpc_async_client_manager_config"},
    {41, "memory_allocator_manager"},
};
const struct cfg_schema cfg_schema_bootstrap = {
    .name = "envoy.config.bootstrap.v3.Bootstrap",
    .doc = "The whole file.",
    .size = sizeof(struct cfg_bootstrap),
    FIELDS(bootstrap_fields),
    MISSING(bootstrap_missing),
    .check = cfg_check_runtime,
};
