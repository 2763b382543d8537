/* http1_fields: the lines of a head, one byte after the other, each once.
 *
 * The parsers of requests, responses and trailers are one small machine over `line_state`. It stops
 * at the end of the bytes given and goes on from `scanned` when there are more, so its verdict
 * depends on the bytes alone and not on how they arrived: an error is told at the first byte that
 * proves it, and the limit cuts at the same byte whether the head comes whole or in pieces. A line
 * that is whole and plain, as nearly all are, it takes in one step (field_line.h).
 *
 * Fields enter the map as their lines complete. Their spans point into the buffer; when the caller
 * has moved the bytes in between, http1_follow_buffer moves the spans after them. */
#include <errno.h>

#include "base/check.h"
#include "http/authority.h"
#include "http/chars_search.h"
#include "http/field_line.h"
#include "http/header_map_internal.h"
#include "http/http1_internal.h"

void http1_parser_init(struct http1_parser *parser, const struct http1_limits *limits) {
    *parser = (struct http1_parser){.limits = *limits};
}

static const struct {
    const char *details;
    int status;
} errors[] = {
    [HTTP1_OK] = {"", 200},
    [HTTP1_BAD_SYNTAX] = {"http1.codec_error", 400},
    [HTTP1_BAD_VERSION] = {"http1.codec_error", 505},
    [HTTP1_HEAD_TOO_LARGE] = {"http1.headers_too_large", 431},
    [HTTP1_TOO_MANY_HEADERS] = {"http1.too_many_headers", 431},
    [HTTP1_URI_TOO_LONG] = {"http1.headers_too_large", 414},
    [HTTP1_BAD_FRAMING] = {"http1.codec_error", 400},
    [HTTP1_BAD_CODING] = {"http1.invalid_transfer_encoding", 501},
    [HTTP1_BAD_HOST] = {"http.invalid_authority", 400},
    [HTTP1_NO_MEMORY] = {"overload", 500},
};

const char *http1_error_details(enum http1_error error) {
    return errors[error].details;
}

enum http1_verdict http1_fail(struct http1_parser *parser, enum http1_error error,
                              const char *details) {
    parser->error = error;
    parser->status = errors[error].status;
    parser->details = details ? details : errors[error].details;
    return HTTP1_BAD;
}

enum http1_verdict http1_need_more(struct http1_parser *parser, size_t len) {
    if (len < parser->limits.head_bytes)
        return HTTP1_MORE;
    bool in_start_line = parser->is_request && parser->line_state <= LINE_START_LF;
    return http1_fail(parser, in_start_line ? HTTP1_URI_TOO_LONG : HTTP1_HEAD_TOO_LARGE, NULL);
}

static void move_pointer(const char **p, const char *from, size_t len, const char *to) {
    /* As integers: the old buffer may be gone, and its addresses are no longer for comparing. */
    uintptr_t offset = (uintptr_t)*p - (uintptr_t)from;
    if (offset <= len)
        *p = to + offset;
}

void http1_follow_buffer(struct http1_parser *parser, char *buf, struct header_map *map) {
    if (map)
        ASSERT(map->count == parser->entry_count);
    if (parser->base != buf && map)
        for (uint32_t i = 0; i < map->count; i++) {
            move_pointer(&map->entries[i].name_ptr, parser->base, parser->scanned, buf);
            move_pointer(&map->entries[i].value_ptr, parser->base, parser->scanned, buf);
        }
    parser->base = buf;
}

enum http1_verdict http1_scan_start_line(struct http1_parser *parser, char *buf, size_t len,
                                         struct span *line) {
    if (parser->line_state == LINE_START) {
        const char *at = chars_find_control(buf, buf + parser->scanned, buf + len);
        parser->scanned = (uint32_t)(at - buf);
        if (parser->scanned == len)
            return http1_need_more(parser, len);
        if (*at != '\r')
            return http1_fail(parser, HTTP1_BAD_SYNTAX, NULL);
        parser->scanned++;
        parser->line_state = LINE_START_LF;
    }
    if (parser->scanned == len)
        return http1_need_more(parser, len);
    if (buf[parser->scanned] != '\n')
        return http1_fail(parser, HTTP1_BAD_SYNTAX, NULL);
    parser->scanned++;
    parser->start_line = parser->line_start;
    parser->start_line_len = parser->scanned - parser->line_start;
    *line = span_make(buf + parser->start_line, parser->start_line_len - 2);
    parser->line_start = parser->scanned;
    parser->line_state = LINE_NAME;
    return HTTP1_DONE;
}

int http1_version(const char *text) {
    if (memcmp(text, "HTTP/1.1", 8) == 0)
        return 1;
    if (memcmp(text, "HTTP/1.0", 8) == 0)
        return 0;
    bool well_formed = memcmp(text, "HTTP/", 5) == 0 && text[5] >= '0' && text[5] <= '9' &&
                       text[6] == '.' && text[7] >= '0' && text[7] <= '9';
    return well_formed ? -2 : -1;
}

/* A request's Host is no entry of its own: it fills :authority, unless the target did. */
static enum http1_verdict take_host(struct http1_parser *parser, struct header_map *map,
                                    struct span value, unsigned flags) {
    if (parser->host_lines++)
        return http1_fail(parser, HTTP1_BAD_HOST, NULL);
    if (!authority_is_valid(value))
        return http1_fail(parser, HTTP1_BAD_HOST, NULL);
    if (parser->absolute_form || parser->connect)
        return HTTP1_DONE;
    struct header *authority = &map->entries[parser->authority_index];
    header_map_change(map, authority, value);
    authority->flags = flags & HEADER_WIRE_LINE ? HEADER_WIRE_HOST : 0;
    return HTTP1_DONE;
}

