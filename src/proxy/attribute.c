/* attribute: a path is walked name by name, as Envoy's Go host walks values of CEL:
 *
 *     "request"  .  "headers"  .  "x-user"          a group, one of its fields, a name in that
 *     GROUP         HEADERS       TEXT
 *
 * Nothing is made before it is asked for: a step looks at one field. A value at which the path ends becomes text; one
 * that has no names in it, where the path goes on, has no such attribute. A dot at the end counts for nothing.
 *
 * Differences to Envoy are for the better: a key of metadata or filter state that has dots in it, as the names of
 * filters do, is found although its dots separate names; and filter state of Go filters is found at all. */
#include "proxy/attribute.h"

#include <stdlib.h>

#include "http/status.h"
#include "proxy/cluster.h"
#include "proxy/downstream.h"
#include "proxy/filter_state.h"
#include "proxy/listener.h"
#include "proxy/metadata_wire.h"
#include "proxy/route.h"
#include "proxy/stream_info.h"
#include "proxy/tls_info.h"

enum kind {
    ABSENT,
    TEXT,
    INTEGER,
    BOOLEAN,
    DURATION,
    TIME,
    GROUP,   /* group */
    HEADERS, /* map; NULL: an empty one */
    TREE,    /* tree, of metadata that is locked or does not change */
    DYNAMIC, /* the message: of the subject */
    SPACES,  /* its namespaces */
    CONFIG,  /* the message: config, NULL is an empty one */
    CONFIG_SPACES,
    STATE, /* objects of the filter state; number: only what the upstream's side is shown */
};

struct walk;
struct value {
    enum kind kind;
    union {
        struct span text;
        int64_t number;
        struct value (*group)(struct walk *walk, struct span field);
        const struct header_map *headers;
        const struct cfg_value *tree;
        const struct cfg_metadata *config;
    };
};

struct walk {
    const struct attribute_subject *of;
    struct span rest;       /* of the path */
    struct format_out made; /* text that is nowhere as it is asked for */
};

static const struct value absent = {.kind = ABSENT};

static struct value text_or_absent(struct span text) {
    return span_is_none(text) ? absent : (struct value){.kind = TEXT, .text = text};
}

/* Empty rather than absent. */
static struct value text(struct span text) {
    return (struct value){.kind = TEXT, .text = span_is_none(text) ? SPAN_LIT("") : text};
}

static struct value integer(uint64_t number) {
    return (struct value){.kind = INTEGER, .number = (int64_t)number};
}

static struct value duration(int64_t from_ns, int64_t to_ns) {
    return from_ns && to_ns ? (struct value){.kind = DURATION, .number = to_ns - from_ns} : absent;
}

static struct value made_text(struct walk *walk) {
    return text(span_make(walk->made.data, walk->made.len));
}

/* ---- headers ---- */

static struct value header(const struct header_map *map, enum header_id id) {
    if (!map || !header_has(map, id))
        return absent;
    return text(header_get(map, id));
}

/* All of that name, joined. In Envoy's requests `host` is the pseudo header. */
static struct value header_named(struct walk *walk, const struct header_map *map,
                                 struct span name) {
    char lower[256];
    if (!map || name.len == 0 || name.len > sizeof lower)
        return absent;
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
    return count == 0 ? absent : count == 1 ? text(only) : made_text(walk);
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
        return absent;
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
        return (struct value){.kind = HEADERS, .headers = headers};
    case REFERER:
        return header_named(walk, headers, SPAN_LIT("referer"));
    case AGENT:
        return header_named(walk, headers, SPAN_LIT("user-agent"));
    case ID:
        return header(headers, HDR_X_REQUEST_ID);
    case AT:
        return (struct value){.kind = TIME, .number = info->start_wall_ns};
    case PROTOCOL:
        return text(info->protocol == 0 ? SPAN_LIT("HTTP/1.0") : SPAN_LIT("HTTP/1.1"));
    case LASTED:
        return duration(info->start_ns, info->end_ns);
    case SIZE:
        if (!headers || !header_has(headers, HDR_CONTENT_LENGTH))
            return integer(info->bytes_received);
        return span_to_u64(header_get(headers, HDR_CONTENT_LENGTH), &length) ? integer(length)
                                                                             : absent;
    case ALL:
        return integer(info->bytes_received + bytes_of(headers));
    default:
        return absent;
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
        return (struct value){.kind = INTEGER, .number = known ? (int64_t)status : -1};
    }
    return code ? integer(status_to_grpc(code)) : absent;
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
        return code ? integer(code) : absent;
    case DETAILS:
        return text_or_absent(attribute_code_details(of));
    case FLAGS:
        return integer(attribute_flags(info->flags));
    case GRPC:
        return grpc_status(of);
    case FIELDS:
        return (struct value){.kind = HEADERS, .headers = of->response};
    case ENDS:
        return (struct value){.kind = HEADERS, .headers = of->trailers};
    case SIZE:
        return integer(info->bytes_sent);
    case ALL:
        return integer(info->bytes_sent + bytes_of(of->response) + bytes_of(of->trailers));
    case BACKEND:
        return duration(info->upstream_tx_first_ns, info->upstream_rx_last_ns);
    default:
        return absent;
    }
}

