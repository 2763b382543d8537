/* filter_chain.c, filter_chain_match.c: which chain has a connection, told in stories and compared with the written
 * rules taken literally: at each condition, in Envoy's order, only the chains with the best match stay. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "config/network_config.h"
#include "proxy/filter_chain.h"
#include "proxy/listener.h"
#include "proxy/snapshot.h"

/* A last filter that nothing is served with here. */
static enum network_result serve(struct network_stream *n, void *self) {
    return NETWORK_DONE;
}
static const struct network_filter_itab itab = {.name = "test", .serve = serve};
static const struct network_filter_kind kind = {.itab = &itab, .schema = &cfg_schema_echo};
/* ... and some that may stand before it. */
static const struct network_filter_itab before_itab = {.name = "before"};
static const struct network_filter_kind before_kind = {.itab = &before_itab,
                                                       .schema = &cfg_schema_sni_cluster};
static const struct network_filter_kind wrapping_kind = {
    .itab = &before_itab, .schema = &cfg_schema_network_rate_limit, .wraps = true};

static uint64_t next_random(uint64_t *seed) {
    *seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
    return *seed >> 33;
}

/* ---- told as YAML ---- */

#define ECHO                                                                                       \
    "filters: [{name: e, typed_config: {\"@type\": "                                               \
    "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}]"

struct chains {
    struct config *config;
    struct snapshot snapshot;
    struct filter_chain_table *table;
    char *problems;
};

static void load(struct chains *chains, const char *listener) {
    struct cfg_problems problems = {0};
    char *text;
    assert_true(asprintf(&text,
                         "static_resources:\n"
                         "  listeners:\n"
                         "  - name: l\n"
                         "    address: {socket_address: {address: 127.0.0.1, port_value: 1}}\n"
                         "%s",
                         listener) > 0);
    int rc = config_load_text(SPAN_LIT("t.yaml"), span_of(text), span_none(), &chains->config,
                              &problems);
    free(text);
    chains->table = NULL;
    if (rc == 0) {
        chains->snapshot = (struct snapshot){.config = chains->config};
        chains->table = filter_chain_table_build(
            &config_bootstrap(chains->config)->static_resources->listeners[0], &chains->snapshot,
            SPAN_LIT("listener.l"), &problems);
    } else {
        chains->config = NULL;
    }
    size_t size;
    FILE *out = open_memstream(&chains->problems, &size);
    cfg_problems_print(&problems, out);
    assert_int_equal(fclose(out), 0);
    cfg_problems_fini(&problems);
}

static void unload(struct chains *chains) {
    filter_chain_table_free(chains->table);
    if (chains->config)
        config_unref(chains->config);
    free(chains->problems);
}

static void load_good(struct chains *chains, const char *listener) {
    load(chains, listener);
    if (!chains->table)
        print_error("%s\n", chains->problems);
    assert_non_null(chains->table);
}

static void refused(const char *listener, const char *why) {
    struct chains chains;
    load(&chains, listener);
    if (!strstr(chains.problems, why))
        print_error("%s\n", chains.problems);
    assert_non_null(strstr(chains.problems, why));
    assert_null(chains.table);
    unload(&chains);
}

static struct address address_of(const char *text) {
    struct address address;
    const char *colon = strrchr(text, ':');
    struct span host = span_make(text, (size_t)(colon - text));
    if (*text == '[')
        host = span_make(text + 1, host.len - 2);
    assert_true(address_parse(host, (uint16_t)strtoul(colon + 1, NULL, 10), &address));
    return address;
}

struct connection {
    const char *local, *remote, *direct; /* with ports; NULL: usual ones */
    const char *server_name;
    bool is_tls;
    const char *protocols[3];
};

static const char *pick(const struct chains *chains, struct connection of) {
    struct connection_info info = {.is_tls = of.is_tls, .server_name = span_of(of.server_name)};
    while (info.application_protocol_count < 3 && of.protocols[info.application_protocol_count]) {
        info.application_protocols[info.application_protocol_count] =
            span_of(of.protocols[info.application_protocol_count]);
        info.application_protocol_count++;
    }
    struct address local = address_of(of.local ? of.local : "10.0.0.1:443");
    struct address remote = address_of(of.remote ? of.remote : "192.0.2.7:5000");
    struct address direct = of.direct ? address_of(of.direct) : remote;
    const struct filter_chain *chain =
        filter_chain_find(chains->table, &info, &local, &remote, &direct);
    return chain ? chain->name.ptr : "none";
}

