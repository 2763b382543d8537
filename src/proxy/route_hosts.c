/* route_hosts: which virtual host a Host means.
 *
 *   exact      "api.foo.com"   one look-up in a hash table
 *   suffix     "*.foo.com"     one look-up per distinct length of the configured suffixes, longest first
 *   prefix     "foo.*"         the same from the other end
 *   "*"
 *
 * Hosts are hashed and compared without case where they lie, so nothing is copied or lowered. Keys
 * come from the config only: nobody outside can fill a chain. */
#include <stdlib.h>

#include "proxy/route_internal.h"

/* Of the bytes in whatever case: eight at a time, with the bit set that letters differ in. That makes some other
 * bytes alike too, which hosts hardly have; whether it is the same host is then compared. */
static uint32_t host_hash(struct span host) {
    static const uint64_t case_bits = 0x2020202020202020u, mix = 0x9e3779b97f4a7c15u;
    uint64_t hash = host.len;
    size_t i = 0;
    uint64_t word;
    for (; i + sizeof word <= host.len; i += sizeof word) {
        memcpy(&word, host.ptr + i, sizeof word);
        hash = (hash ^ (word | case_bits)) * mix;
        hash ^= hash >> 32;
    }
    word = 0;
    if (host.len >= sizeof word) /* some of it a second time */
        memcpy(&word, host.ptr + host.len - sizeof word, sizeof word);
    else
        for (; i < host.len; i++)
            word = word << 8 | (unsigned char)host.ptr[i];
    hash = (hash ^ (word | case_bits)) * mix;
    return (uint32_t)(hash >> 32);
}

static struct host_slot *set_slot(const struct host_set *set, struct span host) {
    uint32_t i = host_hash(host) & set->mask;
    /* Most clients write hosts in lower case, as keys are: then it is one memcmp. */
    while (set->slots[i].key.ptr && !span_eq(set->slots[i].key, host) &&
           !span_eq_nocase(set->slots[i].key, host))
        i = (i + 1) & set->mask;
    return &set->slots[i];
}

static struct route_vhost *set_find(const struct host_set *set, struct span host) {
    return set->count > 0 ? set_slot(set, host)->vhost : NULL;
}

static bool set_init(struct route_builder *builder, struct host_set *set, size_t count) {
    uint32_t size = 8;
    while (size < 2 * count)
        size *= 2;
    set->slots = route_alloc(builder, size, sizeof(*set->slots));
    set->lengths = route_alloc(builder, count + 1, sizeof(*set->lengths));
    set->mask = size - 1;
    return set->slots && set->lengths;
}

/* False for a duplicate. */
static bool set_add(struct host_set *set, struct span key, struct route_vhost *vhost) {
    struct host_slot *slot = set_slot(set, key);
    if (slot->key.ptr)
        return false;
    *slot = (struct host_slot){key, vhost};
    set->count++;
    for (uint32_t i = 0; i < set->length_count; i++) {
        if (set->lengths[i] == key.len)
            return true;
    }
    set->lengths[set->length_count++] = (uint32_t)key.len;
    return true;
}

bool host_index_init(struct route_builder *builder, struct host_index *index) {
    const struct cfg_route_configuration *config = builder->table->config;
    size_t count = 0;
    for (size_t i = 0; i < config->virtual_hosts_count; i++)
        count += config->virtual_hosts[i].domains_count;
    return set_init(builder, &index->exact, count) && set_init(builder, &index->suffixes, count) &&
           set_init(builder, &index->prefixes, count);
}

void host_index_add(struct route_builder *builder, struct host_index *index, struct span domain,
                    struct route_vhost *vhost) {
    struct span key = route_lower(builder, domain);
    struct span route_name = builder->table->config->name;
    if (!key.ptr)
        return;
    if (span_eq(key, SPAN_LIT("*"))) {
        if (index->any)
            route_problem(builder, &vhost->config->mark,
                          "only a single wildcard domain is permitted in route %.*s",
                          (int)route_name.len, route_name.ptr ? route_name.ptr : "");
        index->any = vhost;
        return;
    }
    bool added;
    if (key.len > 0 && key.ptr[0] == '*')
        added = set_add(&index->suffixes, span_from(key, 1), vhost);
    else if (key.len > 0 && key.ptr[key.len - 1] == '*')
        added = set_add(&index->prefixes, span_make(key.ptr, key.len - 1), vhost);
    else
        added = set_add(&index->exact, key, vhost);
    if (!added)
        route_problem(
            builder, &vhost->config->mark,
            "only unique values for domains are permitted. Duplicate entry of domain %.*s "
            "in route %.*s",
            (int)key.len, key.ptr, (int)route_name.len, route_name.ptr ? route_name.ptr : "");
}

static int longer_first(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

void host_index_finish(struct host_index *index) {
    qsort(index->suffixes.lengths, index->suffixes.length_count, sizeof(uint32_t), longer_first);
    qsort(index->prefixes.lengths, index->prefixes.length_count, sizeof(uint32_t), longer_first);
}

struct route_vhost *host_index_find(const struct host_index *index, struct span host) {
    struct route_vhost *vhost = set_find(&index->exact, host);
    if (vhost)
        return vhost;
    /* A wildcard stands for at least one byte: "*.foo.com" is not ".foo.com". */
    for (uint32_t i = 0; i < index->suffixes.length_count; i++) {
        uint32_t length = index->suffixes.lengths[i];
        if (length < host.len) {
            vhost = set_find(&index->suffixes, span_from(host, host.len - length));
            if (vhost)
                return vhost;
        }
    }
    for (uint32_t i = 0; i < index->prefixes.length_count; i++) {
        uint32_t length = index->prefixes.lengths[i];
        if (length < host.len) {
            vhost = set_find(&index->prefixes, span_make(host.ptr, length));
            if (vhost)
                return vhost;
        }
    }
    return index->any;
}

size_t route_port_start(struct span host) {
    for (size_t i = host.len; i > 0; i--) {
        if (host.ptr[i - 1] == ']') /* an IPv6 address without a port */
            return host.len;
        if (host.ptr[i - 1] == ':')
            return i - 1;
    }
    return host.len;
}
