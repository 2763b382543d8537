/* http1: HTTP/1.0 and 1.1 heads and chunked framing (RFC 9112), parsed where they lie.
 *
 * Strict: no bare CR or LF, no obs-fold, no space before the colon, one Content-Length at most and
 * never beside Transfer-Encoding, chunked last and once, no control bytes in values. What is
 * rejected is rejected the same way whether it comes whole or byte by byte.
 *
 * Parsers are pure: they allocate only the header array (arena), touch only the bytes given, and
 * answer with a verdict. Field names are lower-cased in place, so the buffer must be writable.
 * No function here parks. */
#pragma once
#include <sys/uio.h>

#include "http/header_map.h"

enum http1_verdict {
    HTTP1_MORE, /* not complete: call again with the same start and more bytes */
    HTTP1_DONE,
    HTTP1_BAD, /* see http1_error */
};

enum http1_error {
    HTTP1_OK,
    HTTP1_BAD_SYNTAX,       /* 400 */
    HTTP1_BAD_VERSION,      /* 505 for a well-formed version other than 1.0 and 1.1, see status */
    HTTP1_HEAD_TOO_LARGE,   /* 431 */
    HTTP1_TOO_MANY_HEADERS, /* 431 */
    HTTP1_URI_TOO_LONG,     /* 414 */
    HTTP1_BAD_FRAMING,      /* 400: length and encoding fields conflict or are malformed */
    HTTP1_BAD_CODING,       /* 501: Transfer-Encoding says other than just "chunked" */
    HTTP1_BAD_HOST,         /* 400: missing, repeated or malformed Host */
    HTTP1_NO_MEMORY,        /* 500 */
};
/* Envoy's response code details for it, e.g. "http1.codec_error"; parser.details is more exact. */
const char *http1_error_details(enum http1_error error);

struct http1_limits {
    uint32_t head_bytes; /* start line and fields together */
    uint32_t header_count;
    bool allow_chunked_length; /* Envoy's option: TE wins over CL instead of an error */
};

enum http1_framing {
    HTTP1_BODY_NONE,
    HTTP1_BODY_LENGTH,
    HTTP1_BODY_CHUNKED,
    HTTP1_BODY_UNTIL_CLOSE, /* responses only */
};

/* One head being parsed (http1_parser_init between messages). After HTTP1_MORE the caller keeps
 * parser, head and header map as they are; the bytes may move to another buffer. */
struct http1_parser {
    struct http1_limits limits;
    uint32_t scanned;   /* bytes examined so far: none is examined twice */
    uint8_t line_state; /* what the byte at `scanned` belongs to */
    enum http1_error error;
    int status;          /* of the reply a server should send for error */
    const char *details; /* Envoy's response code details for error; static */

    /* Private: what the lines read so far said. */
    bool absolute_form, is_request, connect;
    uint8_t minor_version;
    uint8_t host_lines;
    uint8_t authority_index; /* entry that a Host line fills */
    uint8_t name_id;         /* enum header_id of name_len */
    uint32_t line_start;     /* offset of the line being read */
    uint32_t name_len;       /* of that line, once its colon was seen */
    uint32_t start_line, start_line_len;
    uint32_t field_count;
    uint32_t entry_count; /* of the map: it must not change under us */
    const char *base;     /* the buffer of the last call */
};

struct http1_head {
    struct header_map *headers; /* caller sets it, initialised and empty */
    uint8_t minor_version;      /* 0 or 1 */
    bool keep_alive;            /* by version and Connection */
    bool absolute_form;         /* request target was absolute; :authority and :path are split */
    bool expect_continue;
    bool upgrade;    /* Connection: upgrade with an Upgrade field */
    uint16_t status; /* responses */
    enum http1_framing framing;
    uint64_t content_length; /* HTTP1_BODY_LENGTH */
    uint32_t head_bytes;     /* consumed from the buffer */
    struct span start_line;  /* as it stands on the wire, with CRLF */
};

void http1_parser_init(struct http1_parser *parser, const struct http1_limits *limits);

/* buf[0..len) is everything read so far of this message, from its first byte. On HTTP1_DONE the
 * head is filled and head->head_bytes are used up; the bytes behind belong to the body or to the
 * next message. Empty lines before a request line are skipped (RFC 9112 2.2), within the limits.
 * Requests: entries :method, :path, :authority (from Host or the absolute target), :scheme ("http"
 * unless absolute-form says otherwise) come first; `host` is no entry. The spans are borrowed from
 * buf. Hop-by-hop fields are still in the map: http1_strip_hop_by_hop removes them. */
enum http1_verdict http1_parse_request(struct http1_parser *parser, char *buf BORROWED_BY(head),
                                       size_t len, struct http1_head *head);
/* request_method decides the framing (HEAD and CONNECT); 1xx, 204, 304 have no body. */
enum http1_verdict http1_parse_response(struct http1_parser *parser, char *buf BORROWED_BY(head),
                                        size_t len, struct span request_method,
                                        struct http1_head *head);