/* The first of that type. */
static struct value san(const struct tls_identity *identity, enum tls_san_type type) {
    for (size_t i = 0; identity && i < identity->san_count; i++)
        if (identity->sans[i].type == type)
            return text(identity->sans[i].value);
    return absent;
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
        return peer && peer->sha256.len ? text(peer->sha256) : absent;
    default:
        return absent;
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
        return (struct value){.kind = BOOLEAN, .number = tls && tls->has_peer};
    case NAME:
        return text(d ? d->info->server_name : span_none());
    case TERMINATION:
        return text_or_absent(of->info->connection_termination_details);
    case FAILURE:
        return d && d->info->transport_failure.len ? text(d->info->transport_failure) : absent;
    default:
        return tls ? of_tls(tls->version, tls->local, tls->peer, field) : absent;
    }
}

/* ---- addresses ---- */

/* "ip:port", or the port of one. */
static struct value address_part(struct span address, struct span field) {
    size_t colon = address.len;
    uint64_t port;
    if (address.len == 0)
        return absent;
    if (span_eq(field, SPAN_LIT("address")))
        return text(address);
    while (colon > 0 && address.ptr[colon - 1] != ':')
        colon--;
    bool wanted = colon > 0 && span_eq(field, SPAN_LIT("port"));
    return wanted && span_to_u64(span_from(address, colon), &port) ? integer(port) : absent;
}

struct span attribute_downstream_address(const struct attribute_subject *of, bool local,
                                         char text[ADDRESS_TEXT_MAX]) {
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
    if (value.kind == TEXT) {
        format_out_put(&walk->made, value.text);
        return made_text(walk);
    }
    return value;
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
        return info->upstream_local.len ? text(info->upstream_local) : absent;
    case FAILURE:
        return info->upstream_remote.len ? text(info->upstream_transport_failure) : absent;
    case ATTEMPTS:
        return integer(info->upstream_attempts);
    case READY:
        return duration(info->upstream_wanted_ns, info->upstream_tx_first_ns);
    default:
        return tls ? of_tls(tls->version, NULL, tls->has_certificate ? &tls->peer : NULL, field)
                   : absent;
    }
}

/* ---- configuration ---- */

static struct value config(const struct cfg_metadata *metadata) {
    return (struct value){.kind = CONFIG, .config = metadata};
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
        return info->cluster ? config(info->cluster->config->metadata) : absent;
    case ROUTE:
        return route ? text(route->name) : absent;
    case ROUTE_DATA:
        return route && route->config ? config(route->config->metadata) : absent;
    case HOST_DATA: /* endpoints have none in this release */
        return info->upstream_remote.len ? config(NULL) : absent;
    case CHAIN:
        return text(info->filter_chain);
    case LISTENER_DATA:
        return listener ? config(listener->metadata) : absent;
    case DIRECTION:
        return listener ? integer((uint64_t)listener->traffic_direction) : absent;
    case VHOST:
        return route ? text(route->virtual_host_name) : absent;
    case VHOST_DATA:
        return route && route->virtual_host ? config(route->virtual_host->metadata) : absent;
    default:
        return absent;
    }
}

static struct metadata *inherited(const struct attribute_subject *of) {
    return of->downstream ? of->downstream->info->metadata : NULL;
}

static struct value root(struct walk *walk, struct span name) {
    static const struct {
        struct span name;
        struct value value;
    } roots[] = {
        {SPAN_INIT("request"), {.kind = GROUP, .group = request}},
        {SPAN_INIT("response"), {.kind = GROUP, .group = response}},
        {SPAN_INIT("connection"), {.kind = GROUP, .group = connection}},
        {SPAN_INIT("upstream"), {.kind = GROUP, .group = upstream}},
        {SPAN_INIT("source"), {.kind = GROUP, .group = source}},
        {SPAN_INIT("destination"), {.kind = GROUP, .group = destination}},
        {SPAN_INIT("xds"), {.kind = GROUP, .group = xds}},
        {SPAN_INIT("metadata"), {.kind = DYNAMIC}},
        {SPAN_INIT("filter_state"), {.kind = STATE, .number = false}},
        {SPAN_INIT("upstream_filter_state"), {.kind = STATE, .number = true}},
    };
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++)
        if (span_eq(roots[i].name, name))
            return roots[i].value;
    return absent;
}

