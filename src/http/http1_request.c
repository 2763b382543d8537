/* http1_request: request heads. The start line is judged as soon as it is whole, so a peer that
 * speaks something else hears of it at once; fields follow (http1_fields.c), framing comes last.
 *
 * Differences from Envoy. Everything not listed is meant to have Envoy's verdict; the differential
 * tests take this table as their exceptions. Checked against Envoy 1.40 with its default codec.
 *
 *   what a client sends                            Envoy               here
 *   ---------------------------------------------  ------------------  ----------------------------
 *   several Host lines                             joined with ","     400  RFC 9112 3.2
 *   Host with user@, "[::1", ":80", port not       forwarded           400  not a uri-host [":" port]
 *     a number up to 65535
 *   Host bad or repeated, target absolute          Host ignored        400  RFC 9112 3.2
 *   http://user@host/ as target                    user is dropped     400  RFC 9110 4.2.4
 *   http://host?query as target                    404                 path is "/?query"
 *   bare LF or CR CR LF as line end (empty lines   accepted            400  RFC 9112 2.2: the next hop
 *     in front and trailers too), bare CR in a                              may see other lines
 *     value
 *   obs-fold, in trailers too                      unfolded            400  RFC 9112 5.2
 *   several blanks or HTAB in the request line     accepted            400  RFC 9112 3
 *   HTTP/1.2, HTTP/2.0 and the like                taken for 1.0       505
 *   Transfer-Encoding in HTTP/1.0                  accepted            400  RFC 9112 6.1
 *   Content-Length of 2^63 and more                accepted            400  sums must fit an int64_t
 *   a method Envoy has no name for                 400                 accepted: any token
 *   a request line longer than the limit           431                 414
 *   chunk size with trailing blank, with more      accepted            400  RFC 9112 7.1
 *     than 16 digits, of 2^63 and more
 *   chunk extension that is no name[=value]        accepted            400  RFC 9112 7.1.1
 *   bytes between chunk data and its CRLF          skipped             400  RFC 9112 7.1
 *   Content-Length, Host, Authorization and their  forwarded           dropped  RFC 9110 6.5.1
 *     like as trailers
 */
#include "base/check.h"
#include "http/authority.h"
#include "http/chars.h"
#include "http/header_map_internal.h"
#include "http/http1_internal.h"

/* What the target of a request line came apart into; absent when that form has none. */
struct target {
    struct span authority, path, scheme;
};

static const char INVALID_URL[] = "http1.invalid_url";

/* authority [path-abempty] ["?" query], behind "http://". NULL or the error's details. */
static const char *split_absolute(struct target *target, struct span rest) {
    size_t end = 0;
    while (end < rest.len && rest.ptr[end] != '/' && rest.ptr[end] != '?')
        end++;
    target->authority = span_make(rest.ptr, end);
    target->path = end == rest.len ? SPAN_LIT("/") : span_from(rest, end);
    return end > 0 && authority_is_valid(target->authority) ? NULL : INVALID_URL;
}

/* A scheme and "://": something absolute, though not ours to forward. */
static bool has_other_scheme(struct span text) {
    size_t at = 0;
    while (at < text.len && ((text.ptr[at] | 0x20) >= 'a' && (text.ptr[at] | 0x20) <= 'z'))
        at++;
    return at > 0 && span_starts_with(span_from(text, at), SPAN_LIT("://"));
}

static const char *split_target(struct target *target, struct span method, struct span text) {
    if (span_eq(method, SPAN_LIT("CONNECT"))) {
        target->authority = text;
        return authority_is_valid(text) && authority_port(text).len > 0 ? NULL : INVALID_URL;
    }
    target->scheme = SPAN_LIT("http");
    target->path = text;
    if (text.ptr[0] == '/')
        return NULL;
    if (text.len >= 7 && span_eq_nocase(span_make(text.ptr, 7), SPAN_LIT("http://")))
        return split_absolute(target, span_from(text, 7));
    if (text.len >= 8 && span_eq_nocase(span_make(text.ptr, 8), SPAN_LIT("https://"))) {
        target->scheme = SPAN_LIT("https");
        return split_absolute(target, span_from(text, 8));
    }
    if (span_eq(text, SPAN_LIT("*")))
        return span_eq(method, SPAN_LIT("OPTIONS")) ? NULL : INVALID_URL;
    return has_other_scheme(text) ? "http1.invalid_scheme" : http1_error_details(HTTP1_BAD_SYNTAX);
}

