#include "proxy/dns.h"

#include <netdb.h>
#include <stdlib.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "rt/foreign.h"
#include "rt/sync.h"

extern struct log_component log_upstream;

enum { DNS_HOSTS_MAX = 1024 }; /* per cluster; a name with more is cut, with a log line */

void dns_check(const struct cfg_cluster *cfg, struct cfg_problems *problems) {
    uint32_t count = 0;
    for (size_t i = 0; cfg->load_assignment && i < cfg->load_assignment->endpoints_count; i++) {
        const struct cfg_locality_endpoints *locality = &cfg->load_assignment->endpoints[i];
        for (size_t j = 0; j < locality->lb_endpoints_count; j++, count++)
            if (!locality->lb_endpoints[j].address)
                cfg_problem_add(problems, CFG_PROBLEM_INVALID, &locality->lb_endpoints[j].mark,
                                "the endpoint has no socket_address");
    }
    if (cfg->type == CFG_CLUSTER_LOGICAL_DNS && count != 1)
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark,
                        "LOGICAL_DNS clusters must have exactly one endpoint, this one has %u",
                        count);
}

/* One getaddrinfo, on a thread of its own. */
struct lookup {
    char host[256];
    int family;
    struct addrinfo *result; /* owned */
    int rc;
};

static void look_up(void *arg) {
    struct lookup *lookup = arg;
    struct addrinfo hints = {.ai_family = lookup->family, .ai_socktype = SOCK_STREAM};
    lookup->rc = getaddrinfo(lookup->host, NULL, &hints, &lookup->result);
    /* RFC 6761 6.3: localhost is loopback, also where no hosts file says so (small containers). */
    if (lookup->rc != 0 && lookup->family != AF_INET6 && strcasecmp(lookup->host, "localhost") == 0)
        lookup->rc = getaddrinfo("127.0.0.1", NULL, &hints, &lookup->result);
}

static int lookup_name(struct lookup *lookup, struct span name, int family) {
    *lookup = (struct lookup){.family = family};
    if (name.len == 0 || name.len >= sizeof lookup->host)
        return EAI_NONAME;
    memcpy(lookup->host, name.ptr, name.len);
    if (blocking_call(look_up, lookup) != 0)
        return EAI_AGAIN;
    return lookup->rc;
}

static int first_family(int lookup_family) {
    switch (lookup_family) {
    case 1: /* V4_ONLY */
    case 3: /* V4_PREFERRED */
        return AF_INET;
    case 4: /* ALL */
        return AF_UNSPEC;
    default: /* AUTO prefers v6, as Envoy documents */
        return AF_INET6;
    }
}

/* AUTO and V4_PREFERRED ask for the other family when the first gives nothing. */
static int resolve(struct lookup *lookup, struct span name, int lookup_family) {
    int family = first_family(lookup_family);
    int rc = lookup_name(lookup, name, family);
    if (rc != 0 && (lookup_family == 0 || lookup_family == 3))
        rc = lookup_name(lookup, name, family == AF_INET ? AF_INET6 : AF_INET);
    return rc;
}

struct gathering {
    struct host *hosts[DNS_HOSTS_MAX];
    uint32_t count;
    bool failed;
};

/* A host that was in the old set keeps its object, and with it its pooled connections. */
static void gather_host(struct gathering *g, const struct host_set *old,
                        const struct address *address, const struct cfg_endpoint *endpoint) {
    for (uint32_t i = 0; i < g->count; i++)
        if (address_eq(&g->hosts[i]->address, address))
            return;
    if (g->count == DNS_HOSTS_MAX)
        return;
    for (uint32_t i = 0; old && i < old->count; i++) {
        if (address_eq(&old->hosts[i]->address, address)) {
            g->hosts[g->count++] = host_ref(old->hosts[i]);
            return;
        }
    }
    struct span hostname = endpoint->hostname.len ? endpoint->hostname : endpoint->address->host;
    uint32_t weight =
        endpoint->load_balancing_weight.set ? endpoint->load_balancing_weight.value : 1;
    int status = endpoint->health_status;
    struct host *host =
        host_new(address, hostname, weight, status == 0 || status == 1 || status == 5);
    if (host)
        g->hosts[g->count++] = host;
}

