/* schema_tables: the tables that one schema_*.c needs of another. Internal to src/config. */
#pragma once
#include "config/bootstrap.h"
#include "config/schema.h"

/* schema_core.c */
extern const struct cfg_schema cfg_schema_address;
extern const struct cfg_schema cfg_schema_node;
extern const struct cfg_schema cfg_schema_locality;
extern const struct cfg_schema cfg_schema_header_value_option;
extern const struct cfg_schema cfg_schema_data_source;
extern const struct cfg_schema cfg_schema_runtime_fraction;
extern const struct cfg_schema cfg_schema_log_format;
extern const struct cfg_schema cfg_schema_http1_options;
extern const struct cfg_schema cfg_schema_http_options;
extern const struct cfg_schema cfg_schema_per_filter;
extern const struct cfg_schema cfg_schema_metadata;
extern const struct cfg_enum cfg_enum_routing_priority;

/* schema_matcher.c */
extern const struct cfg_schema cfg_schema_string_matcher;
extern const struct cfg_schema cfg_schema_regex;
extern const struct cfg_schema cfg_schema_regex_rewrite;
extern const struct cfg_schema cfg_schema_header_matcher;
extern const struct cfg_schema cfg_schema_query_matcher;

/* schema_route.c */
/* Of an upgrade, a route's and the connection manager's: CONNECT is none of an upgrade field. */
void cfg_check_upgrade(struct cfg_loader *loader, const struct cfg_tree *node,
                       const struct cfg_path *path, void *message);

/* schema_access_log.c */
extern const struct cfg_schema cfg_schema_access_log;

/* schema_tls.c */
extern const struct cfg_schema cfg_schema_transport_socket;

/* schema_discovery.c */
extern const struct cfg_schema cfg_schema_watched_directory;
extern const struct cfg_schema cfg_schema_dynamic_resources;
extern const struct cfg_schema cfg_schema_rds;

/* schema_overload.c */
extern const struct cfg_schema cfg_schema_overload_manager;

/* schema_runtime.c. Of the bootstrap: the keys of its static layers, and what they say. */
void cfg_check_runtime(struct cfg_loader *loader, const struct cfg_tree *node,
                       const struct cfg_path *path, void *message);

/* schema_chain_match.c */
extern const struct cfg_schema cfg_schema_filter_chain_match;
extern const struct cfg_schema cfg_schema_listener_predicate;

/* schema_socket.c */
extern const struct cfg_schema cfg_schema_socket_option;

/* schema_cluster.c */
extern const struct cfg_schema cfg_schema_upstream_http;

/* Durations that must be more than zero. */
#define POSITIVE .rules = CFG_RANGE, .min = 1, .max = INT64_MAX
#define WITHIN(low, high) .rules = CFG_RANGE, .min = (low), .max = (high)
