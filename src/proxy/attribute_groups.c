/* attribute_groups: what a request, its response, the connection, its ends, the upstream and the configuration have to
 * say: a field of each at a time. */
#include "http/status.h"
#include "proxy/attribute_internal.h"
#include "proxy/cluster.h"
#include "proxy/downstream.h"
#include "proxy/listener.h"
#include "proxy/route.h"
#include "proxy/stream_info.h"
#include "proxy/tls_info.h"

static struct value text_or_absent(struct span text) {
    return span_is_none(text) ? value_absent : (struct value){.kind = VALUE_TEXT, .text = text};
}

/* Empty rather than absent. */
static struct value text(struct span text) {
    return (struct value){.kind = VALUE_TEXT, .text = span_is_none(text) ? SPAN_LIT("") : text};
}

static struct value integer(uint64_t number) {
    return (struct value){.kind = VALUE_INTEGER, .number = (int64_t)number};
}

static struct value duration(int64_t from_ns, int64_t to_ns) {
    return from_ns && to_ns ? (struct value){.kind = VALUE_DURATION, .number = to_ns - from_ns}
                            : value_absent;
}

/* ---- headers ---- */

static struct value header(const struct header_map *map, enum header_id id) {
    if (!map || !header_has(map, id))
        return value_absent;
    return text(header_get(map, id));
}

/* All of that name, joined. In Envoy's requests `host` is the pseudo header. */
struct value value_of_header(struct walk *walk, const struct header_map *map, struct span name) {
    char lower[256];
    if (!map || name.len == 0 || name.len > sizeof lower)
        return value_absent;
    for (size_t i = 0; i < name.len; i++)
        lower[i] =
            (char)(name.ptr[i] >= 'A' && name.ptr[i] <= 'Z' ? name.ptr[i] | 0x20 : name.ptr[i]);
    name = span_make(lower, name.len);
    if (map == walk->of->request && span_eq(name, SPAN_LIT("host")))
        return header(map, HDR_AUTHORITY);
    struct span only = span_none();
    unsigned count = 0;
    for (uint32_t i = 0; i < map->count; i++) {
        if (!span_eq(header_name(&map->entries[i]), name))
            continue;
        struct span value = header_value(&map->entries[i]);
        if (count++ == 0) {
            only = value;
            continue;
        }
        if (count == 2)
            format_out_put(&walk->made, only);
        format_out_put(&walk->made, SPAN_LIT(","));
        format_out_put(&walk->made, value);
    }
    return count == 0 ? value_absent : count == 1 ? text(only) : value_made(walk);
}

static uint64_t bytes_of(const struct header_map *map) {
    return map ? map->bytes : 0;
}

/* ---- groups ---- */

struct name {
    struct span name;
    int which;
};

/* Negative: there is none. */
static int which_of(const struct name *names, size_t count, struct span name) {
    for (size_t i = 0; i < count; i++)
        if (span_eq(names[i].name, name))
            return names[i].which;
    return -1;
}
#define WHICH_OF(names, name) which_of(names, sizeof(names) / sizeof((names)[0]), name)

static struct value path_part(const struct header_map *headers, bool query) {
    if (!headers)
        return value_absent;
    struct span path = header_get(headers, HDR_PATH);
    ptrdiff_t mark = span_find(path, '?');
    if (!query)
        return text(mark < 0 ? path : span_make(path.ptr, (size_t)mark));
    struct span part = mark < 0 ? span_none() : span_from(path, (size_t)mark + 1);
    mark = span_find(part, '#');
    return text(mark < 0 ? part : span_make(part.ptr, (size_t)mark));
}

