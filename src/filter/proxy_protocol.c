/* proxy_protocol: envoy.filters.listener.proxy_protocol: takes the header off that a proxy in front sends
 * (io/proxy_header.h). Its addresses become the connection's, its TLVs metadata, or are kept to be passed on.
 *
 * As Envoy's, statistics too. What is no header is told by the first byte that does not fit, where Envoy waits for
 * sixteen, or for the end of the line; it always counts as not_found. A version that is not allowed is refused once its
 * signature is there. */
#include <errno.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "config/listener_filter_config.h"
#include "filter/connection_facts.h"
#include "filter/listener_filters.h"
#include "proxy/downstream.h"

enum { STAT_NAME_MAX = 256, VERSIONS = 2 };

struct version_stats {
    struct statistic *found, *disallowed, *error;
};

struct tlv_rule {
    uint8_t type;
    struct span name_space, key; /* of the configuration */
};

struct proxy_protocol {
    bool allow_without, pass_all;
    unsigned allowed;       /* PROXY_HEADER_V1, _V2 */
    uint64_t pass_types[4]; /* a bit for each type of TLV */
    struct statistic *cx_error, *not_found_allowed, *not_found_disallowed;
    struct version_stats versions[VERSIONS];
    size_t rule_count;
    struct tlv_rule rules[];
};

/* ---- building ---- */

/* proxy_proto.[PREFIX.][versions.vN.]NAME, of which Envoy makes the metric proxy_proto.NAME and two tags. version:
 * 0 for what is of none. */
static struct statistic *counter(struct span prefix, unsigned version, const char *name) {
    char full[STAT_NAME_MAX], metric[64], digit[2] = {(char)('0' + version), '\0'};
    struct stat_tag tags[2];
    uint32_t tag_count = 0;
    int len = snprintf(full, sizeof full, "proxy_proto.%.*s%s%s%s%s%s", (int)prefix.len, prefix.ptr,
                       prefix.len ? "." : "", version ? "versions.v" : "", version ? digit : "",
                       version ? "." : "", name);
    int metric_len = snprintf(metric, sizeof metric, "proxy_proto.%s", name);
    if (len >= (int)sizeof full)
        len = sizeof full - 1;
    if (prefix.len)
        tags[tag_count++] = (struct stat_tag){SPAN_LIT("envoy.proxy_protocol_prefix"), prefix};
    if (version)
        tags[tag_count++] =
            (struct stat_tag){SPAN_LIT("envoy.proxy_protocol_version"), span_make(digit, 1)};
    return stats_get(STAT_COUNTER, span_make(full, (size_t)len),
                     span_make(metric, (size_t)metric_len), tags, tag_count);
}

static void init_pass(struct proxy_protocol *proxy, const struct cfg_pass_through_tlvs *cfg) {
    if (!cfg)
        return;
    proxy->pass_all = cfg->match_type == CFG_TLVS_INCLUDE_ALL;
    for (size_t i = 0; i < cfg->tlv_type_count; i++)
        proxy->pass_types[cfg->tlv_type[i] / 64] |= 1ULL << cfg->tlv_type[i] % 64;
}

static int build(const struct cfg_any *typed_config, struct cfg_problems *problems, void **config) {
    const struct cfg_proxy_protocol *cfg = typed_config->message;
    const struct span legacy = SPAN_LIT("downstream_cx_proxy_proto_error");
    struct proxy_protocol *proxy =
        calloc(1, sizeof *proxy + cfg->rules_count * sizeof proxy->rules[0]);
    if (!proxy)
        return -ENOMEM;
    proxy->allow_without = cfg->allow_requests_without_proxy_protocol;
    proxy->allowed = PROXY_HEADER_ANY;
    for (size_t i = 0; i < cfg->disallowed_versions_count; i++)
        proxy->allowed &=
            ~(unsigned)(cfg->disallowed_versions[i] == CFG_PROXY_V1 ? PROXY_HEADER_V1
                                                                    : PROXY_HEADER_V2);
    init_pass(proxy, cfg->pass_through_tlvs);
    proxy->cx_error = stats_get(STAT_COUNTER, legacy, legacy, NULL, 0);
    proxy->not_found_allowed = counter(cfg->stat_prefix, 0, "not_found_allowed");
    proxy->not_found_disallowed = counter(cfg->stat_prefix, 0, "not_found_disallowed");
    for (unsigned i = 0; i < VERSIONS; i++)
        proxy->versions[i] = (struct version_stats){
            .found = counter(cfg->stat_prefix, i + 1, "found"),
            .disallowed = counter(cfg->stat_prefix, i + 1, "disallowed"),
            .error = counter(cfg->stat_prefix, i + 1, "error"),
        };
    for (size_t i = 0; i < cfg->rules_count; i++) {
        const struct cfg_tlv_rule *rule = &cfg->rules[i];
        proxy->rules[proxy->rule_count++] = (struct tlv_rule){
            .type = (uint8_t)rule->tlv_type,
            .name_space = rule->metadata_namespace.len
                              ? rule->metadata_namespace
                              : SPAN_LIT("envoy.filters.listener.proxy_protocol"),
            .key = rule->key,
        };
    }
    *config = proxy;
    return 0;
}

