/* http1_chunked: the chunked coding, a byte machine for the framing and a plain run for the data.
 *
 *     SIZE -> [BWS] -> [; extensions] -> LF -> DATA -> CR -> LF -> SIZE ... 0 -> trailer section
 *
 * Framing bytes are consumed as they come, so nothing of a chunk line is kept or read twice; only
 * the trailer section stays in the caller's buffer until it is whole, because its fields become
 * spans. Extensions are checked against RFC 9112's grammar and dropped. A blank behind the size is
 * allowed only before ';': servers that disagree about "5 \r\n" are a classic of smuggling. */
#include "base/check.h"
#include "http/chars.h"
#include "http/header_map_internal.h"
#include "http/http1_internal.h"

enum chunked_state {
    SIZE, /* must be 0: http1_chunked_init zeroes */
    SIZE_BLANK,
    EXT_NAME_START, /* behind ';' */
    EXT_NAME,
    EXT_NAME_BLANK,
    EXT_VALUE_START, /* behind '=' */
    EXT_TOKEN,
    EXT_QUOTED,
    EXT_ESCAPE,
    EXT_BLANK, /* behind a value */
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILERS,
    FINISHED,
};

/* 16 hex digits would fit a uint64_t; sums of lengths should fit an int64_t as well. */
enum { SIZE_DIGITS_MAX = 16 };

void http1_chunked_init(struct http1_chunked *chunked, const struct http1_limits *limits) {
    *chunked = (struct http1_chunked){.limits = *limits};
    http1_parser_init(&chunked->section, limits);
    chunked->section.line_state = LINE_NAME;
}

/* The state behind byte c of a chunk line, or -1. */
static int next_state(struct http1_chunked *chunked, char c) {
    bool blank = c == ' ' || c == '\t';
    switch ((enum chunked_state)chunked->state) {
    case SIZE: {
        int digit = chars_hex(c);
        if (digit >= 0) {
            if (chunked->line_bytes > SIZE_DIGITS_MAX || chunked->left > INT64_MAX >> 4)
                return -1;
            chunked->left = chunked->left << 4 | (unsigned)digit;
            return SIZE;
        }
        if (chunked->line_bytes == 1) /* c is the line's first byte */
            return -1;
        return c == '\r' ? SIZE_LF : c == ';' ? EXT_NAME_START : blank ? SIZE_BLANK : -1;
    }
    case SIZE_BLANK:
        return c == ';' ? EXT_NAME_START : blank ? SIZE_BLANK : -1;
    case EXT_NAME_START:
        return chars_is(c, CHAR_TOKEN) ? EXT_NAME : blank ? EXT_NAME_START : -1;
    case EXT_NAME:
        if (chars_is(c, CHAR_TOKEN))
            return EXT_NAME;
        return c == '='    ? EXT_VALUE_START
               : c == ';'  ? EXT_NAME_START
               : c == '\r' ? SIZE_LF
               : blank     ? EXT_NAME_BLANK
                           : -1;
    case EXT_NAME_BLANK:
        return c == '=' ? EXT_VALUE_START : c == ';' ? EXT_NAME_START : blank ? EXT_NAME_BLANK : -1;
    case EXT_VALUE_START:
        return c == '"'                  ? EXT_QUOTED
               : chars_is(c, CHAR_TOKEN) ? EXT_TOKEN
               : blank                   ? EXT_VALUE_START
                                         : -1;
    case EXT_TOKEN:
        if (chars_is(c, CHAR_TOKEN))
            return EXT_TOKEN;
        return c == ';' ? EXT_NAME_START : c == '\r' ? SIZE_LF : blank ? EXT_BLANK : -1;
    case EXT_QUOTED:
        return c == '"'                   ? EXT_BLANK
               : c == '\\'                ? EXT_ESCAPE
               : chars_is(c, CHAR_QUOTED) ? EXT_QUOTED
                                          : -1;
    case EXT_ESCAPE:
        return c == '\t' || (uint8_t)c >= 0x80 || (c >= ' ' && c < 0x7f) ? EXT_QUOTED : -1;
    case EXT_BLANK:
        return c == ';' ? EXT_NAME_START : c == '\r' ? SIZE_LF : blank ? EXT_BLANK : -1;
    case SIZE_LF:
        return c == '\n' ? DATA : -1;
    case DATA_CR:
        return c == '\r' ? DATA_LF : -1;
    case DATA_LF:
        return c == '\n' ? SIZE : -1;
    default:
        return -1;
    }
}