static struct value request(struct walk *walk, struct span field) {
    enum {
        PATH,
        URL_PATH,
        QUERY,
        HOST,
        SCHEME,
        METHOD,
        FIELDS,
        REFERER,
        AGENT,
        AT,
        ID,
        PROTOCOL,
        LASTED,
        SIZE,
        ALL
    };
    static const struct name names[] = {
        {SPAN_INIT("path"), PATH},       {SPAN_INIT("url_path"), URL_PATH},
        {SPAN_INIT("query"), QUERY},     {SPAN_INIT("host"), HOST},
        {SPAN_INIT("scheme"), SCHEME},   {SPAN_INIT("method"), METHOD},
        {SPAN_INIT("headers"), FIELDS},  {SPAN_INIT("referer"), REFERER},
        {SPAN_INIT("useragent"), AGENT}, {SPAN_INIT("time"), AT},
        {SPAN_INIT("id"), ID},           {SPAN_INIT("protocol"), PROTOCOL},
        {SPAN_INIT("duration"), LASTED}, {SPAN_INIT("size"), SIZE},
        {SPAN_INIT("total_size"), ALL},
    };
    const struct header_map *headers = walk->of->request;
    const struct stream_info *info = walk->of->info;
    uint64_t length;
    switch (WHICH_OF(names, field)) {
    case PATH:
        return header(headers, HDR_PATH);
    case URL_PATH:
        return path_part(headers, false);
    case QUERY:
        return path_part(headers, true);
    case HOST:
        return header(headers, HDR_AUTHORITY);
    case SCHEME:
        return header(headers, HDR_SCHEME);
    case METHOD:
        return header(headers, HDR_METHOD);
    case FIELDS:
        return (struct value){.kind = VALUE_HEADERS, .headers = headers};
    case REFERER:
        return value_of_header(walk, headers, SPAN_LIT("referer"));
    case AGENT:
        return value_of_header(walk, headers, SPAN_LIT("user-agent"));
    case ID:
        return header(headers, HDR_X_REQUEST_ID);
    case AT:
        return (struct value){.kind = VALUE_TIME, .number = info->start_wall_ns};
    case PROTOCOL:
        return text(info->protocol == 0 ? SPAN_LIT("HTTP/1.0") : SPAN_LIT("HTTP/1.1"));
    case LASTED:
        return duration(info->start_ns, info->end_ns);
    case SIZE:
        if (!headers || !header_has(headers, HDR_CONTENT_LENGTH))
            return integer(info->bytes_received);
        return span_to_u64(header_get(headers, HDR_CONTENT_LENGTH), &length) ? integer(length)
                                                                             : value_absent;
    case ALL:
        return integer(info->bytes_received + bytes_of(headers));
    default:
        return value_absent;
    }
}

unsigned attribute_response_code(const struct attribute_subject *of) {
    uint64_t status; /* the router has it in the head; it is counted when sent */
    if (of->info->response_code)
        return of->info->response_code;
    if (of->response && span_to_u64(header_get(of->response, HDR_STATUS), &status) && status < 1000)
        return (unsigned)status;
    return 0;
}

struct span attribute_code_details(const struct attribute_subject *of) {
    struct span details = of->info->response_code_details;
    return span_is_none(details) && attribute_response_code(of) ? SPAN_LIT("via_upstream")
                                                                : details;
}

/* Of a response that has none, what its status stands for: whether it is gRPC is not asked. */
static struct value grpc_status(const struct attribute_subject *of) {
    const struct header_map *const maps[] = {of->trailers, of->response};
    unsigned code = attribute_response_code(of);
    for (int i = 0; i < 2; i++) {
        uint64_t status;
        if (!maps[i] || !header_has(maps[i], HDR_GRPC_STATUS))
            continue;
        bool known = span_to_u64(header_get(maps[i], HDR_GRPC_STATUS), &status);
        return (struct value){.kind = VALUE_INTEGER, .number = known ? (int64_t)status : -1};
    }
    return code ? integer(status_to_grpc(code)) : value_absent;
}

static struct value response(struct walk *walk, struct span field) {
    enum { CODE, DETAILS, FLAGS, GRPC, FIELDS, ENDS, SIZE, ALL, BACKEND };
    static const struct name names[] = {
        {SPAN_INIT("code"), CODE},
        {SPAN_INIT("code_details"), DETAILS},
        {SPAN_INIT("flags"), FLAGS},
        {SPAN_INIT("grpc_status"), GRPC},
        {SPAN_INIT("headers"), FIELDS},
        {SPAN_INIT("trailers"), ENDS},
        {SPAN_INIT("size"), SIZE},
        {SPAN_INIT("total_size"), ALL},
        {SPAN_INIT("backend_latency"), BACKEND},
    };
    const struct attribute_subject *of = walk->of;
    const struct stream_info *info = of->info;
    unsigned code;
    switch (WHICH_OF(names, field)) {
    case CODE:
        code = attribute_response_code(of);
        return code ? integer(code) : value_absent;
    case DETAILS:
        return text_or_absent(attribute_code_details(of));
    case FLAGS:
        return integer(attribute_flags(info->flags));
    case GRPC:
        return grpc_status(of);
    case FIELDS:
        return (struct value){.kind = VALUE_HEADERS, .headers = of->response};
    case ENDS:
        return (struct value){.kind = VALUE_HEADERS, .headers = of->trailers};
    case SIZE:
        return integer(info->bytes_sent);
    case ALL:
        return integer(info->bytes_sent + bytes_of(of->response) + bytes_of(of->trailers));
    case BACKEND:
        return duration(info->upstream_tx_first_ns, info->upstream_rx_last_ns);
    default:
        return value_absent;
    }
}

