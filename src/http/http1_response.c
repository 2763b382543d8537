/* http1_response: response heads of upstreams. A message whose end could be read in two ways is an
 * error (the client then hears 502), because what lies behind it on the connection would be taken
 * for the answer to somebody else's request.
 *
 * Differences from Envoy 1.40, besides those of lines and chunks listed in http1_request.c:
 *
 *   what an upstream sends                         Envoy               here
 *   ---------------------------------------------  ------------------  ----------------------------
 *   HTTP/1.2, HTTP/2.0 and the like                taken for 1.0       error
 *   a status of two or four digits                 forwarded           error
 *   several blanks in the status line              accepted            error
 *   Transfer-Encoding in HTTP/1.0                  accepted            error  RFC 9112 6.1 */
#include "base/check.h"
#include "http/header_map_internal.h"
#include "http/http1_internal.h"

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* "HTTP/1.1 200 OK". The reason may be empty, and its blank missing as some servers do. */
static enum http1_verdict take_status_line(struct http1_parser *parser, struct span line,
                                           struct header_map *map) {
    const char *text = line.ptr;
    int minor = line.len >= 12 ? http1_version(text) : -1;
    if (minor == -2)
        return http1_fail(parser, HTTP1_BAD_VERSION, NULL);
    if (minor < 0 || text[8] != ' ' || text[9] < '1' || text[9] > '9' || !is_digit(text[10]) ||
        !is_digit(text[11]) || (line.len > 12 && text[12] != ' '))
        return http1_fail(parser, HTTP1_BAD_SYNTAX, NULL);
    if (header_map_reserve(map, 1) != 0)
        return http1_fail(parser, HTTP1_NO_MEMORY, NULL);
    parser->minor_version = (uint8_t)minor;
    header_map_push(map, HDR_STATUS, SPAN_LIT(":status"), span_make(text + 9, 3), 0);
    return HTTP1_DONE;
}

static unsigned status_of(const struct header_map *map) {
    const char *digits = map->entries[0].value_ptr;
    return (unsigned)((digits[0] - '0') * 100 + (digits[1] - '0') * 10 + (digits[2] - '0'));
}

static enum http1_verdict finish(struct http1_parser *parser, char *buf, struct span method,
                                 struct http1_head *head) {
    struct header_map *map = head->headers;
    struct http1_facts facts;
    const char *details;
    enum http1_error error = http1_read_facts(map, false, &facts, &details);
    if (error)
        return http1_fail(parser, error, details);

    unsigned status = status_of(map);
    bool tunnel = span_eq(method, SPAN_LIT("CONNECT")) && status >= 200 && status < 300;
    bool never_body = status < 200 || status == 204 || tunnel;
    if (never_body) {
        /* RFC 9110 8.6 and RFC 9112 6.1 forbid both fields here; "0" does no harm and goes. */
        if (facts.has_coding)
            return http1_fail(parser, HTTP1_BAD_FRAMING, "http1.transfer_encoding_not_allowed");
        if (facts.has_length && facts.content_length != 0)
            return http1_fail(parser, HTTP1_BAD_FRAMING, "http1.content_length_not_allowed");
        header_remove_id(map, HDR_CONTENT_LENGTH);
    }
    if (facts.has_coding && parser->minor_version == 0)
        return http1_fail(parser, HTTP1_BAD_FRAMING, "http1.transfer_encoding_not_allowed");
    if (facts.has_coding && facts.has_length) {
        if (!parser->limits.allow_chunked_length)
            return http1_fail(parser, HTTP1_BAD_FRAMING, "http1.content_length_not_allowed");
        header_remove_id(map, HDR_CONTENT_LENGTH);
        facts.has_length = false;
    }

    enum http1_framing framing = HTTP1_BODY_UNTIL_CLOSE;
    if (never_body || status == 304 || span_eq(method, SPAN_LIT("HEAD")))
        framing = HTTP1_BODY_NONE;
    else if (facts.has_coding)
        framing = HTTP1_BODY_CHUNKED;
    else if (facts.has_length)
        framing = HTTP1_BODY_LENGTH;

    *head = (struct http1_head){
        .headers = map,
        .minor_version = parser->minor_version,
        .keep_alive = framing != HTTP1_BODY_UNTIL_CLOSE &&
                      http1_connection_persists(&facts, parser->minor_version),
        .upgrade = facts.upgrade_token && facts.has_upgrade,
        .status = (uint16_t)status,
        .framing = framing,
        .content_length = framing == HTTP1_BODY_LENGTH ? facts.content_length : 0,
        .head_bytes = parser->scanned,
        .start_line = span_make(buf + parser->start_line, parser->start_line_len),
    };
    return HTTP1_DONE;
}

enum http1_verdict http1_parse_response(struct http1_parser *parser, char *buf, size_t len,
                                        struct span request_method, struct http1_head *head) {
    ASSERT(len >= parser->scanned);
    ASSERT(parser->error == HTTP1_OK);
    if (len > parser->limits.head_bytes)
        len = parser->limits.head_bytes;
    if (parser->line_state < LINE_START)
        parser->line_state = LINE_START;
    http1_follow_buffer(parser, buf, head->headers);

    enum http1_verdict verdict;
    if (parser->line_state <= LINE_START_LF) {
        struct span line;
        verdict = http1_scan_start_line(parser, buf, len, &line);
        if (verdict != HTTP1_DONE)
            return verdict;
        verdict = take_status_line(parser, line, head->headers);
        if (verdict != HTTP1_DONE)
            return verdict;
    }
    verdict = http1_parse_fields(parser, buf, len, head->headers);
    return verdict == HTTP1_DONE ? finish(parser, buf, request_method, head) : verdict;
}