static void names_in_full_then_the_longest_tail(void **state) {
    struct chains chains;
    load_good(&chains,
              "    filter_chains:\n"
              "    - {name: full, filter_chain_match: {server_names: [a.example.com, "
              "B.EXAMPLE.COM]}, " ECHO "}\n"
              "    - {name: tail, filter_chain_match: {server_names: "
              "['*.example.com']}, " ECHO "}\n"
              "    - {name: long, filter_chain_match: {server_names: "
              "['*.a.example.com']}, " ECHO "}\n"
              "    - {name: com, filter_chain_match: {server_names: ['*.com']}, " ECHO "}\n"
              "    - {name: any, " ECHO "}\n");
    assert_null(chains.table->only);
    assert_string_equal(pick(&chains, (struct connection){.server_name = "a.example.com"}), "full");
    assert_string_equal(pick(&chains, (struct connection){.server_name = "b.example.com"}), "full");
    assert_string_equal(pick(&chains, (struct connection){.server_name = "c.example.com"}), "tail");
    assert_string_equal(pick(&chains, (struct connection){.server_name = "x.a.example.com"}),
                        "long");
    assert_string_equal(pick(&chains, (struct connection){.server_name = "x.b.example.com"}),
                        "tail");
    /* The tail itself is not below itself. */
    assert_string_equal(pick(&chains, (struct connection){.server_name = "example.com"}), "com");
    assert_string_equal(pick(&chains, (struct connection){.server_name = "com"}), "any");
    assert_string_equal(pick(&chains, (struct connection){.server_name = "a.example.org"}), "any");
    assert_string_equal(pick(&chains, (struct connection){.server_name = ".com"}), "com");
    assert_string_equal(pick(&chains, (struct connection){.server_name = "a."}), "any");
    assert_string_equal(pick(&chains, (struct connection){0}), "any");
    unload(&chains);
}

/* The most specific at the first condition that tells them apart: what comes later cannot bring a chain back. */
static void there_is_no_way_back(void **state) {
    struct chains chains;
    load_good(&chains,
              "    filter_chains:\n"
              "    - {name: port, filter_chain_match: {destination_port: 443, server_names: "
              "[a.com]}, " ECHO "}\n"
              "    - {name: name, filter_chain_match: {server_names: [b.com]}, " ECHO "}\n"
              "    default_filter_chain: {name: default, " ECHO "}\n");
    assert_string_equal(pick(&chains, (struct connection){.server_name = "a.com"}), "port");
    assert_string_equal(pick(&chains, (struct connection){.server_name = "b.com"}), "default");
    assert_string_equal(
        pick(&chains, (struct connection){.server_name = "b.com", .local = "10.0.0.1:80"}), "name");
    assert_string_equal(
        pick(&chains, (struct connection){.server_name = "a.com", .local = "10.0.0.1:80"}),
        "default");
    unload(&chains);
}

static void transports_and_protocols(void **state) {
    struct chains chains;
    load_good(
        &chains,
        "    filter_chains:\n"
        "    - {name: tls, filter_chain_match: {transport_protocol: tls}, " ECHO "}\n"
        "    - {name: h2, filter_chain_match: {transport_protocol: tls, application_protocols: "
        "[h2, http/1.1]}, " ECHO "}\n"
        "    - {name: redis, filter_chain_match: {transport_protocol: raw_buffer, "
        "application_protocols: [redis]}, " ECHO "}\n");
    assert_string_equal(pick(&chains, (struct connection){.is_tls = true}), "tls");
    assert_string_equal(
        pick(&chains, (struct connection){.is_tls = true, .protocols = {"grpc", "http/1.1"}}),
        "h2");
    assert_string_equal(pick(&chains, (struct connection){.protocols = {"redis"}}), "redis");
    assert_string_equal(pick(&chains, (struct connection){.protocols = {"h2c"}}), "none");
    assert_string_equal(pick(&chains, (struct connection){.protocols = {"h2"}}), "none");
    unload(&chains);
}