/* The first of that type. */
static struct value san(const struct tls_identity *identity, enum tls_san_type type) {
    for (size_t i = 0; identity && i < identity->san_count; i++)
        if (identity->sans[i].type == type)
            return text(identity->sans[i].value);
    return value_absent;
}

static struct value of_tls(struct span version, const struct tls_identity *local,
                           const struct tls_identity *peer, struct span field) {
    enum { VERSION, LOCAL, PEER, LOCAL_DNS, PEER_DNS, LOCAL_URI, PEER_URI, DIGEST };
    static const struct name names[] = {
        {SPAN_INIT("tls_version"), VERSION},
        {SPAN_INIT("subject_local_certificate"), LOCAL},
        {SPAN_INIT("subject_peer_certificate"), PEER},
        {SPAN_INIT("dns_san_local_certificate"), LOCAL_DNS},
        {SPAN_INIT("dns_san_peer_certificate"), PEER_DNS},
        {SPAN_INIT("uri_san_local_certificate"), LOCAL_URI},
        {SPAN_INIT("uri_san_peer_certificate"), PEER_URI},
        {SPAN_INIT("sha256_peer_certificate_digest"), DIGEST},
    };
    switch (WHICH_OF(names, field)) {
    case VERSION:
        return text(version);
    case LOCAL:
        return text(local ? local->subject : span_none());
    case PEER:
        return text(peer ? peer->subject : span_none());
    case LOCAL_DNS:
        return san(local, TLS_SAN_DNS);
    case PEER_DNS:
        return san(peer, TLS_SAN_DNS);
    case LOCAL_URI:
        return san(local, TLS_SAN_URI);
    case PEER_URI:
        return san(peer, TLS_SAN_URI);
    case DIGEST:
        return peer && peer->sha256.len ? text(peer->sha256) : value_absent;
    default:
        return value_absent;
    }
}

static struct value connection(struct walk *walk, struct span field) {
    enum { ID, MTLS, NAME, TERMINATION, FAILURE };
    static const struct name names[] = {
        {SPAN_INIT("id"), ID},
        {SPAN_INIT("mtls"), MTLS},
        {SPAN_INIT("requested_server_name"), NAME},
        {SPAN_INIT("termination_details"), TERMINATION},
        {SPAN_INIT("transport_failure_reason"), FAILURE},
    };
    const struct attribute_subject *of = walk->of;
    const struct downstream *d = of->downstream;
    const struct attribute_tls *tls = of->tls;
    switch (WHICH_OF(names, field)) {
    case ID:
        return integer(d ? d->id : of->info->connection_id);
    case MTLS:
        return (struct value){.kind = VALUE_BOOLEAN, .number = tls && tls->has_peer};
    case NAME:
        return text(d ? d->info->server_name : span_none());
    case TERMINATION:
        return text_or_absent(of->info->connection_termination_details);
    case FAILURE:
        return d && d->info->transport_failure.len ? text(d->info->transport_failure)
                                                   : value_absent;
    default:
        return tls ? of_tls(tls->version, tls->local, tls->peer, field) : value_absent;
    }
}

/* ---- addresses ---- */

/* "ip:port", or the port of one. */
static struct value address_part(struct span address, struct span field) {
    size_t colon = address.len;
    uint64_t port;
    if (address.len == 0)
        return value_absent;
    if (span_eq(field, SPAN_LIT("address")))
        return text(address);
    while (colon > 0 && address.ptr[colon - 1] != ':')
        colon--;
    bool wanted = colon > 0 && span_eq(field, SPAN_LIT("port"));
    return wanted && span_to_u64(span_from(address, colon), &port) ? integer(port) : value_absent;
}

struct span attribute_downstream_address(const struct attribute_subject *of, bool local,
                                         char *text BORROWED_BY(result)) {
    struct span known = local ? of->info->downstream_local : of->info->downstream_remote;
    const struct downstream *d = of->downstream;
    struct address address;
    if (!span_is_none(known) || !d)
        return known;
    if (!local)
        downstream_remote_address(d, &address);
    else if (d->info->local)
        address = *d->info->local;
    else
        socket_local_address(&d->socket, &address); /* what the P keeps of it is the P's */
    return span_make(text, address_text(&address, text));
}

static struct value peer(struct walk *walk, bool local, struct span field) {
    char text[ADDRESS_TEXT_MAX];
    struct value value = address_part(attribute_downstream_address(walk->of, local, text), field);
    if (value.kind == VALUE_TEXT) {
        format_out_put(&walk->made, value.text);
        return value_made(walk);
    }
    return value; /* borrow-ok: a number, or none */
}

