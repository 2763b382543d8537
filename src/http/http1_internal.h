/* http1_internal: what the head parsers and the trailer parser share. */
#pragma once
#include "http/http1.h"

/* What the byte at parser->scanned belongs to (http1_parser.line_state). */
enum http1_line_state {
    LINE_LEADING,    /* before a request line: empty lines are skipped */
    LINE_LEADING_LF, /* behind the CR of such a line */
    LINE_START,      /* inside the start line */
    LINE_START_LF,   /* behind its CR */
    LINE_NAME,       /* at the start of a field line or inside its name */
    LINE_VALUE,      /* behind the colon */
    LINE_VALUE_LF,   /* behind the CR of a field line */
    LINE_END_LF,     /* behind the CR of the empty line */
};

/* Records the error and returns HTTP1_BAD. details NULL: the error's usual one. */
enum http1_verdict http1_fail(struct http1_parser *parser, enum http1_error error,
                              const char *details);

/* Before a call goes on with a message: the map is as we left it, and the spans in it point into
 * buf even when the bytes have moved since the last call. */
void http1_follow_buffer(struct http1_parser *parser, char *buf BORROWED_BY(map),
                         struct header_map *map);

/* Goes on with the start line in buf[0..len) up to its CRLF. HTTP1_DONE: *line is the line without
 * CRLF, and scanned stands behind it. */
enum http1_verdict http1_scan_start_line(struct http1_parser *parser, char *buf BORROWED_BY(line),
                                         size_t len, struct span *line);

/* Goes on with the field lines up to the empty line; scanned then stands behind that. map may be
 * NULL: fields are checked and dropped. */
enum http1_verdict http1_parse_fields(struct http1_parser *parser, char *buf BORROWED_BY(map),
                                      size_t len, struct header_map *map);

/* The verdict when the bytes given end before the head does: HTTP1_MORE, or too large. */
enum http1_verdict http1_need_more(struct http1_parser *parser, size_t len);

/* "HTTP/1.1" or "HTTP/1.0" at text (8 bytes): the minor version. Else -1, or -2 when it is the
 * well-formed name of another version. */
int http1_version(const char *text);

/* The fields that decide about framing and the connection, from one walk over the map. */
struct http1_facts {
    uint64_t content_length;
    bool has_length;
    bool has_coding; /* Transfer-Encoding is there, and it is exactly "chunked" */
    bool close, keep_alive, upgrade_token;
    bool has_upgrade, expect_continue;
};
/* 0 or an error with its details in *details. */
enum http1_error http1_read_facts(const struct header_map *map, bool is_request,
                                  struct http1_facts *facts, const char **details);

bool http1_connection_persists(const struct http1_facts *facts, unsigned minor_version);