static void where_they_come_from(void **state) {
    struct chains chains;
    load_good(&chains,
              "    filter_chains:\n"
              "    - {name: balancer, filter_chain_match: {direct_source_prefix_ranges: "
              "[{address_prefix: 198.51.100.0, prefix_len: 24}]}, " ECHO "}\n"
              "    - {name: here, filter_chain_match: {source_type: SAME_IP_OR_LOOPBACK}, " ECHO
              "}\n"
              "    - {name: port, filter_chain_match: {source_ports: [6000], source_prefix_ranges: "
              "[{address_prefix: 192.0.2.0, prefix_len: 24}]}, " ECHO "}\n"
              "    - {name: net, filter_chain_match: {source_prefix_ranges: "
              "[{address_prefix: 192.0.0.0, prefix_len: 16}]}, " ECHO "}\n");
    assert_string_equal(pick(&chains, (struct connection){.direct = "198.51.100.4:1"}), "balancer");
    assert_string_equal(pick(&chains, (struct connection){.remote = "127.0.0.1:1"}), "here");
    assert_string_equal(pick(&chains, (struct connection){.remote = "[::1]:1"}), "here");
    assert_string_equal(pick(&chains, (struct connection){.remote = "10.0.0.1:1"}), "here");
    /* Only the one loopback address that everybody has, as on Envoy. */
    assert_string_equal(pick(&chains, (struct connection){.remote = "127.0.0.2:1"}), "none");
    assert_string_equal(pick(&chains, (struct connection){.remote = "192.0.2.9:6000"}), "port");
    assert_string_equal(pick(&chains, (struct connection){.remote = "192.0.2.9:6001"}), "none");
    assert_string_equal(pick(&chains, (struct connection){.remote = "192.0.3.9:6000"}), "net");
    unload(&chains);
}

static void a_chain_for_all_is_not_looked_for(void **state) {
    struct chains chains;
    load_good(&chains, "    filter_chains: [{name: one, filter_chain_match: {}, " ECHO "}]\n");
    assert_ptr_equal(chains.table->only, &chains.table->chains[0]);
    unload(&chains);
    load_good(&chains, "    default_filter_chain: {name: d, " ECHO "}\n");
    assert_ptr_equal(chains.table->only, chains.table->fallback);
    unload(&chains);
    load_good(&chains, "    filter_chains: [{name: one, filter_chain_match: {source_type: "
                       "EXTERNAL}, " ECHO "}]\n");
    assert_null(chains.table->only);
    unload(&chains);
}

