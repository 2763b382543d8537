/* request_line: does a client speak HTTP, and which: by the first line of HTTP/1.x, or the preface of HTTP/2 that
 * comes without TLS ("h2c"). Judged as Envoy's http_inspector does, so that both choose the same filter chain; it is
 * more lenient than http1.h, which then answers what it does not like.
 *
 * Verdict  Of a prefix of the stream, which may grow byte by byte: the same bytes give the same verdict however they
 *          were cut, and bytes that cannot become a request are told of as soon as the method shows it.
 * Threads  A pure function. */
#pragma once
#include "base/span.h"

enum request_line {
    REQUEST_LINE_MORE,     /* not whole: call again with more bytes behind these */
    REQUEST_LINE_NONE,     /* something else */
    REQUEST_LINE_HTTP_1_0, /* and whatever is neither 1.1 nor the preface: "HTTP/0.9", "HTTP/3.7" */
    REQUEST_LINE_HTTP_1_1,
    REQUEST_LINE_H2C,
};

/* bytes: the stream from its beginning. */
enum request_line request_line_look(struct span bytes);

/* For a line of which only this is there: whether a method stands in front, and behind it what may begin a
 * target. */
bool request_line_begins(struct span bytes);