static size_t max_bytes(const void *config) {
    return PROXY_HEADER_MAX;
}

/* ---- TLVs ---- */

/* Metadata is UTF-8: each byte that is none becomes a '!', as on Envoy. */
static struct span keep_as_utf8(struct connection_info *info, struct span value) {
    char *text = connection_info_alloc(info, value.len);
    if (!text)
        return span_none();
    if (value.len)
        memcpy(text, value.ptr, value.len);
    for (size_t at = 0; at < value.len;) {
        size_t len = utf8_sequence(span_from(value, at));
        if (len == 0)
            text[at++] = '!';
        else
            at += len;
    }
    return span_make(text, value.len);
}

static bool is_passed(const struct proxy_protocol *proxy, uint8_t type) {
    return proxy->pass_all || (proxy->pass_types[type / 64] >> type % 64 & 1);
}

static bool note_rules(const struct proxy_protocol *proxy, struct connection_info *info,
                       const struct proxy_tlv *tlv) {
    for (size_t i = 0; i < proxy->rule_count; i++) {
        const struct tlv_rule *rule = &proxy->rules[i];
        if (rule->type != tlv->type)
            continue;
        struct span text = keep_as_utf8(info, tlv->value);
        if (span_is_none(text) || !note_metadata(info, rule->name_space, rule->key, text))
            return false;
    }
    return true;
}

static bool note_tlvs(const struct proxy_protocol *proxy, struct connection_info *info,
                      struct span tlvs) {
    struct span rest = tlvs, before = tlvs;
    struct proxy_tlv tlv;
    size_t passed = 0;
    for (; proxy_tlv_next(&rest, &tlv); before = rest) {
        if (!note_rules(proxy, info, &tlv))
            return false;
        passed += is_passed(proxy, tlv.type) ? before.len - rest.len : 0;
    }
    if (passed == 0)
        return true;
    char *copy = connection_info_alloc(info, passed), *at = copy;
    if (!copy)
        return false;
    for (rest = before = tlvs; proxy_tlv_next(&rest, &tlv); before = rest)
        if (is_passed(proxy, tlv.type)) {
            memcpy(at, before.ptr, before.len - rest.len);
            at += before.len - rest.len;
        }
    info->tlvs = span_make(copy, passed);
    return true;
}

/* ---- looking ---- */

static enum listener_filter_verdict refuse(const struct proxy_protocol *proxy, unsigned shard,
                                           const struct statistic *why) {
    stat_inc(why, shard);
    stat_inc(proxy->cx_error, shard);
    return LISTENER_FILTER_CLOSE;
}

static enum listener_filter_verdict look(const void *config, struct downstream *d,
                                         struct connection_info *info, struct span bytes,
                                         bool ended, size_t *consume) {
    const struct proxy_protocol *proxy = config;
    unsigned shard = d->p_index;
    struct proxy_header header;
    enum proxy_header_verdict verdict =
        proxy_header_read(bytes, proxy->allow_without ? proxy->allowed : PROXY_HEADER_ANY, &header);
    const struct version_stats *stats = &proxy->versions[header.version == 2];
    if (header.version &&
        !(proxy->allowed & (header.version == 1 ? PROXY_HEADER_V1 : PROXY_HEADER_V2))) {
        stat_inc(stats->found, shard);
        stat_inc(stats->disallowed, shard);
        return LISTENER_FILTER_CLOSE;
    }
    switch (verdict) {
    case PROXY_HEADER_MORE:
        if (!ended || bytes.len == 0)
            return LISTENER_FILTER_MORE;
        return refuse(proxy, shard, header.version ? stats->error : proxy->not_found_disallowed);
    case PROXY_HEADER_ABSENT:
        if (!proxy->allow_without)
            return refuse(proxy, shard, proxy->not_found_disallowed);
        stat_inc(proxy->not_found_allowed, shard);
        return LISTENER_FILTER_DONE;
    case PROXY_HEADER_BAD:
        return refuse(proxy, shard, stats->error);
    case PROXY_HEADER_DONE:
        break;
    }
    if (!note_proxy_addresses(info, d, &header) || !note_tlvs(proxy, info, header.tlvs))
        return LISTENER_FILTER_CLOSE;
    stat_inc(stats->found, shard);
    *consume = header.bytes;
    return LISTENER_FILTER_DONE;
}

static const struct listener_filter_itab itab = {
    .name = "envoy.filters.listener.proxy_protocol",
    .max_bytes = max_bytes,
    .look = look,
};

const struct listener_filter_kind listener_filter_kind_proxy_protocol = {
    .itab = &itab,
    .schema = &cfg_schema_proxy_protocol,
    .build = build,
    .free_config = free,
};
