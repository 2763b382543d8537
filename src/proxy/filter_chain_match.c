/* filter_chain_match: which of many chains a connection is for, in as many steps as there are conditions.
 *
 *     node ─ port 443 ──► node ─ 10.0.0.0/8 ──► node ─ "a.example.com" ──► ... ──► node: the chain
 *       └─── any ───────► node   └─ any ─────► node └─ ".example.com" ──► ...
 *
 * A level of nodes for each condition, in Envoy's order. A node of a level has what chains say there: a map of names
 * or ports, or tries of prefixes, and `any` for the chains that say nothing. A lookup takes the most specific one that
 * is there, and never comes back to another: so it is what Envoy finds, and not always what a person would call the
 * best match. A chain with several values at several levels is entered for each combination of them, as on Envoy.
 *
 * I1  Each node is the child of one other.
 * I2  A node of the last level has a chain; all others have none.
 *
 * Names have two forms: "a.b" in full, and ".b" for what was written "*.b", which is asked for with each tail of the
 * name that begins with a dot, the longest first. */
#include <stdlib.h>

#include "proxy/filter_chain.h"
#include "proxy/listener.h"
#include "proxy/prefix_trie.h"

enum level {
    LEVEL_PORT,
    LEVEL_ADDRESS,
    LEVEL_SERVER_NAME,
    LEVEL_TRANSPORT,
    LEVEL_APPLICATION,
    LEVEL_DIRECT_SOURCE,
    LEVEL_SOURCE_TYPE,
    LEVEL_SOURCE,
    LEVEL_SOURCE_PORT,
    LEVEL_LEAF,
};

struct map_entry {
    uint64_t hash;
    char *key; /* owned */
    size_t len;
    struct filter_chain_node *node; /* owned; NULL: the slot is free */
};

struct filter_chain_node {
    struct map_entry *entries; /* open addressing; a power of two of them */
    uint32_t size, count;
    struct prefix_trie prefixes;
    struct filter_chain_node *any;
    const struct filter_chain *chain;
};

/* ---- maps ---- */

static struct map_entry *slot_of(const struct filter_chain_node *node, uint64_t hash,
                                 struct span key) {
    for (uint32_t i = (uint32_t)hash;; i++) {
        struct map_entry *entry = &node->entries[i & (node->size - 1)];
        if (!entry->node || (entry->hash == hash && entry->len == key.len &&
                             memcmp(entry->key, key.ptr, key.len) == 0))
            return entry;
    }
}

static const struct filter_chain_node *map_find(const struct filter_chain_node *node,
                                                struct span key) {
    return node->count ? slot_of(node, span_hash(SPAN_HASH, key), key)->node : NULL;
}

static bool map_grow(struct filter_chain_node *node) {
    uint32_t size = node->size ? 2 * node->size : 4;
    struct filter_chain_node grown = {.entries = calloc(size, sizeof *node->entries), .size = size};
    if (!grown.entries)
        return false;
    for (uint32_t i = 0; i < node->size; i++) {
        struct map_entry *entry = &node->entries[i];
        if (entry->node)
            *slot_of(&grown, entry->hash, span_make(entry->key, entry->len)) = *entry;
    }
    free(node->entries);
    node->entries = grown.entries;
    node->size = size;
    return true;
}

/* NULL when memory is short. */
static struct filter_chain_node *map_at(struct filter_chain_node *node, struct span key) {
    uint64_t hash = span_hash(SPAN_HASH, key);
    if (2 * (node->count + 1) > node->size && !map_grow(node))
        return NULL;
    struct map_entry *entry = slot_of(node, hash, key);
    if (entry->node)
        return entry->node;
    struct filter_chain_node *made = calloc(1, sizeof *made);
    char *copy = malloc(key.len + 1);
    if (!made || !copy) {
        free(made);
        free(copy);
        return NULL;
    }
    memcpy(copy, key.ptr, key.len);
    *entry = (struct map_entry){.hash = hash, .key = copy, .len = key.len, .node = made};
    node->count++;
    return made;
}

static struct filter_chain_node *any_at(struct filter_chain_node *node) {
    if (!node->any)
        node->any = calloc(1, sizeof *node->any);
    return node->any;
}

static struct filter_chain_node *prefix_at(struct filter_chain_node *node,
                                           const struct prefix *prefix) {
    void **at = prefix_trie_at(&node->prefixes, prefix);
    if (at && !*at)
        *at = calloc(1, sizeof(struct filter_chain_node));
    return at ? *at : NULL;
}

static void node_free(void *arg) {
    struct filter_chain_node *node = arg;
    if (!node)
        return;
    for (uint32_t i = 0; i < node->size; i++) {
        node_free(node->entries[i].node);
        free(node->entries[i].key);
    }
    free(node->entries);
    prefix_trie_fini(&node->prefixes, node_free);
    node_free(node->any);
    free(node);
}

