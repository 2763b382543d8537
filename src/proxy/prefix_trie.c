/* prefix_trie: a binary trie in which a path without branches is one step.
 *
 *     0.0.0.0/0 ─┬─ 10.0.0.0/8 ──── 10.1.0.0/16
 *                └─ 192.168.0.0/23 ─┬─ 192.168.0.0/24      a node has the bits from the root on, and how
 *                   (no value)      └─ 192.168.1.0/24      many count; its children differ in the next bit
 *
 * I1  A child begins with all bits of its parent, and has more of them.
 * I2  A node without a value has two children.
 *
 * A lookup compares once for each node on its way, of which there are as many as prefixes that contain each other,
 * and forks, and no more than the address has bits. */
#include "proxy/prefix_trie.h"

#include <stdlib.h>
#include <string.h>

struct prefix_trie_node {
    struct prefix_trie_node *child[2];
    void *value;
    uint8_t len;
    uint8_t ip[16];
};

static bool bit_of(const uint8_t *ip, unsigned at) {
    return ip[at / 8] >> (7 - at % 8) & 1;
}

/* How many bits of two are alike, up to max. */
static unsigned common_bits(const uint8_t *a, const uint8_t *b, unsigned max) {
    unsigned bits = 0;
    while (bits < max && a[bits / 8] == b[bits / 8])
        bits += 8;
    if (bits >= max)
        return max;
    unsigned differ = (unsigned)(a[bits / 8] ^ b[bits / 8]);
    bits += (unsigned)__builtin_clz(differ) - 24;
    return bits < max ? bits : max;
}

static void keep_bits(uint8_t *ip, unsigned len) {
    for (unsigned i = 0; i < 16; i++) {
        unsigned kept = len > 8 * i ? len - 8 * i : 0;
        if (kept < 8)
            ip[i] &= (uint8_t)(0xff00U >> kept);
    }
}

bool prefix_parse(struct span text, uint32_t len, struct prefix *out) {
    struct address address;
    if (!address_parse(text, 0, &address))
        return false;
    *out = (struct prefix){.is_v6 = address.sa.any.sa_family == AF_INET6};
    if (len > (out->is_v6 ? 128U : 32U))
        return false;
    out->len = (uint8_t)len;
    if (out->is_v6)
        memcpy(out->ip, &address.sa.v6.sin6_addr, 16);
    else
        memcpy(out->ip, &address.sa.v4.sin_addr, 4);
    keep_bits(out->ip, len);
    return true;
}

static struct prefix_trie_node *node_new(const uint8_t *ip, unsigned len) {
    struct prefix_trie_node *node = calloc(1, sizeof *node);
    if (!node)
        return NULL;
    node->len = (uint8_t)len;
    memcpy(node->ip, ip, sizeof node->ip);
    keep_bits(node->ip, len);
    return node;
}

void **prefix_trie_at(struct prefix_trie *trie, const struct prefix *prefix) {
    struct prefix_trie_node **at = prefix->is_v6 ? &trie->v6 : &trie->v4;
    while (*at) {
        struct prefix_trie_node *node = *at;
        unsigned shorter = prefix->len < node->len ? prefix->len : node->len;
        unsigned common = common_bits(prefix->ip, node->ip, shorter);
        if (common < node->len) { /* the new one, or a fork, comes in between */
            struct prefix_trie_node *between = node_new(prefix->ip, common);
            if (!between)
                return NULL;
            if (common == prefix->len) {
                between->child[bit_of(node->ip, common)] = node;
                *at = between;
                return &between->value;
            }
            struct prefix_trie_node *made = node_new(prefix->ip, prefix->len);
            if (!made) {
                free(between);
                return NULL;
            }
            between->child[bit_of(node->ip, common)] = node;
            between->child[bit_of(prefix->ip, common)] = made;
            *at = between;
            return &made->value;
        }
        if (node->len == prefix->len)
            return &node->value;
        at = &node->child[bit_of(prefix->ip, node->len)];
    }
    *at = node_new(prefix->ip, prefix->len);
    return *at ? &(*at)->value : NULL;
}

void *prefix_trie_find(const struct prefix_trie *trie, const struct address *address) {
    const struct prefix_trie_node *node = NULL;
    const uint8_t *ip = NULL;
    if (address->len && address->sa.any.sa_family == AF_INET) {
        node = trie->v4;
        ip = (const uint8_t *)&address->sa.v4.sin_addr;
    } else if (address->len && address->sa.any.sa_family == AF_INET6) {
        bool is_mapped = IN6_IS_ADDR_V4MAPPED(&address->sa.v6.sin6_addr);
        node = is_mapped ? trie->v4 : trie->v6;
        ip = address->sa.v6.sin6_addr.s6_addr + (is_mapped ? 12 : 0);
    }
    unsigned bits = node && node == trie->v4 ? 32 : 128;
    void *best = NULL;
    while (node && common_bits(ip, node->ip, node->len) == node->len) {
        if (node->value)
            best = node->value;
        node = node->len < bits ? node->child[bit_of(ip, node->len)] : NULL;
    }
    return best;
}

static void free_below(struct prefix_trie_node *node, void (*free_value)(void *value)) {
    if (!node)
        return;
    free_below(node->child[0], free_value); /* no deeper than an address has bits */
    free_below(node->child[1], free_value);
    if (node->value)
        free_value(node->value);
    free(node);
}

void prefix_trie_fini(struct prefix_trie *trie, void (*free_value)(void *value)) {
    free_below(trie->v4, free_value);
    free_below(trie->v6, free_value);
    *trie = (struct prefix_trie){0};
}