static void what_cannot_be_is_said_with_its_line(void **state) {
    refused("    filter_chains: []\n", "t.yaml:3: static_resources.listeners[0]: the listener has "
                                       "no filter chain: filter_chains needs one\n");
    refused("    filter_chains:\n"
            "    - {filter_chain_match: {server_names: [a.com, '*.b.com']}, " ECHO "}\n"
            "    - {filter_chain_match: {server_names: ['*.B.com']}, " ECHO "}\n",
            "t.yaml:7: static_resources.listeners[0].filter_chains[1]: multiple filter chains with "
            "overlapping matching rules: the one of line 6 is for some of the same connections, as "
            "specifically as this one\n");
    refused("    filter_chains:\n    - {" ECHO "}\n    - {filter_chain_match: {}, " ECHO "}\n",
            "t.yaml:7: static_resources.listeners[0].filter_chains[1]: multiple filter chains");
    refused("    filter_chains:\n"
            "    - {filter_chain_match: {source_ports: [7, 7]}, " ECHO "}\n",
            "a value of filter_chain_match stands there twice");
    refused("    filter_chains:\n"
            "    - {filter_chain_match: {server_names: ['a*.com']}, " ECHO "}\n",
            "t.yaml:6: static_resources.listeners[0].filter_chains[0].filter_chain_match: "
            "server_names: 'a*.com' is neither a name nor '*.' and a name\n");
    refused("    filter_chains:\n"
            "    - {filter_chain_match: {server_names: ['*']}, " ECHO "}\n",
            "'*' is neither a name nor");
    refused("    filter_chains:\n"
            "    - {filter_chain_match: {prefix_ranges: [{address_prefix: 10.0.0.0, prefix_len: "
            "33}]}, " ECHO "}\n",
            "t.yaml:6: static_resources.listeners[0].filter_chains[0].filter_chain_match."
            "prefix_ranges[0]: '10.0.0.0' with a prefix_len of 33 is no range of addresses");
    refused("    filter_chains: [{filters: []}]\n", "filters is empty");
#define NAMED(type)                                                                                \
    "{name: f, typed_config: {\"@type\": type.googleapis.com/envoy.extensions." type "}}"
#define SNI NAMED("filters.network.sni_cluster.v3.SniCluster")
#define END NAMED("filters.network.echo.v3.Echo")
#define HCM                                                                                        \
    "{name: h, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.network."    \
    "http_connection_manager.v3.HttpConnectionManager, stat_prefix: s, route_config: {}, "         \
    "http_filters: []}}"
#define RATE                                                                                       \
    "{name: r, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.network."    \
    "local_ratelimit.v3.LocalRateLimit, stat_prefix: r, token_bucket: {max_tokens: 1, "            \
    "fill_interval: 1s}}}"
    refused("    filter_chains: [{filters: [" SNI "]}]\n",
            "the last filter of a chain serves the connection");
    refused("    filter_chains: [{filters: [" END ", " END "]}]\n",
            "'f' serves the connection, so it must be the last filter of its chain");
    refused("    filter_chains: [{filters: [" HCM ", " END "]}]\n",
            "the HTTP connection manager must be the last filter of its chain");
    refused("    filter_chains: [{filters: [" RATE ", " HCM "]}]\n",
            "'r' looks at the bytes of the connection, which the HTTP connection manager behind it "
            "reads by itself");
    refused("    filter_chains: [{use_proxy_proto: true, " ECHO "}]\n", "use_proxy_proto: ");
}

/* ---- compared ---- */

enum { TABLES = 3000, CHAINS_MAX = 6, CONNECTIONS = 12, VALUES_MAX = 2 };

/* What a chain may say, and a connection have, at each condition: few, so that they meet often. */
static const char *const prefixes[] = {"10.0.0.0/8",  "10.1.0.0/16", "10.1.2.0/24",
                                       "10.1.2.3/32", "0.0.0.0/0",   "2001:db8::/32"};
static const char *const ips[] = {"10.1.2.3",  "10.1.2.4",  "10.1.9.9",   "10.9.9.9",
                                  "127.0.0.1", "192.0.2.1", "2001:db8::1"};
static const char *const names[] = {"a.b.c", "*.b.c", "*.c", "b.c"};
static const char *const asked_names[] = {"a.b.c", "x.b.c", "b.c", "x.c", "c", NULL};
static const char *const protocols[] = {"h2", "http/1.1", "redis"};
static const uint32_t ports[] = {1, 2, 3};
static const char *const transports[] = {"tls", "raw_buffer"};

#define SOME_OF(array) (array)[next_random(seed) % COUNT_OF(array)]
/* Distinct ones, but for a few: a value that stands twice is refused. */
#define NTH_OF(array, first, i)                                                                    \
    (array)[((first) + (i) * (next_random(seed) % 16 != 0)) % COUNT_OF(array)]
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

struct cidr_set {
    struct cfg_cidr items[VALUES_MAX];
    size_t count;
};
struct made_chain {
    struct cfg_filter_chain_match match;
    struct cidr_set local, direct, source;
    struct span server_names[VALUES_MAX], application_protocols[VALUES_MAX];
    uint32_t source_ports[VALUES_MAX];
    struct cfg_filter filter;
};

/* None in half of all cases. */
static size_t how_many(uint64_t *seed) {
    return next_random(seed) % 2 ? 0 : 1 + next_random(seed) % VALUES_MAX;
}

static void make_cidrs(uint64_t *seed, struct cidr_set *set) {
    size_t first = next_random(seed);
    set->count = how_many(seed);
    for (size_t i = 0; i < set->count; i++) {
        const char *text = NTH_OF(prefixes, first, i), *slash = strchr(text, '/');
        set->items[i] =
            (struct cfg_cidr){.address_prefix = span_make(text, (size_t)(slash - text)),
                              .prefix_len = {true, (uint32_t)strtoul(slash + 1, NULL, 10)}};
    }
}