/* Removes Connection, Keep-Alive, Proxy-Connection, Transfer-Encoding and Upgrade; Trailer stays.
 * Of a request (a map without :status) also what Connection names, and of TE all but "trailers":
 * as Envoy does. To be called before the proxy adds fields of its own. Pseudo headers, Host,
 * Content-Length and x-forwarded-* stay whatever Connection names: a peer must not change framing,
 * routing or its own origin. */
void http1_strip_hop_by_hop(struct header_map *headers);

/* ---- chunked bodies ---- */
struct http1_chunked {
    struct http1_limits limits; /* of trailers, and head_bytes bounds a chunk line */
    uint64_t left;              /* bytes left in the current chunk */
    uint32_t state;
    uint32_t line_bytes; /* of the current line */
    enum http1_error error;
    struct http1_parser section; /* private: of the trailers */
};
void http1_chunked_init(struct http1_chunked *chunked, const struct http1_limits *limits);

/* Looks at buf[0..len). Sets *consumed (framing bytes to skip, from the start of buf) and *data (a
 * run of body bytes behind them, may be empty). The caller skips consumed + data->len and calls
 * again. HTTP1_DONE: the last chunk and its CRLF are behind `consumed`, trailer section included.
 * trailers may be NULL: then they are checked and dropped. Trailers are parsed only once their
 * section is whole in buf, which the caller therefore keeps (HTTP1_MORE with *consumed == 0 and an
 * empty *data asks for more bytes behind the same start). */
enum http1_verdict http1_chunked_next(struct http1_chunked *chunked,
                                      char *buf BORROWED_BY(data) BORROWED_BY(trailers), size_t len,
                                      size_t *consumed, struct span *data,
                                      struct header_map *trailers);

/* How many bytes of the current chunk's data come next, of which nothing was given to http1_chunked_next;
 * 0: what comes next is framing. */
uint64_t http1_chunked_data_ahead(const struct http1_chunked *chunked);
/* n of those went another way. */
void http1_chunked_pass(struct http1_chunked *chunked, uint64_t n);

/* ---- writing ---- */
enum {
    HTTP1_IOV_MAX = 64,
    /* A head up to this size is copied whole. Measured with writev on loopback TCP: each iovec more costs
     * the kernel 35 ns, and so does copying 1 KiB; a head that was changed would need two or three. */
    HTTP1_SMALL_HEAD = 1024,
    HTTP1_SMALL_ROOM = HTTP1_SMALL_HEAD + 192, /* and room for what is put around its fields */
};

/* How the body goes out. */
enum http1_transfer {
    HTTP1_SEND_NONE,    /* no framing field: no body by nature (204, 304, HEAD, GET) */
    HTTP1_SEND_LENGTH,  /* a content-length entry is in the map */
    HTTP1_SEND_CHUNKED, /* adds transfer-encoding: chunked */
    HTTP1_SEND_CLOSE,   /* body ends with the connection */
};

/* A small head into room, HTTP1_SMALL_ROOM bytes: how many it has. connection is the value of a
 * Connection field to add, or the absent span. Pseudo headers turn into the start line and `host`.
 * Transfer-Encoding, Connection, Keep-Alive and Proxy-Connection entries are not sent, and
 * Content-Length only where it agrees with transfer: framing is decided here alone.
 * -E2BIG when it is not small: http1_write_* then. -EINVAL when the map lacks :method/:path or :status,
 * when HTTP1_SEND_LENGTH finds no Content-Length, or when HTTP1_SEND_CHUNKED meets minor_version 0. */
MUST_CHECK ssize_t http1_render_request(char *room, const struct header_map *headers,
                                        enum http1_transfer transfer, struct span connection);
MUST_CHECK ssize_t http1_render_response(char *room, const struct header_map *headers,
                                         unsigned minor_version, enum http1_transfer transfer,
                                         struct span connection);

struct http1_writer { /* a head as an iovec list; spans it points at stay borrowed until sent */
    int iov_count;
    size_t bytes;
    size_t copied;       /* of them; the others go out from where they lie */
    struct arena *arena; /* for what does not stand anywhere yet */
    struct iovec iov[HTTP1_IOV_MAX];
};

/* A head of any size: a small one is one piece; of a large one, whatever nobody changed goes out from
 * where it was read to. The list stays valid as long as the arena and the bytes the entries borrow.
 * 0, or as above, or -ENOMEM. */
MUST_CHECK int http1_write_request(struct http1_writer *writer, struct arena *arena,
                                   const struct header_map *headers, enum http1_transfer transfer,
                                   struct span connection);
MUST_CHECK int http1_write_response(struct http1_writer *writer, struct arena *arena,
                                    const struct header_map *headers, unsigned minor_version,
                                    enum http1_transfer transfer, struct span connection);
/* "1a2b\r\n" into out (at least 18 bytes); returns its length. */
size_t http1_chunk_head(char *out, uint64_t size);
/* "0\r\n" trailers "\r\n" as an iovec list. */
MUST_CHECK int http1_write_trailers(struct http1_writer *writer, struct arena *arena,
                                    const struct header_map *trailers);

/* "OK" for 200, "Unknown" for a code that has no phrase (as Envoy says it). See also status.h. */
struct span http1_reason(unsigned status);
