/* prefix_trie: what belongs to the longest of many address prefixes that an address begins with.
 *
 * Ownership  Keys are copied; values are the caller's.
 * Threads    Built by one thread, then read by all. */
#pragma once
#include "io/address.h"

struct prefix_trie_node;
struct prefix_trie { /* private; zeroed: empty */
    struct prefix_trie_node *v4, *v6;
};

/* An address, and how many of its bits count. */
struct prefix {
    uint8_t ip[16]; /* the first four of IPv4; bits that do not count are 0 */
    bool is_v6;
    uint8_t len; /* bits */
};
/* False: text is no address, or len more than it has bits. */
bool prefix_parse(struct span text, uint32_t len, struct prefix *out);

/* Where the value of a prefix is kept: NULL in it when it is new. NULL when memory is short. */
MUST_CHECK void **prefix_trie_at(struct prefix_trie *trie, const struct prefix *prefix);
/* Of the longest prefix with a value; NULL: none. An IPv4 address in IPv6's clothes (::ffff:1.2.3.4) is one of IPv4. */
void *prefix_trie_find(const struct prefix_trie *trie, const struct address *address);
/* free_value is called for each that is not NULL. */
void prefix_trie_fini(struct prefix_trie *trie, void (*free_value)(void *value));