static struct value source(struct walk *walk, struct span field) {
    return peer(walk, false, field);
}

static struct value destination(struct walk *walk, struct span field) {
    return peer(walk, true, field);
}

static struct value upstream(struct walk *walk, struct span field) {
    enum { ADDRESS, PORT, LOCAL, FAILURE, ATTEMPTS, READY };
    static const struct name names[] = {
        {SPAN_INIT("address"), ADDRESS},
        {SPAN_INIT("port"), PORT},
        {SPAN_INIT("local_address"), LOCAL},
        {SPAN_INIT("transport_failure_reason"), FAILURE},
        {SPAN_INIT("request_attempt_count"), ATTEMPTS},
        {SPAN_INIT("cx_pool_ready_duration"), READY},
    };
    const struct stream_info *info = walk->of->info;
    const struct upstream_tls *tls = info->upstream_tls;
    switch (WHICH_OF(names, field)) {
    case ADDRESS:
    case PORT:
        return address_part(info->upstream_remote, field);
    case LOCAL:
        return info->upstream_local.len ? text(info->upstream_local) : value_absent;
    case FAILURE:
        return info->upstream_remote.len ? text(info->upstream_transport_failure) : value_absent;
    case ATTEMPTS:
        return integer(info->upstream_attempts);
    case READY:
        return duration(info->upstream_wanted_ns, info->upstream_tx_first_ns);
    default:
        return tls ? of_tls(tls->version, NULL, tls->has_certificate ? &tls->peer : NULL, field)
                   : value_absent;
    }
}

/* ---- configuration ---- */

static struct value config(const struct cfg_metadata *metadata) {
    return (struct value){.kind = VALUE_CONFIG, .config = metadata};
}

static struct value xds(struct walk *walk, struct span field) {
    enum {
        CLUSTER,
        CLUSTER_DATA,
        ROUTE,
        ROUTE_DATA,
        HOST_DATA,
        CHAIN,
        LISTENER_DATA,
        DIRECTION,
        VHOST,
        VHOST_DATA
    };
    static const struct name names[] = {
        {SPAN_INIT("cluster_name"), CLUSTER},
        {SPAN_INIT("cluster_metadata"), CLUSTER_DATA},
        {SPAN_INIT("route_name"), ROUTE},
        {SPAN_INIT("route_metadata"), ROUTE_DATA},
        {SPAN_INIT("upstream_host_metadata"), HOST_DATA},
        {SPAN_INIT("filter_chain_name"), CHAIN},
        {SPAN_INIT("listener_metadata"), LISTENER_DATA},
        {SPAN_INIT("listener_direction"), DIRECTION},
        {SPAN_INIT("virtual_host_name"), VHOST},
        {SPAN_INIT("virtual_host_metadata"), VHOST_DATA},
    };
    const struct stream_info *info = walk->of->info;
    const struct route_entry *route = walk->of->route;
    const struct downstream *d = walk->of->downstream;
    const struct cfg_listener *listener = d ? d->info->listener->config->config : NULL;
    switch (WHICH_OF(names, field)) {
    case CLUSTER:
        return text_or_absent(info->upstream_cluster);
    case CLUSTER_DATA:
        return info->cluster ? config(info->cluster->config->metadata) : value_absent;
    case ROUTE:
        return route ? text(route->name) : value_absent;
    case ROUTE_DATA:
        return route && route->config ? config(route->config->metadata) : value_absent;
    case HOST_DATA: /* endpoints have none in this release */
        return info->upstream_remote.len ? config(NULL) : value_absent;
    case CHAIN:
        return text(info->filter_chain);
    case LISTENER_DATA:
        return listener ? config(listener->metadata) : value_absent;
    case DIRECTION:
        return listener ? integer((uint64_t)listener->traffic_direction) : value_absent;
    case VHOST:
        return route ? text(route->virtual_host_name) : value_absent;
    case VHOST_DATA:
        return route && route->virtual_host ? config(route->virtual_host->metadata) : value_absent;
    default:
        return value_absent;
    }
}

struct value value_of_group(struct span name) {
    static const struct {
        struct span name;
        struct value (*group)(struct walk *walk, struct span field);
    } groups[] = {
        {SPAN_INIT("request"), request},
        {SPAN_INIT("response"), response},
        {SPAN_INIT("connection"), connection},
        {SPAN_INIT("upstream"), upstream},
        {SPAN_INIT("source"), source},
        {SPAN_INIT("destination"), destination},
        {SPAN_INIT("xds"), xds},
    };
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++)
        if (span_eq(groups[i].name, name))
            return (struct value){.kind = VALUE_GROUP, .group = groups[i].group};
    return value_absent;
}