static void make_chain(uint64_t *seed, struct made_chain *made, struct cfg_filter_chain *chain) {
    memset(made, 0, sizeof *made);
    struct cfg_filter_chain_match *match = &made->match;
    make_cidrs(seed, &made->local);
    make_cidrs(seed, &made->direct);
    make_cidrs(seed, &made->source);
    match->prefix_ranges = made->local.items;
    match->prefix_ranges_count = made->local.count;
    match->direct_source_prefix_ranges = made->direct.items;
    match->direct_source_prefix_ranges_count = made->direct.count;
    match->source_prefix_ranges = made->source.items;
    match->source_prefix_ranges_count = made->source.count;
    match->server_names = made->server_names;
    match->server_names_count = how_many(seed);
    match->application_protocols = made->application_protocols;
    match->application_protocols_count = how_many(seed);
    match->source_ports = made->source_ports;
    match->source_ports_count = how_many(seed);
    size_t first = next_random(seed);
    for (size_t i = 0; i < VALUES_MAX; i++) {
        made->server_names[i] = span_of(NTH_OF(names, first, i));
        made->application_protocols[i] = span_of(NTH_OF(protocols, first, i));
        made->source_ports[i] = NTH_OF(ports, first, i);
    }
    if (next_random(seed) % 3 == 0)
        match->destination_port = (struct cfg_u32){true, 1 + (uint32_t)(next_random(seed) % 2)};
    if (next_random(seed) % 3 == 0)
        match->transport_protocol = span_of(SOME_OF(transports));
    if (next_random(seed) % 2)
        match->source_type = (int)(next_random(seed) % 3);
    made->filter =
        (struct cfg_filter){.name = SPAN_LIT("e"), .typed_config = {.schema = &cfg_schema_echo}};
    *chain = (struct cfg_filter_chain){
        .filter_chain_match = match, .filters = &made->filter, .filters_count = 1};
}

struct asked {
    struct connection_info info;
    struct address local, remote, direct;
};

static void make_asked(uint64_t *seed, struct asked *asked) {
    memset(asked, 0, sizeof *asked);
    (void)address_parse(span_of(SOME_OF(ips)), (uint16_t)(1 + next_random(seed) % 3),
                        &asked->local);
    (void)address_parse(span_of(SOME_OF(ips)), (uint16_t)(1 + next_random(seed) % 3),
                        &asked->remote);
    (void)address_parse(span_of(SOME_OF(ips)), 9, &asked->direct);
    asked->info.server_name = span_of(SOME_OF(asked_names));
    asked->info.is_tls = next_random(seed) % 2;
    asked->info.application_protocol_count = (uint32_t)(next_random(seed) % 3);
    for (uint32_t i = 0; i < asked->info.application_protocol_count; i++)
        asked->info.application_protocols[i] = span_of(SOME_OF(protocols));
}

/* How well one condition of a chain is met: -1 not at all, 0 it has none, else the more the better. */
static int of_cidrs(const struct cfg_cidr *items, size_t count, const struct address *address) {
    int best = count ? -1 : 0;
    for (size_t i = 0; i < count; i++) {
        struct address prefix;
        assert_true(address_parse(items[i].address_prefix, 0, &prefix));
        if (prefix.sa.any.sa_family != address->sa.any.sa_family)
            continue;
        bool v6 = prefix.sa.any.sa_family == AF_INET6;
        const uint8_t *a =
            v6 ? prefix.sa.v6.sin6_addr.s6_addr : (const uint8_t *)&prefix.sa.v4.sin_addr;
        const uint8_t *b =
            v6 ? address->sa.v6.sin6_addr.s6_addr : (const uint8_t *)&address->sa.v4.sin_addr;
        bool same = true;
        for (uint32_t bit = 0; bit < items[i].prefix_len.value; bit++)
            same &= !((a[bit / 8] ^ b[bit / 8]) >> (7 - bit % 8) & 1);
        if (same && (int)items[i].prefix_len.value + 1 > best)
            best = (int)items[i].prefix_len.value + 1;
    }
    return best;
}