static void resolve_endpoint(struct cluster *cluster, struct gathering *g,
                             const struct host_set *old, const struct cfg_endpoint *endpoint) {
    uint16_t port = (uint16_t)endpoint->address->port_value;
    struct address address;
    if (address_parse(endpoint->address->host, port, &address)) {
        gather_host(g, old, &address, endpoint);
        return;
    }
    struct lookup lookup;
    int rc = resolve(&lookup, endpoint->address->host, cluster->config->dns_lookup_family);
    if (rc != 0) {
        LOG(log_upstream, LOG_WARN, "cluster %.*s: name %.*s does not resolve: %s",
            (int)cluster->name.len, cluster->name.ptr, (int)endpoint->address->host.len,
            endpoint->address->host.ptr, gai_strerror(rc));
        g->failed = true;
        return;
    }
    for (struct addrinfo *at = lookup.result; at; at = at->ai_next) {
        if (at->ai_addrlen > sizeof address.sa)
            continue;
        address = (struct address){.len = at->ai_addrlen};
        memcpy(&address.sa, at->ai_addr, at->ai_addrlen);
        if (at->ai_family == AF_INET6)
            address.sa.v6.sin6_port = htons(port);
        else
            address.sa.v4.sin_port = htons(port);
        gather_host(g, old, &address, endpoint);
        if (cluster->config->type == CFG_CLUSTER_LOGICAL_DNS)
            break;
    }
    freeaddrinfo(lookup.result);
}

static bool same_hosts(const struct gathering *g, const struct host_set *old) {
    if (!old || old->count != g->count)
        return false;
    for (uint32_t i = 0; i < g->count; i++) {
        bool found = false;
        for (uint32_t j = 0; j < old->count && !found; j++)
            found = old->hosts[j] == g->hosts[i];
        if (!found)
            return false;
    }
    return true;
}

static void resolve_all(struct cluster *cluster) {
    struct gathering *g = calloc(1, sizeof *g); /* 8 KiB: too much for a coroutine's stack */
    if (!g)
        return;
    struct host_set *old = cluster_hosts(cluster);
    const struct cfg_load_assignment *assignment = cluster->config->load_assignment;
    stat_add(cluster->stats.update_attempt, STATS_SHARD_FOREIGN, 1);
    for (size_t i = 0; assignment && i < assignment->endpoints_count; i++)
        for (size_t j = 0; j < assignment->endpoints[i].lb_endpoints_count; j++)
            resolve_endpoint(cluster, g, old, &assignment->endpoints[i].lb_endpoints[j]);
    stat_add(g->failed ? cluster->stats.update_failure : cluster->stats.update_success,
             STATS_SHARD_FOREIGN, 1);
    struct host_set *set = NULL;
    bool keep = (g->failed && old && old->count > 0) || same_hosts(g, old);
    if (!keep)
        set = host_set_new(g->hosts, g->count);
    if (set) {
        cluster_set_hosts(cluster, set);
    } else {
        for (uint32_t i = 0; i < g->count; i++)
            host_unref(g->hosts[i]);
        cluster->warm = true;
    }
    host_set_unref(old);
    free(g);
}

static void rest(const struct cluster *cluster, int64_t until_ns) {
    while (!cluster->stopping && clock_mono_ns() < until_ns)
        (void)rt_park("dns refresh", until_ns); /* nobody cancels it */
}

static void resolver(void *arg) {
    struct cluster *cluster = arg; /* leased */
    int64_t refresh_ns =
        cluster->config->dns_refresh_rate.set ? cluster->config->dns_refresh_rate.ns : 5 * NS_PER_S;
    cluster->resolver = rt_self();
    while (!cluster->stopping) {
        resolve_all(cluster);
        rest(cluster, clock_mono_ns() + refresh_ns);
    }
    cluster->resolver = NULL;
    cluster_unref(cluster);
}

void dns_start(struct cluster *cluster) {
    if (go_here("dns resolver", resolver, cluster_ref(cluster)) != 0) {
        LOG(log_upstream, LOG_ERROR, "cluster %.*s: out of memory, names are not resolved",
            (int)cluster->name.len, cluster->name.ptr);
        cluster_unref(cluster);
    }
}

void dns_stop(struct cluster *cluster) {
    if (cluster->resolver)
        rt_ready(cluster->resolver); /* it may have an hour to rest, with the whole configuration */
}
