/* upstream_proxy_protocol: TLVs of version 2 are, in this order, those that were added by configuration, and those of
 * the client's own header that are passed on, unless one of the same type was added.
 *
 * Whose    A connection of a TCP proxy is one client's. One of HTTP is pooled for the requests of the client that it was
 *          opened for, and ends with him (is_of_client). Without a client, the header speaks of nobody (UNKNOWN, LOCAL).
 * Memory   A header is made, sent and dropped while the connection is opened. */
#include "filter/upstream_proxy_protocol.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/listener_filter_config.h"
#include "config/network_config.h"
#include "config/tls_config.h"
#include "io/proxy_header.h"
#include "proxy/downstream.h"
#include "proxy/format.h"
#include "proxy/network_filter.h"

enum { TLVS_MAX = 128 }; /* of a header; what the client's own has beyond is left out */

struct added_tlv {
    uint8_t type;
    struct span value;     /* borrowed of the config */
    struct format *format; /* or */
};

struct upstream_proxy_protocol {
    int version;      /* enum cfg_proxy_version */
    bool passes[256]; /* by type of TLV */
    struct added_tlv *added;
    uint32_t added_count;
    struct transport_socket inner; /* kind NULL: bytes as they are */
};

/* ---- configuration ---- */

static void free_config(void *config) {
    struct upstream_proxy_protocol *proxy = config;
    for (uint32_t i = 0; i < proxy->added_count; i++)
        if (proxy->added[i].format)
            format_free(proxy->added[i].format);
    if (proxy->inner.kind && proxy->inner.kind->free_config)
        proxy->inner.kind->free_config(proxy->inner.config);
    free(proxy->added);
    free(proxy);
}

static void init_passes(struct upstream_proxy_protocol *proxy,
                        const struct cfg_pass_through_tlvs *config) {
    if (!config)
        return;
    for (unsigned type = 0; type < 256; type++)
        proxy->passes[type] = config->match_type == CFG_TLVS_INCLUDE_ALL;
    for (size_t i = 0; i < config->tlv_type_count; i++)
        proxy->passes[config->tlv_type[i]] = true;
}

static struct format *build_format(const struct cfg_log_format *config,
                                   struct cfg_problems *problems) {
    return config->format_case == CFG_LOG_TEXT_SOURCE
               ? format_compile_source(config->text_format_source, &config->mark, problems)
               : format_compile(config->text_format, &config->mark, problems);
}

/* False: a problem was reported. */
static bool build_added(struct upstream_proxy_protocol *proxy,
                        const struct cfg_proxy_header *config, struct cfg_problems *problems) {
    if (config->added_tlvs_count > TLVS_MAX) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->mark,
                        "added_tlvs has more than %d entries", TLVS_MAX);
        return false;
    }
    proxy->added = calloc(config->added_tlvs_count + 1, sizeof *proxy->added);
    if (!proxy->added) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &config->mark, "out of memory");
        return false;
    }
    for (size_t i = 0; i < config->added_tlvs_count; i++) {
        const struct cfg_added_tlv *tlv = &config->added_tlvs[i];
        struct added_tlv *added = &proxy->added[proxy->added_count++];
        *added = (struct added_tlv){.type = (uint8_t)tlv->type, .value = tlv->value};
        proxy->passes[added->type] = false;
        if (tlv->format_string && !(added->format = build_format(tlv->format_string, problems)))
            return false;
    }
    return true;
}

static bool build_inner(struct upstream_proxy_protocol *proxy,
                        const struct cfg_transport_socket *config, const struct config *of,
                        struct span owner, bool serves_http, struct cfg_problems *problems) {
    const struct cfg_schema *schema = config->has_typed_config ? config->typed_config.schema : NULL;
    if (!schema || schema == &cfg_schema_raw_buffer)
        return true;
    const struct transport_socket_kind *kind = transport_socket_find(schema);
    if (!kind || !kind->itab->connect || kind == &transport_upstream_proxy_protocol) {
        cfg_problem_add(problems, CFG_PROBLEM_UNSUPPORTED, &config->mark,
                        "transport_socket '%.*s' cannot stand behind a PROXY header",
                        (int)config->name.len, config->name.ptr);
        return false;
    }
    if (kind->build(&config->typed_config, of, owner, serves_http, problems,
                    &proxy->inner.config) != 0)
        return false;
    proxy->inner.kind = kind;
    return true;
}

static int build(const struct cfg_any *typed_config, const struct config *config, struct span owner,
                 bool serves_http, struct cfg_problems *problems, void **out) {
    static const struct cfg_proxy_header version_1;
    const struct cfg_upstream_proxy_protocol *cfg = typed_config->message;
    const struct cfg_proxy_header *header = cfg->config ? cfg->config : &version_1;
    struct upstream_proxy_protocol *proxy = calloc(1, sizeof *proxy);
    if (!proxy) {
        cfg_problem_add(problems, CFG_PROBLEM_INVALID, &cfg->mark, "out of memory");
        return -EINVAL;
    }
    proxy->version = header->version;
    init_passes(proxy, header->pass_through_tlvs);
    if (!build_added(proxy, header, problems) ||
        !build_inner(proxy, cfg->transport_socket, config, owner, serves_http, problems)) {
        free_config(proxy);
        return -EINVAL;
    }
    *out = proxy;
    return 0;
}

