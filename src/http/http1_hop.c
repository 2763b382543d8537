/* http1_hop: fields that concern one connection only (RFC 9110 7.6.1) leave the map. In responses
 * Envoy ignores nominations (RFC 9110 would have them removed) and leaves TE alone; so do we. */
#include "http/chars.h"
#include "http/header_map_internal.h"
#include "http/http1.h"

enum { HEADER_DROP = 4 }; /* a mark within this file, in header.flags */

#define BIT(id) (UINT64_C(1) << HDR_##id)
static const uint64_t hop_ids = BIT(CONNECTION) | BIT(KEEP_ALIVE) | BIT(PROXY_CONNECTION) |
                                BIT(TRANSFER_ENCODING) | BIT(UPGRADE);
/* What a peer may not take away by naming it: routing, framing, its own origin. TE has a rule of
 * its own. */
static const uint64_t kept_ids = BIT(METHOD) | BIT(PATH) | BIT(AUTHORITY) | BIT(SCHEME) |
                                 BIT(STATUS) | BIT(PROTOCOL) | BIT(HOST) | BIT(CONTENT_LENGTH) |
                                 BIT(X_FORWARDED_FOR) | BIT(X_FORWARDED_HOST) |
                                 BIT(X_FORWARDED_PROTO) | BIT(TE);

static void mark_nominated(struct header_map *headers, struct span value) {
    struct span token;
    while (span_next_token(&value, ',', &token)) {
        /* What says something about the connection itself; all but always nothing else is there. */
        if (token.len == 0 || chars_eq_lower(token, SPAN_LIT("close")) ||
            chars_eq_lower(token, SPAN_LIT("keep-alive")))
            continue;
        for (uint32_t i = 0; i < headers->count; i++) {
            struct header *entry = &headers->entries[i];
            if ((kept_ids >> entry->id & 1) == 0 && span_eq_nocase(header_name(entry), token))
                entry->flags |= HEADER_DROP;
        }
    }
}

/* Of TE only "trailers" means anything to the next hop. */
static void reduce_te(struct header *entry, struct header_map *headers) {
    struct span rest = header_value(entry), token;
    while (span_next_token(&rest, ',', &token)) {
        if (!span_eq_nocase(token, SPAN_LIT("trailers")))
            continue;
        if (token.len != entry->value_len)
            header_map_change(headers, entry, SPAN_LIT("trailers"));
        return;
    }
    entry->flags |= HEADER_DROP;
}

/* Whether Connection says nothing but what nearly every peer says, and so names no field. */
static bool names_nothing(const struct header_map *headers) {
    struct span value = header_get(headers, HDR_CONNECTION);
    return chars_eq_lower(value, SPAN_LIT("keep-alive")) ||
           chars_eq_lower(value, SPAN_LIT("close"));
}

void http1_strip_hop_by_hop(struct header_map *headers) {
    bool is_request = !header_has(headers, HDR_STATUS);
    uint64_t here = headers->known & (hop_ids | BIT(TE));
    if (here == 0)
        return;
    if (here == BIT(CONNECTION) && !(headers->repeated & here) &&
        (!is_request || names_nothing(headers))) {
        header_map_remove_at(headers, header_map_first(headers, HDR_CONNECTION));
        return;
    }
    for (uint32_t i = 0; i < headers->count; i++) {
        struct header *entry = &headers->entries[i];
        if (is_request && entry->id == HDR_CONNECTION)
            mark_nominated(headers, header_value(entry));
        if (is_request && entry->id == HDR_TE)
            reduce_te(entry, headers);
        if (hop_ids >> entry->id & 1)
            entry->flags |= HEADER_DROP;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < headers->count; i++) {
        struct header *entry = &headers->entries[i];
        if (entry->flags & HEADER_DROP) {
            headers->bytes -= entry->name_len + entry->value_len;
        } else {
            headers->entries[kept++] = *entry;
        }
    }
    headers->count = kept;
    header_map_reindex(headers);
}