/* ---- the walk ---- */

/* What rest begins with, if a dot or nothing follows: how long that is with its dot. 0: no. */
static size_t begins_with(struct span rest, struct span key) {
    if (!span_starts_with(rest, key))
        return 0;
    return rest.len == key.len ? key.len : rest.ptr[key.len] == '.' ? key.len + 1 : 0;
}

/* The longest key that the rest of the path begins with. */
static struct value longest(struct walk *walk, const struct cfg_value *tree) {
    const struct cfg_value_field *best = NULL;
    size_t best_len = 0;
    for (size_t i = 0; tree && i < tree->fields_count; i++) {
        size_t len = begins_with(walk->rest, tree->fields[i].key);
        if (len > best_len) {
            best_len = len;
            best = &tree->fields[i];
        }
    }
    if (!best)
        return absent;
    walk->rest = span_from(walk->rest, best_len);
    return (struct value){.kind = TREE, .tree = &best->value};
}

static struct value in_spaces(struct walk *walk, const struct cfg_metadata *metadata) {
    const struct cfg_metadata_entry *best = NULL;
    size_t best_len = 0;
    for (size_t i = 0; metadata && i < metadata->filter_metadata_count; i++) {
        size_t len = begins_with(walk->rest, metadata->filter_metadata[i].key);
        if (len > best_len) {
            best_len = len;
            best = &metadata->filter_metadata[i];
        }
    }
    if (!best)
        return absent;
    walk->rest = span_from(walk->rest, best_len);
    return (struct value){.kind = TREE, .tree = best->value};
}

static bool index_of(struct span name, size_t count, uint64_t *index) {
    return span_to_u64(name, index) && *index < count;
}

static struct value in_state(struct walk *walk, bool only_shared) {
    const struct attribute_subject *of = walk->of;
    struct filter_state *connections = of->downstream ? of->downstream->info->filter_state : NULL;
    struct span key = walk->rest;
    if (only_shared && !of->info->upstream_local.len)
        return absent; /* there is no upstream yet that it could be shown to */
    while (!filter_state_get(of->filter_state, connections, key, only_shared, &walk->made)) {
        while (key.len && key.ptr[key.len - 1] != '.')
            key.len--;
        if (key.len == 0)
            return absent;
        key.len--;
    }
    walk->rest = span_from(walk->rest, key.len);
    if (walk->rest.len)
        walk->rest = span_from(walk->rest, 1);
    return made_text(walk);
}

/* Up to the next dot, which is passed. */
static struct span next_name(struct walk *walk) {
    ptrdiff_t dot = span_find(walk->rest, '.');
    struct span name = dot < 0 ? walk->rest : span_make(walk->rest.ptr, (size_t)dot);
    walk->rest = span_from(walk->rest, dot < 0 ? name.len : name.len + 1);
    return name;
}

static struct value in_tree(struct walk *walk, const struct cfg_value *tree) {
    uint64_t index;
    if (tree->kind == CFG_VALUE_STRUCT)
        return longest(walk, tree);
    if (tree->kind != CFG_VALUE_LIST || !index_of(next_name(walk), tree->items_count, &index))
        return absent;
    return (struct value){.kind = TREE, .tree = &tree->items[index]};
}

/* Typed metadata is not to be had, but its field is there, empty. */
static struct value in_message(struct walk *walk, struct value message) {
    struct span field = next_name(walk);
    bool dynamic = message.kind == DYNAMIC;
    if (span_eq(field, SPAN_LIT("filter_metadata")))
        return dynamic ? (struct value){.kind = SPACES}
                       : (struct value){.kind = CONFIG_SPACES, .config = message.config};
    return span_eq(field, SPAN_LIT("typed_filter_metadata")) ? (struct value){.kind = CONFIG_SPACES}
                                                             : absent;
}

