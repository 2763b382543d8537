/* host: endpoints and immutable sets of them. */
#include <errno.h>
#include <stdlib.h>

#include "base/gcd.h"
#include "proxy/cluster.h"

enum { SCHEDULE_MAX = 8192 }; /* slots of a weighted rotation: weights keep three digits */

struct host *host_new(const struct address *address, struct span hostname, uint32_t weight,
                      bool healthy) {
    unsigned pools = rt_p_count();
    size_t size = sizeof(struct host) + pools * sizeof(struct host_pool);
    struct host *host = aligned_alloc(64, (size + 63) / 64 * 64);
    if (!host)
        return NULL;
    memset(host, 0, size);
    host->refs = 1;
    host->address = *address;
    host->text = span_make(host->text_bytes, address_text(address, host->text_bytes));
    host->weight = weight ? weight : 1;
    host->healthy = healthy;
    host->pool_count = pools;
    for (unsigned i = 0; i < pools; i++)
        list_init(&host->pools[i].idle);
    if (hostname.len) {
        host->hostname_bytes = strndup(hostname.ptr, hostname.len);
        if (!host->hostname_bytes) {
            free(host);
            return NULL;
        }
        host->hostname = span_make(host->hostname_bytes, hostname.len);
    }
    return host;
}

struct host *host_ref(struct host *host) {
    atomic_fetch_add_explicit(&host->refs, 1, memory_order_relaxed); /* the caller holds one */
    return host;
}

void host_unref(struct host *host) {
    if (!host || atomic_fetch_sub_explicit(&host->refs, 1, memory_order_acq_rel) != 1)
        return;
    free(host->hostname_bytes);
    free(host);
}

/* Smooth weighted round robin (as nginx documents it), played out once: each step every host gains
 * its weight, the richest is picked and pays the sum. A host of weight w appears w times in the
 * rotation, spread evenly. */
static int build_schedule(struct host_set *set) {
    uint64_t divisor = 0, sum = 0;
    uint32_t healthy = 0;
    for (uint32_t i = 0; i < set->count; i++) {
        if (!set->hosts[i]->healthy)
            continue;
        healthy++;
        divisor = gcd(set->hosts[i]->weight, divisor);
        sum += set->hosts[i]->weight;
    }
    if (healthy == 0)
        return 0;
    ASSERT(divisor > 0); /* host_new lets no weight be 0 */
    uint64_t scale = sum / divisor > SCHEDULE_MAX ? sum / SCHEDULE_MAX + 1 : divisor;
    ASSERT(scale > 0);
    int64_t *credit = calloc(set->count, sizeof *credit);
    uint32_t slots = 0;
    for (uint32_t i = 0; i < set->count; i++)
        if (set->hosts[i]->healthy)
            slots += (uint32_t)(set->hosts[i]->weight < scale ? 1 : set->hosts[i]->weight / scale);
    set->schedule = malloc(slots * sizeof *set->schedule);
    if (!credit || !set->schedule) {
        free(credit);
        return -ENOMEM;
    }
    for (uint32_t slot = 0; slot < slots; slot++) {
        uint32_t best = UINT32_MAX;
        for (uint32_t i = 0; i < set->count; i++) {
            if (!set->hosts[i]->healthy)
                continue;
            uint64_t weight = set->hosts[i]->weight < scale ? 1 : set->hosts[i]->weight / scale;
            credit[i] += (int64_t)weight;
            if (best == UINT32_MAX || credit[i] > credit[best])
                best = i;
        }
        credit[best] -= slots;
        set->schedule[slot] = (uint16_t)best;
    }
    set->schedule_len = slots;
    free(credit);
    return 0;
}

struct host_set *host_set_new(struct host **hosts, uint32_t count) {
    struct host_set *set = calloc(1, sizeof *set);
    if (!set)
        return NULL;
    set->refs = 1;
    set->count = count > UINT16_MAX ? UINT16_MAX : count;
    set->hosts = calloc(count ? count : 1, sizeof(struct host *));
    if (!set->hosts) {
        free(set);
        return NULL;
    }
    memcpy(set->hosts, hosts, count * sizeof(struct host *));
    if (build_schedule(set) != 0) {
        free(set->hosts);
        free(set->schedule);
        free(set);
        return NULL;
    }
    for (uint32_t i = set->count; i < count; i++)
        host_unref(hosts[i]); /* the rotation's slots have 16 bits */
    return set;
}

struct host_set *host_set_ref(struct host_set *set) {
    atomic_fetch_add_explicit(&set->refs, 1, memory_order_relaxed);
    return set;
}

void host_set_unref(struct host_set *set) {
    if (!set || atomic_fetch_sub_explicit(&set->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < set->count; i++)
        host_unref(set->hosts[i]);
    free(set->hosts);
    free(set->schedule);
    free(set);
}
