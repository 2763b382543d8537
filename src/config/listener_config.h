/* listener_config: config.listener.v3 as C structs: listeners, their filters, and filter chains with what
 * they match. Shapes of values, ownership and threads: types.h. Meaning of fields: schema_listener.c and
 * schema_chain_match.c. */
#pragma once
#include "config/types.h"

struct cfg_access_log;
struct cfg_address;
struct cfg_metadata;
struct cfg_transport_socket;

struct cfg_cidr { /* config.core.v3.CidrRange */
    struct cfg_mark mark;
    struct span address_prefix;
    struct cfg_u32 prefix_len; /* default 0 */
};

enum cfg_source_type { CFG_SOURCE_ANY = 0, CFG_SOURCE_LOCAL = 1, CFG_SOURCE_EXTERNAL = 2 };
struct cfg_filter_chain_match { /* config.listener.v3.FilterChainMatch */
    struct cfg_mark mark;
    struct cfg_cidr *prefix_ranges, *source_prefix_ranges, *direct_source_prefix_ranges;
    size_t prefix_ranges_count, source_prefix_ranges_count, direct_source_prefix_ranges_count;
    uint32_t *source_ports;
    size_t source_ports_count;
    struct cfg_u32 destination_port;
    struct span transport_protocol; /* "": any */
    struct span *application_protocols;
    size_t application_protocols_count;
    struct span *server_names;
    size_t server_names_count;
    int source_type; /* enum cfg_source_type */
};

struct cfg_filter { /* config.listener.v3.Filter */
    struct cfg_mark mark;
    struct span name;
    struct cfg_any typed_config;
};
struct cfg_filter_chain { /* config.listener.v3.FilterChain */
    struct cfg_mark mark;
    struct span name;
    struct cfg_filter_chain_match *filter_chain_match; /* NULL: without conditions */
    struct cfg_filter *filters;
    size_t filters_count;
    struct cfg_bool use_proxy_proto;
    struct cfg_transport_socket *transport_socket;
    struct cfg_duration transport_socket_connect_timeout; /* default: none */
};

enum cfg_listener_predicate_case { /* of config.listener.v3.ListenerFilterChainMatchPredicate */
                                   CFG_PREDICATE_OR = 1,
                                   CFG_PREDICATE_AND = 2,
                                   CFG_PREDICATE_NOT = 3,
                                   CFG_PREDICATE_ANY = 4,
                                   CFG_PREDICATE_PORT = 5,
};
struct cfg_listener_predicate {
    struct cfg_mark mark;
    int rule_case;
    struct cfg_listener_predicate_set *or_match, *and_match;
    struct cfg_listener_predicate *not_match;
    bool any_match;
    struct cfg_port_range *destination_port_range;
};
struct cfg_listener_predicate_set {
    struct cfg_listener_predicate *rules;
    size_t rules_count;
};
struct cfg_port_range { /* type.v3.Int32Range: [start, end) */
    int32_t start, end;
};
struct cfg_listener_filter { /* config.listener.v3.ListenerFilter */
    struct cfg_mark mark;
    struct span name;
    bool has_typed_config;
    struct cfg_any typed_config;
    struct cfg_listener_predicate *filter_disabled;
};

enum cfg_socket_option_case { CFG_SOCKET_OPTION_INT = 4, CFG_SOCKET_OPTION_BYTES = 5 };
enum cfg_socket_option_state {
    CFG_SOCKET_BEFORE_BIND = 0,
    CFG_SOCKET_BOUND = 1,
    CFG_SOCKET_LISTENING = 2,
};
struct cfg_socket_option { /* config.core.v3.SocketOption */
    struct cfg_mark mark;
    struct span description;
    int64_t level, name;
    int value_case;
    int64_t int_value;
    struct span buf_value;
    int state; /* enum cfg_socket_option_state */
};

struct cfg_socket_options { /* config.core.v3.SocketOptionsOverride */
    struct cfg_socket_option *socket_options;
    size_t socket_options_count;
};
struct cfg_additional_address { /* config.listener.v3.AdditionalAddress */
    struct cfg_mark mark;
    struct cfg_address *address;
    struct cfg_socket_options *socket_options; /* NULL: the listener's */
};

struct cfg_listener { /* config.listener.v3.Listener */
    struct cfg_mark mark;
    struct span name; /* default: its address */
    struct cfg_address *address;
    struct cfg_additional_address *additional_addresses;
    size_t additional_addresses_count;
    struct span stat_prefix;
    struct cfg_filter_chain *filter_chains;
    size_t filter_chains_count;
    struct cfg_filter_chain *default_filter_chain;
    struct cfg_listener_filter *listener_filters;
    size_t listener_filters_count;
    struct cfg_duration listener_filters_timeout; /* default 15 s, 0: none */
    bool continue_on_listener_filters_timeout;
    struct cfg_u32 per_connection_buffer_limit_bytes; /* default 1 MiB */
    struct cfg_bool enable_reuse_port;                /* default true */
    struct cfg_u32 tcp_backlog_size;
    struct cfg_bool bind_to_port;
    struct cfg_bool use_original_dst; /* only false */
    struct cfg_bool transparent, freebind;
    struct cfg_u32 tcp_fast_open_queue_length;
    struct cfg_socket_option *socket_options;
    size_t socket_options_count;
    struct cfg_access_log *access_log;
    size_t access_log_count;
    struct cfg_metadata *metadata;
    bool ignore_global_conn_limit;
    bool bypass_overload_manager;
    struct cfg_u32 max_connections_to_accept_per_socket_event;
    int drain_type;        /* accepted; 1 MODIFY_ONLY */
    int traffic_direction; /* inert; 1 INBOUND, 2 OUTBOUND */
};