static enum http1_verdict no_room(struct http1_parser *parser, const struct header_map *map) {
    return http1_fail(
        parser, map->count == HEADER_COUNT_MAX ? HTTP1_TOO_MANY_HEADERS : HTTP1_NO_MEMORY, NULL);
}

/* The line is whole: [line, line + name_len) ':' ... and `end` is where its CR stands. */
static inline __attribute__((always_inline)) enum http1_verdict
take_field(struct http1_parser *parser, const char *line, uint32_t name_len, enum header_id id,
           const char *end, struct header_map *map) {
    if (++parser->field_count > parser->limits.header_count)
        return http1_fail(parser, HTTP1_TOO_MANY_HEADERS, NULL);
    if (!map)
        return HTTP1_DONE;

    const char *value = line + name_len + 1;
    unsigned flags = 0;
    /* "name: value" and no more blanks is how all but everybody writes it. */
    if (end - value >= 2 && value[0] == ' ' && value[1] > ' ' && end[-1] > ' ') {
        flags = HEADER_WIRE_LINE;
        value++;
    } else {
        struct span trimmed = span_trim(span_make(value, (size_t)(end - value)));
        bool wire = trimmed.ptr + trimmed.len == end && trimmed.ptr == value + 1 && *value == ' ';
        flags = wire ? HEADER_WIRE_LINE : 0;
        value = trimmed.ptr;
        end = trimmed.ptr + trimmed.len;
    }
    struct span text = span_make(value, (size_t)(end - value));
    if (id == HDR_HOST && parser->is_request)
        return take_host(parser, map, text, flags);
    if (map->count == map->capacity && header_map_grow(map, 1) != 0)
        return no_room(parser, map);
    header_map_push(map, id, span_make(line, name_len), text, flags);
    return HTTP1_DONE;
}

/* For lines that the byte machine read. */
static NOINLINE enum http1_verdict take_odd_field(struct http1_parser *parser, const char *line,
                                                  const char *end, struct header_map *map) {
    if (parser->name_len > HEADER_NAME_MAX)
        return http1_fail(parser, HTTP1_HEAD_TOO_LARGE, NULL);
    return take_field(parser, line, parser->name_len, (enum header_id)parser->name_id, end, map);
}

enum http1_verdict http1_parse_fields(struct http1_parser *parser, char *buf, size_t len,
                                      struct header_map *map) {
    char *p = buf + parser->scanned;
    const char *end = buf + len;
    enum http1_verdict verdict;
    struct field_line line;

    switch ((enum http1_line_state)parser->line_state) {
    case LINE_VALUE:
        goto value;
    case LINE_VALUE_LF:
        goto value_lf;
    case LINE_END_LF:
        goto end_lf;
    default:
        break;
    }

    for (;;) {
        if (p == buf + parser->line_start) {
            while (end - p >= FIELD_LINE_MIN && *p != '\r' && field_line_read(p, end, &line)) {
                verdict = take_field(parser, p, line.name_len, line.id, line.end, map);
                if (verdict != HTTP1_DONE)
                    return verdict;
                p = buf + (line.end + 2 - buf);
            }
            parser->line_start = (uint32_t)(p - buf);
        }
        /* Names are lower-cased as they are checked; anything but a tchar ends the loop. */
        for (uint8_t c; p < end && (c = chars_token_lower[(uint8_t)*p]) != 0; p++)
            *p = (char)c;
        if (p == end) {
            parser->line_state = LINE_NAME;
            goto more;
        }
        parser->name_len = (uint32_t)(p - buf) - parser->line_start;
        if (*p != ':' || parser->name_len == 0) {
            if (*p != '\r' || parser->name_len != 0)
                return http1_fail(parser, HTTP1_BAD_SYNTAX, NULL);
            p++;
            break;
        }
        parser->name_id =
            (uint8_t)header_id_of(span_make(buf + parser->line_start, parser->name_len));
        p++;
    value:
        p = buf + (chars_search_control(buf, p, end) - buf);
        if (p == end) {
            parser->line_state = LINE_VALUE;
            goto more;
        }
        if (*p != '\r')
            return http1_fail(parser, HTTP1_BAD_SYNTAX, "http1.invalid_characters");
        p++;
    value_lf:
        if (p == end) {
            parser->line_state = LINE_VALUE_LF;
            goto more;
        }
        if (*p != '\n')
            return http1_fail(parser, HTTP1_BAD_SYNTAX, "http1.invalid_characters");
        verdict = take_odd_field(parser, buf + parser->line_start, p - 1, map);
        if (verdict != HTTP1_DONE)
            return verdict;
        p++;
        parser->line_start = (uint32_t)(p - buf);
    }
end_lf:
    if (p == end) {
        parser->line_state = LINE_END_LF;
        goto more;
    }
    if (*p != '\n')
        return http1_fail(parser, HTTP1_BAD_SYNTAX, NULL);
    parser->scanned = (uint32_t)(p + 1 - buf);
    return HTTP1_DONE;
more:
    parser->scanned = (uint32_t)len;
    if (map)
        parser->entry_count = map->count;
    return http1_need_more(parser, len);
}
