/* schema_chain_match: conditions on connections: filter chains', listener filters'. */
#include "config/load.h"
#include "config/schema_tables.h"

static const struct cfg_field cidr_fields[] = {
    FIELD(struct cfg_cidr, 1, address_prefix, CFG_STRING, .rules = CFG_REQUIRED,
          .doc = "An IPv4 or IPv6 address."),
    WRAPPER(struct cfg_cidr, 2, prefix_len, CFG_U32, .rules = CFG_RANGE, .min = 0, .max = 128,
            .default_text = "0", .doc = "How many bits of it count."),
};
static const struct cfg_schema cidr_schema = {
    .name = "envoy.config.core.v3.CidrRange",
    .doc = "Addresses that begin alike.",
    .size = sizeof(struct cfg_cidr),
    MARK(struct cfg_cidr),
    FIELDS(cidr_fields),
};

/* ---- filter chains ---- */

static const struct cfg_enum_value source_type_values[] = {
    {CFG_SOURCE_ANY, "ANY", CFG_SUPPORTED},
    {CFG_SOURCE_LOCAL, "SAME_IP_OR_LOOPBACK", CFG_SUPPORTED},
    {CFG_SOURCE_EXTERNAL, "EXTERNAL", CFG_SUPPORTED},
};
static const struct cfg_enum source_type_enum = ENUM_TABLE(
    "envoy.config.listener.v3.FilterChainMatch.ConnectionSourceType", source_type_values);

static const struct cfg_field match_fields[] = {
    LIST(struct cfg_filter_chain_match, 3, prefix_ranges, struct cfg_cidr, cidr_schema,
         .doc = "Addresses that were connected to."),
    LIST(struct cfg_filter_chain_match, 6, source_prefix_ranges, struct cfg_cidr, cidr_schema,
         .doc = "Addresses of clients, as a PROXY header has them if there is one."),
    SCALARS(struct cfg_filter_chain_match, 7, source_ports, CFG_U32, WITHIN(1, 65535),
            .doc = "Ports of clients."),
    WRAPPER(struct cfg_filter_chain_match, 8, destination_port, CFG_U32, WITHIN(1, 65535),
            .doc = "Port that was connected to."),
    FIELD(struct cfg_filter_chain_match, 9, transport_protocol, CFG_STRING,
          .doc = "`tls` or `raw_buffer`, as listener filters recognised it."),
    SCALARS(struct cfg_filter_chain_match, 10, application_protocols, CFG_STRING,
            .doc = "What the client offers by ALPN, or what listener filters recognised: "
                   "`http/1.1`, `h2`, `h2c`, `redis`."),
    SCALARS(struct cfg_filter_chain_match, 11, server_names, CFG_STRING,
            .doc = "What the client asks for by SNI: `a.example.com`, or `*.example.com` for all "
                   "names below."),
    ENUM(struct cfg_filter_chain_match, 12, source_type, source_type_enum, .default_text = "ANY",
         .doc = "Clients of this machine, or all others."),
    LIST(struct cfg_filter_chain_match, 13, direct_source_prefix_ranges, struct cfg_cidr,
         cidr_schema, .doc = "Addresses of peers, whatever a PROXY header says."),
};
static const struct cfg_missing match_missing[] = {{4, "address_suffix"}, {5, "suffix_len"}};
const struct cfg_schema cfg_schema_filter_chain_match = {
    .name = "envoy.config.listener.v3.FilterChainMatch",
    .doc = "What a connection must be like. Conditions are looked at in a fixed order: "
           "destination_port, "
           "prefix_ranges, server_names, transport_protocol, application_protocols, "
           "direct_source_prefix_ranges, source_type, source_prefix_ranges, source_ports. At each, "
           "only "
           "the chains with the most specific match go on.",
    .size = sizeof(struct cfg_filter_chain_match),
    MARK(struct cfg_filter_chain_match),
    FIELDS(match_fields),
    MISSING(match_missing),
};

/* ---- listener filters ---- */

static const struct cfg_field port_range_fields[] = {
    FIELD(struct cfg_port_range, 1, start, CFG_I32, .doc = "First."),
    FIELD(struct cfg_port_range, 2, end, CFG_I32, .doc = "One behind the last."),
};
static const struct cfg_schema port_range_schema = {
    .name = "envoy.type.v3.Int32Range",
    .doc = "Numbers from start to before end.",
    .size = sizeof(struct cfg_port_range),
    FIELDS(port_range_fields),
};

static const struct cfg_field predicate_set_fields[] = {
    LIST(struct cfg_listener_predicate_set, 1, rules, struct cfg_listener_predicate,
         cfg_schema_listener_predicate, .rules = CFG_REQUIRED, .doc = "Two or more."),
};
static void check_set(struct cfg_loader *loader, const struct cfg_tree *node,
                      const struct cfg_path *path, void *message) {
    const struct cfg_listener_predicate_set *set = message;
    if (set->rules_count == 1)
        cfg_report(loader, CFG_PROBLEM_INVALID, node, path,
                   "has one rule, and needs two or more: write that rule by itself");
}

static const struct cfg_schema predicate_set_schema = {
    .name = "envoy.config.listener.v3.ListenerFilterChainMatchPredicate.MatchSet",
    .doc = "Several conditions.",
    .size = sizeof(struct cfg_listener_predicate_set),
    FIELDS(predicate_set_fields),
    .check = check_set,
};

#define RULE ONEOF(struct cfg_listener_predicate, rule)
static const struct cfg_field predicate_fields[] = {
    POINTER(struct cfg_listener_predicate, 1, or_match, struct cfg_listener_predicate_set,
            predicate_set_schema, RULE, .rules = CFG_ONEOF_REQUIRED, .doc = "One of them holds."),
    POINTER(struct cfg_listener_predicate, 2, and_match, struct cfg_listener_predicate_set,
            predicate_set_schema, RULE, .rules = CFG_ONEOF_REQUIRED, .doc = "All of them hold."),
    POINTER(struct cfg_listener_predicate, 3, not_match, struct cfg_listener_predicate,
            cfg_schema_listener_predicate, RULE, .rules = CFG_ONEOF_REQUIRED,
            .doc = "It does not hold."),
    FIELD(struct cfg_listener_predicate, 4, any_match, CFG_BOOL, RULE,
          .rules = CFG_ONEOF_REQUIRED | CFG_CONST_TRUE, .doc = "Always."),
    POINTER(struct cfg_listener_predicate, 5, destination_port_range, struct cfg_port_range,
            port_range_schema, RULE, .rules = CFG_ONEOF_REQUIRED,
            .doc = "Ports that were connected to."),
};
const struct cfg_schema cfg_schema_listener_predicate = {
    .name = "envoy.config.listener.v3.ListenerFilterChainMatchPredicate",
    .doc = "A condition on a connection.",
    .size = sizeof(struct cfg_listener_predicate),
    MARK(struct cfg_listener_predicate),
    FIELDS(predicate_fields),
};
