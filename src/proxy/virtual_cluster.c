/* virtual_cluster: see the header. Statistics of a status are made when the first such response comes, as those of
 * clusters are (cluster.c): an operator looks at the few that there are. */
#include "proxy/virtual_cluster.h"

#include <stdio.h>
#include <stdlib.h>

#include "proxy/route_internal.h"

struct rules {
    const struct header_matcher *headers;
    size_t count;
};
struct virtual_clusters {
    const struct rules *rules; /* as many as are configured */
    size_t count;
    struct virtual_cluster *all; /* and behind them the one for the rest */
};

/* ---- statistics ---- */

/* NUL too: names end up in C strings. */
static void tidy(char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (text[i] == ':' || text[i] == '\0')
            text[i] = '_';
}

/* "vhost.HOST.vcluster.NAME.SUFFIX". short_suffix is without the code that the suffix has, which is a tag then. */
static struct statistic *get_stat(const struct virtual_cluster *cluster, enum stat_kind kind,
                                  const char *suffix, const char *short_suffix,
                                  const struct stat_tag *code) {
    static const char before[] = "vhost.", between[] = ".vcluster.";
    struct span host = cluster->host, name = cluster->stat;
    size_t name_at = sizeof before - 1 + host.len + sizeof between - 1;
    size_t suffix_at = name_at + name.len + 1;
    struct stat_tag tags[3];
    uint32_t tag_count = 0;
    char metric[64];
    char *text = malloc(suffix_at + strlen(suffix) + 1);
    if (!text) /* all of them, which is better than none */
        return stats_get(kind, SPAN_LIT("vhost.vcluster.all"), SPAN_LIT("vhost.vcluster.all"), NULL,
                         0);
    char *host_at = stpcpy(text, before);
    memcpy(host_at, host.ptr, host.len);
    memcpy(stpcpy(host_at + host.len, between), name.ptr, name.len);
    text[suffix_at - 1] = '.';
    memcpy(text + suffix_at, suffix, strlen(suffix) + 1);
    tidy(host_at, host.len);
    tidy(text + name_at, name.len);
    (void)snprintf(metric, sizeof metric, "vhost.vcluster.%s", short_suffix);
    if (code)
        tags[tag_count++] = *code;
    tags[tag_count++] =
        (struct stat_tag){SPAN_LIT("envoy.virtual_cluster"), span_make(text + name_at, name.len)};
    tags[tag_count++] =
        (struct stat_tag){SPAN_LIT("envoy.virtual_host"), span_make(host_at, host.len)};
    struct statistic *stat = stats_get(kind, span_of(text), span_of(metric), tags, tag_count);
    free(text);
    return stat;
}

static struct statistic *get_plain(const struct virtual_cluster *cluster, enum stat_kind kind,
                                   const char *suffix) {
    return get_stat(cluster, kind, suffix, suffix, NULL);
}

static void init_stats(struct virtual_cluster *cluster) {
    cluster->rq_total = get_plain(cluster, STAT_COUNTER, "upstream_rq_total");
    cluster->rq_timeout = get_plain(cluster, STAT_COUNTER, "upstream_rq_timeout");
    cluster->rq_completed = get_plain(cluster, STAT_COUNTER, "upstream_rq_completed");
    cluster->rq_time = get_plain(cluster, STAT_HISTOGRAM, "upstream_rq_time");
}

/* Two Ps may both come here, and store the same. Relaxed: a cell's memory was there before. */
static NOINLINE uint32_t class_cell(struct virtual_cluster *cluster, unsigned status) {
    char digit[2] = {(char)('0' + status / 100), 0}, suffix[32];
    const struct stat_tag tag = {SPAN_LIT("envoy.response_code_class"), span_of(digit)};
    (void)snprintf(suffix, sizeof suffix, "upstream_rq_%sxx", digit);
    uint32_t cell = get_stat(cluster, STAT_COUNTER, suffix, "upstream_rq_xx", &tag)->slot;
    atomic_store_explicit(&cluster->by_class[status / 100 - 1], cell, memory_order_relaxed);
    return cell;
}

static NOINLINE uint32_t code_cell(struct virtual_cluster *cluster, unsigned status) {
    char suffix[32];
    (void)snprintf(suffix, sizeof suffix, "upstream_rq_%u", status);
    const struct stat_tag tag = {SPAN_LIT("envoy.response_code"),
                                 span_of(suffix + strlen("upstream_rq_"))};
    uint32_t cell = get_stat(cluster, STAT_COUNTER, suffix, "upstream_rq", &tag)->slot;
    atomic_store_explicit(&cluster->by_code[status], cell, memory_order_relaxed);
    return cell;
}

void virtual_cluster_count_response(struct virtual_cluster *cluster, unsigned shard,
                                    unsigned status) {
    if (status < 100 || status >= 600)
        return;
    uint32_t by_class =
        atomic_load_explicit(&cluster->by_class[status / 100 - 1], memory_order_relaxed);
    uint32_t by_code = atomic_load_explicit(&cluster->by_code[status], memory_order_relaxed);
    stat_inc(cluster->rq_completed, shard);
    stats_cell_add_on_p(by_class ? by_class : class_cell(cluster, status), shard, 1);
    stats_cell_add_on_p(by_code ? by_code : code_cell(cluster, status), shard, 1);
}

/* ---- which one ---- */

const struct virtual_clusters *virtual_clusters_build(struct route_builder *builder,
                                                      const struct cfg_virtual_host *config) {
    size_t count = config->virtual_clusters_count;
    if (count == 0)
        return NULL;
    struct virtual_clusters *clusters = route_alloc(builder, 1, sizeof *clusters);
    struct rules *rules = route_alloc(builder, count, sizeof *rules);
    struct virtual_cluster *all = route_alloc(builder, count + 1, sizeof *all);
    if (!clusters || !rules || !all)
        return NULL;
    for (size_t i = 0; i <= count; i++) {
        const struct cfg_virtual_cluster *one = i < count ? &config->virtual_clusters[i] : NULL;
        all[i].host = config->name;
        all[i].name = one ? one->name : span_none();
        all[i].stat = one ? one->name : SPAN_LIT("other");
        if (one)
            rules[i] =
                (struct rules){header_matchers_build(builder, one->headers, one->headers_count),
                               one->headers_count};
        init_stats(&all[i]);
    }
    *clusters = (struct virtual_clusters){rules, count, all};
    return clusters;
}

struct virtual_cluster *virtual_cluster_of(const struct route_entry *route,
                                           const struct header_map *headers) {
    const struct virtual_clusters *clusters = route->virtual_clusters;
    size_t i = 0;
    if (!clusters)
        return NULL;
    while (i < clusters->count &&
           !header_matchers_match(clusters->rules[i].headers, clusters->rules[i].count, headers))
        i++;
    return &clusters->all[i];
}
