/* http1_facts: what Content-Length, Transfer-Encoding, Connection, Expect and Upgrade say. This is
 * where two parsers of one message could come to disagree about where it ends (request smuggling),
 * so whatever has two readings is an error. */
#include "http/chars.h"
#include "http/http1_internal.h"

/* Nominations a client may make: Envoy refuses a list as long as this. */
enum { CONNECTION_TOKENS_MAX = 10 };

static const char CONNECTION_REJECTED[] = "http1.connection_header_rejected";

/* A peer must not drop the fields that say where a request comes from or goes to. */
static bool may_not_be_nominated(struct span token) {
    return chars_eq_lower(token, SPAN_LIT("x-forwarded-for")) ||
           chars_eq_lower(token, SPAN_LIT("x-forwarded-host")) ||
           chars_eq_lower(token, SPAN_LIT("x-forwarded-proto")) ||
           chars_eq_lower(token, SPAN_LIT("host")) || (token.len > 0 && token.ptr[0] == ':');
}

static bool read_connection(struct span value, bool is_request, unsigned *tokens,
                            struct http1_facts *facts) {
    struct span token;
    if (chars_eq_lower(value, SPAN_LIT("keep-alive"))) { /* what nearly every client sends */
        facts->keep_alive = true;
        ++*tokens;
        return true;
    }
    while (span_next_token(&value, ',', &token)) {
        if (token.len == 0)
            continue;
        if (chars_eq_lower(token, SPAN_LIT("close")))
            facts->close = true;
        else if (chars_eq_lower(token, SPAN_LIT("keep-alive")))
            facts->keep_alive = true;
        else if (chars_eq_lower(token, SPAN_LIT("upgrade")))
            facts->upgrade_token = true;
        else if (is_request && may_not_be_nominated(token))
            return false;
        if (++*tokens >= CONNECTION_TOKENS_MAX && is_request)
            return false;
    }
    return true;
}

/* One line that says "chunked" and nothing else. Whatever more there could be (a second chunked, a
 * coding in front, an empty element) is something that the next hop may read differently. */
static bool read_coding(struct span value, struct http1_facts *facts) {
    if (facts->has_coding)
        return false;
    facts->has_coding = true;
    return chars_eq_lower(value, SPAN_LIT("chunked"));
}

static bool read_length(struct span value, struct http1_facts *facts) {
    if (facts->has_length)
        return false;
    facts->has_length = true;
    /* Above INT64_MAX a sum of lengths could wrap somewhere behind us, and nobody sends that. */
    return span_to_u64(value, &facts->content_length) && facts->content_length <= INT64_MAX;
}

#define BIT(id) (UINT64_C(1) << HDR_##id)

enum http1_error http1_read_facts(const struct header_map *map, bool is_request,
                                  struct http1_facts *facts, const char **details) {
    const uint64_t telling = BIT(CONTENT_LENGTH) | BIT(TRANSFER_ENCODING) | BIT(CONNECTION) |
                             BIT(PROXY_CONNECTION) | BIT(EXPECT) | BIT(UPGRADE);
    unsigned tokens = 0;

    *facts = (struct http1_facts){0};
    *details = NULL;
    if ((map->known & telling) == 0)
        return HTTP1_OK;

    for (uint32_t i = 0; i < map->count; i++) {
        if (!(telling >> map->entries[i].id & 1))
            continue;
        struct span value = header_value(&map->entries[i]);
        switch (map->entries[i].id) {
        case HDR_CONTENT_LENGTH:
            if (!read_length(value, facts))
                return HTTP1_BAD_FRAMING;
            break;
        case HDR_TRANSFER_ENCODING:
            if (!read_coding(value, facts))
                return HTTP1_BAD_CODING;
            break;
        case HDR_CONNECTION:
            if (!read_connection(value, is_request, &tokens, facts)) {
                *details = CONNECTION_REJECTED;
                return HTTP1_BAD_SYNTAX;
            }
            break;
        case HDR_PROXY_CONNECTION: {
            struct span rest = value, token;
            while (span_next_token(&rest, ',', &token))
                facts->close |= chars_eq_lower(token, SPAN_LIT("close"));
            break;
        }
        case HDR_EXPECT:
            facts->expect_continue |= chars_eq_lower(value, SPAN_LIT("100-continue"));
            break;
        case HDR_UPGRADE:
            facts->has_upgrade = true;
            break;
        default:
            break;
        }
    }
    return HTTP1_OK;
}

bool http1_connection_persists(const struct http1_facts *facts, unsigned minor_version) {
    return !facts->close && (minor_version >= 1 || facts->keep_alive);
}