static enum http1_verdict take_request_line(struct http1_parser *parser, struct span line,
                                            struct header_map *map) {
    const char *end = line.ptr + line.len, *at = line.ptr;
    while (at < end && chars_is(*at, CHAR_TOKEN))
        at++;
    struct span method = span_make(line.ptr, (size_t)(at - line.ptr));
    /* At least: method SP one byte of target SP HTTP/x.y */
    if (method.len == 0 || end - at < 11 || *at != ' ' || end[-9] != ' ')
        return http1_fail(parser, HTTP1_BAD_SYNTAX, NULL);
    struct span text = span_make(at + 1, (size_t)(end - 9 - (at + 1)));
    int minor = http1_version(end - 8);
    if (minor < 0)
        return http1_fail(parser, minor == -1 ? HTTP1_BAD_SYNTAX : HTTP1_BAD_VERSION, NULL);
    parser->minor_version = (uint8_t)minor;

    const char *stop = text.ptr + text.len;
    const char *bad = chars_find_not_target(line.ptr, text.ptr, stop);
    if (bad != stop)
        return http1_fail(parser, HTTP1_BAD_SYNTAX,
                          *bad == '#' ? "path_normalization_failed" : NULL);

    struct target target = {span_none(), span_none(), span_none()};
    const char *details = split_target(&target, method, text);
    if (details)
        return http1_fail(parser, HTTP1_BAD_SYNTAX, details);
    parser->absolute_form = !span_is_none(target.authority);
    parser->connect = span_is_none(target.path);
    if (!parser->connect && target.path.ptr[0] == '?') {
        target.path = arena_concat(map->arena, (struct span[]){SPAN_LIT("/"), target.path}, 2);
        if (span_is_none(target.path))
            return http1_fail(parser, HTTP1_NO_MEMORY, NULL);
    }
    if (header_map_reserve(map, 4) != 0)
        return http1_fail(parser, HTTP1_NO_MEMORY, NULL);

    unsigned flags = minor == 1 && target.path.ptr == text.ptr ? HEADER_WIRE_START : 0;
    header_map_push(map, HDR_METHOD, SPAN_LIT(":method"), method, flags);
    if (!parser->connect)
        header_map_push(map, HDR_PATH, SPAN_LIT(":path"), target.path, flags);
    parser->authority_index = (uint8_t)map->count;
    header_map_push(map, HDR_AUTHORITY, SPAN_LIT(":authority"), target.authority, 0);
    if (!parser->connect)
        header_map_push(map, HDR_SCHEME, SPAN_LIT(":scheme"), target.scheme, 0);
    return HTTP1_DONE;
}

static enum http1_verdict skip_empty_lines(struct http1_parser *parser, const char *buf,
                                           size_t len) {
    for (; parser->scanned < len; parser->scanned++) {
        char c = buf[parser->scanned];
        if (parser->line_state == LINE_LEADING_LF) {
            if (c != '\n')
                return http1_fail(parser, HTTP1_BAD_SYNTAX, NULL);
            parser->line_state = LINE_LEADING;
        } else if (c == '\r') {
            parser->line_state = LINE_LEADING_LF;
        } else {
            parser->line_state = LINE_START;
            parser->line_start = parser->scanned;
            return HTTP1_DONE;
        }
    }
    return http1_need_more(parser, len);
}

static enum http1_verdict finish(struct http1_parser *parser, char *buf, struct http1_head *head) {
    struct header_map *map = head->headers;
    struct http1_facts facts;
    const char *details;
    enum http1_error error = http1_read_facts(map, true, &facts, &details);
    if (error)
        return http1_fail(parser, error, details);

    if (parser->host_lines == 0 && !parser->absolute_form) {
        if (parser->minor_version >= 1)
            return http1_fail(parser, HTTP1_BAD_HOST, "missing_host_header");
        header_map_remove_at(map, parser->authority_index);
    }
    if (facts.has_coding) {
        if (parser->minor_version == 0)
            return http1_fail(parser, HTTP1_BAD_FRAMING, NULL);
        if (parser->connect)
            return http1_fail(parser, HTTP1_BAD_CODING, NULL);
        if (facts.has_length) {
            if (!parser->limits.allow_chunked_length)
                return http1_fail(parser, HTTP1_BAD_FRAMING,
                                  "http1.content_length_and_chunked_not_allowed");
            header_remove_id(map, HDR_CONTENT_LENGTH);
            facts.has_length = false;
        }
    }
    if (parser->connect && facts.has_length) {
        if (facts.content_length != 0)
            return http1_fail(parser, HTTP1_BAD_FRAMING, "http1.body_disallowed");
        header_remove_id(map, HDR_CONTENT_LENGTH);
        facts.has_length = false;
    }

    *head = (struct http1_head){
        .headers = map,
        .minor_version = parser->minor_version,
        .keep_alive = http1_connection_persists(&facts, parser->minor_version),
        .absolute_form = parser->absolute_form && !parser->connect,
        .expect_continue = facts.expect_continue && parser->minor_version >= 1,
        .upgrade = facts.upgrade_token && facts.has_upgrade,
        .framing = facts.has_coding   ? HTTP1_BODY_CHUNKED
                   : facts.has_length ? HTTP1_BODY_LENGTH
                                      : HTTP1_BODY_NONE,
        .content_length = facts.has_length ? facts.content_length : 0,
        .head_bytes = parser->scanned,
        .start_line = span_make(buf + parser->start_line, parser->start_line_len),
    };
    return HTTP1_DONE;
}

enum http1_verdict http1_parse_request(struct http1_parser *parser, char *buf, size_t len,
                                       struct http1_head *head) {
    ASSERT(len >= parser->scanned);
    ASSERT(parser->error == HTTP1_OK);
    if (len > parser->limits.head_bytes)
        len = parser->limits.head_bytes;
    parser->is_request = true;
    http1_follow_buffer(parser, buf, head->headers);

    if (parser->line_state <= LINE_LEADING_LF) {
        enum http1_verdict verdict = skip_empty_lines(parser, buf, len);
        if (verdict != HTTP1_DONE)
            return verdict;
    }
    if (parser->line_state <= LINE_START_LF) {
        struct span line;
        enum http1_verdict verdict = http1_scan_start_line(parser, buf, len, &line);
        if (verdict != HTTP1_DONE)
            return verdict;
        verdict = take_request_line(parser, line, head->headers);
        if (verdict != HTTP1_DONE)
            return verdict;
    }
    enum http1_verdict verdict = http1_parse_fields(parser, buf, len, head->headers);
    return verdict == HTTP1_DONE ? finish(parser, buf, head) : verdict;
}
