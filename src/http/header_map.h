/* header_map: the fields of one message, in order, names lower-case, pseudo headers first.
 *
 * Shape      An array of {name, value, id, flags}. Request pseudo headers (:method :path :authority
 *            :scheme) and :status of responses are entries like any other and stand first; `host`
 *            never appears in a request, it is :authority. Multiple values are separate entries.
 * Ownership  Names and values are borrowed: from the block that the head was read into (held by the
 *            arena), from the arena, or from static memory. The array lives in the arena.
 * Threads    The exchange's P. While an extension owns a side, nobody changes that side's map.
 * Errors     -ENOMEM when the arena is at its limit, -EINVAL for a name or value that may not go on
 *            the wire (CR, LF, NUL, not a token, longer than HEADER_NAME_MAX), -E2BIG past
 *            HEADER_COUNT_MAX.
 * Lookup     Known names carry an id, and of each id the map knows where its first entry is. Where
 *            a name is given without its id (HDR_OTHER) the id is looked up, so either form finds
 *            the same entries.
 *            In a request (a map with :method or :authority) "host" means :authority. */
#pragma once
#include <assert.h>

#include "mem/arena.h"

/* X(ID, "name"). Order: pseudo headers first. At most 63 ids: `known` is one word. */
#define HEADER_NAMES(X)                                                                            \
    X(METHOD, ":method")                                                                           \
    X(PATH, ":path")                                                                               \
    X(AUTHORITY, ":authority")                                                                     \
    X(SCHEME, ":scheme")                                                                           \
    X(STATUS, ":status")                                                                           \
    X(PROTOCOL, ":protocol")                                                                       \
    X(HOST, "host")                                                                                \
    X(CONNECTION, "connection")                                                                    \
    X(KEEP_ALIVE, "keep-alive")                                                                    \
    X(PROXY_CONNECTION, "proxy-connection")                                                        \
    X(TE, "te")                                                                                    \
    X(TRAILER, "trailer")                                                                          \
    X(TRANSFER_ENCODING, "transfer-encoding")                                                      \
    X(UPGRADE, "upgrade")                                                                          \
    X(CONTENT_LENGTH, "content-length")                                                            \
    X(CONTENT_TYPE, "content-type")                                                                \
    X(CONTENT_ENCODING, "content-encoding")                                                        \
    X(EXPECT, "expect")                                                                            \
    X(DATE, "date")                                                                                \
    X(SERVER, "server")                                                                            \
    X(VIA, "via")                                                                                  \
    X(USER_AGENT, "user-agent")                                                                    \
    X(ACCEPT, "accept")                                                                            \
    X(ACCEPT_ENCODING, "accept-encoding")                                                          \
    X(AUTHORIZATION, "authorization")                                                              \
    X(COOKIE, "cookie")                                                                            \
    X(SET_COOKIE, "set-cookie")                                                                    \
    X(REFERER, "referer")                                                                          \
    X(LOCATION, "location")                                                                        \
    X(ETAG, "etag")                                                                                \
    X(CACHE_CONTROL, "cache-control")                                                              \
    X(GRPC_STATUS, "grpc-status")                                                                  \
    X(GRPC_MESSAGE, "grpc-message")                                                                \
    X(GRPC_TIMEOUT, "grpc-timeout")                                                                \
    X(X_REQUEST_ID, "x-request-id")                                                                \
    X(X_FORWARDED_FOR, "x-forwarded-for")                                                          \
    X(X_FORWARDED_PROTO, "x-forwarded-proto")                                                      \
    X(X_FORWARDED_HOST, "x-forwarded-host")                                                        \
    X(X_FORWARDED_PORT, "x-forwarded-port")                                                        \
    X(X_FORWARDED_CLIENT_CERT, "x-forwarded-client-cert")                                          \
    X(X_ENVOY_EXTERNAL_ADDRESS, "x-envoy-external-address")                                        \
    X(X_ENVOY_INTERNAL, "x-envoy-internal")                                                        \
    X(X_ENVOY_ORIGINAL_PATH, "x-envoy-original-path")                                              \
    X(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, "x-envoy-expected-rq-timeout-ms")                            \
    X(X_ENVOY_UPSTREAM_SERVICE_TIME, "x-envoy-upstream-service-time")                              \
    X(X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS, "x-envoy-upstream-rq-timeout-ms")                            \
    X(X_ENVOY_ATTEMPT_COUNT, "x-envoy-attempt-count")                                              \
    X(X_ENVOY_DECORATOR_OPERATION, "x-envoy-decorator-operation")                                  \
    X(X_ENVOY_ORIGINAL_HOST, "x-envoy-original-host")

enum header_id {
    HDR_OTHER = 0,
#define X(ident, text) HDR_##ident,
    HEADER_NAMES(X)
#undef X
        HDR_COUNT
};
static_assert(HDR_COUNT <= 64, "header_map.known is one 64-bit word");