/* ---- the header ---- */

static void client_addresses(struct downstream *d, struct address *source,
                             struct address *destination) {
    if (d->info->remote)
        *source = *d->info->remote;
    else
        address_unpack(&d->peer, source);
    if (d->info->local)
        *destination = *d->info->local;
    else
        downstream_local_address(d, destination);
}

static struct format_subject subject_of(struct downstream *d, const struct stream_info *none) {
    if (d->info->stream)
        return format_of_stream(d->info->stream, FORMAT_EVENT_NONE);
    return (struct format_subject){
        .info = none, .downstream = d, .connection = d->info, .shard = d->p_index};
}

/* Texts go into one buffer, which moves while it grows: each is known by its length until all are there. */
static size_t put_added(const struct upstream_proxy_protocol *proxy, struct downstream *d,
                        struct format_out *texts, struct proxy_tlv *out) {
    static const struct stream_info none;
    struct format_subject subject = subject_of(d, &none);
    size_t count = 0;
    for (uint32_t i = 0; i < proxy->added_count; i++) {
        const struct added_tlv *added = &proxy->added[i];
        size_t before = texts->len;
        if (added->format)
            format_write(added->format, &subject, SPAN_LIT(""), texts, NULL);
        else
            format_out_put(texts, added->value);
        out[count++] =
            (struct proxy_tlv){.type = added->type, .value = {NULL, texts->len - before}};
    }
    const char *at = texts->data;
    for (size_t i = 0; i < count; i++) {
        out[i].value.ptr = at;
        at += out[i].value.len;
    }
    return count;
}

static size_t put_passed(const struct upstream_proxy_protocol *proxy, const struct downstream *d,
                         struct proxy_tlv *out, size_t room) {
    struct span rest = d->info->tlvs;
    struct proxy_tlv tlv;
    size_t count = 0;
    while (count < room && rest.len && proxy_tlv_next(&rest, &tlv))
        if (proxy->passes[tlv.type])
            out[count++] = tlv;
    return count;
}

/* In malloc memory; NULL when it is short. */
static NOINLINE char *make_header(const struct upstream_proxy_protocol *proxy, struct downstream *d,
                                  size_t *len) {
    struct address source = {.len = 0}, destination = {.len = 0};
    if (d)
        client_addresses(d, &source, &destination);
    if (proxy->version == CFG_PROXY_V1) {
        char *line = malloc(PROXY_HEADER_V1_MAX);
        if (line)
            *len = proxy_header_write_v1(line, &source, &destination);
        return line;
    }
    struct proxy_tlv tlvs[TLVS_MAX];
    struct format_out texts = {0};
    size_t count = 0;
    if (d) {
        count = put_added(proxy, d, &texts, tlvs);
        count += put_passed(proxy, d, tlvs + count, TLVS_MAX - count);
    }
    char *header = NULL;
    if (!texts.failed)
        header = malloc(proxy_header_size_v2(&source, &destination, tlvs, count, NULL));
    if (header)
        *len = proxy_header_write_v2(header, &source, &destination, tlvs, count);
    free(texts.data);
    return header;
}

static int connect_transport(const void *config, struct socket *socket,
                             const struct transport_wishes *wishes, int64_t deadline_ns,
                             char failure[256]) {
    const struct upstream_proxy_protocol *proxy = config;
    const struct transport_socket *inner = &proxy->inner;
    size_t len = 0;
    char *header = make_header(proxy, wishes->downstream, &len);
    if (!header)
        return -ENOMEM;
    struct iovec piece = {header, len};
    int64_t stall_ns = deadline_ns == RT_FOREVER ? RT_FOREVER : deadline_ns - rt_now_ns();
    int rc = socket_send(socket, &piece, 1, "PROXY header", stall_ns < 0 ? 0 : stall_ns);
    free(header);
    socket->tx_bytes = 0; /* as on Envoy, it is no part of the stream */
    if (rc != 0 || !inner->kind)
        return rc;
    return inner->kind->itab->connect(inner->config, socket, wishes, deadline_ns, failure);
}

static const struct transport_socket_itab itab = {
    .name = "envoy.transport_sockets.upstream_proxy_protocol",
    .connect = connect_transport,
    .is_of_client = true,
};

const struct transport_socket_kind transport_upstream_proxy_protocol = {
    .itab = &itab,
    .schema = &cfg_schema_upstream_proxy_protocol,
    .build = build,
    .free_config = free_config,
};