static int of_names(const struct span *items, size_t count, struct span name) {
    int best = count ? -1 : 0;
    for (size_t i = 0; i < count; i++) {
        bool is_tail = items[i].ptr[0] == '*';
        struct span rest = is_tail ? span_from(items[i], 1) : items[i];
        bool met = is_tail ? span_ends_with(name, rest) : span_eq(name, rest);
        int how = is_tail ? (int)rest.len : 1000;
        if (met && how > best)
            best = how;
    }
    return best;
}

static int of_protocols(const struct span *items, size_t count,
                        const struct connection_info *info) {
    int best = count ? -1 : 0;
    for (size_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < info->application_protocol_count; j++)
            if (span_eq(items[i], info->application_protocols[j]) && 100 - (int)j > best)
                best = 100 - (int)j; /* the client's order */
    return best;
}

static int of_ports(const uint32_t *items, size_t count, uint16_t port) {
    int best = count ? -1 : 0;
    for (size_t i = 0; i < count; i++)
        best = items[i] == port ? 1 : best;
    return best;
}

static int met(const struct cfg_filter_chain_match *match, const struct asked *asked,
               int condition) {
    char local[ADDRESS_TEXT_MAX], remote[ADDRESS_TEXT_MAX];
    struct span transport = asked->info.is_tls ? SPAN_LIT("tls") : SPAN_LIT("raw_buffer");
    switch (condition) {
    case 0:
        return of_ports(&match->destination_port.value, match->destination_port.set,
                        address_port(&asked->local));
    case 1:
        return of_cidrs(match->prefix_ranges, match->prefix_ranges_count, &asked->local);
    case 2:
        return of_names(match->server_names, match->server_names_count, asked->info.server_name);
    case 3:
        return match->transport_protocol.len == 0              ? 0
               : span_eq(match->transport_protocol, transport) ? 1
                                                               : -1;
    case 4:
        return of_protocols(match->application_protocols, match->application_protocols_count,
                            &asked->info);
    case 5:
        return of_cidrs(match->direct_source_prefix_ranges,
                        match->direct_source_prefix_ranges_count, &asked->direct);
    case 6: {
        (void)address_host_text(&asked->local, local);
        (void)address_host_text(&asked->remote, remote);
        bool is_local = strcmp(remote, "127.0.0.1") == 0 || strcmp(remote, local) == 0;
        return match->source_type == CFG_SOURCE_ANY                                        ? 0
               : match->source_type == (is_local ? CFG_SOURCE_LOCAL : CFG_SOURCE_EXTERNAL) ? 1
                                                                                           : -1;
    }
    case 7:
        return of_cidrs(match->source_prefix_ranges, match->source_prefix_ranges_count,
                        &asked->remote);
    default:
        return of_ports(match->source_ports, match->source_ports_count,
                        address_port(&asked->remote));
    }
}

/* By the rules; more than one is left only when two chains say the same. */
static int by_the_rules(const struct cfg_filter_chain *chains, size_t count,
                        const struct asked *asked) {
    bool in[CHAINS_MAX];
    memset(in, true, sizeof in);
    for (int condition = 0; condition < 9; condition++) {
        int best = -1;
        for (size_t i = 0; i < count; i++) {
            int how = in[i] ? met(chains[i].filter_chain_match, asked, condition) : -1;
            best = how > best ? how : best;
        }
        for (size_t i = 0; i < count; i++)
            in[i] &= best >= 0 && met(chains[i].filter_chain_match, asked, condition) == best;
    }
    int found = -1;
    for (size_t i = 0; i < count; i++) {
        if (!in[i])
            continue;
        assert_int_equal(found, -1); /* else it should have been refused */
        found = (int)i;
    }
    return found;
}

static bool share_span(const struct span *a, size_t a_count, const struct span *b, size_t b_count) {
    bool same = a_count == 0 && b_count == 0;
    for (size_t i = 0; i < a_count; i++)
        for (size_t j = 0; j < b_count; j++)
            same |= span_eq(a[i], b[j]);
    return same;
}

static bool share_cidr(const struct cfg_cidr *a, size_t a_count, const struct cfg_cidr *b,
                       size_t b_count) {
    bool same = a_count == 0 && b_count == 0;
    for (size_t i = 0; i < a_count; i++)
        for (size_t j = 0; j < b_count; j++)
            same |= span_eq(a[i].address_prefix, b[j].address_prefix);
    return same;
}