static struct value step(struct walk *walk, struct value at, const struct cfg_value *spaces) {
    switch (at.kind) {
    case GROUP:
        return at.group(walk, next_name(walk));
    case HEADERS:
        return header_named(walk, at.headers, next_name(walk));
    case TREE:
        return in_tree(walk, at.tree);
    case DYNAMIC:
    case CONFIG:
        return in_message(walk, at);
    case SPACES:
        return longest(walk, spaces);
    case CONFIG_SPACES:
        return in_spaces(walk, at.config);
    case STATE:
        return in_state(walk, at.number);
    default:
        return absent;
    }
}

/* ---- the end of it ---- */

static enum attribute_result put_tree(const struct cfg_value *tree, struct format_out *out) {
    switch (tree->kind) {
    case CFG_VALUE_STRING:
        format_out_put(out, tree->string);
        return ATTRIBUTE_TEXT;
    case CFG_VALUE_NUMBER:
        attribute_put_double(out, tree->number);
        return ATTRIBUTE_TEXT;
    case CFG_VALUE_BOOL:
        format_out_put(out, tree->boolean ? SPAN_LIT("true") : SPAN_LIT("false"));
        return ATTRIBUTE_TEXT;
    default:
        return ATTRIBUTE_NO_TEXT;
    }
}

static void put_message(const struct attribute_subject *of, struct value message,
                        struct format_out *out) {
    struct cfg_buf wire = {0};
    if (message.kind == DYNAMIC)
        metadata_wire_all(of->metadata, inherited(of), &wire);
    else
        metadata_wire_config(message.config, &wire);
    format_out_put(out, cfg_buf_view(&wire));
    out->failed |= wire.failed;
    cfg_buf_fini(&wire);
}

static enum attribute_result put_value(const struct attribute_subject *of, struct value value,
                                       struct format_out *out) {
    switch (value.kind) {
    case ABSENT:
        return ATTRIBUTE_ABSENT;
    case TEXT:
        format_out_put(out, value.text);
        return ATTRIBUTE_TEXT;
    case INTEGER:
        attribute_put_integer(out, value.number);
        return ATTRIBUTE_TEXT;
    case BOOLEAN:
        format_out_put(out, value.number ? SPAN_LIT("true") : SPAN_LIT("false"));
        return ATTRIBUTE_TEXT;
    case DURATION:
        attribute_put_duration(out, value.number);
        return ATTRIBUTE_TEXT;
    case TIME:
        attribute_put_time(out, value.number);
        return ATTRIBUTE_TEXT;
    case TREE:
        return put_tree(value.tree, out);
    case DYNAMIC:
    case CONFIG:
        put_message(of, value, out);
        return ATTRIBUTE_TEXT;
    default:
        return ATTRIBUTE_NO_TEXT;
    }
}

/* spaces: what the dynamic metadata is taken to be, locked. */
static enum attribute_result walk_with(struct walk *walk, const struct cfg_value *spaces,
                                       struct format_out *out) {
    struct value value = root(walk, next_name(walk));
    while (walk->rest.len && value.kind != ABSENT)
        value = step(walk, value, spaces);
    return put_value(walk->of, value, out);
}

/* The exchange's own, and where that says nothing, its connection's. The message as a whole is of both. */
static enum attribute_result walk_metadata(const struct attribute_subject *of, struct span path,
                                           struct format_out *out) {
    struct metadata *const both[] = {of->metadata, inherited(of)};
    enum attribute_result result = ATTRIBUTE_ABSENT;
    struct walk whole = {.of = of, .rest = path};
    (void)next_name(&whole);
    if (!whole.rest.len) {
        put_message(of, (struct value){.kind = DYNAMIC}, out);
        return ATTRIBUTE_TEXT;
    }
    for (int i = 0; i < 2 && result == ATTRIBUTE_ABSENT; i++) {
        struct walk walk = {.of = of, .rest = path};
        metadata_lock(both[i]);
        result = walk_with(&walk, both[i] ? metadata_all(both[i]) : NULL, out);
        metadata_unlock(both[i]);
    }
    return result;
}

enum attribute_result attribute_text(const struct attribute_subject *of, struct span path,
                                     struct format_out *out) {
    enum attribute_result result;
    if (path.len == 0)
        return ATTRIBUTE_NO_TEXT; /* as Envoy has it */
    if (path.len > ATTRIBUTE_PATH_MAX)
        return ATTRIBUTE_ABSENT;
    if (begins_with(path, SPAN_LIT("metadata"))) {
        result = walk_metadata(of, path, out);
    } else {
        struct walk walk = {.of = of, .rest = path};
        result = walk_with(&walk, NULL, out);
        out->failed |= walk.made.failed;
        free(walk.made.data);
    }
    return out->failed ? ATTRIBUTE_NO_MEMORY : result;
}