void filter_chain_index_free(struct filter_chain_node *root) {
    node_free(root);
}

/* ---- building ---- */

struct indexing {
    struct cfg_problems *problems;
    const struct filter_chain *chain;
    const struct cfg_filter_chain_match *match;
    bool failed; /* said already */
};

static const struct cfg_filter_chain_match no_conditions;

static void enter(struct indexing *in, struct filter_chain_node *node, enum level level);

static void enter_child(struct indexing *in, struct filter_chain_node *child, enum level level) {
    if (child)
        enter(in, child, level + 1);
    else
        in->problems->lost = true;
}

static void enter_port(struct indexing *in, struct filter_chain_node *node, uint32_t port,
                       enum level level) {
    uint16_t key = (uint16_t)port;
    enter_child(in, map_at(node, span_make(&key, sizeof key)), level);
}

static void enter_name(struct indexing *in, struct filter_chain_node *node, struct span name,
                       enum level level) {
    enter_child(in, map_at(node, name), level);
}

static void enter_server_name(struct indexing *in, struct filter_chain_node *node, struct span name,
                              enum level level) {
    char lower[256]; /* a name in DNS has 253 */
    struct span rest = span_starts_with(name, SPAN_LIT("*.")) ? span_from(name, 1) : name;
    if (span_find(rest, '*') >= 0 || rest.len == 0 || rest.len >= sizeof lower) {
        if (!in->failed)
            cfg_problem_add(in->problems, CFG_PROBLEM_INVALID, &in->match->mark,
                            "server_names: '%.*s' is neither a name nor '*.' and a name",
                            (int)name.len, name.ptr);
        in->failed = true;
        return;
    }
    for (size_t i = 0; i < rest.len; i++)
        lower[i] =
            (char)(rest.ptr[i] >= 'A' && rest.ptr[i] <= 'Z' ? rest.ptr[i] | 0x20 : rest.ptr[i]);
    enter_name(in, node, span_make(lower, rest.len), level);
}

static void enter_prefixes(struct indexing *in, struct filter_chain_node *node,
                           const struct cfg_cidr *ranges, size_t count, enum level level) {
    for (size_t i = 0; i < count; i++) {
        struct prefix prefix;
        const struct cfg_cidr *range = &ranges[i];
        if (prefix_parse(range->address_prefix, range->prefix_len.value, &prefix)) {
            enter_child(in, prefix_at(node, &prefix), level);
            continue;
        }
        if (!in->failed)
            cfg_problem_add(in->problems, CFG_PROBLEM_INVALID, &range->mark,
                            "'%.*s' with a prefix_len of %u is no range of addresses; one is "
                            "address_prefix: 10.0.0.0, prefix_len: 8",
                            (int)range->address_prefix.len, range->address_prefix.ptr,
                            range->prefix_len.value);
        in->failed = true;
    }
}

static void enter_leaf(struct indexing *in, struct filter_chain_node *node) {
    if (!node->chain) {
        node->chain = in->chain;
        return;
    }
    if (in->failed)
        return;
    in->failed = true;
    if (node->chain == in->chain)
        cfg_problem_add(in->problems, CFG_PROBLEM_INVALID, &in->match->mark,
                        "a value of filter_chain_match stands there twice");
    else
        cfg_problem_add(in->problems, CFG_PROBLEM_INVALID, &in->chain->config->mark,
                        "multiple filter chains with overlapping matching rules: the one of line "
                        "%u is for some of the same connections, as specifically as this one",
                        node->chain->config->mark.line);
}

static void enter(struct indexing *in, struct filter_chain_node *node, enum level level) {
    const struct cfg_filter_chain_match *match = in->match;
    size_t entered = 0;
    switch (level) {
    case LEVEL_PORT:
        if ((entered = match->destination_port.set) != 0)
            enter_port(in, node, match->destination_port.value, level);
        break;
    case LEVEL_ADDRESS:
        entered = match->prefix_ranges_count;
        enter_prefixes(in, node, match->prefix_ranges, entered, level);
        break;
    case LEVEL_SERVER_NAME:
        entered = match->server_names_count;
        for (size_t i = 0; i < entered; i++)
            enter_server_name(in, node, match->server_names[i], level);
        break;
    case LEVEL_TRANSPORT:
        if ((entered = match->transport_protocol.len) != 0)
            enter_name(in, node, match->transport_protocol, level);
        break;
    case LEVEL_APPLICATION:
        entered = match->application_protocols_count;
        for (size_t i = 0; i < entered; i++)
            enter_name(in, node, match->application_protocols[i], level);
        break;
    case LEVEL_DIRECT_SOURCE:
        entered = match->direct_source_prefix_ranges_count;
        enter_prefixes(in, node, match->direct_source_prefix_ranges, entered, level);
        break;
    case LEVEL_SOURCE_TYPE:
        if ((entered = match->source_type != CFG_SOURCE_ANY) != 0)
            enter_port(in, node, (uint32_t)match->source_type, level);
        break;
    case LEVEL_SOURCE:
        entered = match->source_prefix_ranges_count;
        enter_prefixes(in, node, match->source_prefix_ranges, entered, level);
        break;
    case LEVEL_SOURCE_PORT:
        entered = match->source_ports_count;
        for (size_t i = 0; i < entered; i++)
            enter_port(in, node, match->source_ports[i], level);
        break;
    case LEVEL_LEAF:
        enter_leaf(in, node);
        return;
    }
    if (entered == 0)
        enter_child(in, any_at(node), level);
}

