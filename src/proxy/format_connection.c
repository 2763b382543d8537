/* format_connection: operators about the connection: its addresses, what filters noted, what was sniffed. */
#include "proxy/connection_info.h"
#include "proxy/downstream.h"
#include "proxy/filter_state.h"
#include "proxy/format_internal.h"
#include "proxy/metadata.h"

/* ---- addresses ---- */

/* text, of ADDRESS_TEXT_MAX, may hold it. */
static struct span address_of(const struct format_subject *of, int which, char *text) {
    struct exchange *x = of->exchange;
    struct address address;
    switch ((enum format_address)which) {
    case ADDRESS_UPSTREAM_LOCAL:
        return of->info->upstream_local;
    case ADDRESS_UPSTREAM_REMOTE:
        return of->info->upstream_remote;
    case ADDRESS_DOWNSTREAM_LOCAL:
        if (x)
            return exchange_downstream_local(x);
        downstream_address(of->downstream, &address);
        break;
    case ADDRESS_DOWNSTREAM_REMOTE:
        if (x)
            return exchange_downstream_remote(x);
        downstream_remote_address(of->downstream, &address);
        break;
    case ADDRESS_DOWNSTREAM_DIRECT_REMOTE:
        if (x)
            return exchange_downstream_direct_remote(x);
        address_unpack(&of->downstream->peer, &address);
        break;
    case ADDRESS_DOWNSTREAM_DIRECT_LOCAL:
        if (!of->downstream) /* of a request of our own */
            return x ? exchange_downstream_local(x) : span_none();
        downstream_local_address(of->downstream, &address);
        break;
    }
    return span_make(text, address_text(&address, text));
}

enum format_value_kind format_put_address(const struct format_op *op,
                                          const struct format_subject *of, struct format_out *out) {
    char text[ADDRESS_TEXT_MAX];
    struct span address = address_of(of, op->which, text);
    if (address.len == 0)
        return FORMAT_ABSENT;
    size_t colon = address.len;
    while (colon > 0 && address.ptr[colon - 1] != ':' && address.ptr[colon - 1] != ']')
        colon--;
    bool has_port = colon > 0 && address.ptr[colon - 1] == ':';
    if (op->part == ADDRESS_WHOLE)
        return format_put_text(out, address, SIZE_MAX);
    if (op->part == ADDRESS_PORT) {
        if (!has_port)
            return FORMAT_ABSENT;
        format_out_put(out, span_from(address, colon));
        return FORMAT_JSON;
    }
    if (has_port)
        address.len = colon - 1;
    if (address.len >= 2 && address.ptr[0] == '[' && address.ptr[address.len - 1] == ']')
        address = span_make(address.ptr + 1, address.len - 2);
    return format_put_text(out, address, SIZE_MAX);
}

/* ---- metadata ---- */

static void put_quoted(struct format_out *out, struct span text) {
    format_out_put(out, SPAN_LIT("\""));
    size_t start = out->len;
    format_out_put(out, text);
    if (!out->failed)
        format_encode_json(out, start);
    format_out_put(out, SPAN_LIT("\""));
}

static void put_json(struct format_out *out, const struct cfg_value *value) {
    switch (value->kind) {
    case CFG_VALUE_STRING:
        put_quoted(out, value->string);
        break;
    case CFG_VALUE_NUMBER:
        format_put_number(out, value->number);
        break;
    case CFG_VALUE_BOOL:
        format_out_put(out, value->boolean ? SPAN_LIT("true") : SPAN_LIT("false"));
        break;
    case CFG_VALUE_NULL:
        format_out_put(out, SPAN_LIT("null"));
        break;
    case CFG_VALUE_STRUCT:
        format_out_put(out, SPAN_LIT("{"));
        for (size_t i = 0; i < value->fields_count; i++) {
            if (i > 0)
                format_out_put(out, SPAN_LIT(","));
            put_quoted(out, value->fields[i].key);
            format_out_put(out, SPAN_LIT(":"));
            put_json(out, &value->fields[i].value);
        }
        format_out_put(out, SPAN_LIT("}"));
        break;
    case CFG_VALUE_LIST:
        format_out_put(out, SPAN_LIT("["));
        for (size_t i = 0; i < value->items_count; i++) {
            if (i > 0)
                format_out_put(out, SPAN_LIT(","));
            put_json(out, &value->items[i]);
        }
        format_out_put(out, SPAN_LIT("]"));
        break;
    }
}

static enum format_value_kind put_value(const struct format_op *op, const struct cfg_value *value,
                                        struct format_out *out) {
    if (value->kind == CFG_VALUE_STRING)
        return format_put_text(out, value->string, op->max_len);
    size_t start = out->len;
    put_json(out, value);
    if (out->len - start <= op->max_len)
        return FORMAT_JSON;
    out->len = start + op->max_len; /* no JSON any more */
    return FORMAT_STRING;
}

static enum format_value_kind put_found(const struct format_op *op, struct metadata *metadata,
                                        struct format_out *out) {
    metadata_lock(metadata);
    const struct cfg_value *value = metadata_find(metadata, op->text, op->keys, op->key_count);
    enum format_value_kind kind = value ? put_value(op, value, out) : FORMAT_ABSENT;
    metadata_unlock(metadata);
    return kind;
}

/* The exchange's own, and what is said of its connection where that says nothing. */
enum format_value_kind format_put_metadata(const struct format_op *op,
                                           const struct format_subject *of,
                                           struct format_out *out) {
    enum format_value_kind kind = FORMAT_ABSENT;
    if (of->exchange)
        kind = put_found(op, exchange_metadata_if(of->exchange), out);
    if (kind == FORMAT_ABSENT && of->connection)
        kind = put_found(op, of->connection->metadata, out);
    return kind;
}

/* ---- filter state ---- */

static enum format_value_kind put_sniffed(enum format_filter_state what, size_t max_len,
                                          const struct format_subject *of, struct format_out *out) {
    const struct connection_info *info = of->connection;
    if (!info || info->flow_id == 0)
        return FORMAT_ABSENT;
    switch (what) {
    case STATE_FLOW_ID:
        format_put_u64(out, info->flow_id);
        return FORMAT_JSON;
    case STATE_TIMESTAMP:
        format_put_u64(out, (uint64_t)info->timestamp_ns);
        return FORMAT_JSON;
    case STATE_SRC_PORT: {
        struct address remote;
        downstream_remote_address(of->downstream, &remote);
        format_put_u64(out, address_port(&remote));
        return FORMAT_JSON;
    }
    case STATE_PROTOCOL:
        return format_put_text(out, info->protocol, max_len);
    case STATE_OF_FILTERS:
        break;
    }
    return FORMAT_ABSENT;
}

/* What filters have set beats what was sniffed. */
enum format_value_kind format_put_filter_state(const struct format_op *op,
                                               const struct format_subject *of,
                                               struct format_out *out) {
    struct filter_state *own = of->exchange ? exchange_filter_state_if(of->exchange) : NULL;
    struct filter_state *connections = of->connection ? of->connection->filter_state : NULL;
    size_t start = out->len;
    if (!filter_state_get(own, connections, op->text, false, out))
        return put_sniffed(op->which, op->max_len, of, out);
    if (out->len - start > op->max_len)
        out->len = start + op->max_len;
    return FORMAT_STRING;
}