static bool share_port(const uint32_t *a, size_t a_count, const uint32_t *b, size_t b_count) {
    bool same = a_count == 0 && b_count == 0;
    for (size_t i = 0; i < a_count; i++)
        for (size_t j = 0; j < b_count; j++)
            same |= a[i] == b[j];
    return same;
}

#define SHARE(how, field) how(a->field, a->field##_count, b->field, b->field##_count)

static bool overlap(const struct cfg_filter_chain_match *a,
                    const struct cfg_filter_chain_match *b) {
    return share_port(&a->destination_port.value, a->destination_port.set,
                      &b->destination_port.value, b->destination_port.set) &&
           SHARE(share_cidr, prefix_ranges) && SHARE(share_span, server_names) &&
           span_eq(a->transport_protocol, b->transport_protocol) &&
           SHARE(share_span, application_protocols) &&
           SHARE(share_cidr, direct_source_prefix_ranges) && a->source_type == b->source_type &&
           SHARE(share_cidr, source_prefix_ranges) && SHARE(share_port, source_ports);
}

/* A value that stands twice in one list is entered twice. */
static bool repeats(const struct made_chain *made) {
    const struct cfg_filter_chain_match *match = &made->match;
    return (match->server_names_count == 2 &&
            span_eq(made->server_names[0], made->server_names[1])) ||
           (match->application_protocols_count == 2 &&
            span_eq(made->application_protocols[0], made->application_protocols[1])) ||
           (match->source_ports_count == 2 && made->source_ports[0] == made->source_ports[1]) ||
           (made->local.count == 2 && share_cidr(made->local.items, 1, made->local.items + 1, 1)) ||
           (made->direct.count == 2 &&
            share_cidr(made->direct.items, 1, made->direct.items + 1, 1)) ||
           (made->source.count == 2 &&
            share_cidr(made->source.items, 1, made->source.items + 1, 1));
}

static void as_the_rules_say(void **state) {
    static struct made_chain made[CHAINS_MAX];
    static struct cfg_filter_chain chains[CHAINS_MAX];
    uint64_t random = 1, *seed = &random;
    unsigned built = 0, matched = 0;
    for (int table = 0; table < TABLES; table++) {
        size_t count = 1 + next_random(seed) % CHAINS_MAX;
        bool wrong = false;
        for (size_t i = 0; i < count; i++) {
            make_chain(seed, &made[i], &chains[i]);
            wrong |= repeats(&made[i]);
            for (size_t j = 0; j < i; j++)
                wrong |= overlap(&made[i].match, &made[j].match);
        }
        const struct cfg_listener config = {.filter_chains = chains, .filter_chains_count = count};
        struct snapshot snapshot = {0};
        struct cfg_problems problems = {0};
        struct filter_chain_table *of =
            filter_chain_table_build(&config, &snapshot, SPAN_LIT("listener.l"), &problems);
        assert_int_equal(of == NULL, wrong);
        cfg_problems_fini(&problems);
        for (int i = 0; of && i < CONNECTIONS; i++) {
            struct asked asked;
            make_asked(seed, &asked);
            const struct filter_chain *chain =
                filter_chain_find(of, &asked.info, &asked.local, &asked.remote, &asked.direct);
            int expected = by_the_rules(chains, count, &asked);
            assert_int_equal(chain ? chain - of->chains : -1, expected);
            matched += expected >= 0;
        }
        built += of != NULL;
        filter_chain_table_free(of);
    }
    assert_true(built > TABLES / 3); /* else little was compared */
    assert_true(matched > TABLES);
}

int main(void) {
    network_filter_register(&kind);
    network_filter_register(&before_kind);
    network_filter_register(&wrapping_kind);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_in_full_then_the_longest_tail),
        cmocka_unit_test(there_is_no_way_back),
        cmocka_unit_test(transports_and_protocols),
        cmocka_unit_test(where_they_come_from),
        cmocka_unit_test(a_chain_for_all_is_not_looked_for),
        cmocka_unit_test(what_cannot_be_is_said_with_its_line),
        cmocka_unit_test(as_the_rules_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