static const char *const never_in_trailers[] = {
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "max-forwards",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "range",
    "transfer-encoding",
    "upgrade",
};

/* RFC 9110 6.5.1: what frames, routes, or authorises a message must not come behind it. Such
 * fields are dropped, not refused: the message itself was complete without them. */
static void drop_forbidden(struct header_map *trailers) {
    if (!trailers || trailers->count == 0)
        return;
    for (size_t i = 0; i < sizeof never_in_trailers / sizeof *never_in_trailers; i++)
        header_remove(trailers, HDR_OTHER, span_of(never_in_trailers[i]));
}

static enum http1_verdict read_trailers(struct http1_chunked *chunked, char *buf, size_t len,
                                        struct header_map *trailers) {
    struct http1_parser *section = &chunked->section;
    if (len > chunked->limits.head_bytes)
        len = chunked->limits.head_bytes;
    ASSERT(len >= section->scanned);
    http1_follow_buffer(section, buf, trailers);
    enum http1_verdict verdict = http1_parse_fields(section, buf, len, trailers);
    if (verdict == HTTP1_BAD)
        chunked->error = section->error;
    if (verdict == HTTP1_DONE) {
        drop_forbidden(trailers);
        chunked->state = FINISHED;
    }
    return verdict;
}

enum http1_verdict http1_chunked_next(struct http1_chunked *chunked, char *buf, size_t len,
                                      size_t *consumed, struct span *data,
                                      struct header_map *trailers) {
    ASSERT(chunked->error == HTTP1_OK);
    ASSERT(chunked->state != FINISHED);
    *data = span_make(buf, 0);
    size_t at = 0;
    while (at < len || chunked->state == TRAILERS) {
        if (chunked->state == DATA) {
            size_t run = len - at;
            if (run > chunked->left)
                run = (size_t)chunked->left;
            chunked->left -= run;
            if (chunked->left == 0)
                chunked->state = DATA_CR;
            *consumed = at;
            *data = span_make(buf + at, run);
            return HTTP1_MORE;
        }
        if (chunked->state == TRAILERS) {
            enum http1_verdict verdict = read_trailers(chunked, buf + at, len - at, trailers);
            *consumed = verdict == HTTP1_DONE ? at + chunked->section.scanned : at;
            return verdict;
        }
        chunked->line_bytes++;
        if (chunked->line_bytes > chunked->limits.head_bytes) {
            chunked->error = HTTP1_HEAD_TOO_LARGE;
            *consumed = at;
            return HTTP1_BAD;
        }
        int next = next_state(chunked, buf[at]);
        if (next < 0) {
            chunked->error = HTTP1_BAD_FRAMING;
            *consumed = at;
            return HTTP1_BAD;
        }
        at++;
        if (next == DATA || (next == SIZE && chunked->state == DATA_LF)) {
            chunked->line_bytes = 0;
            if (next == DATA && chunked->left == 0)
                next = TRAILERS;
        }
        chunked->state = (uint32_t)next;
    }
    *consumed = at;
    return HTTP1_MORE;
}

uint64_t http1_chunked_data_ahead(const struct http1_chunked *chunked) {
    return chunked->state == DATA ? chunked->left : 0;
}

void http1_chunked_pass(struct http1_chunked *chunked, uint64_t n) {
    ASSERT(n <= http1_chunked_data_ahead(chunked));
    chunked->left -= n;
    if (chunked->left == 0 && chunked->state == DATA)
        chunked->state = DATA_CR;
}
