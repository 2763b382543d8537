/* sniff: what a client speaks, by the first bytes that it sends.
 *
 *     first byte      16 ── TLS          P ── PROXY, PRI (HTTP/2), POST, PING      * $ : + - ── Redis
 *                     CR ── PROXY 2      other letters ── HTTP/1.x, Redis inline   else ── unknown
 *
 * Protocols in which the server speaks first (SMTP, MySQL) never show here: their clients wait, and the caller's
 * timeout decides.
 *
 * Verdict  Of a prefix of the stream, which may grow byte by byte: the same bytes give the same verdict however they
 *          were cut. SNIFF_BYTES are always enough.
 * Threads  Pure functions. */
#pragma once
#include "base/span.h"

enum { SNIFF_BYTES = 128 };

enum sniff_protocol {
    SNIFF_MORE, /* call again with more bytes behind these */
    SNIFF_UNKNOWN,
    SNIFF_HTTP_1_0,
    SNIFF_HTTP_1_1, /* also when the line is longer than SNIFF_BYTES, so that its version is not in sight */
    SNIFF_H2C,
    SNIFF_REDIS,
    SNIFF_TLS,   /* the head of a record with a ClientHello: client_hello.h reads it */
    SNIFF_PROXY, /* the signature of a PROXY header, 1 or 2: proxy_header.h reads it */
};

/* bytes: the stream from its beginning, of which the first SNIFF_BYTES are looked at. */
enum sniff_protocol sniff(struct span bytes);

/* "unknown", "http/1.0", "http/1.1", "h2c", "redis", "tls", "proxy"; static. */
struct span sniff_name(enum sniff_protocol protocol);