void filter_chain_index(struct filter_chain_table *table, struct cfg_problems *problems) {
    struct filter_chain_node *root = calloc(1, sizeof *root);
    table->root = root;
    if (!root) {
        problems->lost = true;
        return;
    }
    for (uint32_t i = 0; i < table->count; i++) {
        const struct filter_chain *chain = &table->chains[i];
        if (chain == table->fallback)
            continue;
        const struct cfg_filter_chain_match *match = chain->config->filter_chain_match;
        struct indexing in = {
            .problems = problems, .chain = chain, .match = match ? match : &no_conditions};
        enter(&in, root, LEVEL_PORT);
    }
}

/* ---- looking ---- */

static const struct filter_chain_node *or_any(const struct filter_chain_node *node,
                                              const struct filter_chain_node *found) {
    return found ? found : node->any;
}

static const struct filter_chain_node *find_port(const struct filter_chain_node *node,
                                                 uint16_t port) {
    return or_any(node, map_find(node, span_make(&port, sizeof port)));
}

static const struct filter_chain_node *find_address(const struct filter_chain_node *node,
                                                    const struct address *address) {
    return or_any(node, prefix_trie_find(&node->prefixes, address));
}

static const struct filter_chain_node *find_server_name(const struct filter_chain_node *node,
                                                        struct span name) {
    if (node->count == 0 || name.len == 0)
        return node->any;
    const struct filter_chain_node *found = map_find(node, name);
    for (size_t at = 1; !found && at + 1 < name.len; at++)
        if (name.ptr[at] == '.')
            found = map_find(node, span_from(name, at));
    return or_any(node, found);
}

static const struct filter_chain_node *find_application(const struct filter_chain_node *node,
                                                        const struct connection_info *info) {
    const struct filter_chain_node *found = NULL;
    for (uint32_t i = 0; !found && i < info->application_protocol_count; i++)
        found = map_find(node, info->application_protocols[i]);
    return or_any(node, found);
}

/* The bytes of an IP address, IPv4 also where it comes in IPv6's clothes. */
static struct span ip_of(const struct address *address) {
    if (address->len == 0)
        return span_none();
    if (address->sa.any.sa_family == AF_INET)
        return span_make(&address->sa.v4.sin_addr, 4);
    const struct in6_addr *v6 = &address->sa.v6.sin6_addr;
    return IN6_IS_ADDR_V4MAPPED(v6) ? span_make(v6->s6_addr + 12, 4) : span_make(v6->s6_addr, 16);
}

/* As Envoy has it: 127.0.0.1 and no other of 127.0.0.0/8. */
static bool is_local(const struct address *local, const struct address *remote) {
    static const char v4_loopback[4] = {127, 0, 0, 1};
    struct span ip = ip_of(remote);
    return span_eq(ip, span_make(v4_loopback, 4)) ||
           span_eq(ip, span_make(in6addr_loopback.s6_addr, 16)) ||
           (ip.len && span_eq(ip, ip_of(local)));
}

static const struct filter_chain_node *find_source_type(const struct filter_chain_node *node,
                                                        const struct address *local,
                                                        const struct address *remote) {
    if (node->count == 0)
        return node->any;
    return find_port(node, is_local(local, remote) ? CFG_SOURCE_LOCAL : CFG_SOURCE_EXTERNAL);
}

static uint16_t port_of(const struct address *address) {
    return address->len ? address_port(address) : 0;
}

const struct filter_chain *filter_chain_find(const struct filter_chain_table *table,
                                             const struct connection_info *info,
                                             const struct address *local,
                                             const struct address *remote,
                                             const struct address *direct) {
    const struct filter_chain_node *node = find_port(table->root, port_of(local));
    struct span transport = info->is_tls ? SPAN_LIT("tls") : SPAN_LIT("raw_buffer");
    if (node)
        node = find_address(node, local);
    if (node)
        node = find_server_name(node, info->server_name);
    if (node)
        node = or_any(node, map_find(node, transport));
    if (node)
        node = find_application(node, info);
    if (node)
        node = find_address(node, direct);
    if (node)
        node = find_source_type(node, local, remote);
    if (node)
        node = find_address(node, remote);
    if (node)
        node = find_port(node, port_of(remote));
    return node ? node->chain : table->fallback;
}