enum {
    HEADER_COUNT_MAX = 4096,        /* far above any configured limit; bounds what filters add */
    HEADER_NAME_MAX = (1 << 21) - 1 /* a bit field's width; an arena holds hardly more */
};

enum header_flag {
    /* name_ptr starts a line "name: value\r\n" that stands on the wire exactly so: the serialiser
     * sends it from where it lies and merges neighbours into one piece. */
    HEADER_WIRE_LINE = 1,
    /* Of :authority only: value_ptr stands in such a line, "host: value\r\n". */
    HEADER_WIRE_HOST = 2,
    /* Of :method and :path only: the values stand in "method path HTTP/1.1\r\n". */
    HEADER_WIRE_START = 2,
};

/* A field in 24 bytes, since each message touches all of its entries. Read it by header_name and
 * header_value, make it by header_make. */
struct header {
    const char *name_ptr, *value_ptr;
    uint32_t value_len;
    uint32_t name_len : 21, flags : 3, id : 8; /* enum header_flag, enum header_id */
};
static_assert(sizeof(struct header) == 24, "two and a half to a cache line");

static inline struct span header_name(const struct header *header) {
    return span_make(header->name_ptr, header->name_len);
}
static inline struct span header_value(const struct header *header) {
    return span_make(header->value_ptr, header->value_len);
}
/* Borrows name and value for as long as the entry lives. */
static inline struct header header_make(enum header_id id, struct span name BORROWED_BY(result),
                                        struct span value BORROWED_BY(result)) {
    return (struct header){.name_ptr = name.ptr,
                           .value_ptr = value.ptr,
                           .value_len = (uint32_t)value.len,
                           .name_len = (unsigned)name.len & HEADER_NAME_MAX,
                           .id = (uint8_t)id};
}

struct header_map {
    struct header *entries;
    uint64_t known;    /* bit id set: an entry with that id exists */
    uint64_t repeated; /* bit id clear: there is one such entry at most */
    uint32_t count, capacity;
    size_t bytes; /* sum of name and value lengths */
    struct arena *arena;
    uint8_t first[HDR_COUNT]; /* private: see header_index */
};

void header_map_init(struct header_map *map, struct arena *arena);
/* Of entries that somebody else has, with names and values of so many bytes: good to be read. */
void header_map_of(struct header_map *map, const struct header *entries BORROWED_BY(map),
                   uint32_t count, size_t bytes);
/* Removes all entries and keeps the room for them. */
void header_map_clear(struct header_map *map);

/* HDR_OTHER when the name is not in the list. Lower-case input. */
enum header_id header_id_of(struct span name);
struct span header_name_of(enum header_id id);

static inline bool header_has(const struct header_map *map, enum header_id id) {
    return (map->known >> id & 1) != 0;
}

/* Private: header_get of what is not at hand. */
struct span header_get_slowly(const struct header_map *map, enum header_id id);

enum { HEADER_INDEX_FAR = 255 }; /* in `first`: not before this index */

/* First value of the field; the absent span when there is none. */
static inline struct span header_get(const struct header_map *map, enum header_id id) {
    if (id == HDR_HOST)
        return header_get_slowly(map, id);
    if (!header_has(map, id))
        return span_none();
    unsigned at = map->first[id];
    return at == HEADER_INDEX_FAR ? header_get_slowly(map, id) : header_value(&map->entries[at]);
}
struct span header_get_name(const struct header_map *map,
                            struct span name); /* any name, lower-case */
/* The next entry of that name at or after index `from`; -1 when there is none. id wins over name
 * unless it is HDR_OTHER. */
int header_find(const struct header_map *map, enum header_id id, struct span name, uint32_t from);

/* Names must be lower-case. The spans are borrowed for the arena's life (copy first when needed).
 * _add appends an entry; a pseudo header goes behind the other pseudo headers.
 * _set removes all of that name and puts one in the first one's place.
 * _append joins with "," to the first value when there is one, else adds. */
MUST_CHECK int header_add(struct header_map *map, enum header_id id,
                          struct span name BORROWED_BY(map), struct span value BORROWED_BY(map));
MUST_CHECK int header_set(struct header_map *map, enum header_id id,
                          struct span name BORROWED_BY(map), struct span value BORROWED_BY(map));
MUST_CHECK int header_append(struct header_map *map, enum header_id id,
                             struct span name BORROWED_BY(map), struct span value BORROWED_BY(map));
/* How many were removed. */
uint32_t header_remove(struct header_map *map, enum header_id id, struct span name);

/* Known names, the short form. */
MUST_CHECK int header_set_id(struct header_map *map, enum header_id id,
                             struct span value BORROWED_BY(map));
MUST_CHECK int header_add_id(struct header_map *map, enum header_id id,
                             struct span value BORROWED_BY(map));
uint32_t header_remove_id(struct header_map *map, enum header_id id);

/* What may go on the wire: RFC 9110 token (lower-case for names of ours), and a value without CR,
 * LF, NUL or other control bytes but HTAB. */
bool header_name_is_valid(struct span name);
bool header_value_is_valid(struct span value);
